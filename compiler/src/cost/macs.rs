//! Multiply-accumulates: the same for every policy that keeps all channels.

use crate::policy::Policy;
use crate::search::budget::Metric;
use crate::units::{Quantity, Unit};

use super::layers::{Layer, Layers};
use super::{Cost, CostError, Coupling};

/// Multiply-accumulates of one sample; a layer that keeps some channels counts those alone.
#[derive(Clone, Debug)]
pub struct Macs(pub Layers);

impl Cost for Macs {
    fn metric(&self) -> Metric {
        Metric::Macs
    }

    fn unit(&self) -> Unit {
        Unit::Operations
    }

    fn coupling(&self) -> Coupling {
        Coupling::Weights
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        let total = self.per_layer(policy)?.iter().map(|(_, macs)| macs).sum();
        Ok(Quantity::new(total, self.unit()))
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        Ok(self.0.iter().map(|layer| (layer.name.clone(), layer.macs as f64 * kept(layer, policy))).collect())
    }
}

/// Share of the output channels that stay.
fn kept(layer: &Layer, policy: &Policy) -> f64 {
    let keep = policy.layers.get(&layer.name).and_then(|entry| entry.keep.as_ref());
    keep.map_or(1.0, |keep| keep.len() as f64 / layer.shape.c_out.max(1) as f64)
}
