//! `pare compile`: search or take a policy, apply it, write blob, object, sources, policy and report.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pare_runtime::{Isa, Model};
use serde_json::json;

use super::args::{self, BudgetArgs, DataArgs, Method, PassArgs, SearchArgs, TargetArgs};
use super::finetune::FinetuneArgs;
use super::progress::Progress;
use super::stages::{self, PruneArgs};
use super::{Global, Output};
use crate::board::host::Host;
use crate::board::link::{LinkError, Linked, link};
use crate::board::{AlignedBytes, Timing};
use crate::compile::{Found, Settings, Workshop};
use crate::cost::Cost;
use crate::cost::bitops::Bitops;
use crate::cost::energy::Energy;
use crate::cost::latency::Latency;
use crate::cost::macs::Macs;
use crate::cost::table::LatencyTable;
use crate::data::{self, Split};
use crate::deploy::Deployed;
use crate::emit::{c_header, object_file, rust_stub, symbol};
use crate::eval::Net;
use crate::files;
use crate::methods::amc;
use crate::passes::Saving;
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::report::{self, LayerRow, Report, StageRow};
use crate::search::{Budget, Metric};
use crate::target::Target;
use crate::task::{Figure, Task, encode};
use crate::train::{self, EpochFigures};
use crate::units::{Bytes, Quantity};

/// Options of `pare compile`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The trained network: .tflite, .onnx, or a directory in Pare's own format [default: the built-in one].
    model: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    prune: PruneArgs,
    #[command(flatten)]
    finetune: FinetuneArgs,
    /// Where the results go [default: pare-out/NAME].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Score at most so many test samples.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

/// Where the policy comes from.
#[derive(Clone, Debug, clap::Args)]
struct HowArgs {
    /// One choice for all layers: a weight format and activation bits, as w4a8, k4a8, ta8.
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["policy", "method"])]
    bits: Option<Bits>,
    /// A policy file, as `compile` writes it.
    #[arg(long, value_name = "FILE", conflicts_with = "method")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
    /// With --bits: treat the first and the last layer like all others.
    #[arg(long, requires = "bits")]
    all_layers: bool,
}

/// A weight format and activation bits in one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits(pub(super) WeightFormat, pub(super) u8);

impl std::str::FromStr for Bits {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Bits> {
        let (weights, bits) = text.rsplit_once('a').context("write it as w4a8: weight format, then activation bits")?;
        let bits: u8 = bits.parse().ok().filter(|b| (1..=8).contains(b)).context("activations take 1 to 8 bits")?;
        Ok(Bits(weights.parse()?, bits))
    }
}

/// The finished blob costs more than the budget, although the search's estimates were within it.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {bound} is not met: the finished network takes {reached}{what}; give it more, or search again")]
pub(super) struct OverBudget {
    flag: &'static str,
    bound: Quantity,
    reached: Quantity,
    /// What that is made of, where that is known.
    what: String,
}

/// The policy that was given loses too much.
#[derive(Debug, thiserror::Error)]
#[error(
    "the policy reaches {reached:.4} on the validation samples, and {wanted:.4} is asked for: give it more bits, or search"
)]
pub(super) struct TooInaccurate {
    wanted: f64,
    reached: f64,
}

impl Args {
    /// What `pare` does without arguments.
    pub(super) fn bundled() -> Args {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: Args,
        }
        <Alone as clap::Parser>::parse_from(["pare"]).args
    }
}

/// Everything that goes into files and figures.
pub(super) struct Finished<'a> {
    pub(super) task: &'a Task,
    pub(super) savings: Vec<Saving>,
    pub(super) stages: Vec<StageRow>,
    pub(super) settings: &'a Settings,
    pub(super) policy: Policy,
    pub(super) found: Option<Found>,
    pub(super) deployed: Deployed,
    pub(super) table: LatencyTable,
    pub(super) float: Figure,
    pub(super) integer: Figure,
    pub(super) finetuned: Option<Finetuned>,
    pub(super) timing: Timing,
    pub(super) linked: Result<Linked, LinkError>,
    pub(super) budget: Budget,
}

