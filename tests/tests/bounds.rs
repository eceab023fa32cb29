//! Kernels write the output and nothing else, whatever they are given.

use pare_runtime::Isa;
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::{ConvProblem, conv_problems};
use proptest::prelude::*;

const GUARD: usize = 128;

/// Runs `kernel` between guards, `scratch` bytes of scratch being lent at an offset; `None` if a guard was hit.
fn run_guarded(kernel: ConvKernel, problem: &ConvProblem, scratch: usize, offset: usize) -> Option<Vec<u8>> {
    let conv = problem.conv();
    let len = conv.output.len();
    let mut output = vec![0xaa; len + 2 * GUARD];
    output[GUARD..GUARD + len].copy_from_slice(&problem.residual());
    let mut memory = vec![0x55; scratch + offset + GUARD];
    kernel.run(&conv, &problem.input, &mut output[GUARD..GUARD + len], &mut memory[offset..offset + scratch]);
    let untouched = |bytes: &[u8], value| bytes.iter().all(|&byte| byte == value);
    let whole = untouched(&output[..GUARD], 0xaa)
        && untouched(&output[GUARD + len..], 0xaa)
        && untouched(&memory[..offset], 0x55)
        && untouched(&memory[offset + scratch..], 0x55);
    whole.then(|| output[GUARD..GUARD + len].to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_kernel_stays_within_output_and_scratch(problem in conv_problems(), offset in 0..70usize) {
        let expected = problem.run(Isa::Reference);
        for isa in Isa::available() {
            let kernel = ConvKernel::choose(isa, &problem.conv());
            let output = run_guarded(kernel, &problem, kernel.scratch_bytes(&problem.conv()), offset);
            prop_assert_eq!(output.as_ref(), Some(&expected), "{}", isa);
        }
    }

    #[test]
    fn a_kernel_chosen_for_another_convolution_stays_there_too(chosen in conv_problems(), problem in conv_problems()) {
        for isa in Isa::available() {
            let kernel = ConvKernel::choose(isa, &chosen.conv());
            prop_assert!(run_guarded(kernel, &problem, kernel.scratch_bytes(&chosen.conv()), 0).is_some(), "{}", isa);
        }
    }
}
