//! Bit operations: multiply-accumulates times the widths of both operands.

use crate::policy::Policy;
use crate::search::budget::Metric;
use crate::units::{Quantity, Unit};

use super::layers::Layers;
use super::{Cost, CostError, Coupling};

/// `sum of MACs * weight bits * input-activation bits` over the layers with weights.
#[derive(Clone, Debug)]
pub struct Bitops(pub Layers);

impl Cost for Bitops {
    fn metric(&self) -> Metric {
        Metric::Bitops
    }

    fn unit(&self) -> Unit {
        Unit::Operations
    }

    fn coupling(&self) -> Coupling {
        Coupling::Widths
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        let total = self.per_layer(policy)?.iter().map(|(_, bitops)| bitops).sum();
        Ok(Quantity::new(total, self.unit()))
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        self.0
            .iter()
            .map(|layer| {
                let per_weight = layer.macs as f64 / layer.weights.max(1) as f64;
                let bits = layer.weight_bits(policy)? as f64 * f64::from(self.0.input_bits(layer, policy));
                Ok((layer.name.clone(), per_weight * bits))
            })
            .collect()
    }
}