/// What training made of the codes.
pub(super) struct Finetuned {
    /// On the validation samples, of the codes that are kept.
    pub(super) val: f64,
    /// Epochs.
    pub(super) epochs: Vec<EpochFigures>,
    /// Share of the validation samples of which the blob gives the class that training saw; none where there are no classes.
    pub(super) agreement: Option<f64>,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let start = Instant::now();
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let usual = args.target.settings(global)?;
    let stages = args.passes.stages(usual.stages);
    let settings = Settings {
        sums: args.passes.sums(),
        stages,
        edges: args.how.search.edges(),
        tuning: args.how.search.tune,
        ..usual
    };
    let block = settings.target.channel_block;
    let (mut task, savings) = args::task(args.model.as_deref(), &args.data, &args.passes, block)?;
    let directory = args.out.clone().unwrap_or_else(|| Path::new("pare-out").join(symbol(&task.graph.name)));
    let whole = task.graph.clone();
    let mut stages = prune(&args, &mut task, &settings, &directory, global, &progress)?;
    let calibration = OnceCell::new();
    let workshop = Workshop::new(&task, &settings, &calibration);
    let budget = args.budget.budget(&task, &settings.target)?;
    let test = task.data.indices(Split::Test, args.limit.map(NonZeroUsize::get))?;

    let given = given_policy(&args.how, &task, &settings.target)?;
    let wanted = given.as_ref().map_or_else(|| workshop.uniform_policies(), |policy| vec![policy.clone()]);
    let table = workshop.table(&wanted, &mut |event| progress.event(event))?;
    let candidate = match given {
        Some(policy) => {
            // Codes that are trained are judged then.
            if !args.finetune.is_wanted() {
                check_accuracy(&budget, || {
                    let (score, float) = workshop.validate(&policy)?;
                    Ok([score.metric, float.metric])
                })?;
            }
            candidate(&workshop, policy, None, &table, &progress)?
        }
        None => search(&args.how, &workshop, &budget, &table, &progress)?,
    };
    check_costs(&workshop, &candidate, &table, &budget)?;
    settings.target.check_memory(candidate.flash(), candidate.ram())?;
    let trained = args.finetune.train_codes(&workshop, &candidate.policy, &whole, &directory, &progress)?;
    if let Some(trained) = &trained {
        check_accuracy(&budget, || Ok([trained.val, train::fit::score(&Net::float(&task.graph)?, &task.data)?]))?;
    }
    let Candidate { policy, found, mut deployed, timing, linked } = candidate;

    progress.stage("scoring on the test samples");
    let float = task.data.score_net(&Net::float(&whole)?, test)?;
    if !stages.is_empty() {
        stages.push(stages::of_blob("quantised", &deployed, &task.data)?);
    }
    let mut finetuned = None;
    if let Some(trained) = trained {
        let simulated = Net::fake_quantized(&trained.quantized)?;
        // Formats, and so sizes and timing, are those of before.
        deployed = workshop.deploy_quantized(trained.quantized, &table, &workshop.metadata())?;
        let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
        let classifies = task.data.metric == data::Metric::Top1;
        let agreement = || task.data.agreement(&simulated, &blob, task.data.indices(Split::Val, None)?);
        let agreement = classifies.then(agreement).transpose()?;
        finetuned = Some(Finetuned { val: trained.val, epochs: trained.epochs, agreement });
        stages.push(stages::of_blob("codes trained", &deployed, &task.data)?);
    }
    let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
    let integer = task.data.score_blob(&blob, Host::default(), Isa::best(), test)?;
    let model = Model::parse(&blob)?;
    progress.finish();

    let finished = Finished {
        task: &task,
        savings,
        stages,
        settings: &settings,
        policy,
        found,
        deployed,
        table,
        float,
        integer,
        finetuned,
        timing,
        linked,
        budget,
    };
    let wall = start.elapsed().as_secs_f64();
    let report = finished.report(global, wall);
    let files = finished.write(&directory, &model, &report)?;
    Ok(finished.output(&report, &files))
}

