//! Options that several subcommands share, and what they lead to.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use pare_runtime::Isa;

use super::Global;
use crate::board::Board;
use crate::board::host::Host;
use crate::compile::Settings;
use crate::data::{self, DataSpec, Dataset, Metric, Preprocessing, Split, Splits};
use crate::import;
use crate::ir::Graph;
use crate::lower::{FUSE_RESIDUAL, ROW_STAGES, Stages, Sums};
use crate::methods::haq::{Credit, Haq};
use crate::models::{CARD_FILE, Card, FloatAccuracy, bundled};
use crate::passes::{Passes, Saving, Simplified, drop_softmax};
use crate::policy::{EdgeLayers, WeightFormat};
use crate::search::evolution::Evolution;
use crate::search::exact::Exact;
use crate::search::manual::Manual;
use crate::search::random::Random;
use crate::search::uniform::Uniform;
use crate::search::{Budget, Strategy};
use crate::target::{Runner, Target};
use crate::task::{Samples, Task, TaskError};
use crate::train::Norms;
use crate::units::{Bytes, Count, Joules, Ticks};

/// Samples, and how they become the network's input.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataArgs {
    /// cifar10:DIR, mnist:DIR, npz:FILE, npz:TRAIN,TEST, images:DIR or synthetic.
    #[arg(long, value_name = "DATA")]
    pub data: Option<DataSpec>,
    /// Factor from the data's elements to the network's input [default: 1].
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub input_scale: Option<f32>,
    /// Taken off the elements first: one number, or one a channel, separated by commas.
    #[arg(long, value_name = "MEAN", value_delimiter = ',', allow_negative_numbers = true)]
    pub input_mean: Vec<f32>,
    /// What accuracy is: top1, auc, psnr or mse [default: inferred].
    #[arg(long)]
    pub metric: Option<Metric>,
    /// Of data in one piece, the fifth to test on, 1 to 5: five runs test on every sample once.
    #[arg(long, value_name = "FOLD", value_parser = clap::value_parser!(u8).range(1..=Splits::FOLDS as i64))]
    pub fold: Option<u8>,
}

/// How the network is rewritten before anything else.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PassArgs {
    /// Leave a pass out; give it once for each.
    #[arg(long, value_name = "PASS", value_parser = PossibleValuesParser::new(Passes::names().chain([FUSE_RESIDUAL, ROW_STAGES])))]
    pub without: Vec<String>,
    /// Give logits rather than probabilities: the class is the same, the last softmax saved.
    #[arg(long)]
    pub class_only: bool,
}

/// What the deployed network may cost and must keep.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BudgetArgs {
    /// Longest inference, as 5ms, 80us, 120000instructions.
    #[arg(long, value_name = "TIME")]
    pub max_latency: Option<Ticks>,
    /// Largest blob, as 96KiB.
    #[arg(long, value_name = "SIZE")]
    pub max_flash: Option<Bytes>,
    /// Largest arena, as 50KiB.
    #[arg(long, value_name = "SIZE")]
    pub max_ram: Option<Bytes>,
    /// Most energy of an inference, as 1mJ.
    #[arg(long, value_name = "ENERGY")]
    pub max_energy: Option<Joules>,
    /// Most multiply-accumulates, as 6M.
    #[arg(long, value_name = "COUNT")]
    pub max_macs: Option<Count>,
    /// Most multiply-accumulates times weight and activation bits, as 400M.
    #[arg(long, value_name = "COUNT")]
    pub max_bitops: Option<Count>,
    /// Least metric on the validation samples, as 0.86.
    #[arg(long, value_name = "METRIC")]
    pub min_accuracy: Option<f64>,
    /// Most points (hundredths) of the metric to lose against the float network.
    #[arg(long, value_name = "POINTS")]
    pub max_drop: Option<f64>,
}

/// What is compiled for, and from what the search may choose.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TargetArgs {
    /// A name from `pare targets`, or the path of a description.
    #[arg(long, default_value = "host")]
    pub target: String,
    #[command(flatten)]
    pub on: PortArgs,
    /// Weight formats the search may choose from, as w2,w4,k3 [default: all that the target has].
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub weight_formats: Vec<WeightFormat>,
    /// Activation widths the search may choose from [default: those that the target is fastest at].
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    pub activation_bits: Vec<u8>,
    /// How weights are rounded.
    #[arg(long, value_enum, default_value = "data-aware")]
    pub rounding: RoundingArg,
}

/// Where blobs of a target run.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PortArgs {
    /// Run on a board at this serial port, as /dev/ttyACM0, which was programmed with what `pare targets --build` makes.
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
}

