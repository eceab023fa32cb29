//! Where the bits of a policy went: the mean widths of depthwise layers against those of pointwise ones, which is what HAQ reads
//! off its policies (Wang et al. 2019: depthwise layers get fewer bits than pointwise ones on the edge accelerator, more in
//! late layers in the cloud, and more where size is bounded).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cost::CostError;
use crate::cost::layers::{Layer, Layers};
use crate::policy::Policy;

/// What layers with weights are alike in, as far as accelerators go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Convolutions over several pixels and all channels.
    Spatial,
    /// Convolutions of each channel by itself.
    Depthwise,
    /// Convolutions of one pixel.
    Pointwise,
    /// Matrices by vectors.
    FullyConnected,
}

/// Mean widths of the layers of a kind, each layer counted alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Widths {
    /// Number of layers.
    pub layers: usize,
    /// Bits of a weight.
    pub weights: f64,
    /// Bits of an activation that is read: what the layer multiplies by.
    pub activations: f64,
}

/// The mean widths of each kind of layer that the network has.
///
/// # Errors
/// [`CostError::MissingLayer`] where the policy leaves a layer out.
pub fn widths(layers: &Layers, policy: &Policy) -> Result<BTreeMap<Kind, Widths>, CostError> {
    let mut kinds: BTreeMap<Kind, Widths> = BTreeMap::new();
    for layer in layers.iter().filter(|layer| layer.weights > 0) {
        let sum = kinds.entry(Kind::of(layer)).or_default();
        sum.layers += 1;
        sum.weights += layer.weight_bits(policy)? as f64 / layer.weights as f64;
        sum.activations += f64::from(layers.input_bits(layer, policy));
    }
    for mean in kinds.values_mut() {
        mean.weights /= mean.layers as f64;
        mean.activations /= mean.layers as f64;
    }
    Ok(kinds)
}

impl Kind {
    fn of(layer: &Layer) -> Kind {
        let shape = layer.shape;
        match layer.operator {
            operator if operator.starts_with("fully_connected") => Kind::FullyConnected,
            operator if operator.starts_with("depthwise") => Kind::Depthwise,
            _ if shape.kernel == [1, 1] => Kind::Pointwise,
            _ => Kind::Spatial,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Spatial => "spatial",
            Kind::Depthwise => "depthwise",
            Kind::Pointwise => "pointwise",
            Kind::FullyConnected => "fully connected",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::text::parse_with;
    use crate::policy::WeightFormat;
    use crate::search::space::layer_policy;

    #[test]
    fn layers_count_alike_and_activations_are_those_that_are_read() {
        let net = "graph separable
input %x: [1, 4, 4, 3]
const %a.w: [8, 3, 3, 3]
%a: [1, 4, 4, 8] = conv2d(%x, %a.w) pad=[1, 1, 1, 1]
const %b.w: [8, 3, 3, 1]
%b: [1, 4, 4, 8] = conv2d(%a, %b.w) pad=[1, 1, 1, 1] groups=8
const %c.w: [16, 1, 1, 8]
%c: [1, 4, 4, 16] = conv2d(%b, %c.w)
const %d.w: [4, 1, 1, 16]
%d: [1, 4, 4, 4] = conv2d(%c, %d.w)
output %d
";
        let graph = parse_with(net, |_, shape| Ok(vec![1.0; shape.iter().product()])).unwrap();
        let widths_of = [("a", 8, 6), ("b", 5, 4), ("c", 2, 3), ("d", 7, 8)];
        let entry = |(name, weights, activations): (&str, u8, u8)| {
            (name.to_owned(), layer_policy(WeightFormat::Linear(weights), activations))
        };
        let policy = Policy { layers: widths_of.into_iter().map(entry).collect() };
        let found = widths(&Layers::of(&graph), &policy).unwrap();
        let expected = [
            (Kind::Spatial, Widths { layers: 1, weights: 8.0, activations: 8.0 }),
            (Kind::Depthwise, Widths { layers: 1, weights: 5.0, activations: 6.0 }),
            (Kind::Pointwise, Widths { layers: 2, weights: 4.5, activations: 3.5 }),
        ];
        assert_eq!(found, BTreeMap::from(expected));
        let missing = widths(&Layers::of(&graph), &Policy::default()).unwrap_err();
        assert!(matches!(missing, CostError::MissingLayer(_)), "{missing}");
    }
}
