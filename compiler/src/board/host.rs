//! The runtime on this very machine: inference over many samples, and time.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use pare_runtime::format::{Layer, LayerOp, Layout};
use pare_runtime::kernels::ConvKernel;
use pare_runtime::{Isa, Model, Probe, Session, Team};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use super::{AlignedBytes, Board, BoardError, FirstInference, Timing, quantile, settle};
use crate::emit::ObjectArch;
use crate::units::TickUnit;

/// This machine.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    threads: NonZeroUsize,
}

/// One thread an inference.
impl Default for Host {
    fn default() -> Host {
        Host::with_threads(NonZeroUsize::MIN)
    }
}

impl Host {
    /// So many threads share an inference.
    pub const fn with_threads(threads: NonZeroUsize) -> Host {
        Host { threads }
    }
}

impl Board for Host {
    fn processor(&self) -> String {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name =
            text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
        name.unwrap_or(std::env::consts::ARCH).trim().to_owned()
    }

    fn isas(&self) -> Vec<Isa> {
        Isa::available().collect()
    }

    fn unit(&self) -> TickUnit {
        TickUnit::Nanoseconds
    }

    fn layout(&self, isa: Isa) -> Layout {
        match isa {
            // So that its other kernels read the same blobs.
            Isa::Reference | Isa::Portable if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) => {
                Layout::Panels
            }
            _ => isa.layout(),
        }
    }

    fn object_arch(&self) -> ObjectArch {
        match () {
            () if cfg!(target_arch = "x86_64") => ObjectArch::X86_64,
            () if cfg!(target_arch = "aarch64") => ObjectArch::Aarch64,
            () if cfg!(target_arch = "riscv64") => ObjectArch::Riscv64,
            () => ObjectArch::ArmHardFloat,
        }
    }

    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
        infer(blob, isa, codes, self.threads)
    }

    fn time(&self, blob: &[u8], isa: Isa, codes: &[u8], runs: usize) -> Result<Timing, BoardError> {
        if self.threads == NonZeroUsize::MIN {
            return time(blob, isa, codes, runs, self.threads);
        }
        let pool = ThreadPoolBuilder::new().num_threads(self.threads.get()).build()?;
        pool.install(|| time(blob, isa, codes, runs, self.threads))
    }
}

/// Runs every sample of `codes` (samples back to back) and returns the outputs back to back.
///
/// Samples are spread over the threads of the current rayon pool, and each is shared by so many of them; the result
/// does not depend on that.
///
/// # Errors
/// When the blob or the instruction set is not for this machine.
fn infer(blob: &[u8], isa: Isa, codes: &[u8], threads: NonZeroUsize) -> Result<Vec<u8>, BoardError> {
    let model = Model::parse(blob)?;
    let input_len: usize = model.inputs().map(|t| t.shape.len()).sum();
    let output_len: usize = model.outputs().map(|t| t.shape.len()).sum();
    let mut outputs = vec![0; codes.len() / input_len * output_len];
    // Large enough to hide a session's set-up, small enough to share the work.
    const CHUNK: usize = 64;
    outputs.par_chunks_mut(output_len * CHUNK).zip(codes.par_chunks(input_len * CHUNK)).try_for_each(
        |(outputs, codes)| -> Result<(), BoardError> {
            let mut arena = AlignedBytes::zeroed(model.arena_bytes_with_threads(isa, threads));
            let mut session = Session::with_threads(model, &mut arena, isa, threads)?;
            for (output, sample) in outputs.chunks_mut(output_len).zip(codes.chunks(input_len)) {
                set_inputs(&mut session, sample);
                run(&mut session);
                get_outputs(&session, output);
            }
            Ok(())
        },
    )?;
    Ok(outputs)
}

