//! The runtime on this very machine: inference over many samples, and time.

use std::time::{Duration, Instant};

use pare_runtime::format::{Layer, Layout};
use pare_runtime::{Isa, Model, Probe, Session};
use rayon::prelude::*;

use super::{AlignedBytes, Board, BoardError, Timing, quantile};
use crate::emit::ObjectArch;
use crate::units::TickUnit;

/// This machine.
#[derive(Clone, Copy, Debug)]
pub struct Host;

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

    fn layout(&self) -> Layout {
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { Layout::Panels } else { Layout::Plain }
    }

    fn object_arch(&self) -> ObjectArch {
        match () {
            () if cfg!(target_arch = "x86_64") => ObjectArch::X86_64,
            () if cfg!(target_arch = "aarch64") => ObjectArch::Aarch64,
            () if cfg!(target_arch = "riscv64") => ObjectArch::Riscv64,
            () => ObjectArch::Arm,
        }
    }

    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
        infer(blob, isa, codes)
    }

    fn time(&self, blob: &[u8], isa: Isa, codes: &[u8], runs: usize) -> Result<Timing, BoardError> {
        time(blob, isa, codes, runs)
    }
}

/// Runs every sample of `codes` (samples back to back) and returns the outputs back to back.
///
/// Samples are spread over the threads of the current rayon pool; the result does not depend on them.
///
/// # Errors
/// When the blob or the instruction set is not for this machine.
pub fn infer(blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
    let model = Model::parse(blob)?;
    let input_len: usize = model.inputs().map(|t| t.shape.len()).sum();
    let output_len: usize = model.outputs().map(|t| t.shape.len()).sum();
    let mut outputs = vec![0; codes.len() / input_len * output_len];
    // Large enough to hide a session's set-up, small enough to share the work.
    const CHUNK: usize = 64;
    outputs.par_chunks_mut(output_len * CHUNK).zip(codes.par_chunks(input_len * CHUNK)).try_for_each(
        |(outputs, codes)| -> Result<(), BoardError> {
            let mut arena = AlignedBytes::zeroed(model.arena_bytes());
            let mut session = Session::with_isa(model, &mut arena, isa)?;
            for (output, sample) in outputs.chunks_mut(output_len).zip(codes.chunks(input_len)) {
                set_inputs(&mut session, sample);
                session.run();
                get_outputs(&session, output);
            }
            Ok(())
        },
    )?;
    Ok(outputs)
}

/// Times `runs` samples of back-to-back inferences on one thread.
///
/// A sample is long enough (some 50 microseconds) for the clock not to matter. Layers are timed in
/// separate inferences, since the clock's two readings a layer would lengthen the total.
fn time(blob: &[u8], isa: Isa, codes: &[u8], runs: usize) -> Result<Timing, BoardError> {
    let begin = Instant::now();
    let model = Model::parse(blob)?;
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::with_isa(model, &mut arena, isa)?;
    set_inputs(&mut session, codes);
    session.run();
    let first = begin.elapsed().as_nanos() as f64;

    let inner = inferences_a_sample(&mut session, codes);
    let mut total = Vec::with_capacity(runs);
    let mut clocks = LayerClocks::new(model.layers().len());
    // The two kinds alternate, so that both see the same weather on a shared machine.
    for _ in 0..runs {
        let begin = Instant::now();
        for _ in 0..inner {
            set_inputs(&mut session, codes);
            session.run();
        }
        total.push(begin.elapsed().as_nanos() as f64 / inner as f64);
        set_inputs(&mut session, codes);
        session.run_probed(&mut clocks);
    }
    total.sort_by(f64::total_cmp);
    let mut layers = clocks.samples;
    settle(&mut layers, quantile(&total, 0.5));
    Ok(Timing { unit: TickUnit::Nanoseconds, total, layers, first })
}

/// Sorts the samples of each layer and shifts them alike, so that their medians add up to `total`.
///
/// What a layer costs in a network is a little more than what passes between the two readings of the
/// clock around it (its record is decoded first), less what the readings cost: both are the same for all.
fn settle(layers: &mut [Vec<f64>], total: f64) {
    layers.iter_mut().for_each(|samples| samples.sort_by(f64::total_cmp));
    let sum: f64 = layers.iter().map(|samples| quantile(samples, 0.5)).sum();
    let shift = (total - sum) / layers.len().max(1) as f64;
    for ns in layers.iter_mut().flatten() {
        *ns = (*ns + shift).max(0.0);
    }
}

fn inferences_a_sample(session: &mut Session<'_>, codes: &[u8]) -> usize {
    const SAMPLE: Duration = Duration::from_micros(50);
    // Long enough for caches, branch predictors and the processor's clock to settle.
    const WARM_UP: Duration = Duration::from_millis(20);
    let begin = Instant::now();
    let mut n = 0;
    while begin.elapsed() < WARM_UP {
        set_inputs(session, codes);
        session.run();
        n += 1;
    }
    let one = begin.elapsed() / n.max(1);
    (SAMPLE.as_nanos() / one.as_nanos().max(1)).max(1) as usize
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
    samples: Vec<Vec<f64>>,
}

impl LayerClocks {
    fn new(layers: usize) -> Self {
        LayerClocks { begin: Instant::now(), samples: vec![Vec::new(); layers] }
    }
}

impl Probe for LayerClocks {
    fn before(&mut self, _index: usize, _layer: &Layer<'_>) {
        self.begin = Instant::now();
    }

    fn after(&mut self, index: usize, _layer: &Layer<'_>, _output: &[u8]) {
        self.samples[index].push(self.begin.elapsed().as_nanos() as f64);
    }
}
