//! Which of the layouts that a convolution's weights may have they get.

use std::collections::BTreeMap;

use pare_runtime::format::Layout;

use crate::cost::layers::{Shape, Steps};
use crate::policy::WeightFormat;

/// Pairs of a bit of the weights and a bit of the activations beyond which bytes are always faster than bit planes.
const MOST_PAIRS: u32 = 4;

/// The share of the steps of a dense layer below which one without zeros is faster, of bytes and of other weights:
/// measured on Zen 5 (`pare-benches`, example `sparse`), a third and a quarter of the weights, and what steps waste.
const MOST_STEPS_OF_BYTES: f64 = 0.34;
const MOST_STEPS: f64 = 0.28;

/// What the time of a convolution depends on beside its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConvKey {
    /// Dimensions.
    pub shape: Shape,
    /// Coding of the weights.
    pub weights: WeightFormat,
    /// Width of the input codes.
    pub activation_bits: u8,
}

/// How lowering chooses where kernels of several layouts would do: always among those, so that no choice is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layouts {
    /// By what was measured on other networks.
    #[default]
    RuleOfThumb,
    /// This one, where there is a kernel for it; [`Layout::Sparse`] for the least flash that kernels read in place.
    All(Layout),
    /// What a latency table says is fastest; by the rule of thumb where it says nothing.
    Measured(Measured),
}

/// What a latency table says of layouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The fastest with all weights.
    pub dense: BTreeMap<ConvKey, Layout>,
    /// The most steps with which a layer that skips zeros is faster than that; none if it never was.
    pub sparse: BTreeMap<ConvKey, Option<Steps>>,
}

impl Layouts {
    /// The layout of a dense convolution whose output channels have `formats`, on a target that reads all of them.
    pub(super) fn of(&self, shape: Shape, formats: &[WeightFormat], activation_bits: u8) -> Layout {
        // Several formats or one: the kernel is of one layout.
        let planes = |&weights: &WeightFormat| self.one(&ConvKey { shape, weights, activation_bits }) == Layout::Planes;
        if formats.iter().all(planes) { Layout::Planes } else { Layout::Panels }
    }

    /// Whether a convolution leaves out its weights of 0, which leaves it so many steps.
    pub(crate) fn skips_zeros(
        &self,
        shape: Shape,
        formats: &[WeightFormat],
        activation_bits: u8,
        steps: Steps,
    ) -> bool {
        let by_rule =
            |weights: WeightFormat| steps.share() <= if weights.bits() == 8 { MOST_STEPS_OF_BYTES } else { MOST_STEPS };
        let is_faster = |&weights: &WeightFormat| match self {
            Layouts::Measured(measured) => match measured.sparse.get(&ConvKey { shape, weights, activation_bits }) {
                Some(most) => most.is_some_and(|most| steps <= most),
                None => by_rule(weights),
            },
            _ => by_rule(weights),
        };
        match self {
            Layouts::All(layout) => *layout == Layout::Sparse,
            _ => shape.is_vector() && formats.iter().all(is_faster),
        }
    }

    fn one(&self, key: &ConvKey) -> Layout {
        let pairs = u32::from(key.weights.bits()) * u32::from(key.activation_bits);
        if *self == Layouts::All(Layout::Sparse) {
            return Layout::Panels;
        }
        if pairs > MOST_PAIRS || !pare_runtime::format::WeightFormat::from(key.weights).has_planes() {
            return Layout::Panels;
        }
        match self {
            Layouts::RuleOfThumb => rule_of_thumb(&key.shape, pairs),
            Layouts::All(layout) => *layout,
            Layouts::Measured(measured) => {
                measured.dense.get(key).copied().unwrap_or_else(|| rule_of_thumb(&key.shape, pairs))
            }
        }
    }
}

/// What it costs to bring a pixel's bits together has to be shared by the taps of a kernel, and the fewer channels there
/// are, the more of it there is: measured on Zen 5, 3x3 convolutions of a pair of bits gain from 16 channels on, of
/// two pairs from 32 on, and so forth; 1x1, they lose.
fn rule_of_thumb(shape: &Shape, pairs: u32) -> Layout {
    const LEAST_TAPS: usize = 9;
    let deep = shape.c_in >= 8 << pairs;
    if deep && shape.kernel.iter().product::<usize>() >= LEAST_TAPS { Layout::Planes } else { Layout::Panels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(c_in: usize, kernel: usize) -> Shape {
        Shape { h: 8, w: 8, c_in, h_out: 8, w_out: 8, c_out: 64, kernel: [kernel; 2], stride: [1; 2], groups: 1 }
    }

    #[test]
    fn few_bits_and_many_channels_are_bit_planes() {
        let of =
            |c_in, kernel, formats: &[WeightFormat], bits| Layouts::RuleOfThumb.of(shape(c_in, kernel), formats, bits);
        let (one, two, four) = (WeightFormat::Linear(1), WeightFormat::Linear(2), WeightFormat::Linear(4));
        assert_eq!(of(64, 3, &[one], 1), Layout::Planes);
        assert_eq!(of(64, 1, &[one], 1), Layout::Panels);
        assert_eq!(of(64, 3, &[two], 2), Layout::Panels);
        assert_eq!(of(128, 3, &[two, one], 2), Layout::Planes);
        assert_eq!(of(128, 3, &[two, four], 2), Layout::Panels);
        assert_eq!(of(128, 3, &[one], 8), Layout::Panels);
    }

    #[test]
    fn zeros_are_left_out_where_that_is_faster() {
        let pixel = Shape { h: 1, w: 1, h_out: 1, w_out: 1, ..shape(784, 1) };
        let (few, many) = (Steps::of(&[0; 784], 784), Steps::ALL);
        let of =
            |layouts: Layouts, shape: Shape, steps| layouts.skips_zeros(shape, &[WeightFormat::Linear(4)], 8, steps);
        assert!(of(Layouts::RuleOfThumb, pixel, few) && !of(Layouts::RuleOfThumb, pixel, many));
        assert!(!of(Layouts::RuleOfThumb, shape(784, 1), few), "many pixels share what is decoded");
        assert!(of(Layouts::All(Layout::Sparse), shape(784, 3), many), "for flash");
        assert!(!of(Layouts::All(Layout::Panels), pixel, few));
    }

    #[test]
    fn what_was_measured_goes_before_the_rule() {
        let key = |c_in| ConvKey { shape: shape(c_in, 3), weights: WeightFormat::Linear(1), activation_bits: 1 };
        let dense = [(key(64), Layout::Panels), (key(8), Layout::Planes)].into();
        let measured = Layouts::Measured(Measured { dense, ..Measured::default() });
        let of = |c_in| measured.of(shape(c_in, 3), &[WeightFormat::Linear(1)], 1);
        assert_eq!([of(64), of(8), of(32)], [Layout::Panels, Layout::Planes, Layout::Planes]);
    }
}