/// Times at least `runs` samples of back-to-back inferences, and keeps the quiet ones.
///
/// A sample is long enough (some 50 microseconds) for the clock not to matter. Layers are timed in
/// separate inferences, since the clock's two readings a layer would lengthen the total.
fn time(blob: &[u8], isa: Isa, codes: &[u8], runs: usize, threads: NonZeroUsize) -> Result<Timing, BoardError> {
    let lap = |begin: Instant| begin.elapsed().as_nanos() as f64;
    let begin = Instant::now();
    let model = Model::parse(blob)?;
    let parse = lap(begin);
    let begin = Instant::now();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes_with_threads(isa, threads));
    let mut session = Session::with_threads(model, &mut arena, isa, threads)?;
    let setup = lap(begin);
    let begin = Instant::now();
    set_inputs(&mut session, codes);
    run(&mut session);
    let first = FirstInference { parse, setup, run: lap(begin) };

    let inner = inferences_a_sample(&mut session, codes);
    let mut yardstick = Yardstick::new();
    let mut samples = Vec::with_capacity(runs);
    let mut clocks = LayerClocks::new(model.layers().len());
    let mut before = yardstick.time();
    // Some more where the machine was too busy for half of them to count.
    for _ in 0..MOST_PASSES {
        for _ in 0..runs {
            // All kinds alternate, so that they see the same weather on a shared machine.
            let begin = Instant::now();
            for _ in 0..inner {
                set_inputs(&mut session, codes);
                run(&mut session);
            }
            let total = begin.elapsed().as_nanos() as f64 / inner as f64;
            let begin = Instant::now();
            for _ in 0..inner {
                set_inputs(std::hint::black_box(&mut session), codes);
            }
            let inputs = begin.elapsed().as_nanos() as f64 / inner as f64;
            set_inputs(&mut session, codes);
            run_probed(&mut session, &mut clocks);
            clocks.end_run();
            let after = yardstick.time();
            samples.push(Sample { yardstick: before.max(after), total, inputs });
            before = after;
        }
        if 2 * quiet(&samples).count() >= runs {
            break;
        }
    }
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let total = sorted(quiet(&samples).map(|i| samples[i].total).collect());
    let kept = |layer: Vec<f64>| sorted(quiet(&samples).map(|i| layer[i]).collect());
    let mut layers = clocks.samples.into_iter().map(kept).collect::<Vec<_>>();
    let inputs = sorted(quiet(&samples).map(|i| samples[i].inputs).collect());
    settle(&mut layers, quantile(&total, 0.5) - quantile(&inputs, 0.5));
    let yardstick = quantile(&sorted(quiet(&samples).map(|i| samples[i].yardstick).collect()), 0.5);
    Ok(Timing {
        unit: TickUnit::Nanoseconds,
        quiet: total.len() as f64 / samples.len() as f64,
        stack: None,
        total,
        layers,
        isas: model.layers().map(|layer| family(isa, &layer)).collect(),
        first,
        yardstick,
    })
}

/// Whose kernel runs a layer here.
fn family(isa: Isa, layer: &Layer<'_>) -> Isa {
    match &layer.op {
        LayerOp::Conv(conv) => ConvKernel::choose(isa, conv).isa,
        _ => isa,
    }
}

/// Passes over the samples of a timing, at most.
const MOST_PASSES: usize = 4;

/// One sample, in nanoseconds.
struct Sample {
    /// The slower of the yardstick's times before and after.
    yardstick: f64,
    /// One inference.
    total: f64,
    /// Of which the inputs' way into the arena takes.
    inputs: f64,
}

/// The samples beside which the yardstick was near its fastest: nobody else used the core then.
///
/// A core's second thread, seldom one's own on rented machines, slows kernels by 1.3 to 1.7.
fn quiet(samples: &[Sample]) -> impl Iterator<Item = usize> {
    const NEAR: f64 = 1.1;
    let fastest = samples.iter().map(|sample| sample.yardstick).fold(f64::INFINITY, f64::min);
    samples.iter().enumerate().filter(move |(_, sample)| sample.yardstick <= NEAR * fastest).map(|(i, _)| i)
}

