//! Energy of one inference, on targets where it was measured.
//!
//! Never derived from ticks: a target without figures of its own has none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::search::budget::Metric;
use crate::units::{Joules, Quantity, Unit};

use super::layers::Layers;
use super::{Cost, CostError, Coupling};

/// Measured energy of a target: so much a multiply-accumulate at each weight width, and so much an
/// inference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyModel {
    /// How the figures were got.
    pub method: String,
    /// Of every inference, whatever it computes.
    pub per_inference: Joules,
    /// Of one multiply-accumulate, by weight bits.
    pub per_mac: BTreeMap<u8, Joules>,
}

/// Energy under a target's model.
#[derive(Clone, Debug)]
pub struct Energy {
    layers: Layers,
    target: String,
    model: EnergyModel,
}

impl Energy {
    /// The energy of the network `layers` on `target`.
    ///
    /// # Errors
    /// [`CostError::NoFigures`] where the target has no model.
    pub fn new(layers: Layers, target: &str, model: Option<EnergyModel>) -> Result<Energy, CostError> {
        let target = target.to_owned();
        match model {
            Some(model) => Ok(Energy { layers, target, model }),
            None => Err(CostError::NoFigures { target, metric: Metric::Energy }),
        }
    }
}

impl Cost for Energy {
    fn metric(&self) -> Metric {
        Metric::Energy
    }

    fn unit(&self) -> Unit {
        Unit::Joules
    }

    fn coupling(&self) -> Coupling {
        Coupling::Weights
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        let layers: f64 = self.per_layer(policy)?.iter().map(|(_, joules)| joules).sum();
        Ok(Quantity::new(layers + self.model.per_inference.0, self.unit()))
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        let mut shares = Vec::new();
        for layer in self.layers.iter().filter(|layer| layer.weights > 0) {
            let bits = layer.weight_bits(policy)?.div_ceil(layer.weights) as u8;
            let per_mac = self
                .model
                .per_mac
                .get(&bits)
                .ok_or_else(|| CostError::NoFigures { target: self.target.clone(), metric: Metric::Energy })?;
            shares.push((layer.name.clone(), layer.macs as f64 * per_mac.0));
        }
        Ok(shares)
    }
}
