//! The guest of `aarch64/instructions.sh`: a marked run of every kernel of this processor, a line before it.
#![allow(clippy::print_stdout, reason = "what it is for")]

#[cfg(target_arch = "aarch64")]
fn main() {
    use pare_benches::shapes;
    use pare_runtime::Isa;
    use pare_runtime::format::WeightFormat;
    use pare_runtime::kernels::ConvKernel;
    use pare_tests::problems::ConvProblem;

    let levels = [Isa::Portable, Isa::Neon, Isa::NeonDotprod, Isa::NeonI8mm];
    for format in [8, 4, 2].map(WeightFormat::Linear) {
        for (name, spec) in shapes(format) {
            let problem = ConvProblem::new(spec);
            let conv = problem.conv();
            for isa in levels.into_iter().filter(|isa| isa.is_available()) {
                let kernel = ConvKernel::choose(isa, &conv);
                let mut output = vec![0; conv.output.len()];
                let mut scratch = vec![0; kernel.scratch_bytes(&conv)];
                println!("{format},{name},{isa},{}", conv.macs());
                marked(|| kernel.run(&conv, &problem.input, &mut output, &mut scratch));
            }
        }
    }
}

/// Runs it between the marks of `aarch64/counter.rs`.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "instructions that do nothing but mark a place")]
fn marked(run: impl FnOnce()) {
    // SAFETY: these hints are not allocated, hence without effect.
    unsafe { core::arch::asm!("hint #100") };
    run();
    // SAFETY: as above.
    unsafe { core::arch::asm!("hint #101") };
}

#[cfg(not(target_arch = "aarch64"))]
fn main() {
    println!("see aarch64/instructions.sh");
}
