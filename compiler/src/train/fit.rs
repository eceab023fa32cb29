//! The loop: epochs of batches, validation after each, the best network in the end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::augment::Augmentation;
use super::batches::{self, Batch, Mix};
use super::checkpoint::{self, CheckpointError, Tensors};
use super::init::randomised;
use super::loss::{Objective, distillation};
use super::method::Method;
use super::net::{Net, NetError, Norms};
use super::optimiser::{Optimiser, Rule};
use super::parameter::Parameter;
use super::schedule::{Decay, Schedule};
use crate::data::metric::argmax;
use crate::data::{Metric, Split};
use crate::eval::{self, EvalError};
use crate::ir::Graph;
use crate::task::{Samples, TaskError};

/// File of the checkpoint in the directory of a training.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

/// Training samples that give batch norms their statistics: before training, where norms are taken out of the
/// biases again, and for averaged weights, whose statistics no batch ever had.
const STATISTICS: usize = 2048;

/// How to train; together with seed, network and data all that the result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Samples of a step; the last ones of an epoch that do not fill one wait for the next.
    pub batch: usize,
    /// What gradients do.
    pub rule: Rule,
    /// Of weights alone.
    pub weight_decay: f32,
    /// Learning rates.
    pub schedule: Schedule,
    /// See [`super::distributions`].
    pub smoothing: f32,
    /// Parameter of the distribution of shares when two samples are mixed (Zhang et al. 2018); 0 for none.
    pub mixup: f32,
    /// What happens to samples first, in order.
    pub augmentations: Vec<Augmentation>,
    /// Epochs without a better validation score after which training stops.
    pub patience: Option<usize>,
    /// Share of the old in the average of weights over steps, which is then what is scored and kept.
    pub averaging: Option<f32>,
    /// What a teacher has to say.
    pub distillation: Option<Distillation>,
}

/// How much a teacher counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Share of the teacher's logits in the loss; the labels have the rest.
    pub logits: f32,
    /// Softens both distributions.
    pub temperature: f32,
    /// Weight of the mean squared distance of each of `maps`.
    pub features: f32,
    /// Nodes whose outputs are to be alike, by name.
    pub maps: Vec<String>,
}

impl Recipe {
    /// AdamW along a cosine: for networks whose weights are trained already.
    pub fn fine_tuning(epochs: usize) -> Recipe {
        Recipe {
            epochs,
            batch: 128,
            rule: Rule::ADAMW,
            weight_decay: 1e-4,
            schedule: Schedule { peak: 3e-4, warm_up: 0.0, decay: Decay::Cosine },
            smoothing: 0.0,
            mixup: 0.0,
            augmentations: Vec::new(),
            patience: None,
            averaging: None,
            distillation: None,
        }
    }

    /// Nesterov's method along a cosine behind a warm-up: for random weights.
    pub fn from_scratch(epochs: usize) -> Recipe {
        Recipe {
            rule: Rule::SGD,
            weight_decay: 5e-4,
            schedule: Schedule { peak: 0.1, warm_up: (epochs as f32 * 0.1).min(3.0), decay: Decay::Cosine },
            ..Recipe::fine_tuning(epochs)
        }
    }
}

/// What is trained, on what.
pub struct Training<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Where its weights start.
    pub start: Start,
    /// What stands behind its convolutions meanwhile.
    pub norms: Norms,
    /// Its data; the test split is never read.
    pub samples: &'a Samples,
    /// How.
    pub recipe: &'a Recipe,
    /// Another network on the same data; needed for [`Recipe::distillation`].
    pub teacher: Option<&'a Graph>,
    /// What compresses it meanwhile.
    pub method: Option<&'a dyn Method>,
    /// Fixes every random choice.
    pub seed: u64,
}

/// Where training starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the weights of the graph; norms do nothing at first.
    Trained,
    /// At random weights, see [`randomised`].
    Random,
}

/// How far training is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An epoch begins.
    Epoch {
        /// From 1 on.
        number: usize,
        /// Of how many.
        of: usize,
        /// Its steps.
        steps: usize,
    },
    /// A step of it is done.
    Step {
        /// Mean over the epoch so far.
        loss: f64,
        /// Share of right answers over the epoch so far; none without labels.
        accuracy: Option<f64>,
        /// Samples a second.
        rate: f64,
        /// Until all epochs are done, at this rate.
        left: Duration,
    },
    /// The epoch is over.
    Scored(EpochFigures),
}

