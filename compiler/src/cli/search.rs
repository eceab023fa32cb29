//! `pare search`: the policy and the front, nothing written.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::args::{self, BudgetArgs, DataArgs, TargetArgs};
use super::compile::search_sentence;
use super::progress::Progress;
use super::{Global, Output};
use crate::compile::{Workshop, strategy};
use crate::search::Point;
use crate::search::budget::Metric;

/// Options of `pare search`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The trained network [default: the built-in one].
    model: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    /// How to search: exact, random or uniform.
    #[arg(long, value_name = "METHOD", default_value = "exact")]
    search: String,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let task = args::task(args.model.as_deref(), &args.data)?;
    let settings = args.target.settings(global)?;
    let calibration = OnceCell::new();
    let start = Instant::now();
    let workshop = Workshop::new(&task, &settings, &calibration);
    let Some(mut strategy) = strategy(&args.search) else {
        bail!("there is no search method `{}`: use exact, random or uniform", args.search);
    };
    let table = workshop.table(&mut |event| progress.event(event))?;
    let budget = args.budget.budget(&task)?;
    let found = workshop.search(strategy.as_mut(), budget, &table, &mut |event| progress.event(event))?;
    progress.finish();

    let wall_s = start.elapsed().as_secs_f64();
    let points: Vec<&Point> = found.front.points.iter().chain(&found.uniform).collect();
    let json = json!({
        "metric": task.data.metric,
        "front": found.front.points.iter().map(point).collect::<Vec<_>>(),
        "uniform": found.uniform.iter().map(point).collect::<Vec<_>>(),
        "policy": found.front.chosen.policy,
        "chosen": point(&found.front.chosen),
        "evaluations": found.front.statistics.evaluations,
        "proved": found.front.statistics.proved,
        "wall_s": wall_s,
    });
    let mut text = format!("{:<12} {:>8} {:>12} {:>12}\n", "policy", "accuracy", "blob", "latency");
    for p in points {
        let cost = |metric| p.costs.get(&metric).map_or_else(|| "-".to_owned(), ToString::to_string);
        let mark = if p.policy == found.front.chosen.policy { "  <- chosen" } else { "" };
        text += &format!(
            "{:<12} {:>8.4} {:>12} {:>12}{mark}\n",
            p.name,
            p.score.metric,
            cost(Metric::Flash),
            cost(Metric::Latency)
        );
    }
    text += &format!("\n{} in {wall_s:.1} s\n", search_sentence(&found));
    text += &format!("{}\n", serde_json::to_string_pretty(&found.front.chosen.policy)?);
    Ok(Output::new(json, text))
}

fn point(point: &Point) -> Value {
    let cost = |metric| point.costs.get(&metric).map(|quantity| quantity.value());
    json!({
        "name": point.name,
        "accuracy": point.score.metric,
        "loss": point.score.loss,
        "blob_bytes": cost(Metric::Flash),
        "latency": cost(Metric::Latency),
        "policy": point.policy,
    })
}
