//! `pare compile`: search or take a policy, apply it, write blob, object, sources, policy and report.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pare_runtime::Model;
use serde_json::json;

use super::args::{self, BudgetArgs, DataArgs, TargetArgs};
use super::progress::Progress;
use super::{Global, Output};
use crate::board::{AlignedBytes, host};
use crate::compile::{Found, Settings, Workshop, strategy};
use crate::cost::Cost;
use crate::cost::bitops::Bitops;
use crate::cost::latency::Latency;
use crate::cost::layers::Layers;
use crate::cost::table::LatencyTable;
use crate::data::Split;
use crate::deploy::Deployed;
use crate::emit::{c_header, object_file, rust_stub, symbol};
use crate::eval::Net;
use crate::policy::{EdgeLayers, Policy, WeightChoice, WeightFormat};
use crate::report::{
    self, BudgetLine, FrontPoint, Headline, LayerRow, MemoryMap, PointKind, Report, SensitivityMap, SensitivityRow,
    TensorLife,
};
use crate::search::budget::Metric as Bounded;
use crate::search::{Budget, Point};
use crate::task::{Figure, Task, encode};
use crate::units::{Bytes, Count, Quantity, TickUnit, Ticks};
use crate::{files, measure};

/// Options of `pare compile`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The trained network: .tflite, .onnx, or a directory in Pare's own format [default: the built-in one].
    model: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    how: HowArgs,
    /// Where the results go [default: pare-out/NAME].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Score at most so many test samples.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Where the policy comes from.
#[derive(Clone, Debug, clap::Args)]
#[group(multiple = false)]
struct HowArgs {
    /// One choice for all layers: a weight format and activation bits, as w4a8, k4a8, ta8.
    #[arg(long, value_name = "FORMAT")]
    bits: Option<Bits>,
    /// A policy file, as `compile` writes it.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How to search: exact, random or uniform [default: exact].
    #[arg(long, value_name = "METHOD")]
    search: Option<String>,
    /// With --bits: treat the first and the last layer like all others.
    #[arg(long, requires = "bits", conflicts_with_all = ["policy", "search"])]
    all_layers: bool,
}

/// A weight format and activation bits in one word.
#[derive(Clone, Copy, Debug)]
struct Bits(WeightFormat, u8);

impl std::str::FromStr for Bits {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Bits> {
        let (weights, bits) = text.rsplit_once('a').context("write it as w4a8: weight format, then activation bits")?;
        let bits: u8 = bits.parse().ok().filter(|b| (2..=8).contains(b)).context("activations take 2 to 8 bits")?;
        Ok(Bits(weights.parse()?, bits))
    }
}

/// The finished blob costs more than the budget, although the search's estimates were within it.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {bound} is not met: the finished network takes {reached}; give it more, or search again")]
pub(super) struct OverBudget {
    flag: &'static str,
    bound: Quantity,
    reached: Quantity,
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
struct Finished<'a> {
    task: &'a Task,
    settings: &'a Settings,
    policy: Policy,
    found: Option<Found>,
    deployed: Deployed,
    table: LatencyTable,
    float: Figure,
    integer: Figure,
    timing: host::Timing,
    budget: Budget,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let start = Instant::now();
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let task = args::task(args.model.as_deref(), &args.data)?;
    let settings = args.target.settings(global)?;
    let calibration = OnceCell::new();
    let workshop = Workshop::new(&task, &settings, &calibration);
    let budget = args.budget.budget();
    let test = task.data.indices(Split::Test, args.limit)?;

    let table = workshop.table(&mut |event| progress.event(event))?;
    let (policy, found) = choose(&args.how, &workshop, &budget, &table, &progress)?;
    progress.stage("quantising and packing");
    let deployed = workshop.deploy(&policy, &workshop.metadata())?;
    check_sizes(&deployed, &budget)?;

    progress.stage("scoring on the test samples");
    let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
    let float = task.data.score_net(&Net::float(&task.graph)?, test)?;
    let integer = task.data.score_blob(&blob, settings.isa, test)?;
    progress.stage("measuring latency");
    let model = Model::parse(&blob)?;
    let codes = encode(&model, &task.data.spread(Split::Train, 1)?);
    let timing = host::time(&blob, settings.isa, &codes, 101)?;
    progress.finish();

    let finished =
        Finished { task: &task, settings: &settings, policy, found, deployed, table, float, integer, timing, budget };
    let directory = args.out.unwrap_or_else(|| Path::new("pare-out").join(&task.graph.name));
    let wall = start.elapsed().as_secs_f64();
    let report = finished.report(global, wall)?;
    let files = finished.write(&directory, &model, &report)?;
    Ok(finished.output(&report, &files))
}