/// What an epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochFigures {
    /// From 1 on.
    pub epoch: usize,
    /// Mean over its batches.
    pub loss: f64,
    /// Share of right answers in its batches; none without labels.
    pub accuracy: Option<f64>,
    /// Score on the validation samples, higher is better.
    pub val: f64,
}

/// A trained network.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// That of the best epoch, or of the start where none was better.
    pub graph: Graph,
    /// Its score on the validation samples.
    pub val: f64,
    /// Every epoch.
    pub epochs: Vec<EpochFigures>,
    /// Of its weights: equal digests are equal networks.
    pub digest: String,
}

/// Why training ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Validation.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Validation.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The disk.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No samples to train on.
    #[error("data set `{data}` has {samples} training samples, fewer than two: choose other data")]
    TooFew {
        /// The set.
        data: String,
        /// How many.
        samples: usize,
    },
    /// A sample without a class, or with one that the network does not know.
    #[error("data set `{data}` has a training sample of class {class:?}, but the network tells {classes} apart")]
    Label {
        /// The set.
        data: String,
        /// Its class, if it has one.
        class: Option<u32>,
        /// Outputs of the network.
        classes: usize,
    },
    /// Steps too large, most often.
    #[error("training diverged in epoch {epoch}: the loss is no number; lower the learning rate")]
    Diverged {
        /// From 1 on.
        epoch: usize,
    },
    /// A teacher that does not fit.
    #[error("the teacher has no node `{0}` with as many outputs as the network's: distil other maps, or logits alone")]
    Teacher(String),
}

/// What a checkpoint says besides tensors.
#[derive(Serialize, Deserialize)]
struct State {
    /// Of the recipe, the seed, the data and the network at the start.
    identity: String,
    steps: u64,
    epochs: Vec<EpochFigures>,
    best: Option<(usize, f64)>,
}

/// Training under way.
struct Run<'a> {
    training: &'a Training<'a>,
    net: Net,
    optimiser: Optimiser,
    teacher: Option<Net>,
    objective: Objective,
    outputs: usize,
    /// Parameters averaged over steps.
    average: Option<Vec<Vec<f32>>>,
    epochs: Vec<EpochFigures>,
    best: Option<Best>,
}

struct Best {
    epoch: usize,
    val: f64,
    tensors: Tensors,
}

impl Training<'_> {
    /// Trains, from the checkpoint in `directory` if there is one, and leaves one after every epoch.
    ///
    /// # Errors
    /// See [`TrainError`]; the last checkpoint stays.
    pub fn run(&self, directory: Option<&Path>, events: &mut dyn FnMut(Event)) -> Result<Trained, TrainError> {
        Ok(self.run_for_net(directory, events)?.0)
    }

    /// As [`Training::run`]; answers also with the network in training that the graph was made from, for what a
    /// [`Method`] has learned in it.
    ///
    /// # Errors
    /// As [`Training::run`].
    pub fn run_for_net(
        &self,
        directory: Option<&Path>,
        events: &mut dyn FnMut(Event),
    ) -> Result<(Trained, Net), TrainError> {
        let checkpoint = directory.map(|directory| directory.join(CHECKPOINT_FILE));
        let mut run = Run::new(self)?;
        match &checkpoint {
            Some(path) if run.resume(path)? => {}
            _ => {
                run.take_norms_apart();
                run.judge_start()?;
            }
        }
        while run.epochs.len() < self.recipe.epochs && !run.is_patience_over() {
            run.epoch(events)?;
            if let Some(path) = &checkpoint {
                run.save(path)?;
            }
        }
        run.finish()
    }

    fn score(&self, net: &Net) -> Result<f64, TrainError> {
        let evaluated = match self.method {
            Some(method) => method.evaluated(net)?,
            None => eval::Net::float(&net.graph())?,
        };
        score(&evaluated, self.samples)
    }

    /// What a checkpoint must agree in.
    fn identity(&self) -> String {
        let mut hash = Sha256::new();
        let recipe = serde_json::to_vec(self.recipe).unwrap_or_default();
        hash.update(recipe);
        hash.update(self.seed.to_le_bytes());
        hash.update(format!("{:?} {:?} {}", self.norms, self.start, self.samples.dataset.name));
        for graph in std::iter::once(self.graph).chain(self.teacher) {
            hash.update(digest(graph));
        }
        hash.update(self.method.map_or_else(String::new, |method| method.identity()));
        hex(&hash.finalize())
    }
}

