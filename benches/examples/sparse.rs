//! What zeros buy: fully connected layers whose weights are stored without them, beside dense ones of the same width.
//!
//! `cargo run --release -p pare-benches --example sparse [ISA]`
#![allow(clippy::print_stdout, reason = "a report")]

use pare_benches::turns::compare;
use pare_runtime::Isa;
use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_tests::problems::{ConvSpec, Numbers};

/// Inputs, outputs, and layers one after another, each with weights of its own.
const LAYERS: [(usize, usize, usize); 4] = [(300, 100, 1), (784, 300, 1), (1024, 1024, 1), (2048, 2048, 16)];
/// One weight of so many is not 0.
const ONE_OF: [u8; 5] = [2, 3, 4, 10, 20];

fn main() {
    let isa = std::env::args().nth(1).map_or(Isa::best(), |name| name.parse().expect("an instruction set"));
    for (c, c_out, copies) in LAYERS {
        for format in [WeightFormat::Linear(8), WeightFormat::Linear(4), WeightFormat::Codebook(4)] {
            let spec = |layout| ConvSpec::dense(Shape { h: 1, w: 1, c }, c_out, 1, 1, format, layout);
            let sparse =
                ONE_OF.map(|n| (format!("1 of {n}"), ConvSpec { numbers: Numbers::OneOf(n), ..spec(Layout::Sparse) }));
            let specs: Vec<_> = [("dense".to_owned(), spec(Layout::Panels))].into_iter().chain(sparse).collect();
            compare(&format!("{copies} fully connected {c}-{c_out}, {format}"), isa, &specs, copies);
        }
    }
}
