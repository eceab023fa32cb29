//! From a quantised graph to integers: legalise, fold zero points, prove the accumulators, plan memory.
//!
//! Lowering makes no accuracy decision: scales, codes and levels are given. Operators without a
//! kernel of their own become others, exactly:
//!
//! | operator | becomes |
//! |---|---|
//! | fully connected | 1x1 convolution |
//! | reshape | nothing: the same bytes under another shape |
//! | element-wise functions, products and sums with one constant | look-up table |
//! | products and sums with one constant a channel | 1x1 depthwise convolution with level 127 |
//! | concat of differing scales | look-up tables in front of it |
//! | sum of a convolution's result and what is not read again | part of the convolution |

pub(crate) mod arithmetic;
mod layouts;
mod legalise;
pub mod memory;
mod place;
mod plan;
mod residual;
mod stages;

use pare_runtime::format::Layout;

pub use layouts::{ConvKey, Layouts, Measured};
pub use plan::{MemoryBlock, Plan, PlannedConv, PlannedLayer, PlannedOp, PlannedTensor, PlannedWeights, PlannedWindow};
pub use residual::{FUSE_RESIDUAL, Sums};
pub use stages::{PlannedStage, ROW_STAGES, Stages};

use crate::cost::layers::{Layers, Steps};
use crate::policy::WeightFormat;
use crate::quant::Quantized;
use legalise::Lowering;

/// What lowering needs to know of a target, and how it goes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerConfig {
    /// The widest weight layout of the target's kernels.
    pub layout: Layout,
    /// Which layout a convolution gets where there are kernels of several.
    pub layouts: Layouts,
    /// Where sums are computed.
    pub sums: Sums,
    /// How layers follow one another.
    pub stages: Stages,
}

impl LowerConfig {
    /// The usual way, for kernels that read layouts up to `layout`, chosen by rule of thumb.
    pub fn new(layout: Layout) -> LowerConfig {
        LowerConfig { layout, layouts: Layouts::RuleOfThumb, sums: Sums::default(), stages: Stages::default() }
    }

    /// Whether there are kernels that skip weights of 0 in this format.
    pub fn can_skip_zeros(&self, weights: Option<WeightFormat>) -> bool {
        let has_zero = |format| pare_runtime::format::WeightFormat::from(format).has_zero();
        self.layout == Layout::Planes && weights.is_some_and(has_zero)
    }

    /// The same, layouts chosen otherwise.
    pub fn with(&self, layouts: Layouts) -> LowerConfig {
        LowerConfig { layouts, ..self.clone() }
    }

    /// The same, as often as it takes for every one of these layers to have each layout that it can have.
    pub fn candidates(&self, layers: &Layers) -> Vec<LowerConfig> {
        let mut layouts = match self.layout {
            Layout::Planes => vec![Layout::Panels, Layout::Planes],
            only => vec![only],
        };
        if self.layout == Layout::Planes && layers.iter().any(|layer| layer.steps < Steps::ALL) {
            layouts.push(Layout::Sparse);
        }
        layouts.into_iter().map(|layout| self.with(Layouts::All(layout))).collect()
    }
}

/// Why a quantised graph cannot become integers.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// Sums may leave 32 bits.
    #[error(
        "layer `{layer}`: output channel {channel} may sum to {bound}, which 32 bits cannot hold; give it fewer weight or activation bits"
    )]
    Accumulator {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
        /// The extreme value.
        bound: i64,
    },
    /// A real factor is out of the fixed-point range.
    #[error(
        "layer `{layer}`: its scales differ too much for 32-bit arithmetic (factor {factor}); check the calibration data"
    )]
    Factor {
        /// The layer.
        layer: String,
        /// Output over input scale.
        factor: f64,
    },
    /// An extent does not fit the blob's fields.
    #[error("layer `{layer}`: {what} is more than the blob format holds ({limit})")]
    Limit {
        /// The layer.
        layer: String,
        /// Which extent.
        what: &'static str,
        /// The largest possible.
        limit: usize,
    },
    /// More than three dimensions beside the batch.
    #[error("value `{value}` has {rank} dimensions beside the batch; at most 3 are possible")]
    Rank {
        /// The value.
        value: String,
        /// Its dimensions, the batch apart.
        rank: usize,
    },
}

/// Lowers a quantised graph for a target.
///
/// # Errors
/// See [`LowerError`].
pub fn lower(quantized: &Quantized, config: &LowerConfig) -> Result<Plan, LowerError> {
    let mut lowering = Lowering::new(quantized, config)?;
    for index in 0..quantized.graph.nodes.len() {
        lowering.node(index)?;
    }
    if config.sums == Sums::Fused {
        lowering.fuse_sums();
    }
    Ok(lowering.place())
}