/// A fixed piece of work whose time says how fast the core is at the moment: as busy as a kernel, and the
/// same whatever becomes of the kernels.
struct Yardstick([u16; 1024]);

impl Yardstick {
    fn new() -> Yardstick {
        Yardstick([1; 1024])
    }

    /// Nanoseconds, some 1600 of them on a quick core.
    fn time(&mut self) -> f64 {
        const PASSES: usize = 64;
        let begin = Instant::now();
        for _ in 0..PASSES {
            for lane in &mut self.0 {
                *lane = lane.wrapping_mul(13_849).wrapping_add(1_013);
            }
            std::hint::black_box(&mut self.0);
        }
        begin.elapsed().as_nanos() as f64
    }
}

fn inferences_a_sample(session: &mut Session<'_>, codes: &[u8]) -> usize {
    const SAMPLE: Duration = Duration::from_micros(50);
    // Long enough for caches and branch predictors to settle, which learn by repetition.
    const WARM_UP: Duration = Duration::from_millis(2);
    const LONGEST_WARM_UP: Duration = Duration::from_millis(20);
    const REPETITIONS: u32 = 200;
    let begin = Instant::now();
    let mut n = 0;
    while begin.elapsed() < WARM_UP || (n < REPETITIONS && begin.elapsed() < LONGEST_WARM_UP) {
        set_inputs(session, codes);
        run(session);
        n += 1;
    }
    let one = begin.elapsed() / n.max(1);
    (SAMPLE.as_nanos() / one.as_nanos().max(1)).max(1) as usize
}

/// Threads of the rayon pool that an inference runs in.
struct Pool;

impl Team for Pool {
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        rayon::join(a, b);
    }
}

fn run(session: &mut Session<'_>) {
    match session.threads() {
        NonZeroUsize::MIN => session.run(),
        _ => session.run_with(&Pool),
    }
}

fn run_probed(session: &mut Session<'_>, probe: &mut impl Probe) {
    match session.threads() {
        NonZeroUsize::MIN => session.run_probed(probe),
        _ => session.run_probed_with(&Pool, probe),
    }
}

fn set_inputs(session: &mut Session<'_>, mut codes: &[u8]) {
    let mut index = 0;
    while !codes.is_empty() {
        let input = session.input(index);
        let len = input.len().min(codes.len());
        input[..len].copy_from_slice(&codes[..len]);
        codes = &codes[len..];
        index += 1;
        if len == 0 {
            break;
        }
    }
}

fn get_outputs(session: &Session<'_>, mut into: &mut [u8]) {
    let mut index = 0;
    while !into.is_empty() {
        let output = session.output(index);
        let (part, rest) = into.split_at_mut(output.len().min(into.len()));
        part.copy_from_slice(&output[..part.len()]);
        if part.is_empty() {
            break;
        }
        into = rest;
        index += 1;
    }
}

struct LayerClocks {
    begin: Instant,
    /// Of the run that goes on, since layers of a stage take several turns.
    spent: Vec<f64>,
    samples: Vec<Vec<f64>>,
}

impl LayerClocks {
    fn new(layers: usize) -> Self {
        LayerClocks { begin: Instant::now(), spent: vec![0.0; layers], samples: vec![Vec::new(); layers] }
    }

    fn end_run(&mut self) {
        self.samples.iter_mut().zip(&mut self.spent).for_each(|(samples, spent)| samples.push(std::mem::take(spent)));
    }
}

impl Probe for LayerClocks {
    fn before(&mut self, _index: usize, _layer: &Layer<'_>) {
        self.begin = Instant::now();
    }

    fn after(&mut self, index: usize, _layer: &Layer<'_>, _output: &[u8]) {
        self.spent[index] += self.begin.elapsed().as_nanos() as f64;
    }
}
