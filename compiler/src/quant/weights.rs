//! The weights of one layer in every format.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::levels::Levels;
use super::moments::Moments;
use super::rounding::{Objective, Rounded, Rounding, at_scale, data_aware, nearest, shared_scale};
use super::{
    BiasCorrection, ClipMethod, Granularity, Histogram, QuantConfig, QuantError, Scales, Scheme, WeightCodes,
    WeightSteps, codebook,
};
use crate::ir::{Graph, NodeId};
use crate::policy::{WeightChoice, WeightFormat};

/// Rounds of choosing a codebook and re-fitting the channels' scales to it.
const CODEBOOK_ROUNDS: usize = 4;

/// A channel of zeros in a format without level 0 gets this share of the layer's largest scale.
const DEAD_CHANNEL_SCALE: f64 = 1e-3;

/// One weighted node: its float weights and, computed when first asked for, their codes.
pub(super) struct Layer {
    name: String,
    /// One row an output channel.
    weights: Vec<Vec<f64>>,
    bias: Vec<f32>,
    /// Mean input, one a group.
    means: Vec<Vec<f64>>,
    /// Cost of errors, one a group.
    objectives: OnceLock<Vec<Objective>>,
    moments: Vec<Moments>,
    config: QuantConfig,
    codes: [OnceLock<Arc<WeightCodes>>; WeightFormat::ALL.len()],
}

impl Layer {
    /// Of a weighted node, with the moments of its inputs.
    pub(super) fn new(graph: &Graph, id: NodeId, moments: &[Moments], config: QuantConfig) -> Result<Self, QuantError> {
        let node = graph.node(id);
        let constant = |operand: usize| {
            let data = node.inputs.get(operand).and_then(|&value| graph.value(value).data.as_deref());
            data.ok_or_else(|| QuantError::NotConstant { layer: node.name.clone() })
        };
        let shape = graph.input_shape(node, 1);
        let k: usize = shape[1..].iter().product();
        if moments.iter().any(|m| m.first.len() != k) || moments.is_empty() {
            return Err(QuantError::NoCalibration { layer: node.name.clone() });
        }
        let weights = constant(1)?.chunks_exact(k).map(|row| row.iter().copied().map(f64::from).collect()).collect();
        let bias = if node.inputs.len() > 2 { constant(2)?.to_vec() } else { vec![0.0; shape[0]] };
        Ok(Layer {
            name: node.name.clone(),
            weights,
            bias,
            means: moments.iter().map(Moments::mean).collect(),
            objectives: OnceLock::new(),
            moments: moments.to_vec(),
            config,
            codes: Default::default(),
        })
    }

    /// The codes of a policy's choice.
    pub(super) fn choose(&self, choice: &WeightChoice) -> Result<WeightCodes, QuantError> {
        match choice {
            WeightChoice::Layer(format) => Ok(self.codes(*format).as_ref().clone()),
            WeightChoice::Channels(formats) => self.mix(formats),
        }
    }

    /// The codes of one format.
    pub(super) fn codes(&self, format: WeightFormat) -> Arc<WeightCodes> {
        let place = WeightFormat::ALL.iter().position(|&f| f == format).unwrap_or(WeightFormat::ALL.len() - 1);
        self.codes[place].get_or_init(|| Arc::new(self.quantize(format))).clone()
    }

    /// Channel by channel from the codes of each format.
    fn mix(&self, formats: &[WeightFormat]) -> Result<WeightCodes, QuantError> {
        if formats.len() != self.weights.len() {
            let (layer, channels) = (self.name.clone(), self.weights.len());
            return Err(QuantError::ChannelCount { layer, channels, formats: formats.len() });
        }
        let mut mixed = WeightCodes {
            formats: formats.to_vec(),
            levels: Vec::new(),
            scales: Vec::new(),
            codebook: Vec::new(),
            bias: Vec::new(),
        };
        for (o, &format) in formats.iter().enumerate() {
            let codes = self.codes(format);
            if !codes.codebook.is_empty() {
                if !mixed.codebook.is_empty() && mixed.codebook != codes.codebook {
                    return Err(QuantError::TwoCodebooks { layer: self.name.clone() });
                }
                mixed.codebook.clone_from(&codes.codebook);
            }
            let k = self.weights[o].len();
            mixed.levels.extend_from_slice(&codes.levels[o * k..(o + 1) * k]);
            mixed.scales.push(codes.scales[o]);
            mixed.bias.push(codes.bias[o]);
        }
        Ok(mixed)
    }

    fn quantize(&self, format: WeightFormat) -> WeightCodes {
        let levels = Levels::fixed(format).unwrap_or_else(|| Levels::new(self.codebook(format)));
        let scales = self.given_scales(&levels, format.bits());
        let round = |(o, weights): (usize, &Vec<f64>)| match (&scales, self.config.rounding) {
            (Some(scales), rounding) => at_scale(rounding, weights, self.objective(o), scales[o], &levels),
            (None, Rounding::Nearest) => nearest(weights, self.objective(o), &levels),
            (None, Rounding::DataAware) => data_aware(weights, self.objective(o), &levels),
        };
        let mut channels: Vec<Rounded> = self.weights.par_iter().enumerate().map(round).collect();
        revive_dead(&mut channels);
        WeightCodes {
            formats: vec![format; channels.len()],
            levels: channels.iter().flat_map(|channel| channel.levels.iter().copied()).collect(),
            scales: channels.iter().map(|channel| channel.scale as f32).collect(),
            codebook: match format {
                WeightFormat::Codebook(_) => levels.as_slice().to_vec(),
                WeightFormat::Linear(_) | WeightFormat::Ternary => Vec::new(),
            },
            bias: channels.iter().enumerate().map(|(o, channel)| self.corrected_bias(o, channel)).collect(),
        }
    }