/// Takes channels out of the network and trains the rest, as far as that is wanted; rows of the network before and after,
/// none where it is quantised alone.
fn prune(
    args: &Args,
    task: &mut Task,
    settings: &Settings,
    directory: &Path,
    global: &Global,
    progress: &Progress,
) -> Result<Vec<StageRow>> {
    let methods = match args.how.search.method {
        Some(Method::Amc) if !args.prune.is_wanted() => {
            bail!("--search amc takes channels out: say how far by --prune")
        }
        Some(Method::Amc) => vec![amc::Method::Amc],
        _ => amc::Method::ALL.to_vec(),
    };
    if !args.prune.is_wanted() && !args.finetune.is_wanted() {
        return Ok(Vec::new());
    }
    let mut rows = vec![stages::of_graph("as given", &task.graph, &task.data)?];
    let Some(pruned) = args.prune.prune(task, settings, &methods, progress)? else { return Ok(rows) };
    rows.push(stages::of_graph(&pruned.name, &pruned.graph, &task.data)?);
    let whole = std::mem::replace(&mut task.graph, pruned.graph);
    let beside = directory.join("pruned");
    let trained = args.finetune.train_weights(&task.graph, &whole, &task.data, &beside, global.seed, progress)?;
    if let Some(trained) = trained {
        rows.push(stages::of_graph("weights trained", &trained, &task.data)?);
        task.graph = trained;
    }
    Ok(rows)
}

/// The policy that the command line names, if it does: one that the target has kernels for.
fn given_policy(how: &HowArgs, task: &Task, target: &Target) -> Result<Option<Policy>> {
    let (policy, source) = if let Some(Bits(format, activation_bits)) = how.bits {
        let edges = if how.all_layers { EdgeLayers::Uniform } else { EdgeLayers::EightBit };
        (Policy::uniform(&task.graph, format, activation_bits, edges), format!("--bits {format}a{activation_bits}"))
    } else if let Some(path) = &how.policy {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read policy {}", path.display()))?;
        let policy = serde_json::from_str(&text).with_context(|| format!("{} is no policy", path.display()))?;
        (policy, format!("--policy {}", path.display()))
    } else {
        return Ok(None);
    };
    target.check(&policy).context(source)?;
    Ok(Some(policy))
}

/// A policy, the network that it makes, and what that takes on the target.
struct Candidate {
    policy: Policy,
    found: Option<Found>,
    deployed: Deployed,
    timing: Timing,
    linked: Result<Linked, LinkError>,
}

impl Candidate {
    /// Flash that it takes: linked, else the blob's.
    fn flash(&self) -> Bytes {
        let blob = Bytes(self.deployed.blob.bytes.len() as u64);
        self.linked.as_ref().map_or(blob, |linked| linked.flash_bytes)
    }

    /// RAM that it takes: linked, else the arena's.
    fn ram(&self) -> Bytes {
        let arena = Bytes(self.deployed.plan.arena_bytes as u64);
        self.linked.as_ref().map_or(arena, |linked| linked.ram_bytes)
    }

    /// What the linked program's memory is made of, for a sentence.
    fn of_what(&self, metric: Metric) -> String {
        let Ok(Linked { code_bytes, weights_bytes, ram_bytes, stack_bytes, .. }) = &self.linked else {
            return String::new();
        };
        let other = Bytes(ram_bytes.0.saturating_sub(stack_bytes.0));
        match metric {
            Metric::Flash => format!(" linked: {weights_bytes} itself, {code_bytes} of code"),
            Metric::Ram => format!(" linked: {other} of arena and variables, {stack_bytes} of stack"),
            _ => String::new(),
        }
    }
}