impl PortArgs {
    /// A target by name or path, on the board at the port if there is one.
    pub(super) fn target(&self, name: &str) -> Result<Target> {
        let target = Target::find(name)?;
        match &self.port {
            Some(port) => Ok(target.on_port(port)?),
            None => Ok(target),
        }
    }
}

/// How a policy is searched.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SearchArgs {
    /// How to search [default: exact]; haq is reported beside all others with as many policies tried.
    #[arg(long = "search", value_enum, value_name = "METHOD")]
    pub(super) method: Option<Method>,
    /// With --search haq, evolution and random: policies that are tried.
    #[arg(long, value_name = "N", default_value_t = Haq::EPISODES as u64, requires = "method", value_parser = clap::value_parser!(u64).range(1..))]
    evaluations: u64,
    /// With --search haq: by the agent alone.
    #[arg(long, requires = "method")]
    alone: bool,
    /// Leave the first and the last layer at 8 bits.
    #[arg(long)]
    pin_edges: bool,
    /// Train the codes of each policy on so many samples before it is scored: what few bits are worth after training.
    #[arg(long, value_name = "SAMPLES")]
    pub(super) tune: Option<NonZeroUsize>,
}

/// How to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub(super) enum Method {
    /// By measured sensitivities, solved to the optimum, then refined.
    #[default]
    Exact,
    /// By an agent that learns which layers need their bits (Wang et al. 2019).
    Haq,
    /// Children of the best policies so far.
    Evolution,
    /// By guesses, to compare with.
    Random,
    /// One choice for all layers but the first, the last and depthwise ones, to compare with.
    Manual,
    /// One choice for all layers, to compare with.
    Uniform,
    /// Channels by the agent of AMC, with `compile --prune`, then widths as exact finds them.
    Amc,
}

impl SearchArgs {
    /// What may be decided about the first and the last layer.
    pub(super) fn edges(&self) -> EdgeLayers {
        if self.pin_edges { EdgeLayers::EightBit } else { EdgeLayers::Uniform }
    }

    /// What searches, and what is tried beside it.
    pub(super) fn strategies(&self) -> (Box<dyn Strategy>, Vec<Box<dyn Strategy>>) {
        let method = self.method.unwrap_or_default();
        let others = match method {
            Method::Haq if !self.alone => {
                vec![Method::Exact, Method::Evolution, Method::Random, Method::Manual]
            }
            _ => Vec::new(),
        };
        (self.strategy(method), others.into_iter().map(|method| self.strategy(method)).collect())
    }