/// The policy that was asked for, or the one that the search recommends.
fn choose(
    how: &HowArgs,
    workshop: &Workshop<'_>,
    budget: &Budget,
    table: &LatencyTable,
    progress: &Progress,
) -> Result<(Policy, Option<Found>)> {
    let graph = &workshop.task.graph;
    if let Some(Bits(format, activation_bits)) = how.bits {
        let edges = if how.all_layers { EdgeLayers::Uniform } else { EdgeLayers::EightBit };
        return Ok((Policy::uniform(graph, format, activation_bits, edges), None));
    }
    if let Some(path) = &how.policy {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read policy {}", path.display()))?;
        let policy = serde_json::from_str(&text).with_context(|| format!("{} is no policy", path.display()))?;
        return Ok((policy, None));
    }
    let method = how.search.as_deref().unwrap_or("exact");
    let Some(mut strategy) = strategy(method) else {
        bail!("there is no search method `{method}`: use exact, random or uniform");
    };
    let found = workshop.search(strategy.as_mut(), *budget, table, &mut |event| progress.event(event))?;
    Ok((found.front.chosen.policy.clone(), Some(found)))
}

fn check_sizes(deployed: &Deployed, budget: &Budget) -> Result<(), OverBudget> {
    let reached = [
        ("--max-flash", budget.flash, deployed.blob.bytes.len()),
        ("--max-ram", budget.ram, deployed.plan.arena_bytes),
    ];
    for (flag, bound, bytes) in reached {
        let bytes = Bytes(bytes as u64);
        if let Some(bound) = bound.filter(|bound| bytes > *bound) {
            return Err(OverBudget { flag, bound: Quantity::Bytes(bound), reached: Quantity::Bytes(bytes) });
        }
    }
    Ok(())
}