fn candidate(
    workshop: &Workshop<'_>,
    policy: Policy,
    found: Option<Found>,
    table: &LatencyTable,
    progress: &Progress,
) -> Result<Candidate> {
    progress.stage("quantising and packing");
    let deployed = workshop.deploy(&policy, table, &workshop.metadata())?;
    progress.stage("measuring latency");
    let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
    let codes = encode(&Model::parse(&blob)?, &workshop.task.data.spread(Split::Train, 1)?);
    let Settings { target, isa, .. } = workshop.settings;
    let timing = target.board().time(&blob, *isa, &codes, 101)?;
    progress.stage("linking");
    let linked = match link(target, &blob, timing.stack.unwrap_or(Bytes(0))) {
        Err(error) if !error.is_absence() => return Err(error.into()),
        linked => linked,
    };
    Ok(Candidate { policy, found, deployed, timing, linked })
}

/// Searches within the budget. Where the target counts exactly, what the network takes there must be within it, too:
/// as long as it is not, the search is asked for as much less as its prediction was short of the count. So must the linked
/// program, where there is one, which takes more of flash and RAM than the network.
fn search(
    how: &HowArgs,
    workshop: &Workshop<'_>,
    budget: &Budget,
    table: &LatencyTable,
    progress: &Progress,
) -> Result<Candidate> {
    const ROUNDS: usize = 4;
    let mut asked = *budget;
    let mut round = 1;
    loop {
        let (mut strategy, mut others) = how.search.strategies();
        let found = workshop.search((strategy.as_mut(), &mut others), asked, table, &mut |event| progress.event(event));
        let found = found.with_context(|| match round {
            1 => "the search".to_owned(),
            _ => format!("round {round} of the search, with less as the target took more than predicted"),
        })?;
        let policy = found.front.chosen.policy.clone();
        let predicted = Latency::new(workshop.layers()?, table).of(&policy)?.value();
        let candidate = candidate(workshop, policy, Some(found), table, progress)?;
        let counted = candidate.timing.total(0.5);
        let mut less = false;
        if let (Some(bound), Some(asked)) = (budget.latency, &mut asked.latency)
            && workshop.settings.target.counts()
            && counted.value > bound.value
        {
            asked.value = asked.value.min(bound.value * predicted / counted.value);
            less = true;
        }
        if let Ok(Linked { flash_bytes, ram_bytes, .. }) = &candidate.linked {
            for (bound, asked, reached) in
                [(budget.flash, &mut asked.flash, flash_bytes), (budget.ram, &mut asked.ram, ram_bytes)]
            {
                let (Some(bound), Some(asked)) = (bound, asked) else { continue };
                asked.0 = asked.0.saturating_sub(reached.0.saturating_sub(bound.0));
                less |= reached.0 > bound.0;
            }
        }
        if !less || round == ROUNDS {
            return Ok(candidate);
        }
        round += 1;
    }
}

/// Every cost bound against the finished network: sizes as they are, linked where that is possible, what the target counts
/// as counted, the rest as the search prices it.
fn check_costs(workshop: &Workshop<'_>, candidate: &Candidate, table: &LatencyTable, budget: &Budget) -> Result<()> {
    let layers = workshop.layers()?;
    let Candidate { policy, timing, .. } = candidate;
    let target = &workshop.settings.target;
    for (metric, bound) in budget.bounds() {
        let reached = match metric {
            Metric::Flash => Quantity::Bytes(candidate.flash()),
            Metric::Ram => Quantity::Bytes(candidate.ram()),
            Metric::Latency if target.counts() => Quantity::Ticks(timing.total(0.5)),
            Metric::Latency => Latency::new(layers.clone(), table).of(policy)?,
            Metric::Energy => Energy::new(layers.clone(), &target.name, target.energy.clone())?.of(policy)?,
            Metric::Macs => Macs(layers.clone()).of(policy)?,
            Metric::Bitops => Bitops(layers.clone()).of(policy)?,
        };
        let order = reached.compare(bound).with_context(|| format!("{} is in another unit", metric.flag()))?;
        if order.is_gt() {
            let what = candidate.of_what(metric);
            return Err(OverBudget { flag: metric.flag(), bound, reached, what }.into());
        }
    }
    Ok(())
}

