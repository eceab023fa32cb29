//! What a policy costs on a target: one trait, one small file a cost.
//!
//! A [`Cost`] prices a whole policy. Most also split into layers; [`Linear`] turns those into the
//! sums over layers that the exact solvers want. What was measured is never costed by
//! formula: latency comes from a [`table::LatencyTable`], RAM from the planner.

pub mod bitops;
pub mod energy;
mod fit;
pub mod latency;
pub mod layers;
pub mod macs;
mod nnls;
pub mod ram;
pub mod size;
pub mod table;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::policy::Policy;
use crate::search::budget::Metric;
use crate::search::space::{Selection, Space};
use crate::units::{Quantity, Unit};

/// A price for policies.
pub trait Cost {
    /// The bound that it answers to.
    fn metric(&self) -> Metric;

    /// The unit of its amounts.
    fn unit(&self) -> Unit;

    /// On what the price of a layer depends.
    fn coupling(&self) -> Coupling;

    /// The price of the network under `policy`.
    ///
    /// # Errors
    /// [`CostError`] where the target has no figure for something in the policy.
    fn of(&self, policy: &Policy) -> Result<Quantity, CostError>;

    /// A quick stand-in for [`Cost::of`] that prices one change of a layer against another; the price
    /// itself, unless that takes long. Bounds are always checked on the price.
    ///
    /// # Errors
    /// As [`Cost::of`].
    fn estimate(&self, policy: &Policy) -> Result<f64, CostError> {
        Ok(self.of(policy)?.value())
    }

    /// The share of each node of the graph, in [`Cost::unit`], by name; empty where the price does
    /// not split into nodes.
    ///
    /// # Errors
    /// As [`Cost::of`].
    fn per_layer(&self, policy: &Policy) -> Result<Vec<(String, f64)>, CostError>;
}

/// How far the price of one layer reaches into the rest of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coupling {
    /// A sum over layers, each priced by its own weights alone.
    Weights,
    /// A sum over layers, each priced by its weights and by the widths of its input and its output.
    Widths,
    /// No sum (RAM: the peak over time).
    Whole,
}

/// A cost that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The target was never measured for it.
    #[error("target `{target}` has no {metric} figures; measure them or drop {}", metric.flag())]
    NoFigures {
        /// Name of the target.
        target: String,
        /// What is missing.
        metric: Metric,
    },
    /// No row of the table is near enough.
    #[error(
        "{node}: the latency table of target `{target}` has no row of {operator} with {weights} weights; run `pare measure --target {target}`"
    )]
    Unmeasured {
        /// The node to be priced.
        node: String,
        /// Name of the target.
        target: String,
        /// Operator of the node.
        operator: String,
        /// Weight format, or `no`.
        weights: String,
    },
    /// The policy lacks a layer of the graph, or names a width that the graph cannot have.
    #[error("the policy says nothing about the weights of layer `{0}`: add an entry for it")]
    MissingLayer(String),
    /// The planner or the lowering that was asked for an exact figure failed.
    #[error("{metric} cannot be computed: {source}")]
    Exact {
        /// What was asked for.
        metric: Metric,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A cost as a sum over layers, and over pairs of them where the width of one's output counts at another.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The bound it belongs to.
    pub metric: Metric,
    /// Its unit.
    pub unit: Unit,
    /// The price of the selection it was taken around.
    pub constant: f64,
    /// What choices change of that.
    pub sum: Sum,
}

/// Amounts by layer and choice, and by pairs of layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// By layer and choice.
    pub rows: Vec<Vec<f64>>,
    /// What two layers amount to beyond their rows.
    pub pairs: Vec<Pair>,
}

/// Two layers of which one's amount depends on the other's width.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The earlier one, of which the width counts alone.
    pub writer: usize,
    /// The later one.
    pub reader: usize,
    /// By the writer's choice and the reader's.
    pub amounts: Vec<Vec<f64>>,
}

impl Sum {
    /// The amount of a selection.
    pub fn of(&self, selection: &Selection) -> f64 {
        let chosen = selection.choices();
        let rows: f64 = self.rows.iter().zip(chosen).map(|(row, &c)| row[c]).sum();
        rows + self.pairs.iter().map(|pair| pair.amounts[chosen[pair.writer]][chosen[pair.reader]]).sum::<f64>()
    }

    /// What each layer alone changes of the amount of `selection`, by choice.
    pub fn around(&self, selection: &Selection) -> Vec<Vec<f64>> {
        let here = self.of(selection);
        let change = |layer: usize| move |choice| self.of(&selection.with(layer, choice)) - here;
        (0..self.rows.len()).map(|layer| (0..self.rows[layer].len()).map(change(layer)).collect()).collect()
    }
}

impl From<Vec<Vec<f64>>> for Sum {
    fn from(rows: Vec<Vec<f64>>) -> Sum {
        Sum { rows, pairs: Vec::new() }
    }
}