impl<'a> Run<'a> {
    fn new(training: &'a Training<'a>) -> Result<Self, TrainError> {
        let Training { graph, norms, samples, recipe, .. } = *training;
        let mut net = match training.start {
            Start::Trained => Net::new(graph, norms)?,
            Start::Random => Net::new(&randomised(graph, training.seed), norms)?,
        };
        if let Some(method) = training.method {
            method.attach(&mut net)?;
        }
        if training.start == Start::Trained {
            net.parameters_mut().iter_mut().for_each(Parameter::take_own_unit);
        }
        let outputs = graph.value(net.logits()).len();
        let objective = match samples.metric {
            Metric::Top1 => Objective::CrossEntropy,
            Metric::Auc | Metric::Mse | Metric::Psnr => Objective::SquaredError,
        };
        let train = samples.dataset.split(Split::Train);
        let data = || samples.dataset.name.clone();
        if train.len() < 2 {
            return Err(TrainError::TooFew { data: data(), samples: train.len() });
        }
        if objective == Objective::CrossEntropy {
            let mut labels = train.iter().map(|&index| samples.dataset.label(index));
            if let Some(class) = labels.find(|label| label.is_none_or(|label| label as usize >= outputs)) {
                return Err(TrainError::Label { data: data(), class, classes: outputs });
            }
        }
        let teacher = match (training.teacher, &recipe.distillation) {
            (Some(graph), Some(_)) => Some(Net::new(graph, Norms::Bias)?),
            _ => None,
        };
        let optimiser = Optimiser::new(recipe.rule, recipe.weight_decay, net.parameters());
        let average = recipe.averaging.map(|_| net.parameters().iter().map(|p| p.values.clone()).collect());
        Ok(Run { training, net, optimiser, teacher, objective, outputs, average, epochs: Vec::new(), best: None })
    }

    /// Lets the norms of a trained network do nothing but add its biases.
    fn take_norms_apart(&mut self) {
        if self.training.norms == Norms::Batch && self.training.start == Start::Trained {
            self.estimate();
            self.net.unfold_norms();
            if let Some(average) = &mut self.average {
                *average = self.net.parameters().iter().map(|p| p.values.clone()).collect();
            }
        }
    }

    /// A trained network that no epoch improves stays as it is.
    fn judge_start(&mut self) -> Result<(), TrainError> {
        let is_done = self.training.method.is_none_or(|method| method.is_done(0.0));
        if is_done && self.training.start == Start::Trained {
            let (val, tensors) = self.score()?;
            self.best = Some(Best { epoch: 0, val, tensors });
        }
        Ok(())
    }

    /// Takes the statistics of the norms from unchanged training samples.
    fn estimate(&mut self) {
        let Training { samples, recipe, seed, .. } = *self.training;
        let train = samples.dataset.split(Split::Train);
        let plain = Mix { augmentations: &[], smoothing: 0.0, mixup: 0.0, objective: self.objective };
        let (net, outputs) = (&mut self.net, self.outputs);
        net.begin_statistics();
        for (i, some) in train[..train.len().min(STATISTICS)].chunks(recipe.batch.max(2)).enumerate() {
            if some.len() > 1 {
                let place = (usize::MAX >> 33, i * recipe.batch);
                net.forward(&Batch::new(samples, some, &plain, outputs, seed, place).inputs);
            }
        }
        net.end_statistics();
    }