impl Finished<'_> {
    fn report(&self, global: &Global, wall_s: f64) -> Result<Report> {
        let graph = &self.task.graph;
        let layers = Layers::of(graph);
        let latency = Latency::new(layers.clone(), &self.table);
        let predicted = latency.of(&self.policy).ok();
        let float_bytes: usize = graph.values.iter().filter_map(|v| v.data.as_ref()).map(|data| 4 * data.len()).sum();
        let headline = Headline {
            metric: self.task.data.metric.to_string(),
            accuracy_float: self.float.value,
            accuracy: self.integer.value,
            n: self.integer.n as u64,
            blob_bytes: Bytes(self.deployed.blob.bytes.len() as u64),
            weight_bytes: Bytes(self.deployed.blob.weight_bytes as u64),
            float_bytes: Bytes(float_bytes as u64),
            arena_bytes: Bytes(self.deployed.plan.arena_bytes as u64),
            predicted: predicted.map(|quantity| nanoseconds(quantity.value())),
            measured: Some(nanoseconds(host::quantile(&self.timing.total, 0.5))),
            macs: Count(graph.nodes.iter().map(|node| graph.macs(node)).sum()),
            bitops: Count(Bitops(layers.clone()).of(&self.policy).map_or(0, |q| q.value() as u64)),
            wall_s,
        };
        let command: Vec<String> = std::env::args().skip(1).collect();
        let provenance = self.table.provenance();
        let versions = [
            ("pare", env!("CARGO_PKG_VERSION")),
            ("runtime", pare_runtime::VERSION),
            ("cpu", &provenance.cpu),
            ("kernels", &provenance.isa),
            ("latency table", &provenance.date),
        ];
        Ok(Report {
            model: graph.name.clone(),
            target: self.settings.target.name.clone(),
            budget: self.budget_lines(&headline),
            front: self.front_points(),
            layers: self.layer_rows(&latency),
            memory: Some(self.memory_map()),
            sensitivity: self.found.as_ref().map(|found| sensitivity_map(found, &self.policy)),
            provenance: report::Provenance {
                command: format!("pare {}", command.join(" ")),
                seed: global.seed,
                digest: self.deployed.blob.digest(),
                data: self.task.data.dataset.name.clone(),
                evaluated_on: format!("{} test samples", self.integer.n),
                versions: versions.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
                search: self.found.as_ref().map_or_else(|| "policy given, no search".to_owned(), search_sentence),
            },
            headline,
        })
    }

    fn budget_lines(&self, headline: &Headline) -> Vec<BudgetLine> {
        let reached = |bounded: Bounded| match bounded {
            Bounded::Latency => headline.measured.map(Quantity::Ticks),
            Bounded::Flash => Some(Quantity::Bytes(headline.blob_bytes)),
            Bounded::Ram => Some(Quantity::Bytes(headline.arena_bytes)),
            Bounded::Macs => Some(Quantity::Operations(headline.macs)),
            Bounded::Bitops => Some(Quantity::Operations(headline.bitops)),
            Bounded::Energy => None,
        };
        let line = |(bounded, bound): (Bounded, Quantity)| BudgetLine {
            name: bounded.flag().to_owned(),
            bound: bound.to_string(),
            reached: reached(bounded).map_or_else(|| "-".to_owned(), |q| q.to_string()),
        };
        self.budget.bounds().into_iter().map(line).collect()
    }

    fn front_points(&self) -> Vec<FrontPoint> {
        let Some(found) = &self.found else { return Vec::new() };
        let point = |kind: PointKind, point: &Point| FrontPoint {
            name: point.name.clone(),
            kind,
            accuracy: point.score.metric,
            blob_bytes: Bytes(point.costs.get(&Bounded::Flash).map_or(0, |q| q.value() as u64)),
            latency: point.costs.get(&Bounded::Latency).map(|q| nanoseconds(q.value())),
        };
        let front = found.front.points.iter().filter(|p| p.policy != found.front.chosen.policy);
        let front = front.map(|p| point(PointKind::Front, p));
        let uniform = found.uniform.iter().map(|p| point(PointKind::Uniform, p));
        front.chain(uniform).chain([point(PointKind::Chosen, &found.front.chosen)]).collect()
    }

    fn layer_rows(&self, latency: &Latency<'_>) -> Vec<LayerRow> {
        let graph = &self.task.graph;
        let layers = Layers::of(graph);
        let predicted: BTreeMap<String, Ticks> = latency
            .predict(&self.policy)
            .map(|rows| rows.into_iter().map(|(name, p)| (name, p.ticks)).collect())
            .unwrap_or_default();
        let blob = AlignedBytes::from(&self.deployed.blob.bytes[..]);
        let kernels: Vec<String> = Model::parse(&blob)
            .map(|model| model.layers().map(|l| measure::kernel_name(self.settings.isa, &l.op)).collect())
            .unwrap_or_default();
        let mut measured: BTreeMap<&str, (String, f64)> = BTreeMap::new();
        let steps = self.deployed.plan.layers.iter().zip(&self.timing.layers).zip(kernels);
        for ((step, samples), kernel) in steps {
            measured.insert(&step.name, (kernel, host::quantile(samples, 0.5)));
        }
        let row = |(node, layer): (&crate::ir::Node, &crate::cost::layers::Layer)| {
            let choice = self.policy.layers.get(&node.name).and_then(|entry| entry.weights.as_ref());
            let bits = layer.weight_bits(&self.policy).ok().filter(|_| layer.weights > 0);
            let shape: Vec<String> = graph.value(node.output).shape[1..].iter().map(ToString::to_string).collect();
            let code = self.deployed.quantized.activations[node.output.0 as usize];
            LayerRow {
                name: node.name.clone(),
                operator: layer.operator.to_owned(),
                shape: shape.join("×"),
                kernel: measured.get(node.name.as_str()).map(|(kernel, _)| kernel.clone()).unwrap_or_default(),
                weights: choice.map(choice_name),
                weight_bits: bits.map(|bits| bits as f64 / layer.weights as f64),
                activation_bits: code.map_or(8, |code| code.bits),
                weight_bytes: Bytes(bits.unwrap_or(0).div_ceil(8)),
                macs: Count(layer.macs),
                predicted: predicted.get(&node.name).copied(),
                measured: measured.get(node.name.as_str()).map(|(_, ns)| nanoseconds(*ns)),
            }
        };
        graph.nodes.iter().zip(layers.iter()).map(row).collect()
    }

    fn memory_map(&self) -> MemoryMap {
        let plan = &self.deployed.plan;
        let last_step = plan.layers.len().saturating_sub(1);
        let life = |block: &crate::lower::MemoryBlock| TensorLife {
            name: block.name.clone(),
            offset: block.offset as u64,
            bytes: block.bytes as u64,
            first: block.first.min(last_step),
            last: block.last.min(last_step),
        };
        MemoryMap {
            arena: Bytes(plan.arena_bytes as u64),
            steps: plan.layers.iter().map(|layer| layer.name.clone()).collect(),
            tensors: plan.memory.iter().map(life).collect(),
        }
    }

    /// Writes every file whole; nothing before the first one can be.
    fn write(&self, directory: &Path, model: &Model<'_>, report: &Report) -> Result<BTreeMap<&'static str, PathBuf>> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let name = symbol(&self.task.graph.name);
        let blob = &self.deployed.blob.bytes;
        let arch = self.settings.target.object_arch();
        let object = object_file(&name, blob, model.arena_bytes(), arch).context("cannot write the object file")?;
        let policy = serde_json::to_string_pretty(&self.policy)? + "\n";
        let path = |extension: &str| directory.join(format!("{name}.{extension}"));
        let written = [
            ("blob", path("pare"), blob.clone()),
            ("object", path("o"), object),
            ("header", path("h"), c_header(&name, model).into_bytes()),
            ("rust", path("rs"), rust_stub(&name, model).into_bytes()),
            ("policy", directory.join("policy.json"), policy.into_bytes()),
        ];
        let mut files = BTreeMap::new();
        for (kind, path, bytes) in written {
            files::replace(&path, &bytes)?;
            files.insert(kind, path);
        }
        let report = report::write(directory, report)?;
        files.insert("report", report.html);
        files.insert("report_json", report.json);
        Ok(files)
    }

    fn output(&self, report: &Report, files: &BTreeMap<&'static str, PathBuf>) -> Output {
        let h = &report.headline;
        let latency = h.measured.unwrap_or(nanoseconds(0.0));
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
            "latency": { "value": latency.value, "unit": latency.unit },
            "latency_predicted": h.predicted.map(|t| json!({ "value": t.value, "unit": t.unit })),
            "macs": h.macs,
            "bitops": h.bitops,
            "digest": report.provenance.digest,
            "wall_s": h.wall_s,
            "policy": self.policy,
            "search": report.provenance.search,
            "files": files,
        });
        let mut text = format!(
            "{} for {}\n\n  {:<10} {:.4} (float {:.4}, {} test samples)\n  {:<10} {} (weights {}, float weights {})\n  \
             {:<10} {}\n  {:<10} {} measured{}, {}\n  {:<10} {}\n  {:<10} {}\n",
            report.model,
            report.target,
            h.metric,
            h.accuracy,
            h.accuracy_float,
            h.n,
            "blob",
            h.blob_bytes,
            h.weight_bytes,
            h.float_bytes,
            "arena",
            h.arena_bytes,
            "latency",
            latency,
            h.predicted.map(|t| format!(" ({t} predicted)")).unwrap_or_default(),
            self.settings.isa,
            "policy",
            policy_line(&report.layers),
            "digest",
            &report.provenance.digest[..16],
        );
        for line in &report.budget {
            text += &format!("  {:<16} {} of {}\n", line.name, line.reached, line.bound);
        }
        text += &format!("\n{}\n", report.provenance.search);
        for (kind, path) in files {
            text += &format!("  {kind:<12} {}\n", path.display());
        }
        Output::new(json, text)
    }
}

