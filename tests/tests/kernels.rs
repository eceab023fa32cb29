//! Every kernel of every instruction set that this processor has equals the reference, byte for byte.

use pare_runtime::Isa;
use pare_runtime::kernels::ConvKernel;
use pare_runtime::kernels::scratch::conv_scratch_bytes;
use pare_tests::problems::{ConvProblem, Family, conv_problems, conv_problems_of};
use proptest::prelude::*;

/// Under an emulator that stands for a processor: all that follows would pass, too, if nothing were found.
#[test]
fn the_expected_instruction_set_is_there() {
    if let Ok(expected) = std::env::var("PARE_EXPECTED_ISA") {
        assert_eq!(Isa::best().name(), expected);
    }
}

fn equals_the_reference(problem: &ConvProblem) -> Result<(), TestCaseError> {
    let expected = problem.run(Isa::Reference);
    for isa in Isa::available() {
        prop_assert_eq!(&problem.run(isa), &expected, "{}", isa);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_dense_convolution_equals_the_reference(problem in conv_problems_of(Family::Dense)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_fully_connected_layer_equals_the_reference(problem in conv_problems_of(Family::FullyConnected)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_depthwise_convolution_equals_the_reference(problem in conv_problems_of(Family::Depthwise)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_convolution_of_bit_planes_equals_the_reference(problem in conv_problems_of(Family::Planes)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_convolution_of_microcontrollers_equals_the_reference(problem in conv_problems_of(Family::Words)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_convolution_of_vectors_equals_the_reference(problem in conv_problems_of(Family::Vectors)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_convolution_of_narrow_weights_equals_the_reference(problem in conv_problems_of(Family::Narrow)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_convolution_of_plain_weights_equals_the_reference(problem in conv_problems_of(Family::Plain)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn every_sparse_convolution_equals_the_reference_and_what_it_stands_for(
        problem in conv_problems_of(Family::Sparse),
    ) {
        equals_the_reference(&problem)?;
        prop_assert_eq!(problem.run(Isa::Reference), problem.expanded().run(Isa::Reference));
    }

    #[test]
    fn what_only_portable_kernels_take_equals_the_reference(problem in conv_problems_of(Family::Portable)) {
        equals_the_reference(&problem)?;
    }

    #[test]
    fn the_parts_of_a_convolution_are_the_whole(problem in conv_problems(), cuts in prop::collection::vec(0..12usize, 0..4)) {
        let conv = problem.conv();
        let rows = conv.output.h;
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % rows).chain([0, rows]).collect();
        cuts.sort_unstable();
        for isa in Isa::available() {
            let mut output = problem.residual();
            for cut in cuts.windows(2) {
                let part = conv.part(cut[0]..cut[1]);
                let kernel = ConvKernel::choose(isa, &part.conv);
                let mut scratch = vec![0x55; kernel.scratch_bytes(&part.conv)];
                kernel.run(&part.conv, &problem.input[part.input], &mut output[part.output], &mut scratch);
            }
            prop_assert_eq!(output, problem.run(isa), "{} {:?}", isa, cuts);
        }
    }

    #[test]
    fn no_kernel_wants_more_scratch_than_is_planned(problem in conv_problems()) {
        let conv = problem.conv();
        let planned = conv.weight_groups().map(|group| conv_scratch_bytes(&conv, group.layout, group.format)).max().unwrap_or(0);
        for isa in Isa::available() {
            let kernel = ConvKernel::choose(isa, &conv);
            prop_assert!(!kernel.is_planned(&conv) || kernel.scratch_bytes(&conv) <= planned, "{}", isa);
        }
    }
}
