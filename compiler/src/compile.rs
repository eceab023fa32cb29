//! The main job on one page: network, data, target and budget in; policy, blob and figures out.
//!
//! [`Workshop`] holds what every step shares, each part made when first needed: a search whose scores are
//! all remembered on disk never calibrates, measures nothing and ends in under a second.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pare_runtime::Isa;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::board::journal::Journal;
use crate::cost::bitops::Bitops;
use crate::cost::energy::Energy;
use crate::cost::latency::Latency;
use crate::cost::layers::{Layers, Steps};
use crate::cost::macs::Macs;
use crate::cost::ram::Ram;
use crate::cost::size::{ExactSize, Size};
use crate::cost::table::{KernelQuery, LatencyTable, Row, TableError};
use crate::cost::{Cost, CostError};
use crate::data::{DataError, Split};
use crate::deploy::{DeployError, Deployed, Reference, deploy, deploy_quantized, draft, layers_as_run};
use crate::files;
use crate::ir::Graph;
use crate::lower::{LowerConfig, Stages, Sums};
use crate::measure::{self, MeasureError};
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::quant::{Calibration, CalibrationConfig, CodeBank, QuantConfig, QuantError, Quantized, calibrate};
use crate::search::cache::Cached;
use crate::search::sensitivity::{self, Sensitivity};
use crate::search::space::SpaceError;
use crate::search::{Budget, Evaluator, Event, Front, Point, Problem, Score, SearchError, Space, Strategy, uniform};
use crate::target::{Runner, Target};
use crate::task::{Task, TaskError};
use crate::tuning::Tuning;
use crate::units::Bytes;

/// Network inputs that calibration sees.
const CALIBRATION_INPUTS: usize = 1024;
/// Network inputs that a policy is scored on while searching.
const SEARCH_INPUTS: usize = 2048;

/// Weights and activations of the first and the last layer where they are left out of a search.
const PINNED: (WeightFormat, u8) = (WeightFormat::Linear(8), 8);

/// How a compilation goes about its work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it compiles for.
    pub target: Target,
    /// Kernels to measure with.
    pub isa: Isa,
    /// Floats to codes.
    pub quant: QuantConfig,
    /// Weight formats that a search chooses from.
    pub weight_formats: Vec<WeightFormat>,
    /// Activation widths that the search may choose from.
    pub activation_bits: Vec<u8>,
    /// Where sums are computed.
    pub sums: Sums,
    /// How layers follow one another.
    pub stages: Stages,
    /// Whether a search leaves the first and the last layer at 8 bits.
    pub edges: EdgeLayers,
    /// Samples that the codes of each policy are trained on before a search scores it; none for as they are.
    pub tuning: Option<NonZeroUsize>,
    /// Fixes every random choice.
    pub seed: u64,
    /// Where scores and tables are remembered.
    pub cache: PathBuf,
}

impl Settings {
    /// The usual way for a target: data-aware rounding, clipping by squared error, activations as wide as the target
    /// is fastest at.
    pub fn new(target: Target, seed: u64, cache: PathBuf) -> Settings {
        let quant = QuantConfig::USUAL;
        let isa = target.board().best_isa();
        let is_host = matches!(target.runner, Runner::Host | Runner::Model(_));
        let stages = if is_host { Stages::Whole } else { Stages::Banded };
        let weight_formats = target.weight_formats.clone();
        let activation_bits = target.searched_activation_bits.clone();
        let edges = EdgeLayers::Uniform;
        let (sums, tuning) = (Sums::default(), None);
        Settings { isa, target, quant, weight_formats, activation_bits, sums, stages, edges, tuning, seed, cache }
    }
}

/// Why a compilation failed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The data set could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Network and data do not go together.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The float network failed.
    #[error(transparent)]
    Eval(#[from] crate::eval::EvalError),
    /// The policy does not fit.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The policy could not be deployed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The target could not be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The latency table is unusable.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A price could not be given.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// There is nothing to choose from.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The search found nothing.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Policies worth having, and the recommended one.
    pub front: Front,
    /// The uniform policies, for comparison.
    pub uniform: Vec<Point>,
    /// The strategy that was asked for.
    pub strategy: &'static str,
    /// What other strategies found, where they found anything within the budget, by name.
    pub beside: Vec<(&'static str, Front)>,
    /// What each choice of each layer loses.
    pub sensitivity: Sensitivity,
    /// The choices it was made from.
    pub space: Space,
    /// The float network on the validation samples.
    pub float: Score,
    /// The least metric wanted there.
    pub floor: Option<f64>,
}

/// What every step of a compilation shares.
pub struct Workshop<'a> {
    /// The network and its data.
    pub task: &'a Task,
    /// How it works.
    pub settings: &'a Settings,
    digest: String,
    calibration: &'a OnceCell<Calibration>,
    bank: OnceCell<CodeBank<'a>>,
    tuning: Option<Tuning<'a>>,
}