/// The accuracy bounds of what no search has judged; `scores` tells that of the network and that of the float one.
fn check_accuracy(budget: &Budget, scores: impl FnOnce() -> Result<[f64; 2]>) -> Result<()> {
    if budget.min_accuracy.is_none() && budget.max_drop.is_none() {
        return Ok(());
    }
    let [reached, float] = scores()?;
    match budget.floor(float) {
        Some(wanted) if reached < wanted => Err(TooInaccurate { wanted, reached }.into()),
        _ => Ok(()),
    }
}

impl Finished<'_> {
    /// Writes all files or none.
    fn write(&self, directory: &Path, model: &Model<'_>, report: &Report) -> Result<BTreeMap<&'static str, PathBuf>> {
        let name = symbol(&self.task.graph.name);
        let blob = &self.deployed.blob.bytes;
        let arch = self.settings.target.board().object_arch();
        let object = object_file(&name, blob, model.arena_bytes(), arch).context("cannot write the object file")?;
        let policy = serde_json::to_string_pretty(&self.policy)? + "\n";
        let named = |extension: &str| format!("{name}.{extension}");
        let mut made = vec![
            ("blob", named("pare"), blob.clone()),
            ("object", named("o"), object),
            ("header", named("h"), c_header(&name, model).into_bytes()),
            ("rust", named("rs"), rust_stub(&name, model).into_bytes()),
            ("policy", "policy.json".to_owned(), policy.into_bytes()),
        ];
        made.extend(report::files(report)?.into_iter().map(|file| (file.kind, file.name.to_owned(), file.bytes)));
        let paths = made.iter().map(|(kind, name, _)| (*kind, directory.join(name))).collect();
        let files: Vec<_> = made.into_iter().map(|(_, name, bytes)| (directory.join(name), bytes.into())).collect();
        files::replace_all(&files).context("no result takes its place before all are written")?;
        Ok(paths)
    }

    fn output(&self, report: &Report, files: &BTreeMap<&'static str, PathBuf>) -> Output {
        let h = &report.headline;
        let paths: BTreeMap<&str, String> =
            files.iter().map(|(kind, path)| (*kind, path.display().to_string())).collect();
        let latency = self.timing.total(0.5);
        let estimate = self.settings.target.estimate(latency);
        let json = json!({
            "model": report.model,
            "target": report.target,
            "metric": h.metric,
            "accuracy_float": h.accuracy_float,
            "accuracy": h.accuracy,
            "n": h.n,
            "blob_bytes": h.blob_bytes,
            "weight_bytes": h.weight_bytes,
            "arena_bytes": h.arena_bytes,
            "linked": h.linked,
            "latency": { "value": latency.value, "unit": latency.unit },
            "latency_estimate": estimate.as_ref().map(|(time, how)| {
                json!({ "value": time.value, "unit": time.unit, "how": how })
            }),
            "latency_predicted": h.predicted.map(|t| json!({ "value": t.value, "unit": t.unit })),
            "macs": h.macs,
            "bitops": h.bitops,
            "passes": report.passes,
            "digest": report.provenance.digest,
            "wall_s": h.wall_s,
            "policy": self.policy,
            "finetune": self.finetuned.as_ref().map(|Finetuned { val, epochs, agreement }| {
                json!({ "val": val, "epochs": epochs, "agreement": agreement })
            }),
            "stages": report.stages,
            "search": report.provenance.search,
            "files": paths,
        });
        let mut facts = vec![
            (h.metric.clone(), format!("{:.4} on {}", h.accuracy, report.provenance.evaluated_on)),
            ("float".to_owned(), format!("{:.4} on the same", h.accuracy_float)),
            ("blob".to_owned(), h.blob_bytes.to_string()),
            ("weights".to_owned(), format!("{} (float {})", h.weight_bytes, h.float_bytes)),
            ("arena".to_owned(), h.arena_bytes.to_string()),
            (
                "latency".to_owned(),
                match self.settings.target.is_modelled() {
                    true => format!("{latency} by the model of the target"),
                    false => format!("{latency} measured, {} kernels", self.settings.isa),
                },
            ),
        ];
        facts.extend(report.stages.iter().map(stage));
        facts.extend(self.finetuned.as_ref().map(|tuned| ("fine-tuned".to_owned(), tuned.sentence())));
        facts.extend(self.linkage().map(|linkage| ("linked".to_owned(), linkage)));
        facts.extend(estimate.map(|(time, how)| ("time".to_owned(), format!("{time}, {how}"))));
        facts.extend(h.predicted.map(|predicted| ("predicted".to_owned(), predicted.to_string())));
        facts.extend(report.passes.iter().filter(|saving| saving.channels > 0).map(removed));
        facts.push(("policy".to_owned(), policy_line(&report.layers)));
        facts.extend(
            report.budget.iter().map(|line| (line.name.clone(), format!("{}; bound {}", line.reached, line.bound))),
        );
        facts.push(("search".to_owned(), report.provenance.search.clone()));
        facts.push(("digest".to_owned(), report.provenance.digest.chars().take(16).collect()));
        let files: Vec<_> = paths.iter().map(|(kind, path)| ((*kind).to_owned(), path.clone())).collect();
        let text = format!("{} for {}\n{}\n{}", report.model, report.target, aligned(&facts), aligned(&files));
        Output::new(json, text)
    }
}

