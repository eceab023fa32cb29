//! Energy of one inference, on targets whose description says what operations and bytes take.
//!
//! Never derived from ticks: a target without figures of its own has none.

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::search::budget::Metric;
use crate::units::{Joules, Quantity, Unit};

use super::layers::{Layer, Layers};
use super::{Cost, CostError, Coupling};

/// What a target spends energy on. Products cost by the widths of both operands, as those of arrays do that are made of
/// narrow multipliers; weights are read once, activations are read and written once a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyModel {
    /// Where the figures are from, or how they were measured.
    pub source: String,
    /// Of every inference, whatever it computes.
    pub per_inference: Joules,
    /// Of a multiply-accumulate, for each bit of a weight by a bit of an activation.
    pub per_bit_product: Joules,
    /// Of reading a byte of weights.
    pub per_weight_byte: Joules,
    /// Of reading or writing a byte of activations.
    pub per_activation_byte: Joules,
}

/// Energy under a target's model.
#[derive(Clone, Debug)]
pub struct Energy {
    layers: Layers,
    model: EnergyModel,
}

impl Energy {
    /// The energy of the network `layers` on `target`.
    ///
    /// # Errors
    /// [`CostError::NoFigures`] where the target has no model.
    pub fn new(layers: Layers, target: &str, model: Option<EnergyModel>) -> Result<Energy, CostError> {
        match model {
            Some(model) => Ok(Energy { layers, model }),
            None => Err(CostError::NoFigures { target: target.to_owned(), metric: Metric::Energy }),
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
        Coupling::Widths
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        let layers: f64 = self.per_layer(policy)?.iter().map(|(_, joules)| joules).sum();
        Ok(Quantity::new(layers + self.model.per_inference.0, self.unit()))
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        let EnergyModel { per_bit_product, per_weight_byte, per_activation_byte, .. } = &self.model;
        let price = |layer: &Layer| {
            let [input, output] =
                [self.layers.input_bits(layer, policy), self.layers.output_bits(layer, policy)].map(f64::from);
            let weights = if layer.weights > 0 { layer.weight_bits(policy)? as f64 } else { 0.0 };
            let shape = layer.shape;
            let read = (shape.h * shape.w * shape.c_in) as f64 * input / 8.0;
            let written = (shape.h_out * shape.w_out * shape.c_out) as f64 * output / 8.0;
            let products = layer.macs as f64 / layer.weights.max(1) as f64 * weights * input;
            let joules = products * per_bit_product.0
                + weights / 8.0 * per_weight_byte.0
                + (read + written) * per_activation_byte.0;
            Ok((layer.name.clone(), joules))
        };
        self.layers.iter().map(price).collect()
    }
}