impl<'a> Workshop<'a> {
    /// `calibration` is an empty cell that outlives the workshop.
    pub fn new(task: &'a Task, settings: &'a Settings, calibration: &'a OnceCell<Calibration>) -> Workshop<'a> {
        let tuning = settings.tuning.map(|n| Tuning::new(&task.graph, &task.data, n.get(), settings.seed));
        Workshop { task, settings, digest: digest(task, settings), calibration, bank: OnceCell::new(), tuning }
    }

    /// The weight codes of every layer and format, made when asked for.
    ///
    /// # Errors
    /// When calibration fails.
    pub fn bank(&self) -> Result<&CodeBank<'a>, CompileError> {
        once(&self.bank, || {
            let (task, settings) = (self.task, self.settings);
            let calibration = once(self.calibration, || {
                let inputs = task.data.spread(Split::Train, CALIBRATION_INPUTS)?;
                let n = inputs.len() / task.input_len();
                let config = CalibrationConfig::with_seed(settings.seed);
                Ok::<_, CompileError>(calibrate(&task.graph, &inputs, n, &config)?)
            })?;
            Ok(CodeBank::new(&task.graph, calibration, &settings.quant)?)
        })
    }

    /// Applies a policy; layers have the layouts that `table` says are fastest.
    ///
    /// # Errors
    /// When calibration or deployment fails.
    pub fn deploy(&self, policy: &Policy, table: &LatencyTable, metadata: &str) -> Result<Deployed, CompileError> {
        Ok(deploy(self.bank()?, policy, &self.lower_config().with(table.layouts()), metadata)?)
    }

    /// As [`Workshop::deploy`], of codes that are chosen already: trained ones, say.
    ///
    /// # Errors
    /// When deployment fails.
    pub fn deploy_quantized(
        &self,
        quantized: Quantized,
        table: &LatencyTable,
        metadata: &str,
    ) -> Result<Deployed, CompileError> {
        Ok(deploy_quantized(quantized, &self.lower_config().with(table.layouts()), metadata)?)
    }

    /// One policy for every pair of weight format and activation width that a search may choose from.
    pub fn uniform_policies(&self) -> Vec<Policy> {
        let Settings { weight_formats, activation_bits, edges, .. } = self.settings;
        let widths = |&format| activation_bits.iter().map(move |&bits| (format, bits));
        let pairs = weight_formats.iter().flat_map(widths);
        let pinned = (*edges == EdgeLayers::EightBit).then_some(PINNED);
        let all = pairs.chain(pinned);
        all.map(|(format, bits)| Policy::uniform(&self.task.graph, format, bits, EdgeLayers::Uniform)).collect()
    }

    /// The latency table of the target with a row for every kernel that the network runs under `policies`:
    /// rows that are missing from the remembered table are measured first.
    ///
    /// # Errors
    /// When measuring fails or the table cannot be kept.
    pub fn table(&self, policies: &[Policy], events: &mut dyn FnMut(Event)) -> Result<LatencyTable, CompileError> {
        self.table_of(&[&self.task.graph], policies, events)
    }

    /// As [`Workshop::table`], for versions of the network, such as pruned ones, whose layers have the same names.
    ///
    /// # Errors
    /// When measuring fails or the table cannot be kept.
    pub fn table_of(
        &self,
        graphs: &[&Graph],
        policies: &[Policy],
        events: &mut dyn FnMut(Event),
    ) -> Result<LatencyTable, CompileError> {
        let Settings { target, isa, cache, .. } = self.settings;
        let known = remembered_table(cache, target, *isa)?.map_or_else(Vec::new, |table| table.rows().to_vec());
        let kernels: BTreeSet<_> = known.iter().map(Row::query).collect();
        let config = self.lower_config();
        let mut subjects = Vec::new();
        for &graph in graphs {
            let layers = layers_as_run(graph, &config).map_err(DeployError::from)?;
            let missing = |policy: &Policy| {
                layers.queries(policy).any(|query| {
                    let steps = if config.can_skip_zeros(query.weights) { query.steps } else { Steps::ALL };
                    !kernels.contains(&KernelQuery { steps, ..query })
                })
            };
            let policies: Vec<Policy> = policies.iter().flat_map(Policy::unmixed).filter(missing).collect();
            if !policies.is_empty() {
                subjects.push(measure::Subject { graph, policies });
            }
        }
        let mut new = Vec::new();
        if !subjects.is_empty() {
            let journal = journal(cache, target, *isa);
            new = measure::rows(&journal, *isa, &subjects, &config, events)?;
            journal.finish();
            events(Event::Finished { summary: format!("{} rows", new.len()) });
        }
        let table = LatencyTable::new(measure::provenance(target, *isa), target.unit, merged(known, new))?;
        if !subjects.is_empty() {
            table.save(&remembered_path(cache, target, *isa)).unwrap_or_else(forgotten);
        }
        Ok(table)
    }

