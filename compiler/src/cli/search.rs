//! `pare search`: the policy and the front, nothing written.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::args::{self, BudgetArgs, DataArgs, Method, PassArgs, SearchArgs, TargetArgs};
use super::compile::search_sentence;
use super::progress::Progress;
use super::{Global, Output};
use crate::compile::{Found, Settings, Workshop};
use crate::cost::CostError;
use crate::cost::layers::Layers;
use crate::data::Split;
use crate::search::budget::Metric;
use crate::search::space::label;
use crate::search::{Point, pattern};

/// Options of `pare search`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The trained network [default: the built-in one].
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
    search: SearchArgs,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    if args.search.method == Some(Method::Amc) {
        bail!("--search amc takes channels out: use `pare prune`, or `pare compile --prune`");
    }
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let usual = args.target.settings(global)?;
    let settings = Settings {
        sums: args.passes.sums(),
        stages: args.passes.stages(usual.stages),
        edges: args.search.edges(),
        tuning: args.search.tune,
        ..usual
    };
    let block = settings.target.channel_block;
    let (task, _) = args::task(args.model.as_deref(), &args.data, &args.passes, block)?;
    let calibration = OnceCell::new();
    let start = Instant::now();
    let workshop = Workshop::new(&task, &settings, &calibration);
    let (mut strategy, mut others) = args.search.strategies();
    let table = workshop.table(&workshop.uniform_policies(), &mut |event| progress.event(event))?;
    let budget = args.budget.budget(&task, &settings.target)?;
    let found =
        workshop.search((strategy.as_mut(), &mut others), budget, &table, &mut |event| progress.event(event))?;
    progress.finish();

    let wall_s = start.elapsed().as_secs_f64();
    let layers = Layers::of(&task.graph);
    let point = |found: &Point| point(found, &layers);
    let json = json!({
        "metric": task.data.metric,
        "judged_by": task.data.judged_by(Split::Val),
        "front": found.front.points.iter().map(point).collect::<Result<Vec<_>, _>>()?,
        "uniform": found.uniform.iter().map(point).collect::<Result<Vec<_>, _>>()?,
        "beside": found.beside.iter().map(|(_, front)| point(&front.chosen)).collect::<Result<Vec<_>, _>>()?,
        "tried": found.front.statistics.tried,
        "policy": found.front.chosen.policy,
        "chosen": point(&found.front.chosen)?,
        "evaluations": found.front.statistics.evaluations,
        "proved": found.front.statistics.proved,
        "wall_s": wall_s,
    });
    let mut text = listing(&found, &layers, &task.data.judged_by(Split::Val))?;
    text += &format!("\nfloat {:.4} on the same validation samples", found.float.metric);
    text += &found.floor.map_or_else(String::new, |floor| format!(", {floor:.4} wanted"));
    text += &format!("\n{}\n{wall_s:.1} s in all\n", search_sentence(&found));
    text += &format!("{}\n", serde_json::to_string_pretty(&found.front.chosen.policy)?);
    Ok(Output::new(json, text))
}

/// Every policy once, from the smallest blob to the largest; then what the chosen ones decided.
fn listing(found: &Found, layers: &Layers, metric: &str) -> Result<String, CostError> {
    let size = |point: &Point| point.costs.get(&Metric::Flash).map_or(0.0, |bytes| bytes.value());
    let chosen = &found.front.chosen;
    let beside = || found.beside.iter().map(|(_, front)| &front.chosen);
    let mut points: Vec<&Point> = found.uniform.iter().collect();
    for point in found.front.points.iter().chain(beside()).chain([chosen]) {
        if points.iter().all(|known| known.policy != point.policy) {
            points.push(point);
        }
    }
    points.sort_by(|a, b| size(a).total_cmp(&size(b)).then(a.score.metric.total_cmp(&b.score.metric)));
    let mut text = format!("{:<12} {:>9} {:>20} {:>8}\n", "policy", "blob KiB", "latency", metric);
    for point in points {
        let kib = format!("{:.1}", size(point) / 1024.0);
        let latency = point.costs.get(&Metric::Latency).map_or_else(|| "-".to_owned(), ToString::to_string);
        let mark = if point.policy == chosen.policy { "  <- chosen" } else { "" };
        text += &format!("{:<12} {kib:>9} {latency:>20} {:>8.4}{mark}\n", point.name, point.score.metric);
    }
    text += "\nlayer by layer, first to last\n";
    for point in beside().chain([chosen]) {
        let decided = found.space.sites().iter().filter_map(|site| point.policy.layers.get(&site.name));
        text += &format!("{:<12} {}\n", point.name, decided.map(label).collect::<Vec<_>>().join(" "));
    }
    text += "\nmean bits of weights and of the activations they meet, by kind of layer\n";
    for point in beside().chain([chosen]) {
        let kinds = pattern::widths(layers, &point.policy)?.into_iter();
        let kinds = kinds.map(|(kind, mean)| format!("{kind} {:.1} x {:.1}", mean.weights, mean.activations));
        text += &format!("{:<12} {}\n", point.name, kinds.collect::<Vec<_>>().join(", "));
    }
    Ok(text)
}

fn point(point: &Point, layers: &Layers) -> Result<Value, CostError> {
    let cost = |metric| point.costs.get(&metric).map(|quantity| quantity.value());
    Ok(json!({
        "name": point.name,
        "accuracy": point.score.metric,
        "loss": point.score.loss,
        "blob_bytes": cost(Metric::Flash),
        "latency": cost(Metric::Latency),
        "widths": pattern::widths(layers, &point.policy)?,
        "policy": point.policy,
    }))
}