impl Finished<'_> {
    /// What the linked program takes, or why nobody knows; `None` for this very machine.
    fn linkage(&self) -> Option<String> {
        match &self.linked {
            Ok(Linked { flash_bytes, code_bytes, ram_bytes, stack_bytes, .. }) => Some(format!(
                "{flash_bytes} of flash, {code_bytes} of it code; {ram_bytes} of RAM, {stack_bytes} of it stack"
            )),
            Err(LinkError::NotFirmware) => None,
            Err(error) => Some(format!("not: memory was checked on paper only, as {error}")),
        }
    }
}

impl Finetuned {
    pub(super) fn sentence(&self) -> String {
        let agreement = self.agreement.map(|share| format!(", blob and training agree on {:.2} %", 100.0 * share));
        let (epochs, val) = (self.epochs.len(), self.val);
        format!("{epochs} epochs of training, validation {val:.4}{}", agreement.unwrap_or_default())
    }
}

pub(super) fn search_sentence(found: &Found) -> String {
    let s = &found.front.statistics;
    let proof = match (s.proved, s.objective, s.bound) {
        (true, ..) => "; the solution is proved optimal for the measured sensitivities".to_owned(),
        (false, Some(objective), Some(bound)) if objective > 0.0 => {
            format!("; at most {:.1} % above the bound", 100.0 * (objective - bound).max(0.0) / objective)
        }
        _ => String::new(),
    };
    format!("{} policies scored{proof}", s.evaluations)
}

/// The network after a step.
fn stage(row: &StageRow) -> (String, String) {
    let StageRow { name, accuracy, macs, bytes } = row;
    let reached = accuracy.map_or_else(String::new, |accuracy| format!("validation {accuracy:.4}, "));
    (name.clone(), format!("{reached}{macs} MACs, {bytes}"))
}

/// What a pass removed of the network's size.
fn removed(saving: &Saving) -> (String, String) {
    let Saving { pass, channels, weights, macs, .. } = saving;
    ("removed".to_owned(), format!("{channels} channels, {weights} weights, {macs} MACs by {pass}"))
}

/// One fact a line, all values below one another.
fn aligned(facts: &[(String, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect()
}

/// Weight formats in layer order, as `w8 w4 w4 w3`.
fn policy_line(layers: &[LayerRow]) -> String {
    layers.iter().filter_map(|layer| layer.weights.as_deref()).collect::<Vec<_>>().join(" ")
}