    /// The scale of each channel, where it does not come of rounding the channel.
    fn given_scales(&self, levels: &Levels, bits: u8) -> Option<Vec<f64>> {
        let Scheme { granularity, scales, .. } = self.config.scheme;
        let scale = |rows: &[Vec<f64>], first: usize| match self.config.steps {
            WeightSteps::Importance => {
                let rows = rows.iter().enumerate().map(|(i, row)| (row.as_slice(), self.objective(first + i)));
                shared_scale(&rows.collect::<Vec<_>>(), levels)
            }
            WeightSteps::Clip(method) => cut(method, rows, bits) / levels.top(),
            WeightSteps::MeanMagnitude => {
                let n = rows.iter().map(Vec::len).sum::<usize>().max(1) as f64;
                let mean = rows.iter().flatten().map(|w| w.abs()).sum::<f64>() / n;
                2.0 * mean / levels.top().sqrt()
            }
        };
        let given = match (granularity, self.config.steps, scales) {
            (Granularity::Channel, WeightSteps::Importance, Scales::Real) => return None,
            (Granularity::Channel, WeightSteps::Importance, Scales::PowersOfTwo) => {
                let fit = |(o, row): (usize, &Vec<f64>)| nearest(row, self.objective(o), levels).scale;
                self.weights.par_iter().enumerate().map(fit).collect()
            }
            (Granularity::Channel, ..) => {
                self.weights.chunks(1).enumerate().map(|(o, rows)| scale(rows, o)).collect::<Vec<f64>>()
            }
            (Granularity::Tensor, ..) => vec![scale(&self.weights, 0); self.weights.len()],
        };
        Some(given.into_iter().map(|scale| scales.nearest(scale)).collect())
    }

    /// The levels that serve all channels best, each under a scale of its own.
    fn codebook(&self, format: WeightFormat) -> Vec<i8> {
        let entries = 1 << format.bits();
        let largest = |row: &Vec<f64>| row.iter().fold(0.0f64, |max, w| max.max(w.abs()));
        let mut scales: Vec<f64> = self.weights.iter().map(|row| largest(row) / f64::from(codebook::TOP)).collect();
        let mut chosen = Vec::new();
        for _ in 0..CODEBOOK_ROUNDS {
            let channels = self.weights.iter().zip(&scales).enumerate().filter(|(_, (_, scale))| **scale > 0.0);
            let points = channels.flat_map(|(o, (row, &scale))| {
                let importance = self.objective(o).importance();
                row.iter().zip(importance).map(move |(w, h)| (w / scale, h * scale * scale))
            });
            chosen = codebook::choose(points, entries);
            if self.weights.iter().flatten().any(|&w| w == 0.0) {
                keep_zero(&mut chosen);
            }
            let levels = Levels::new(chosen.clone());
            let fit = |o: usize| nearest(&self.weights[o], self.objective(o), &levels).scale;
            scales = self
                .given_scales(&levels, format.bits())
                .unwrap_or_else(|| (0..self.weights.len()).into_par_iter().map(fit).collect());
        }
        chosen
    }

    /// Takes the mean output error of the rounded weights out of the bias.
    fn corrected_bias(&self, o: usize, channel: &Rounded) -> f32 {
        match self.config.bias_correction {
            BiasCorrection::Off => self.bias[o],
            BiasCorrection::MeanInput => {
                let scale = f64::from(channel.scale as f32);
                let terms = self.weights[o].iter().zip(&channel.levels).zip(&self.means[self.group(o)]);
                let shift: f64 = terms.map(|((w, &q), mean)| (scale * f64::from(q) - w) * mean).sum();
                (f64::from(self.bias[o]) - shift) as f32
            }
        }
    }

    fn group(&self, o: usize) -> usize {
        o * self.moments.len() / self.weights.len()
    }

    /// What errors in channel `o` cost. Where the bias takes up the mean error, only its spread does.
    fn objective(&self, o: usize) -> &Objective {
        let objectives = self.objectives.get_or_init(|| {
            let hessian = |moments: &Moments| match self.config.bias_correction {
                BiasCorrection::Off => moments.uncentred(),
                BiasCorrection::MeanInput => moments.centred(),
            };
            self.moments.par_iter().map(|moments| Objective::new(moments.first.len(), hessian(moments))).collect()
        });
        &objectives[self.group(o)]
    }
}

/// The magnitude beyond which a method cuts weights for levels of so many bits.
fn cut(method: ClipMethod, rows: &[Vec<f64>], bits: u8) -> f64 {
    let mut histogram = Histogram::new();
    // On both sides of zero, as levels lie.
    rows.iter().for_each(|row| histogram.add(&row.iter().flat_map(|&w| [w as f32, -w as f32]).collect::<Vec<_>>()));
    let (lo, hi) = method.range(&histogram, bits);
    f64::from(hi.max(-lo))
}

/// Makes 0 a level in place of the one nearest to it: weights that were pruned stay so.
fn keep_zero(levels: &mut [i8]) {
    if let Some(nearest) = levels.iter_mut().min_by_key(|level| level.unsigned_abs()) {
        *nearest = 0;
    }
}

/// Gives channels of zeros a scale; a multiplier derived from it must not vanish.
fn revive_dead(channels: &mut [Rounded]) {
    let largest = channels.iter().map(|channel| channel.scale).fold(0.0, f64::max);
    let largest = if largest > 0.0 { largest } else { 1.0 };
    for channel in channels.iter_mut().filter(|channel| channel.scale == 0.0) {
        let zeros = channel.levels.iter().all(|&level| level == 0);
        channel.scale = if zeros { largest } else { largest * DEAD_CHANNEL_SCALE };
    }
}