    fn strategy(&self, method: Method) -> Box<dyn Strategy> {
        let evaluations = self.evaluations as usize;
        match method {
            Method::Exact | Method::Amc => Box::new(Exact::default()),
            Method::Haq => Box::new(Haq { episodes: evaluations, credit: Credit::default() }),
            Method::Evolution => Box::new(Evolution { evaluations }),
            Method::Random => Box::new(Random { evaluations }),
            Method::Manual => Box::new(Manual),
            Method::Uniform => Box::new(Uniform),
        }
    }
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum RoundingArg {
    /// To the nearest level.
    Nearest,
    /// So that the layer's output changes least on calibration samples.
    DataAware,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum NormsArg {
    /// Their biases.
    Bias,
    /// Batch norms, folded into weights and biases in the end.
    Batch,
}

impl From<NormsArg> for Norms {
    fn from(norms: NormsArg) -> Norms {
        match norms {
            NormsArg::Bias => Norms::Bias,
            NormsArg::Batch => Norms::Batch,
        }
    }
}

impl PassArgs {
    /// For kernels that compute `channel_block` channels at once.
    pub(super) fn simplify(&self, graph: Graph, channel_block: usize) -> Result<Simplified> {
        let all = Passes::all().with_channel_block(channel_block);
        let passes = self.without.iter().fold(all, |passes, name| passes.without(name));
        let simplified = passes.run(graph)?;
        if !self.class_only {
            return Ok(simplified);
        }
        let Some(graph) = drop_softmax(&simplified.graph) else {
            bail!("--class-only drops the last softmax, but the network's only output is none: leave it out");
        };
        Ok(Simplified { graph, ..simplified })
    }

    /// Where sums are computed: the pass over the integer network.
    pub(super) fn sums(&self) -> Sums {
        if self.without.iter().any(|name| name == FUSE_RESIDUAL) { Sums::Apart } else { Sums::Fused }
    }

    /// How layers follow one another, on a target on which they do so by `usual`: the pass over the plan.
    pub(super) fn stages(&self, usual: Stages) -> Stages {
        if self.without.iter().any(|name| name == ROW_STAGES) { Stages::Whole } else { usual }
    }

    /// Whether they are all applied, and nothing else.
    pub(super) fn are_usual(&self) -> bool {
        self.without.is_empty() && !self.class_only
    }
}

impl BudgetArgs {
    /// The budget of a task.
    ///
    /// # Errors
    /// When it bounds an accuracy that the validation samples cannot tell.
    pub(super) fn budget(&self, task: &Task, target: &Target) -> Result<Budget> {
        if self.min_accuracy.is_some() && !task.data.judges(Split::Val) {
            bail!(
                "--min-accuracy cannot be judged: the validation samples of `{}` lack the labels that {} needs; \
                 bound the cost, or the change of the output with --max-drop",
                task.data.dataset.name,
                task.data.metric
            );
        }
        Ok(Budget {
            latency: self.max_latency.map(|bound| target.counted(bound)),
            flash: self.max_flash,
            ram: self.max_ram,
            energy: self.max_energy,
            macs: self.max_macs,
            bitops: self.max_bitops,
            min_accuracy: self.min_accuracy,
            max_drop: self.max_drop,
        })
    }
}

impl TargetArgs {
    pub(super) fn settings(&self, global: &Global) -> Result<Settings> {
        let target = self.on.target(&self.target)?;
        let mut settings = Settings::new(target, global.seed, cache(global));
        settings.quant.rounding = match self.rounding {
            RoundingArg::Nearest => crate::quant::Rounding::Nearest,
            RoundingArg::DataAware => crate::quant::Rounding::DataAware,
        };
        if !self.weight_formats.is_empty() {
            settings.weight_formats = self.weight_formats.clone();
        }
        if let Some(format) = settings.weight_formats.iter().find(|f| !settings.target.weight_formats.contains(f)) {
            let known: Vec<String> = settings.target.weight_formats.iter().map(ToString::to_string).collect();
            bail!("target `{}` has no kernels for {format} weights: choose from {}", self.target, known.join(", "));
        }
        if !self.activation_bits.is_empty() {
            settings.activation_bits = self.activation_bits.clone();
        }
        if let Some(bits) = settings.activation_bits.iter().find(|b| !settings.target.activation_bits.contains(b)) {
            bail!(
                "target `{}` has no kernels for {bits}-bit activations: choose from {:?}",
                self.target,
                settings.target.activation_bits
            );
        }
        Ok(settings)
    }
}

/// The kernel family that was asked for, if the target runs it; the target's fastest without.
pub(super) fn isa(target: &Target, wanted: Option<Isa>) -> Result<Isa> {
    let board = target.board();
    let isas = board.isas();
    match wanted {
        None => Ok(board.best_isa()),
        Some(isa) if isas.contains(&isa) => Ok(isa),
        Some(isa) => {
            let known = isas.iter().map(Isa::to_string).collect::<Vec<_>>().join(", ");
            bail!("target `{}` cannot run the {isa} kernels here: choose from {known}", target.name)
        }
    }
}

/// `~/.cache/pare` unless told otherwise.
pub(super) fn cache(global: &Global) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache/pare");
    global.cache.clone().unwrap_or_else(home)
}

/// A model file and its data, ready to compile, and what the passes saved; the built-in pair without a model.
pub(super) fn task(
    model: Option<&Path>,
    args: &DataArgs,
    passes: &PassArgs,
    channel_block: usize,
) -> Result<(Task, Vec<Saving>)> {
    let (simplified, card) = match model {
        Some(path) => (network(path, passes, channel_block)?, card(path)?),
        None => {
            let bundled = bundled();
            (passes.simplify(bundled.graph, channel_block)?, Some(bundled.card))
        }
    };
    let Some(spec) = args.data.clone().or_else(|| card.as_ref().map(|card| card.data.clone())) else {
        bail!(
            "which data? `--data` names samples to calibrate and to score on, for instance --data cifar10:DIR or npz:FILE"
        );
    };
    // A card speaks of its own data alone.
    let card = card.filter(|card| card.data.is_same_set(&spec)).map(|card| card.preprocessing);
    let preprocessing = preprocessing(args, card);
    let dataset = dataset(args, &spec)?;
    preprocessing.check(&dataset.sample_shape)?;
    let task = Task::new(simplified.graph, dataset, preprocessing, args.metric)?;
    if passes.class_only && task.data.metric != Metric::Top1 {
        bail!("--class-only keeps the class alone, but {} needs the network's own output", task.data.metric);
    }
    Ok((task, simplified.savings))
}

/// A model file, simplified for kernels that compute `channel_block` channels at once.
pub(super) fn network(path: &Path, passes: &PassArgs, channel_block: usize) -> Result<Simplified> {
    let graph = import::import(path)?;
    passes.simplify(graph, channel_block).with_context(|| path.display().to_string())
}

/// The samples, cut as the options say.
pub(super) fn dataset(args: &DataArgs, spec: &DataSpec) -> Result<Dataset> {
    let whole = data::open(spec)?;
    Ok(match args.fold {
        Some(fold) => whole.fold(usize::from(fold) - 1)?,
        None => whole,
    })
}

/// What the options say, else what is recorded.
pub(super) fn preprocessing(args: &DataArgs, recorded: Option<Preprocessing>) -> Preprocessing {
    let recorded = recorded.unwrap_or(Preprocessing::IDENTITY);
    Preprocessing {
        scale: args.input_scale.unwrap_or(recorded.scale),
        mean: if args.input_mean.is_empty() { recorded.mean } else { args.input_mean.clone() },
    }
}

fn card(path: &Path) -> Result<Option<Card>> {
    if path.is_dir() && path.join(CARD_FILE).exists() { Ok(Some(Card::load(path)?)) } else { Ok(None) }
}

/// How many threads share an inference.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct ThreadArgs {
    /// Threads that share an inference on this machine: its large layers, by rows.
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
}