    fn epoch(&mut self, events: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let Training { samples, recipe, seed, .. } = *self.training;
        let epoch = self.epochs.len();
        let order = batches::order(samples, seed, epoch);
        let size = recipe.batch.clamp(2, order.len());
        let steps = order.len() / size;
        events(Event::Epoch { number: epoch + 1, of: recipe.epochs, steps });
        let start = Instant::now();
        let (mut total, mut right, mut seen) = (0.0, 0, 0);
        let mix = Mix {
            augmentations: &recipe.augmentations,
            smoothing: recipe.smoothing,
            mixup: recipe.mixup,
            objective: self.objective,
        };
        for (step, indices) in order.chunks_exact(size).enumerate() {
            let batch = Batch::new(samples, indices, &mix, self.outputs, seed, (epoch, step * size));
            let at = epoch as f32 + step as f32 / steps as f32;
            if let Some(method) = self.training.method {
                method.advance(&mut self.net, at);
            }
            let loss = self.step(&batch, at)?;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch: epoch + 1 });
            }
            total += loss;
            right += count_right(self.net.value(self.net.logits()), &batch.labels, self.outputs);
            seen += size;
            let rate = seen as f64 / start.elapsed().as_secs_f64().max(1e-9);
            let left = (recipe.epochs - epoch) * steps * size - seen;
            events(Event::Step {
                loss: total / (step + 1) as f64,
                accuracy: (!batch.labels.is_empty()).then(|| right as f64 / seen as f64),
                rate,
                left: Duration::from_secs_f64(left as f64 / rate),
            });
        }
        let accuracy = (self.objective == Objective::CrossEntropy).then(|| right as f64 / seen as f64);
        let (val, tensors) = self.score()?;
        let figures = EpochFigures { epoch: epoch + 1, loss: total / steps as f64, accuracy, val };
        events(Event::Scored(figures.clone()));
        let is_done = self.training.method.is_none_or(|method| method.is_done((epoch + 1) as f32));
        if is_done && self.best.as_ref().is_none_or(|best| val > best.val) {
            self.best = Some(Best { epoch: epoch + 1, val, tensors });
        }
        self.epochs.push(figures);
        Ok(())
    }

    /// One update; answers with the loss before it.
    fn step(&mut self, batch: &Batch, at: f32) -> Result<f64, TrainError> {
        let recipe = self.training.recipe;
        let logits = self.net.logits();
        self.net.forward(&batch.inputs);
        let mut loss = self.objective.of(self.net.value(logits), &batch.targets, self.outputs);
        let mut seeds = std::collections::BTreeMap::new();
        if let (Some(teacher), Some(how)) = (&mut self.teacher, &recipe.distillation) {
            teacher.forward(&batch.inputs);
            let taught =
                distillation(self.net.value(logits), teacher.value(teacher.logits()), self.outputs, how.temperature);
            loss.value = f64::from(1.0 - how.logits) * loss.value + f64::from(how.logits) * taught.value;
            for (g, taught) in loss.gradient.iter_mut().zip(taught.gradient) {
                *g = (1.0 - how.logits) * *g + how.logits * taught;
            }
            for name in &how.maps {
                let missing = || TrainError::Teacher(name.clone());
                let own = self.net.output_of(name).ok_or_else(missing)?;
                let theirs = teacher.output_of(name).ok_or_else(missing)?;
                let (x, y) = (self.net.value(own), teacher.value(theirs));
                if x.len() != y.len() {
                    return Err(missing());
                }
                let mut apart = Objective::SquaredError.of(x, y, x.len());
                apart.gradient.iter_mut().for_each(|g| *g *= how.features);
                loss.value += f64::from(how.features) * apart.value;
                seeds.insert(own, apart.gradient);
            }
        }
        seeds.insert(logits, loss.gradient);
        self.net.backward(&seeds);
        let rate = recipe.schedule.rate(at, recipe.epochs as f32);
        self.optimiser.step(self.net.parameters_mut(), rate);
        if let (Some(average), Some(share)) = (&mut self.average, recipe.averaging) {
            for (average, parameter) in average.iter_mut().zip(self.net.parameters()) {
                average.iter_mut().zip(&parameter.values).for_each(|(a, w)| *a += (1.0 - share) * (w - *a));
            }
        }
        Ok(loss.value)
    }

    /// The score of the network as it would be kept, and its tensors.
    fn score(&mut self) -> Result<(f64, Tensors), TrainError> {
        let own = self.average.clone().map(|average| {
            let state = self.net.tensors();
            for (parameter, average) in self.net.parameters_mut().iter_mut().zip(average) {
                parameter.values = average;
            }
            if self.training.norms == Norms::Batch {
                self.estimate();
            }
            state
        });
        let val = self.training.score(&self.net);
        let tensors = self.net.tensors();
        if let Some(own) = own {
            self.net.restore(&own);
        }
        Ok((val?, tensors))
    }

    fn is_patience_over(&self) -> bool {
        let (Some(patience), Some(best)) = (self.training.recipe.patience, &self.best) else { return false };
        self.epochs.len() - best.epoch >= patience
    }

    fn save(&self, path: &Path) -> Result<(), TrainError> {
        let state = State {
            identity: self.training.identity(),
            steps: self.optimiser.steps,
            epochs: self.epochs.clone(),
            best: self.best.as_ref().map(|best| (best.epoch, best.val)),
        };
        let mut tensors = prefixed("net", self.net.tensors());
        let numbered =
            |values: &[Vec<f32>]| values.iter().cloned().enumerate().map(|(i, v)| (i.to_string(), v)).collect();
        tensors.extend(prefixed("optimiser", numbered(&self.optimiser.memory)));
        tensors
            .extend(self.average.as_deref().map(|average| prefixed("average", numbered(average))).unwrap_or_default());
        tensors.extend(self.best.as_ref().map(|best| prefixed("best", best.tensors.clone())).unwrap_or_default());
        Ok(checkpoint::save(path, &state, &tensors)?)
    }

    /// Goes on from a checkpoint; false when there is none.
    fn resume(&mut self, path: &Path) -> Result<bool, TrainError> {
        let Some((state, tensors)) = checkpoint::load::<State>(path)? else { return Ok(false) };
        if state.identity != self.training.identity() {
            let what = "options, data or weights";
            return Err(CheckpointError::Other { path: path.to_owned(), what }.into());
        }
        let part = |prefix: &str| -> Tensors {
            let own =
                |(name, values): (&String, &Vec<f32>)| Some((name.strip_prefix(prefix)?.to_owned(), values.clone()));
            tensors.iter().filter_map(own).collect()
        };
        self.net.restore(&part("net/"));
        for (prefix, slots) in [("optimiser/", Some(&mut self.optimiser.memory)), ("average/", self.average.as_mut())] {
            let stored = part(prefix);
            for (i, slot) in slots.into_iter().flatten().enumerate() {
                if let Some(values) = stored.get(&i.to_string()).filter(|values| values.len() == slot.len()) {
                    slot.clone_from(values);
                }
            }
        }
        self.optimiser.steps = state.steps;
        self.best = state.best.map(|(epoch, val)| Best { epoch, val, tensors: part("best/") });
        self.epochs = state.epochs;
        Ok(true)
    }

    fn finish(mut self) -> Result<(Trained, Net), TrainError> {
        if let Some(best) = &self.best {
            self.net.restore(&best.tensors);
        }
        let graph = self.net.graph();
        let val = match &self.best {
            Some(best) => best.val,
            None => self.training.score(&self.net)?,
        };
        let digest = hex(&digest(&graph));
        Ok((Trained { graph, val, epochs: self.epochs, digest }, self.net))
    }
}

