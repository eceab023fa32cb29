//! Convolutions that take turns, so that they meet the same machine.

use std::time::Instant;

use pare_runtime::Isa;
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::{ConvProblem, ConvSpec};

/// Rounds in which the candidates take turns: the best time of each counts.
const ROUNDS: usize = 21;
/// Time of a turn, in nanoseconds.
const TURN: u128 = 1_000_000;

/// Times `copies` of each, one after another, and prints a line for each; the first is what others are compared with.
///
/// # Panics
/// When weights do not fit their own records, which they do.
pub fn compare(title: &str, isa: Isa, specs: &[(String, ConvSpec)], copies: usize) {
    let problems: Vec<ConvProblem> = specs.iter().map(|(_, spec)| ConvProblem::new(spec.clone())).collect();
    // Every copy has weights of its own.
    let weights: Vec<Vec<Vec<u8>>> = problems.iter().map(|p| vec![p.weights.clone(); copies]).collect();
    let mut best = vec![f64::INFINITY; problems.len()];
    for _ in 0..ROUNDS {
        for ((problem, weights), best) in problems.iter().zip(&weights).zip(&mut best) {
            let convs: Vec<_> = weights
                .iter()
                .map(|w| problem.conv().with_weights(&problem.records, w).expect("the same weights"))
                .collect();
            let kernel = ConvKernel::choose(isa, &convs[0]);
            let mut output = vec![0; convs[0].output.len()];
            let mut scratch = vec![0; kernel.scratch_bytes(&convs[0])];
            let mut run = || convs.iter().for_each(|c| kernel.run(c, &problem.input, &mut output, &mut scratch));
            run();
            let (start, mut runs) = (Instant::now(), 0u32);
            while start.elapsed().as_nanos() < TURN {
                run();
                runs += 1;
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / f64::from(runs));
        }
    }
    println!("{isa}: {title}");
    for ((name, _), time) in specs.iter().zip(&best) {
        println!("  {name:14} {:9.2} us  x{:.2}", time / 1e3, best[0] / time);
    }
}