impl ThreadArgs {
    /// This machine with so many.
    pub(super) fn host(self) -> Host {
        Host::with_threads(self.threads)
    }

    /// The board of a target.
    ///
    /// # Errors
    /// When there are several threads and it is not this machine.
    pub(super) fn board(self, target: &Target) -> Result<Box<dyn Board>> {
        match (self.threads, &target.runner) {
            (NonZeroUsize::MIN, _) => Ok(target.board()),
            (_, Runner::Host) => Ok(Box::new(self.host())),
            _ => bail!("target `{}` is not this machine, and has one thread: leave out --threads", target.name),
        }
    }
}

/// Which samples to look at.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SampleArgs {
    /// Which samples.
    #[arg(long, value_enum, default_value = "test")]
    split: SplitArg,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

impl SampleArgs {
    /// Those samples.
    pub(super) fn indices<'a>(&self, samples: &'a Samples) -> Result<&'a [u32], TaskError> {
        samples.indices(self.split.into(), self.limit.map(NonZeroUsize::get))
    }
}

/// Parses `train`, `val` or `test`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SplitArg {
    /// What calibration and search see.
    Train,
    /// Cut from train, to choose between candidates.
    Val,
    /// For reported figures.
    Test,
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Split {
        match split {
            SplitArg::Train => Split::Train,
            SplitArg::Val => Split::Val,
            SplitArg::Test => Split::Test,
        }
    }
}

/// A number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "it is a share: give a number from 0 to 1".to_owned())
}

/// A number above 0.
pub(super) fn positive(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number: &f32| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "it must be a number above 0".to_owned())
}

/// Samples of a step of training: batch norms need several.
pub(super) fn batch(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number >= 2);
    number.ok_or_else(|| "it must be 2 or more: batch norms need several samples".to_owned())
}

/// The card of what a command (`verb`, as `Trained by pare train`) made of a model, with its scores in float.
pub(super) fn card_of(model: &Path, verb: &str, task: &Task, [val, test]: [f64; 2], seed: u64) -> Card {
    let name = model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Card {
        name: task.graph.name.clone(),
        description: format!("{verb} from {name}."),
        data: task.data.dataset.name.parse().unwrap_or(DataSpec::Synthetic),
        training: without_results(std::env::args().skip(1)),
        seed,
        preprocessing: task.data.preprocessing.clone(),
        accuracy: FloatAccuracy { metric: task.data.metric, val, test },
    }
}

/// A command without the place of its results: what it makes is the same anywhere.
fn without_results(mut words: impl Iterator<Item = String>) -> String {
    let mut command = "pare".to_owned();
    while let Some(word) = words.next() {
        if word == "--out" {
            words.next();
        } else if !word.starts_with("--out=") {
            command = command + " " + &word;
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_the_command_without_where_it_wrote() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
        assert_eq!(without_results(words("train m --out a/b --epochs 3")), "pare train m --epochs 3");
        assert_eq!(without_results(words("train m --epochs 3 --out=a/b")), "pare train m --epochs 3");
    }
}