/// How good a network is on the validation samples, higher is better: the metric, or minus the mean squared error
/// where the metric needs labels that they lack, or is lower for better networks.
///
/// # Errors
/// When there are none, or the network cannot be evaluated.
pub fn score(net: &eval::Net, samples: &Samples) -> Result<f64, TrainError> {
    let indices = samples.indices(Split::Val, None)?;
    if matches!(samples.metric, Metric::Top1 | Metric::Psnr) {
        return Ok(samples.score_net(net, indices)?.value);
    }
    let (mut total, mut count) = (0.0, 0);
    for some in indices.chunks(16) {
        let inputs = samples.inputs(some);
        let outputs = net.forward(&inputs, inputs.len() / net.sample_len())?;
        total += inputs.iter().zip(&outputs).map(|(x, y)| f64::from((x - y) * (x - y))).sum::<f64>();
        count += inputs.len();
    }
    Ok(-total / count as f64)
}

fn prefixed(prefix: &str, tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, values)| (format!("{prefix}/{name}"), values)).collect()
}

fn count_right(outputs: &[f32], labels: &[u32], width: usize) -> usize {
    outputs.chunks_exact(width).zip(labels).filter(|(row, label)| argmax(row) == Some(**label as usize)).count()
}

/// Of all constants of a graph, in order.
fn digest(graph: &Graph) -> [u8; 32] {
    let mut hash = Sha256::new();
    for value in &graph.values {
        hash.update(&value.name);
        for x in value.data.iter().flat_map(|data| data.iter()) {
            hash.update(x.to_le_bytes());
        }
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
