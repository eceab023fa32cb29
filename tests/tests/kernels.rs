//! Every kernel of every instruction set that this processor has equals the reference, byte for byte.

use pare_runtime::Isa;
use pare_runtime::kernels::ConvKernel;
use pare_runtime::kernels::scratch::conv_scratch_bytes;
use pare_tests::problems::conv_problems;
use proptest::prelude::*;

/// Under an emulator that stands for a processor: all that follows would pass, too, if nothing were found.
#[test]
fn the_expected_instruction_set_is_there() {
    if let Ok(expected) = std::env::var("PARE_EXPECTED_ISA") {
        assert_eq!(Isa::best().name(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_convolution_equals_the_reference(problem in conv_problems()) {
        let expected = problem.run(Isa::Reference);
        for isa in Isa::available() {
            prop_assert_eq!(&problem.run(isa), &expected, "{}", isa);
        }
    }

    #[test]
    fn no_kernel_wants_more_scratch_than_is_planned(problem in conv_problems()) {
        let conv = problem.conv();
        let planned = conv.weight_groups().map(|group| conv_scratch_bytes(&conv, group.layout, group.format)).max().unwrap_or(0);
        for isa in Isa::available() {
            prop_assert!(ConvKernel::choose(isa, &conv).scratch_bytes <= planned, "{}", isa);
        }
    }
}