    /// Searches a policy within `budget` by the first of these strategies; what the others choose stands beside it.
    ///
    /// # Errors
    /// [`SearchError`] and whatever keeps a policy from being scored or priced.
    pub fn search(
        &self,
        (strategy, others): (&mut dyn Strategy, &mut [Box<dyn Strategy>]),
        budget: Budget,
        table: &LatencyTable,
        events: &mut dyn FnMut(Event),
    ) -> Result<Found, CompileError> {
        let (graph, settings) = (&self.task.graph, self.settings);
        let space = self.space()?;
        let calibration = self.scorer(Split::Train);
        self.task.data.warn_of_few();
        let validation = self.scorer(Split::Val);
        let float = self.float_score()?;
        let layers = self.layers()?;
        let config = self.lower_config().with(table.layouts());
        let (latency, macs, bitops) =
            (Latency::new(layers.clone(), table), Macs(layers.clone()), Bitops(layers.clone()));
        let blob_bytes = |policy: &Policy| {
            let plan = draft(graph, policy, &config)?;
            Ok(Bytes(crate::emit::emit(&plan, &self.metadata())?.bytes.len() as u64))
        };
        let size = ExactSize { formula: Size(layers.clone()), lowered: blob_bytes };
        let ram = Ram(|policy: &Policy| Ok(Bytes(draft(graph, policy, &config)?.arena_bytes as u64)));
        let mut costs: Vec<&dyn Cost> = vec![&latency, &size, &ram, &macs, &bitops];
        let energy;
        if budget.energy.is_some() {
            energy = Energy::new(layers.clone(), &settings.target.name, settings.target.energy.clone())?;
            costs.push(&energy);
        }
        let problem = Problem {
            space: &space,
            layers: &layers,
            costs,
            budget,
            calibration: &calibration,
            validation: &validation,
            float,
            seed: settings.seed,
        };
        let front = strategy.search(&problem, events)?;
        let mut beside = Vec::new();
        for other in others {
            match other.search(&problem, events) {
                Ok(front) => beside.push((other.name(), front)),
                Err(SearchError::Accuracy { .. } | SearchError::Infeasible(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let sensitivity = sensitivity::measure(&problem, events)?;
        let uniform = uniform::points(&problem, events)?;
        let floor = problem.floor();
        Ok(Found { front, uniform, strategy: strategy.name(), beside, sensitivity, space, float, floor })
    }

    /// What a search may choose from.
    fn space(&self) -> Result<Space, CompileError> {
        let Settings { target, weight_formats, activation_bits, edges, .. } = self.settings;
        let mut space = Space::of(&self.task.graph, weight_formats, activation_bits)?;
        let ends = [space.sites().first(), space.sites().last()].map(|site| site.map(|site| site.name.clone()));
        for layer in ends.into_iter().flatten().filter(|_| *edges == EdgeLayers::EightBit) {
            if !(target.weight_formats.contains(&PINNED.0) && target.activation_bits.contains(&PINNED.1)) {
                return Err(SpaceError::Empty(layer).into());
            }
            space = space.pin(&layer, PINNED)?;
        }
        Ok(space)
    }

    /// The scores of a policy and of the float network on the val split.
    ///
    /// # Errors
    /// When the network does not run under the policy.
    pub fn validate(&self, policy: &Policy) -> Result<(Score, Score), CompileError> {
        let score = self.scorer(Split::Val).score(policy).map_err(SearchError::Evaluation)?;
        Ok((score, self.float_score()?))
    }

    /// What a blob tells host tools: JSON, the same for the same task.
    pub fn metadata(&self) -> String {
        let data = &self.task.data;
        let metadata = Metadata { preprocessing: data.preprocessing.clone(), metric: data.metric };
        serde_json::to_string(&metadata).unwrap_or_default()
    }

    /// What costs need to know of each node.
    ///
    /// # Errors
    /// When the network does not fit the arithmetic.
    pub fn layers(&self) -> Result<Layers, CompileError> {
        Ok(layers_as_run(&self.task.graph, &self.lower_config()).map_err(DeployError::from)?)
    }

    /// How plans are made for the target when it has not been measured.
    pub fn lower_config(&self) -> LowerConfig {
        LowerConfig {
            sums: self.settings.sums,
            stages: self.settings.stages,
            ..LowerConfig::new(self.settings.target.board().layout(self.settings.isa))
        }
    }

    fn scorer(&self, split: Split) -> Cached<Scorer<'_, 'a>> {
        let directory = self.settings.cache.join("scores");
        let scorer = Scorer { workshop: self, split, reference: OnceCell::new() };
        Cached::open(scorer, &directory, &format!("{}-{split:?}", self.digest))
    }

    /// The score of the float network on the val split, remembered on disk.
    fn float_score(&self) -> Result<Score, CompileError> {
        let path = self.settings.cache.join("scores").join(format!("{}-float.txt", short_digest(&[&self.digest])));
        // Numbers as text, as in the cache of scores: what is read back is what was written, to the last bit.
        let read = |text: String| {
            let (metric, loss) = text.split_once(' ')?;
            Some(Score { metric: metric.parse().ok()?, loss: loss.parse().ok()? })
        };
        if let Some(score) = std::fs::read_to_string(&path).ok().and_then(read) {
            return Ok(score);
        }
        let score = self.reference(Split::Val)?.float_score();
        files::replace(&path, format!("{} {}", score.metric, score.loss).as_bytes()).unwrap_or_else(forgotten);
        Ok(score)
    }

    fn reference(&self, split: Split) -> Result<Reference, CompileError> {
        let data = &self.task.data;
        let (inputs, labels) = data.spread_labelled(split, SEARCH_INPUTS)?;
        Ok(Reference::new(&self.task.graph, inputs, labels, data.metric)?)
    }
}

/// What a blob's metadata section holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// From the elements of the data to the network's input.
    pub preprocessing: crate::data::Preprocessing,
    /// What accuracy is measured by.
    pub metric: crate::data::Metric,
}

/// Scores policies on a split; calibrates when first asked.
struct Scorer<'w, 'a> {
    workshop: &'w Workshop<'a>,
    split: Split,
    reference: OnceCell<Reference>,
}

impl Evaluator for Scorer<'_, '_> {
    fn score(&self, policy: &Policy) -> Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        let quantized = self.workshop.bank()?.quantize(policy)?;
        let quantized = match &self.workshop.tuning {
            Some(tuning) => tuning.train(&quantized)?,
            None => quantized,
        };
        let reference = once(&self.reference, || self.workshop.reference(self.split))?;
        Ok(reference.score(quantized)?)
    }
}

/// `old` rows and, of `new` ones, those of kernels that are not among them.
pub fn merged(old: Vec<Row>, new: Vec<Row>) -> Vec<Row> {
    let kernel = |row: &Row| (row.operator.clone(), row.shape, row.weights, row.activation_bits);
    let known: BTreeSet<_> = old.iter().map(kernel).collect();
    old.into_iter().chain(new.into_iter().filter(|row| !known.contains(&kernel(row)))).collect()
}

/// Where the table of this machine is remembered. Tables of different processors, kernels or runtime
/// versions never mix.
pub fn remembered_path(cache: &Path, target: &Target, isa: Isa) -> PathBuf {
    let p = measure::provenance(target, isa);
    let key = short_digest(&[&p.cpu, &p.isa, &p.runtime_version]);
    cache.join("tables").join(format!("{}-{key}.json", p.target))
}

/// The target's board, whose timings are remembered until a table holds them: where the clock is its own, a network timed
/// once need not be timed again after a break.
pub fn journal(cache: &Path, target: &Target, isa: Isa) -> Journal {
    Journal::open(target.board(), remembered_path(cache, target, isa).with_extension("partial.jsonl"))
}

/// The table that compilations and `pare measure` have filled so far on this machine.
///
/// # Errors
/// When there is one that cannot be read.
pub fn remembered_table(cache: &Path, target: &Target, isa: Isa) -> Result<Option<LatencyTable>, TableError> {
    let path = remembered_path(cache, target, isa);
    if path.exists() { LatencyTable::load(&path).map(Some) } else { Ok(None) }
}

/// The value of a cell, made by `make` when there is none yet.
fn once<T, E>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

/// What could not be remembered is worked out again next time: no reason to fail.
fn forgotten(error: impl std::fmt::Display) {
    tracing::warn!("not remembered for next time: {error}");
}

/// Names everything that a score depends on beside the policy: the network, the data, the settings, and the
/// sources of this program.
fn digest(task: &Task, settings: &Settings) -> String {
    let rest = format!(
        "{:?} {} {:?} {CALIBRATION_INPUTS} {SEARCH_INPUTS} {}",
        settings.quant,
        settings.seed,
        settings.tuning,
        concat!(env!("CARGO_PKG_VERSION"), " ", env!("PARE_SOURCES")),
    );
    hex(&Sha256::new().chain_update(task.fingerprint()).chain_update(rest).finalize())
}

fn short_digest(parts: &[&str]) -> String {
    hex(&Sha256::digest(parts.join("\n"))[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