impl Linear {
    /// Takes `cost` around `base`; `None` for a cost that does not split.
    ///
    /// A row holds what the whole price changes by when one layer alone takes a choice, so it counts what a layer's
    /// width does to those that read it; a pair holds what two changes at once bring besides.
    ///
    /// # Errors
    /// As [`Cost::of`].
    pub fn around(cost: &dyn Cost, space: &Space, base: &Selection) -> Result<Option<Linear>, CostError> {
        let coupled = match cost.coupling() {
            Coupling::Weights => false,
            Coupling::Widths => space.varies_activations(),
            Coupling::Whole => return Ok(None),
        };
        let constant = cost.of(&space.policy(base))?.value();
        let estimate = cost.estimate(&space.policy(base))?;
        let change = |changed: &Selection| -> Result<f64, CostError> {
            Ok(if changed == base { 0.0 } else { cost.estimate(&space.policy(changed))? - estimate })
        };
        let row = |layer: usize| {
            (0..space.sites()[layer].choices.len()).map(|choice| change(&base.with(layer, choice))).collect()
        };
        let rows: Vec<Vec<f64>> = (0..space.len()).map(row).collect::<Result<_, CostError>>()?;
        let mut pairs = Vec::new();
        for (writer, reader) in if coupled { meeting(cost, space, base)? } else { Vec::new() } {
            let beyond = |w: usize, r: usize| -> Result<f64, CostError> {
                Ok(change(&base.with(writer, w).with(reader, r))? - rows[writer][w] - rows[reader][r])
            };
            let amounts = by_width(space, writer, |w| {
                (0..rows[reader].len()).map(|r| beyond(w, r)).collect::<Result<Vec<f64>, CostError>>()
            })?;
            pairs.push(Pair { writer, reader, amounts });
        }
        Ok(Some(Linear { metric: cost.metric(), unit: cost.unit(), constant, sum: Sum { rows, pairs } }))
    }

    /// The price that the sum gives.
    pub fn of(&self, selection: &Selection) -> f64 {
        self.constant + self.sum.of(selection)
    }
}

/// The pairs of layers on whose choices the price of one node depends, the earlier one first.
fn meeting(cost: &dyn Cost, space: &Space, base: &Selection) -> Result<Vec<(usize, usize)>, CostError> {
    let unchanged = cost.per_layer(&space.policy(base))?;
    let mut touched: Vec<BTreeSet<usize>> = Vec::with_capacity(space.len());
    for (layer, site) in space.sites().iter().enumerate() {
        let mut nodes = BTreeSet::new();
        for choice in 0..site.choices.len() {
            let changed = cost.per_layer(&space.policy(&base.with(layer, choice)))?;
            nodes.extend((0..unchanged.len()).filter(|&node| changed.get(node) != unchanged.get(node)));
        }
        touched.push(nodes);
    }
    let pairs = (0..space.len()).flat_map(|a| (a + 1..space.len()).map(move |b| (a, b)));
    Ok(pairs.filter(|&(a, b)| !touched[a].is_disjoint(&touched[b])).collect())
}

