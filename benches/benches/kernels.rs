//! Convolution kernels of every instruction set at a few formats, on the shapes of the MLPerf Tiny networks.
//!
//! Throughput is in elements a second, an element being a multiply-accumulate.
#![allow(missing_docs, reason = "criterion_group! writes a public function without")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pare_benches::{FORMATS, shapes};
use pare_runtime::Isa;
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::ConvProblem;

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
                let mut scratch = vec![0; kernel.scratch_bytes(&conv)];
                group.bench_function(BenchmarkId::new(isa.name(), format), |bencher| {
                    bencher.iter(|| kernel.run(&conv, &problem.input, &mut output, &mut scratch));
                });
            }
        }
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
