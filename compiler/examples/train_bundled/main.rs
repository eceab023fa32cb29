//! Trains the network that Pare bundles, on the built-in synthetic set, and writes it in Pare's own
//! format with its card:
//!
//! ```text
//! cargo run --release --example train_bundled -- models/glyphs
//! ```
//!
//! * [`net`] is the network: its layers, its forward pass and its graph.
//! * [`ops`] are the two operators that candle lacks or runs too slowly.
//!
//! Training sees the train split, augmented; the card gives the accuracy of the network with its
//! batch norms folded on val and, once and at the end, on test. It takes about seven minutes of one
//! core (`RAYON_NUM_THREADS=1`, as for the committed weights); other kinds of processor sum in
//! another order and end at slightly different weights.

#![allow(clippy::print_stdout, reason = "progress and the result, for the person who trains")]

mod net;
mod ops;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{D, Device, Tensor, Var};
use pare::data::{self, DataSpec, Dataset, Metric, MetricAccumulator, Preprocessing, Split};
use pare::import::native;
use pare::models::{CARD_FILE, Card, FloatAccuracy};
use pare::rng::Pcg32;

use net::{BatchStatistics, EDGE, Folded, Net};

const NAME: &str = "glyphs";
const SEED: u64 = 1;
const EPOCHS: usize = 30;
const BATCH: usize = 64;
const PEAK_RATE: f64 = 4e-3;
const WEIGHT_DECAY: f64 = 0.02;
/// Training images that fix the statistics of the batch norms before they are folded.
const FOLDING_IMAGES: usize = 2000;

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).context("usage: train_bundled DIR")?);
    let preprocessing = Preprocessing { scale: 1.0 / 64.0, mean: vec![128.0] };
    let dataset = data::open(&DataSpec::Synthetic)?;
    let started = Instant::now();
    let net = train(&dataset, &preprocessing)?;
    let folded = net.fold(&images(&dataset, &preprocessing, &dataset.splits.train[..FOLDING_IMAGES])?)?;
    let val = accuracy(&net, &folded, &dataset, &preprocessing, Split::Val)?;
    let test = accuracy(&net, &folded, &dataset, &preprocessing, Split::Test)?;
    println!("val {val:.4}, test {test:.4}, {:.0} s", started.elapsed().as_secs_f64());
    native::save(&net.graph(NAME, &folded)?, &out)?;
    std::fs::write(out.join(CARD_FILE), toml::to_string(&card(preprocessing, val, test))?)?;
    Ok(())
}

/// AdamW under a rate that rises for two epochs and then falls along a cosine.
fn train(dataset: &Dataset, preprocessing: &Preprocessing) -> Result<Net> {
    let rng = &mut Pcg32::new(SEED, 0);
    let net = Net::new(rng)?;
    let mut optimiser = AdamW::new(net.parameters())?;
    let mut order = dataset.splits.train.clone();
    let steps = order.len() / BATCH;
    for epoch in 0..EPOCHS {
        let started = Instant::now();
        rng.shuffle(&mut order);
        let mut total = 0.0;
        for (step, batch) in order.chunks_exact(BATCH).enumerate() {
            let images = augmented(dataset, preprocessing, batch, rng)?;
            let loss = cross_entropy(&net.forward(&images, &mut BatchStatistics)?, &labels(dataset, batch)?)?;
            let progress = (epoch * steps + step) as f64 / (EPOCHS * steps) as f64;
            optimiser.step(&loss.backward()?, rate(progress))?;
            total += f64::from(loss.to_scalar::<f32>()?);
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("epoch {:2}: loss {:.4}, {seconds:.1} s", epoch + 1, total / steps as f64);
    }
    Ok(net)
}

fn rate(progress: f64) -> f64 {
    let warm_up = 2.0 / EPOCHS as f64;
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    PEAK_RATE * cosine * (progress / warm_up).min(1.0)
}

/// Mean over the batch of the negative log-likelihood of the labels.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&log_sum)?.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()?)
}

fn labels(dataset: &Dataset, samples: &[u32]) -> Result<Tensor> {
    let labels: Vec<u32> =
        samples.iter().map(|&index| dataset.label(index).context("unlabelled")).collect::<Result<_>>()?;
    Ok(Tensor::new(labels, &Device::Cpu)?)
}

