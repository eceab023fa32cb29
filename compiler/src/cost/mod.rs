//! What a policy costs on a target: one trait, one small file a cost.
//!
//! A [`Cost`] prices a whole policy. Most also split into layers; [`Linear`] turns those into the
//! matrix of (layer, choice) that the exact solvers want. What was measured is never costed by
//! formula: latency comes from a [`table::LatencyTable`], RAM from the planner.

pub mod bitops;
pub mod energy;
pub mod latency;
pub mod layers;
pub mod macs;
mod nnls;
pub mod ram;
pub mod size;
pub mod table;

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

/// A cost around one selection: `constant + sum of rows[layer][choice]`.
///
/// Each entry is the change of the whole price when one layer alone takes that choice, so it counts
/// what a layer's output width does to the layers that read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The bound it belongs to.
    pub metric: Metric,
    /// Its unit.
    pub unit: Unit,
    /// The price of the selection it was taken around.
    pub constant: f64,
    /// Change of the price, by layer and choice.
    pub rows: Vec<Vec<f64>>,
    /// Whether the sum is the price everywhere, not only next to that selection.
    pub exact: bool,
}

impl Linear {
    /// Takes `cost` around `base`; `None` for a cost that does not split.
    ///
    /// # Errors
    /// As [`Cost::of`].
    pub fn around(cost: &dyn Cost, space: &Space, base: &Selection) -> Result<Option<Linear>, CostError> {
        let exact = match cost.coupling() {
            Coupling::Weights => true,
            Coupling::Widths => !space.varies_activations(),
            Coupling::Whole => return Ok(None),
        };
        let constant = cost.of(&space.policy(base))?.value();
        let mut rows = Vec::with_capacity(space.len());
        for (layer, site) in space.sites().iter().enumerate() {
            let mut row = Vec::with_capacity(site.choices.len());
            for choice in 0..site.choices.len() {
                let changed = base.with(layer, choice);
                row.push(if changed == *base { 0.0 } else { cost.of(&space.policy(&changed))?.value() - constant });
            }
            rows.push(row);
        }
        Ok(Some(Linear { metric: cost.metric(), unit: cost.unit(), constant, rows, exact }))
    }

    /// The price that the sum gives.
    pub fn of(&self, selection: &Selection) -> f64 {
        self.constant + self.rows.iter().zip(selection.choices()).map(|(row, &c)| row[c]).sum::<f64>()
    }
}
