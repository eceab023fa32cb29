//! Ticks of one inference, summed over kernels measured on the target.

use crate::policy::{Policy, WeightChoice, WeightFormat};
use crate::search::budget::Metric;
use crate::units::{Quantity, Ticks, Unit};

use super::layers::{Layer, Layers};
use super::table::{LatencyTable, Predicted, Source};
use super::{Cost, CostError, Coupling};

/// Latency from a table of measured kernels.
#[derive(Clone, Debug)]
pub struct Latency<'a> {
    layers: Layers,
    table: &'a LatencyTable,
}

impl<'a> Latency<'a> {
    /// The latency of the network `layers` by `table`.
    pub fn new(layers: Layers, table: &'a LatencyTable) -> Latency<'a> {
        Latency { layers, table }
    }

    /// The ticks of each node that runs a kernel, and whether they were measured or fitted.
    ///
    /// # Errors
    /// [`CostError::Unmeasured`] where the table has nothing to go by.
    pub fn predict(&self, policy: &Policy) -> Result<Vec<(String, Predicted)>, CostError> {
        self.layers
            .iter()
            .filter(|layer| layer.runs())
            .map(|layer| Ok((layer.name.clone(), self.layer(layer, policy)?)))
            .collect()
    }

    fn layer(&self, layer: &Layer, policy: &Policy) -> Result<Predicted, CostError> {
        if layer.weights == 0 {
            return self.kernel(layer, None, policy);
        }
        match layer.choice(policy)? {
            WeightChoice::Layer(format) => self.kernel(layer, Some(*format), policy),
            WeightChoice::Channels(formats) => self.channels(layer, formats, policy),
        }
    }

    fn kernel(&self, layer: &Layer, weights: Option<WeightFormat>, policy: &Policy) -> Result<Predicted, CostError> {
        let query = self.layers.query(layer, weights, policy);
        self.table.predict(&query).ok_or_else(|| CostError::Unmeasured {
            node: layer.name.clone(),
            target: self.table.provenance().target.clone(),
            operator: layer.operator.to_owned(),
            weights: weights.map_or_else(|| "no".to_owned(), |format| format.to_string()),
        })
    }

    /// Channels of one width run together: each width takes its share of the whole layer's time.
    fn channels(&self, layer: &Layer, formats: &[WeightFormat], policy: &Policy) -> Result<Predicted, CostError> {
        let mut value = 0.0;
        for format in formats {
            value += self.kernel(layer, Some(*format), policy)?.ticks.value / formats.len() as f64;
        }
        Ok(Predicted { ticks: Ticks { value, unit: self.table.unit() }, source: Source::Fitted })
    }
}

impl Cost for Latency<'_> {
    fn metric(&self) -> Metric {
        Metric::Latency
    }

    fn unit(&self) -> Unit {
        Unit::Ticks(self.table.unit())
    }

    fn coupling(&self) -> Coupling {
        Coupling::Widths
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        let total = self.per_layer(policy)?.iter().map(|(_, ticks)| ticks).sum();
        Ok(Quantity::new(total, self.unit()))
    }

    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        Ok(self.predict(policy)?.into_iter().map(|(name, predicted)| (name, predicted.ticks.value)).collect())
    }
}