fn images(dataset: &Dataset, preprocessing: &Preprocessing, samples: &[u32]) -> Result<Tensor> {
    let mut pixels = vec![0.0; samples.len() * EDGE * EDGE];
    for (&index, image) in samples.iter().zip(pixels.chunks_exact_mut(EDGE * EDGE)) {
        dataset.read(index, preprocessing, image);
    }
    Ok(Tensor::from_vec(pixels, (samples.len(), EDGE, EDGE, 1), &Device::Cpu)?)
}

/// Images moved by up to two pixels each way (the edge repeated) and, half of them, inverted: black and
/// white change places, as the mean of the preprocessing is the middle grey.
fn augmented(dataset: &Dataset, preprocessing: &Preprocessing, samples: &[u32], rng: &mut Pcg32) -> Result<Tensor> {
    let mut source = vec![0.0; EDGE * EDGE];
    let mut pixels = Vec::with_capacity(samples.len() * EDGE * EDGE);
    for &index in samples {
        dataset.read(index, preprocessing, &mut source);
        let (down, right) = (rng.below(5) as usize, rng.below(5) as usize);
        let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
        let moved = |position: usize, by: usize| (position + by).saturating_sub(2).min(EDGE - 1);
        for row in 0..EDGE {
            pixels.extend((0..EDGE).map(|column| sign * source[moved(row, down) * EDGE + moved(column, right)]));
        }
    }
    Ok(Tensor::from_vec(pixels, (samples.len(), EDGE, EDGE, 1), &Device::Cpu)?)
}

fn accuracy(net: &Net, folded: &Folded, dataset: &Dataset, preprocessing: &Preprocessing, split: Split) -> Result<f64> {
    let mut metric = MetricAccumulator::new(Metric::Top1, net::CLASSES);
    for batch in dataset.split(split).chunks(250) {
        let logits = net.forward(&images(dataset, preprocessing, batch)?, &mut folded.clone())?.to_vec2::<f32>()?;
        for (&index, outputs) in batch.iter().zip(&logits) {
            metric.push(dataset.label(index), &[], outputs)?;
        }
    }
    Ok(metric.finish()?)
}

fn card(preprocessing: Preprocessing, val: f64, test: f64) -> Card {
    Card {
        name: NAME.to_owned(),
        description: "Recognises drawn digits among noise and stray strokes: a small network of \
                      depthwise-separable blocks with residual additions."
            .to_owned(),
        data: DataSpec::Synthetic,
        training: format!("cargo run --release --example train_bundled -- models/{NAME}"),
        seed: SEED,
        preprocessing,
        accuracy: FloatAccuracy { metric: Metric::Top1, val, test },
    }
}

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
struct AdamW {
    parameters: Vec<(Var, Tensor, Tensor)>,
    steps: i32,
}

impl AdamW {
    fn new(parameters: Vec<Var>) -> Result<Self> {
        let with_moments = |var: Var| Ok((var.clone(), var.zeros_like()?, var.zeros_like()?));
        Ok(AdamW { parameters: parameters.into_iter().map(with_moments).collect::<Result<_>>()?, steps: 0 })
    }

    fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        const BETA1: f64 = 0.9;
        const BETA2: f64 = 0.999;
        self.steps += 1;
        let correction = (1.0 - BETA2.powi(self.steps)).sqrt() / (1.0 - BETA1.powi(self.steps));
        for (var, mean, square) in &mut self.parameters {
            let gradient = gradients.get(var).context("a parameter that the loss does not depend on")?.detach();
            *mean = ((&*mean * BETA1)? + (&gradient * (1.0 - BETA1))?)?;
            *square = ((&*square * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
            let update = (&*mean / (square.sqrt()? + 1e-8)?)?;
            // Scales, shifts and biases (vectors) do not decay.
            let decay = if var.rank() > 1 { rate * WEIGHT_DECAY } else { 0.0 };
            let kept = (var.as_detached_tensor() * (1.0 - decay))?;
            var.set(&(kept - (update * (rate * correction))?)?)?;
        }
        Ok(())
    }
}
