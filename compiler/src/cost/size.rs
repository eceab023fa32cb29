//! Bytes of the blob, by formula or from the lowering itself.

use crate::policy::{Policy, WeightChoice};
use crate::search::budget::Metric;
use crate::units::{Bytes, Quantity, Unit};

use super::layers::{Layer, Layers};
use super::{Cost, CostError, Coupling};

/// Bytes of a blob beside weights, biases and channel scales.
const LAYER_OVERHEAD: u64 = 64;
/// An `i32` bias and an `i32` multiplier an output channel.
const CHANNEL_BYTES: u64 = 4 + 4;

/// Packed weights, biases, channel scales and layer records, each row of weights (one output
/// channel) padded to a byte.
#[derive(Clone, Debug)]
pub struct Size(pub Layers);

impl Cost for Size {
    fn metric(&self) -> Metric {
        Metric::Flash
    }

    fn unit(&self) -> Unit {
        Unit::Bytes
    }

    fn coupling(&self) -> Coupling {
        Coupling::Weights
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        let total = self.per_layer(policy)?.iter().map(|(_, bytes)| bytes).sum();
        Ok(Quantity::new(total, self.unit()))
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        self.0.iter().map(|layer| Ok((layer.name.clone(), layer_bytes(layer, policy)? as f64))).collect()
    }
}

/// Bytes of the packed weights alone.
///
/// # Errors
/// [`CostError::MissingLayer`] where the policy lacks a layer.
pub fn weight_bytes(layers: &Layers, policy: &Policy) -> Result<Bytes, CostError> {
    let mut total = 0;
    for layer in layers.iter().filter(|layer| layer.weights > 0) {
        total += packed_bytes(layer, policy)?;
    }
    Ok(Bytes(total))
}

fn layer_bytes(layer: &Layer, policy: &Policy) -> Result<u64, CostError> {
    if layer.weights == 0 {
        return Ok(LAYER_OVERHEAD);
    }
    Ok(packed_bytes(layer, policy)? + CHANNEL_BYTES * layer.shape.c_out as u64 + LAYER_OVERHEAD)
}

fn packed_bytes(layer: &Layer, policy: &Policy) -> Result<u64, CostError> {
    let channels = layer.shape.c_out.max(1) as u64;
    let row = layer.weights / channels;
    Ok(match layer.choice(policy)? {
        WeightChoice::Layer(format) => channels * (row * u64::from(format.bits())).div_ceil(8),
        WeightChoice::Channels(formats) => formats.iter().map(|f| (row * u64::from(f.bits())).div_ceil(8)).sum(),
    })
}

/// The exact size, from a function that lowers and packs; changes of a layer are estimated by
/// formula, since lowering each of them would take long.
pub struct ExactSize<F> {
    /// Estimates.
    pub formula: Size,
    /// Bytes of the blob of a policy.
    pub lowered: F,
}

impl<F> Cost for ExactSize<F>
where
    F: Fn(&Policy) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>>,
{
    fn metric(&self) -> Metric {
        self.formula.metric()
    }

    fn unit(&self) -> Unit {
        self.formula.unit()
    }

    fn coupling(&self) -> Coupling {
        self.formula.coupling()
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        (self.lowered)(policy).map(Quantity::Bytes).map_err(|source| CostError::Exact { metric: Metric::Flash, source })
    }

    fn estimate(&self, policy: &Policy) -> Result<f64, CostError> {
        self.formula.estimate(policy)
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        self.formula.per_layer(policy)
    }
}
