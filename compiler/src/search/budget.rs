//! What the deployed network may cost and must keep.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Count, Joules, Quantity, Ticks};

/// The costs that a budget can bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Duration of one inference.
    Latency,
    /// Bytes of the blob.
    Flash,
    /// Bytes of the arena.
    Ram,
    /// Energy of one inference.
    Energy,
    /// Multiply-accumulates of one inference.
    Macs,
    /// Multiply-accumulates times the widths of both operands.
    Bitops,
}

impl Metric {
    /// The option that bounds it on the command line.
    pub fn flag(self) -> &'static str {
        match self {
            Metric::Latency => "--max-latency",
            Metric::Flash => "--max-flash",
            Metric::Ram => "--max-ram",
            Metric::Energy => "--max-energy",
            Metric::Macs => "--max-macs",
            Metric::Bitops => "--max-bitops",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Latency => "latency",
            Metric::Flash => "flash",
            Metric::Ram => "ram",
            Metric::Energy => "energy",
            Metric::Macs => "macs",
            Metric::Bitops => "bitops",
        })
    }
}

/// Upper bounds on costs and lower bounds on the metric; what is absent is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Duration of one inference, in the unit that the target counts.
    pub latency: Option<Ticks>,
    /// Bytes of the blob.
    pub flash: Option<Bytes>,
    /// Bytes of the arena.
    pub ram: Option<Bytes>,
    /// Energy of one inference.
    pub energy: Option<Joules>,
    /// Multiply-accumulates of one inference.
    pub macs: Option<Count>,
    /// Multiply-accumulates times the widths of both operands.
    pub bitops: Option<Count>,
    /// The metric's least value, as in 0.86.
    pub min_accuracy: Option<f64>,
    /// How many points (hundredths) of the metric the network may lose against its float form.
    pub max_drop: Option<f64>,
}

impl Budget {
    /// The drop, in points, that a search without any bound allows itself.
    pub const DEFAULT_DROP: f64 = 0.5;

    /// The cost bounds, in the order of [`Metric`].
    pub fn bounds(&self) -> Vec<(Metric, Quantity)> {
        [
            self.latency.map(|x| (Metric::Latency, Quantity::Ticks(x))),
            self.flash.map(|x| (Metric::Flash, Quantity::Bytes(x))),
            self.ram.map(|x| (Metric::Ram, Quantity::Bytes(x))),
            self.energy.map(|x| (Metric::Energy, Quantity::Joules(x))),
            self.macs.map(|x| (Metric::Macs, Quantity::Operations(x))),
            self.bitops.map(|x| (Metric::Bitops, Quantity::Operations(x))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The least metric that satisfies both accuracy bounds, `float` being that of the float
    /// network; absent where neither is given.
    pub fn floor(&self, float: f64) -> Option<f64> {
        let by_drop = self.max_drop.map(|points| float - points / 100.0);
        match (self.min_accuracy, by_drop) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }
}
