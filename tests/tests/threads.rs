//! Threads that share layers give the same bytes as one.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytemuck::cast_slice_mut;
use pare_runtime::{Isa, Model, Session, Team};
use pare_tests::blob::Builder;
use pare_tests::problems::{ConvProblem, conv_problems};
use proptest::prelude::*;

/// A thread for every second half; counts them.
#[derive(Default)]
struct Scoped {
    joined: AtomicUsize,
}

impl Team for Scoped {
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        self.joined.fetch_add(1, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(b);
            a();
        });
    }
}

/// Convolutions of so many multiply-accumulates that threads share them, of more rows if they must be.
fn large_problems() -> impl Strategy<Value = ConvProblem> {
    (conv_problems(), 1 << 20..2u64 << 20).prop_filter_map("of rows beyond number", |(problem, wanted)| {
        let macs = problem.conv().macs();
        let mut spec = problem.spec;
        spec.input.h *= usize::try_from(wanted.div_ceil(macs)).ok()?;
        (spec.input.h < 1 << 14).then(|| ConvProblem::new(spec))
    })
}

/// A network of that convolution; where it adds, to its second input.
fn network(problem: &ConvProblem) -> Vec<u8> {
    let conv = problem.conv();
    let mut b = Builder::default();
    let input = b.input(problem);
    let output = match conv.residual {
        Some(add) => {
            let residual = b.tensor(conv.output, add.zero_a);
            b.inputs.push(residual);
            b.conv_add(input, residual, problem)
        }
        None => b.conv(input, problem),
    };
    b.outputs = vec![output];
    b.finish()
}

/// What the network gives, and how often the threads were joined.
fn run(blob: &[u8], problem: &ConvProblem, isa: Isa, threads: NonZeroUsize) -> (Vec<u8>, usize) {
    let model = Model::parse(blob).unwrap();
    let bytes = model.arena_bytes_with_threads(isa, threads);
    // Rubbish, at an address for full speed.
    let mut arena = vec![[0x5555_5555_5555_5555u64; 8]; bytes.div_ceil(64)];
    let arena = &mut cast_slice_mut(&mut arena)[..bytes];
    let mut session = Session::with_threads(model, arena, isa, threads).unwrap();
    session.input(0).copy_from_slice(&problem.input);
    let summand = session.input(1);
    summand.copy_from_slice(&problem.residual()[..summand.len()]);
    let team = Scoped::default();
    match threads {
        NonZeroUsize::MIN => session.run(),
        _ => session.run_with(&team),
    }
    (session.output(0).to_vec(), team.joined.into_inner())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn threads_that_share_a_convolution_give_the_bytes_of_one(problem in large_problems()) {
        let blob = network(&problem);
        let (expected, _) = run(&blob, &problem, Isa::Reference, NonZeroUsize::MIN);
        for isa in Isa::available() {
            for threads in [1, 2, 3].map(|n| NonZeroUsize::new(n).unwrap()) {
                let (output, joined) = run(&blob, &problem, isa, threads);
                prop_assert_eq!(&output, &expected, "{} by {} threads", isa, threads);
                let conv = problem.conv();
                let shared = threads.get() > 1 && conv.output.h > 1 && conv.macs() >= 1 << 20;
                prop_assert!(joined < threads.get() && (joined > 0) == shared, "{} joined {} times", threads, joined);
            }
        }
    }
}
