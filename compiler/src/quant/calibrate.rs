//! What the float network does with typical inputs: how each activation is distributed, and the
//! first and second moments of what each weighted layer sees.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;

use super::histogram::Histogram;
use super::moments::{InputSampler, Moments};
use crate::eval::{EvalError, Net, with_elements};
use crate::ir::{Graph, NodeId, ValueId};

/// Strips of samples are dealt to this many accumulators, which are then added up in order: sums do
/// not depend on the number of threads.
const LANES: usize = 8;

/// How much is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalibrationConfig {
    /// Most input windows of one layer that enter its moments, over all samples.
    pub rows_per_layer: usize,
    /// Chooses the windows.
    pub seed: u64,
}

impl CalibrationConfig {
    /// Enough windows for layers of a thousand inputs; seconds on two cores.
    pub fn with_seed(seed: u64) -> Self {
        CalibrationConfig { rows_per_layer: 20_000, seed }
    }
}

/// Statistics of a float graph over calibration samples.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Distribution of each activation, by [`ValueId`]; `None` for constants.
    pub histograms: Vec<Option<Histogram>>,
    /// Moments of what each weighted node sees, one a group of input channels.
    pub moments: BTreeMap<NodeId, Vec<Moments>>,
}

/// Runs the float graph over `n` samples, back to back in `samples`.
pub fn calibrate(
    graph: &Graph,
    samples: &[f32],
    n: usize,
    config: &CalibrationConfig,
) -> Result<Calibration, EvalError> {
    let net = Net::float(graph)?;
    net.check(samples, n)?;
    let per_strip = (net.strip_samples() * net.sample_len()).max(1);
    let samplers: Vec<InputSampler> = graph.weighted().map(|node| InputSampler::new(graph, node, n, config)).collect();
    let lanes: Result<Vec<Calibration>, EvalError> = (0..LANES)
        .into_par_iter()
        .map(|lane| {
            let mut calibration = Calibration::empty(graph, &samplers);
            for (s, strip) in samples.chunks(per_strip).enumerate().skip(lane).step_by(LANES) {
                let (first, count) = (s * net.strip_samples(), strip.len() / net.sample_len().max(1));
                net.forward_observed(strip, count, &mut |value, tensor| {
                    calibration.observe(&samplers, value, tensor, first, count);
                })?;
            }
            Ok(calibration)
        })
        .collect();
    let mut total = Calibration::empty(graph, &samplers);
    for lane in lanes? {
        total.merge(&lane);
    }
    Ok(total)
}

impl Calibration {
    fn empty(graph: &Graph, samplers: &[InputSampler]) -> Self {
        let histogram = |value: &crate::ir::Value| (!value.is_constant()).then(Histogram::new);
        Calibration {
            histograms: graph.values.iter().map(histogram).collect(),
            moments: samplers.iter().map(|sampler| (sampler.node(), sampler.no_moments())).collect(),
        }
    }

    fn observe(&mut self, samplers: &[InputSampler], value: ValueId, tensor: &Tensor, first: usize, count: usize) {
        with_elements(tensor, |elements| {
            if let Some(histogram) = &mut self.histograms[value.0 as usize] {
                histogram.add(elements);
            }
            for sampler in samplers.iter().filter(|sampler| sampler.input() == value) {
                if let Some(moments) = self.moments.get_mut(&sampler.node()) {
                    sampler.observe(elements, first, count, moments);
                }
            }
        });
    }

    fn merge(&mut self, other: &Calibration) {
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                mine.merge(theirs);
            }
        }
        for (mine, theirs) in self.moments.values_mut().zip(other.moments.values()) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                mine.merge(theirs);
            }
        }
    }
}
