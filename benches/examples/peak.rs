//! How near the dense kernels come to the processor's peak: MACs a second of each layer shape of the MLPerf
//! Tiny networks, beside a loop of nothing but dot products, measured in the same run.
//!
//! `cargo run --release -p pare-benches --example peak [FORMAT] [ISA]`, for instance `peak w8 avx512vnni`.
#![allow(clippy::print_stdout, reason = "a report")]

use std::time::Instant;

use pare_runtime::Isa;
use pare_runtime::format::{Layout, Requantise, Shape, WeightFormat};
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::{ConvProblem, ConvSpec};

/// Rounds in which the shapes take turns: the best time of each counts, and the median of its shares of the peak,
/// which is measured beside every turn, since the clock and the neighbours change.
const ROUNDS: usize = 101;
/// Time of a turn, in nanoseconds.
const TURN: f64 = 40_000.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let format = arguments.first().map_or("w8", String::as_str);
    let format = WeightFormat::ALL.into_iter().find(|f| f.to_string() == format).expect("a format, for instance w4");
    let isa = arguments.get(1).map_or(Isa::best(), |name| name.parse().expect("an instruction set"));
    let problems: Vec<(String, ConvProblem)> =
        shapes(format).into_iter().map(|(name, spec)| (name, typical(spec))).collect();
    let mut best = vec![f64::INFINITY; problems.len()];
    let mut shares = vec![vec![]; problems.len()];
    let mut highest = 0.0f64;
    for _ in 0..ROUNDS {
        for (((_, problem), best), shares) in problems.iter().zip(&mut best).zip(&mut shares) {
            let weights = Aligned::new(&problem.weights);
            let conv = problem.conv().with_weights(&problem.records, weights.get()).expect("the same weights");
            let kernel = ConvKernel::choose(isa, &conv);
            let input = Aligned::new(&problem.input);
            let mut output = Aligned::new(&vec![0; conv.output.len()]);
            let mut scratch = Aligned::new(&vec![0; kernel.scratch_bytes(&conv)]);
            let mut run = || kernel.run(&conv, input.get(), output.get_mut(), scratch.get_mut());
            run();
            let start = Instant::now();
            run();
            let once = start.elapsed().as_nanos().max(20) as f64;
            let runs = (TURN / once).ceil();
            let peak = dot_peak();
            let start = Instant::now();
            (0..runs as usize).for_each(|_| run());
            let ns = start.elapsed().as_nanos() as f64 / runs;
            let peak = peak.max(dot_peak());
            highest = highest.max(peak);
            *best = best.min(ns);
            shares.push(conv.macs() as f64 / ns / peak);
        }
    }
    println!("{isa} {format}, dot peak {highest:.0} GMAC/s");
    println!("{:34}{:>9}{:>9}{:>9}{:>9}", "shape", "best us", "GMAC/s", "of peak", "scratch");
    for (((name, problem), ns), shares) in problems.iter().zip(best).zip(&mut shares) {
        let conv = problem.conv();
        shares.sort_by(f64::total_cmp);
        let share = shares[shares.len() / 2] * 100.0;
        let scratch = ConvKernel::choose(isa, &conv).scratch_bytes(&conv);
        println!("{name:34}{:9.2}{:9.0}{share:8.0}%{scratch:9}", ns / 1e3, conv.macs() as f64 / ns);
    }
}

/// A problem with multipliers as layers of networks have them: those of problems reach further, to test kernels.
fn typical(spec: ConvSpec) -> ConvProblem {
    let mut problem = ConvProblem::new(spec);
    problem.mult.iter_mut().for_each(|mult| *mult >>= 6);
    problem
}

/// Bytes that begin at a cache line, as those of a session do.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Aligned {
        let mut room = vec![0; bytes.len() + 64];
        let start = room.as_ptr().align_offset(64);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        room.truncate(start + bytes.len());
        Aligned { bytes: room, start }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

fn shapes(format: WeightFormat) -> Vec<(String, ConvSpec)> {
    let same = |(h, w, c): (usize, usize, usize), c_out: usize, kernel: [usize; 2], stride: usize| {
        let mut spec = ConvSpec::dense(Shape { h, w, c }, c_out, 1, stride, format, Layout::Panels);
        let needed = |k: usize, size: usize| ((size.div_ceil(stride) - 1) * stride + kernel[k]).saturating_sub(size);
        let around = [needed(0, h), needed(1, w)];
        spec.kernel = kernel;
        spec.pad = around.map(|n| n / 2);
        spec.pad_end = around.map(|n| n - n / 2);
        spec.requantise = Requantise { pre: 0, zero: 9, lo: 0, hi: 255 };
        let [kh, kw] = kernel;
        (format!("{kh}x{kw}/{stride} {c}->{c_out} @{h}x{w}"), spec)
    };
    vec![
        same((32, 32, 3), 16, [3, 3], 1),
        same((32, 32, 16), 16, [3, 3], 1),
        same((32, 32, 16), 32, [3, 3], 2),
        same((16, 16, 32), 32, [3, 3], 1),
        same((32, 32, 16), 32, [1, 1], 2),
        same((16, 16, 32), 64, [3, 3], 2),
        same((8, 8, 64), 64, [3, 3], 1),
        same((16, 16, 32), 64, [1, 1], 2),
        same((49, 10, 1), 64, [10, 4], 2),
        same((25, 5, 64), 64, [1, 1], 1),
        same((96, 96, 3), 8, [3, 3], 2),
        same((48, 48, 8), 16, [1, 1], 1),
        same((24, 24, 16), 32, [1, 1], 1),
        same((24, 24, 32), 32, [1, 1], 1),
        same((12, 12, 32), 64, [1, 1], 1),
        same((12, 12, 64), 64, [1, 1], 1),
        same((6, 6, 64), 128, [1, 1], 1),
        same((6, 6, 128), 128, [1, 1], 1),
        same((3, 3, 128), 256, [1, 1], 1),
        same((3, 3, 256), 256, [1, 1], 1),
        same((1, 1, 640), 128, [1, 1], 1),
        same((1, 1, 128), 128, [1, 1], 1),
        same((1, 1, 128), 8, [1, 1], 1),
        same((1, 1, 8), 128, [1, 1], 1),
        same((1, 1, 128), 640, [1, 1], 1),
    ]
}

/// MACs a nanosecond of independent dot products in registers.
#[cfg(target_arch = "x86_64")]
fn dot_peak() -> f64 {
    if !Isa::Avx512Vnni.is_available() {
        return f64::NAN;
    }
    const TURNS: usize = 10_000;
    let start = Instant::now();
    // SAFETY: the processor has the instructions.
    std::hint::black_box(unsafe { dots(TURNS) });
    (TURNS * DOTS * 64) as f64 / start.elapsed().as_nanos() as f64
}

#[cfg(not(target_arch = "x86_64"))]
fn dot_peak() -> f64 {
    f64::NAN
}

/// Dot products of a turn, each with an accumulator of its own.
#[cfg(target_arch = "x86_64")]
const DOTS: usize = 16;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dots(turns: usize) -> i32 {
    use core::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); DOTS];
    let codes = _mm512_set1_epi8(3);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, codes, codes);
        }
    }
    let mut all = sums[0];
    for sum in sums {
        all = _mm512_xor_si512(all, sum);
    }
    _mm512_reduce_add_epi32(all)
}