fn sensitivity_map(found: &Found, policy: &Policy) -> SensitivityMap {
    let label = |choice: &crate::policy::LayerPolicy| {
        let weights = choice.weights.as_ref().map(choice_name).unwrap_or_default();
        format!("{weights}a{}", choice.activation_bits)
    };
    let sites = found.space.sites();
    let mut choices: Vec<String> = Vec::new();
    for choice in sites.iter().flat_map(|site| &site.choices) {
        if !choices.contains(&label(choice)) {
            choices.push(label(choice));
        }
    }
    let rows = sites.iter().zip(&found.sensitivity.increases).map(|(site, increases)| {
        let offered: BTreeMap<String, f64> = site.choices.iter().map(label).zip(increases.iter().copied()).collect();
        let chosen = policy.layers.get(&site.name).map(label);
        SensitivityRow {
            layer: site.name.clone(),
            increases: choices.iter().map(|choice| offered.get(choice).copied()).collect(),
            chosen: choices.iter().position(|choice| Some(choice) == chosen.as_ref()),
        }
    });
    SensitivityMap { rows: rows.collect(), choices: choices.clone() }
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
    format!("{} policies scored, {:.1} s in the solvers{proof}", s.evaluations, s.solve_time.as_secs_f64())
}

/// Weight formats in layer order, as `w8 w4 w4 w3`.
fn policy_line(layers: &[LayerRow]) -> String {
    layers.iter().filter_map(|layer| layer.weights.as_deref()).collect::<Vec<_>>().join(" ")
}

fn choice_name(choice: &WeightChoice) -> String {
    match choice {
        WeightChoice::Layer(format) => format.to_string(),
        WeightChoice::Channels(_) => "mixed".to_owned(),
    }
}

fn nanoseconds(value: f64) -> Ticks {
    Ticks { value, unit: TickUnit::Nanoseconds }
}
