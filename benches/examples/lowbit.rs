//! What few bits buy: formats side by side in one run, relative to weights and activations of 8 bits.
//!
//! Fully connected stacks of 64 MB at 8 bits, beyond every cache but the last; and 3x3 convolutions whose
//! activations have few bits too.
//!
//! `cargo run --release -p pare-benches --example lowbit [ISA]`
#![allow(clippy::print_stdout, reason = "a report")]

use pare_benches::turns::compare;
use pare_runtime::Isa;
use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_tests::problems::ConvSpec;

/// Bytes of a stack at 8 bits.
const STACK: usize = 64 << 20;

fn main() {
    let isa = std::env::args().nth(1).map_or(Isa::best(), |name| name.parse().expect("an instruction set"));
    let (w, t, k4) = (WeightFormat::Linear, WeightFormat::Ternary, WeightFormat::Codebook(4));
    for size in [1024, 2048] {
        let spec = ConvSpec::dense(Shape { h: 1, w: 1, c: size }, size, 1, 1, w(8), Layout::Panels);
        let mixtures: [&[_]; 9] = [&[w(8)], &[w(4)], &[k4], &[w(2)], &[t], &[w(1)], &[w(4), w(8)], &[w(6)], &[w(3)]];
        let specs = mixtures.map(|formats| mixed(&spec, formats));
        compare(&format!("fully connected {size}-{size}, {STACK} bytes at 8 bits"), isa, &specs, STACK / size / size);
    }
    for (channels, extent) in [(64, 8), (128, 8), (32, 16)] {
        let shape = Shape { h: extent, w: extent, c: channels };
        let conv = |format, bits_in, layout| {
            let spec = ConvSpec { bits_in, zero_in: 1, ..ConvSpec::dense(shape, channels, 3, 1, format, layout) };
            (format!("{format}a{bits_in} {layout:?}"), spec)
        };
        let low = [(w(2), 2), (t, 2), (w(1), 4), (w(1), 3), (w(2), 1), (w(1), 2), (w(1), 1)];
        let (_, bytes) = conv(w(8), 8, Layout::Panels);
        let mixtures: [&[_]; 5] = [&[w(8)], &[w(4)], &[k4], &[w(4), w(8)], &[w(6)]];
        let mut specs: Vec<_> = mixtures.map(|formats| mixed(&bytes, formats)).into();
        specs.extend(low.map(|(format, bits)| conv(format, bits, Layout::Panels)));
        if isa.layout() == Layout::Planes {
            specs.extend(low.map(|(format, bits)| conv(format, bits, Layout::Planes)));
        }
        compare(&format!("3x3 {channels}-{channels} {extent}x{extent}"), isa, &specs, 1);
    }
}

/// A convolution of activations of 8 bits, its channels shared out evenly among weight formats; and its name.
fn mixed(spec: &ConvSpec, formats: &[WeightFormat]) -> (String, ConvSpec) {
    let channels = spec.weights.iter().map(|group| group.2).sum::<usize>() / formats.len();
    let weights = formats.iter().map(|&format| (format, Layout::Panels, channels)).collect();
    let name = formats.iter().map(ToString::to_string).collect::<Vec<_>>().join("+") + "a8";
    (name, ConvSpec { weights, ..spec.clone() })
}
