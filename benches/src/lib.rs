//! What the benches share; see the files under `benches/` and `aarch64/`.

#![allow(clippy::print_stdout, reason = "reports")]

pub mod baseline;
#[cfg(feature = "compiler")]
pub mod networks;
pub mod turns;

use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_tests::problems::ConvSpec;

/// The weight formats that kernels are compared at.
pub const FORMATS: [WeightFormat; 4] =
    [WeightFormat::Linear(8), WeightFormat::Linear(4), WeightFormat::Codebook(4), WeightFormat::Linear(2)];

/// The convolutions that kernels are compared on, by name: shapes of the MLPerf Tiny networks.
pub fn shapes(format: WeightFormat) -> [(&'static str, ConvSpec); 12] {
    let shape = |h, w, c| Shape { h, w, c };
    let dense = |input, c_out, kernel, stride| ConvSpec::dense(input, c_out, kernel, stride, format, Layout::Panels);
    let depthwise = |input, stride| ConvSpec::depthwise(input, 3, stride, format, Layout::Panels);
    [
        ("3x3 3-16 32x32", dense(shape(32, 32, 3), 16, 3, 1)),
        ("3x3 16-16 32x32", dense(shape(32, 32, 16), 16, 3, 1)),
        ("3x3 32-32 16x16", dense(shape(16, 16, 32), 32, 3, 1)),
        ("3x3 64-64 8x8", dense(shape(8, 8, 64), 64, 3, 1)),
        ("1x1 8-16 48x48", dense(shape(48, 48, 8), 16, 1, 1)),
        ("1x1 64-64 25x5", dense(shape(25, 5, 64), 64, 1, 1)),
        ("1x1 128-128 6x6", dense(shape(6, 6, 128), 128, 1, 1)),
        ("depthwise 16 48x48", depthwise(shape(48, 48, 16), 1)),
        ("depthwise 64 25x5", depthwise(shape(25, 5, 64), 1)),
        ("depthwise/2 64 24x24", depthwise(shape(24, 24, 64), 2)),
        ("fully connected 640-128", dense(shape(1, 1, 640), 128, 1, 1)),
        ("fully connected 128-128", dense(shape(1, 1, 128), 128, 1, 1)),
    ]
}