/// `of` each choice of a layer, asked once for each width of its output.
fn by_width<T: Clone>(
    space: &Space,
    layer: usize,
    mut of: impl FnMut(usize) -> Result<T, CostError>,
) -> Result<Vec<T>, CostError> {
    let mut known = BTreeMap::new();
    let choices = &space.sites()[layer].choices;
    for (index, choice) in choices.iter().enumerate() {
        if let Entry::Vacant(entry) = known.entry(choice.activation_bits) {
            entry.insert(of(index)?);
        }
    }
    Ok(choices.iter().map(|choice| known[&choice.activation_bits].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::energy::{Energy, EnergyModel};
    use super::latency::Latency;
    use super::layers::Layers;
    use super::table::{LatencyTable, Provenance, Row, Source};
    use super::*;
    use crate::policy::{LayerPolicy, WeightChoice, WeightFormat};
    use crate::search::SplitMix64;
    use crate::search::space::layer_policy;
    use crate::search::testing::chain;
    use crate::units::{Joules, TickUnit};

    fn policy(layers: &[(u8, u8)]) -> Policy {
        let entry = |(i, &(w, a)): (usize, &(u8, u8))| (format!("conv{i}"), layer_policy(WeightFormat::Linear(w), a));
        Policy { layers: layers.iter().enumerate().map(entry).collect() }
    }

    #[test]
    fn size_counts_rows_of_weights_to_the_byte() {
        let graph = chain(2, &mut SplitMix64(4));
        let layers = Layers::of(&graph);
        let widths: Vec<u64> = layers.iter().map(|layer| layer.shape.c_out as u64).collect();
        // 3 weights a row at 5 bits take 2 bytes; then whole rows at 4 bits.
        let expected = widths[0] * 2 + widths[1] * widths[0] / 2 + 8 * (widths[0] + widths[1]) + 2 * 64;
        let cost = size::Size(layers.clone());
        let five_four = policy(&[(5, 8), (4, 8)]);
        assert_eq!(cost.of(&five_four).unwrap().value(), expected as f64);

        // Half of the channels of the second layer at 8 bits instead.
        let mut mixed = five_four.clone();
        let n = widths[1] as usize;
        let formats = (0..n).map(|i| WeightFormat::Linear(if i < n / 2 { 8 } else { 4 })).collect();
        let channels = LayerPolicy { weights: Some(WeightChoice::Channels(formats)), activation_bits: 8, keep: None };
        mixed.layers.insert("conv1".into(), channels);
        let more = cost.of(&mixed).unwrap().value() - expected as f64;
        assert_eq!(more, (n / 2) as f64 * widths[0] as f64 / 2.0);

        let error = cost.of(&policy(&[(5, 8)])).unwrap_err();
        assert!(error.to_string().contains("conv1"), "{error}");
    }

    #[test]
    fn bitops_read_the_width_that_the_producer_writes() {
        let graph = chain(2, &mut SplitMix64(4));
        let layers = Layers::of(&graph);
        let macs: Vec<f64> = layers.iter().map(|layer| layer.macs as f64).collect();
        let cost = bitops::Bitops(layers);
        let total = cost.of(&policy(&[(4, 2), (3, 8)])).unwrap().value();
        assert_eq!(total, macs[0] * 4.0 * 8.0 + macs[1] * 3.0 * 2.0);
    }

    #[test]
    fn energy_needs_figures_of_its_own() {
        let layers = Layers::of(&chain(2, &mut SplitMix64(4)));
        let error = Energy::new(layers.clone(), "host", None).unwrap_err();
        assert_eq!(error.to_string(), "target `host` has no energy figures; measure them or drop --max-energy");
        let all: Vec<layers::Layer> = layers.iter().cloned().collect();
        let model = EnergyModel {
            source: "shunt".into(),
            per_inference: Joules(1e-6),
            per_bit_product: Joules(1e-13),
            per_weight_byte: Joules(1e-10),
            per_activation_byte: Joules(1e-11),
        };
        let energy = Energy::new(layers, "board", Some(model)).unwrap();
        let joules = energy.of(&policy(&[(8, 4), (4, 8)])).unwrap().value();
        let bytes = |h: usize, w: usize, c: usize, bits: usize| (h * w * c * bits) as f64 / 8.0;
        // The network's input has 8 bits, the second layer's 4.
        let of = |layer: &layers::Layer, weights: u64, input: usize, output: usize| {
            let shape = layer.shape;
            1e-13 * (layer.macs * weights * input as u64) as f64
                + 1e-10 * (layer.weights * weights) as f64 / 8.0
                + 1e-11
                    * (bytes(shape.h, shape.w, shape.c_in, input)
                        + bytes(shape.h_out, shape.w_out, shape.c_out, output))
        };
        let expected = 1e-6 + of(&all[0], 8, 8, 4) + of(&all[1], 4, 4, 8);
        assert!((joules - expected).abs() < 1e-12, "{joules} and {expected}");
    }

    #[test]
    fn latency_is_the_sum_of_measured_kernels() {
        let layers = Layers::of(&chain(2, &mut SplitMix64(4)));
        let row = |(i, layer): (usize, &layers::Layer), bits: u8| Row {
            kernel: "conv".into(),
            operator: layer.operator.into(),
            shape: layer.shape,
            weights: Some(WeightFormat::Linear(bits)),
            activation_bits: 8,
            steps: layer.steps,
            layout: None,
            median: 100.0 * (i + 1) as f64 + f64::from(bits),
            p10: 100.0,
            yardstick: 1.0,
            samples: vec![100.0],
        };
        let rows = layers.iter().enumerate().flat_map(|layer| [row(layer, 8), row(layer, 2)]).collect();
        let provenance = Provenance { target: "board".into(), ..Provenance::default() };
        let table = LatencyTable::new(provenance, TickUnit::Cycles, rows).unwrap();
        let latency = Latency::new(layers, &table);
        assert_eq!(latency.of(&policy(&[(8, 8), (2, 8)])).unwrap().value(), 108.0 + 202.0);
        let fitted = latency.predict(&policy(&[(8, 4), (2, 8)])).unwrap();
        assert_eq!((fitted[0].1.source, fitted[1].1.source), (Source::Measured, Source::Fitted));
        let error = latency.of(&policy(&[(8, 8), (3, 8)])).unwrap_err().to_string();
        assert!(error.contains("conv1") && error.contains("w3") && error.contains("pare measure"), "{error}");
    }
}
