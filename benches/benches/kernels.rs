//! Convolution kernels of every instruction set at a few formats, on the shapes of the MLPerf Tiny networks.
//!
//! Throughput is in elements a second, an element being a multiply-accumulate.
#![allow(missing_docs, reason = "criterion_group! writes a public function without")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pare_runtime::Isa;
use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::{ConvProblem, ConvSpec};

const FORMATS: [WeightFormat; 4] =
    [WeightFormat::Linear(8), WeightFormat::Linear(4), WeightFormat::Codebook(4), WeightFormat::Linear(2)];

fn shapes(format: WeightFormat) -> [(&'static str, ConvSpec); 12] {
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

fn convolutions(criterion: &mut Criterion) {
    for format in FORMATS {
        for (name, spec) in shapes(format) {
            let problem = ConvProblem::new(spec);
            let conv = problem.conv();
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Elements(conv.macs()));
            for isa in Isa::available().filter(|&isa| isa != Isa::Reference) {
                let kernel = ConvKernel::choose(isa, &conv);
                let mut output = vec![0; conv.output.len()];
                let mut scratch = vec![0; kernel.scratch_bytes];
                group.bench_function(BenchmarkId::new(isa.name(), format), |bencher| {
                    bencher.iter(|| kernel.run(&conv, &problem.input, &mut output, &mut scratch));
                });
            }
        }
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
