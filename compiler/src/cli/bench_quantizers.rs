//! `pare bench-quantizers`: quantisers beside one another, on backends, under one recipe.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::args::{self, DataArgs, PassArgs, PortArgs};
use super::compile::Bits;
use super::finetune::RecipeArgs;
use super::progress::Progress;
use super::{Global, Output};
use crate::compile::Settings;
use crate::data::{DataSpec, Split};
use crate::eval::Net;
use crate::files;
use crate::methods::quantizers::{Backend, Quantizer, Row, Subject};
use crate::report;
use crate::search::Event;
use crate::task::Task;

/// Options of `pare bench-quantizers`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Trained networks.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// The data of each network, in the same order; see --data of `pare compile`.
    #[arg(long, required = true)]
    data: Vec<DataSpec>,
    /// The factor from each one's data to its input, in the same order [default: 1].
    #[arg(long, value_name = "FACTOR")]
    input_scale: Vec<f32>,
    /// A name from `pare targets`, or the path of a description.
    #[arg(long, default_value = "host")]
    target: String,
    /// Weight format and activation bits; k-means takes codebooks of as many bits.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "w4a8")]
    bits: Vec<Bits>,
    /// Which quantisers [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = quantizer)]
    quantizers: Vec<Quantizer>,
    /// Which backends [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = backend)]
    backends: Vec<Backend>,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Where rows and tables go; a killed run goes on from there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn quantizer(name: &str) -> Result<Quantizer, String> {
    known(name, &Quantizer::ALL, Quantizer::name)
}

fn backend(name: &str) -> Result<Backend, String> {
    known(name, &Backend::ALL, Backend::name)
}

fn known<T: Copy>(name: &str, all: &[T], name_of: impl Fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|&one| name_of(one) == name);
    found.ok_or_else(|| format!("choose from {}", all.iter().map(|&one| name_of(one)).collect::<Vec<_>>().join(", ")))
}

/// A row, and what it was computed from.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: String,
    row: Row,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    if args.data.len() != args.models.len() {
        bail!("{} networks, but --data is given {} times: give it once for each", args.models.len(), args.data.len());
    }
    let progress = Progress::new(global);
    let target = PortArgs { port: None }.target(&args.target)?;
    let settings = Settings::new(target, global.seed, PathBuf::new());
    let mut rows = Vec::new();
    for (i, model) in args.models.iter().enumerate() {
        progress.stage("reading a network and its data");
        let data = DataArgs {
            data: Some(args.data[i].clone()),
            input_scale: args.input_scale.get(i).copied(),
            input_mean: Vec::new(),
            metric: None,
            fold: None,
        };
        let (task, _) = args::task(Some(model), &data, &PassArgs::default(), settings.target.channel_block)?;
        let calibration = OnceCell::new();
        let recipe = args.recipe.recipe(task.data.metric);
        let float = task.data.score_net(&Net::float(&task.graph)?, task.data.indices(Split::Val, None)?)?.value;
        let subject =
            Subject { task: &task, settings: &settings, calibration: &calibration, float, recipe: recipe.as_ref() };
        rows.extend(of_network(&args, &subject, global, &progress)?);
    }
    progress.finish();
    let json = json!({ "rows": rows });
    let [table, page] = ["quantizers.json", "quantizers.html"].map(|name| args.out.join(name));
    files::replace(&table, format!("{json:#}\n").as_bytes())?;
    files::replace(&page, report::quantizers::page(&rows).as_bytes())?;
    Ok(Output::new(json, listing(&rows) + &format!("\ntable  {}\npage   {}\n", table.display(), page.display())))
}

/// All rows of a network, those of an earlier run as they were.
fn of_network(args: &Args, subject: &Subject<'_>, global: &Global, progress: &Progress) -> Result<Vec<Row>> {
    let quantizers = if args.quantizers.is_empty() { &Quantizer::ALL[..] } else { &args.quantizers };
    let backends = if args.backends.is_empty() { &Backend::ALL[..] } else { &args.backends };
    let data = fingerprint(subject.task);
    let mut rows = Vec::new();
    progress.event(Event::Stage { name: "quantisers", steps: args.bits.len() * backends.len() * quantizers.len() });
    for &Bits(format, activation_bits) in &args.bits {
        let pairs = backends.iter().flat_map(|&backend| quantizers.iter().map(move |&quantizer| (quantizer, backend)));
        for (quantizer, backend) in pairs {
            let Some(format) = quantizer.format(format.bits()) else {
                tracing::warn!("{} has no {}-bit codes: left out", quantizer.name(), format.bits());
                continue;
            };
            let name = format!(
                "{}-{}-{}-{format}a{activation_bits}",
                subject.task.graph.name,
                quantizer.name(),
                backend.name()
            );
            let config = quantizer.config(backend);
            let identity = format!(
                "{data} {config:?} {format}a{activation_bits} {:?} {} {}",
                subject.recipe,
                global.seed,
                env!("PARE_SOURCES")
            );
            let directory = args.out.join("rows").join(&name);
            let path = directory.with_extension("json");
            let row = match kept(&path, &identity) {
                Some(row) => row,
                None => {
                    let row = subject
                        .row((quantizer, backend), (format, activation_bits), &directory, &mut |event| {
                            progress.training(event);
                        })
                        .with_context(|| format!("{name}: started again, the other rows are there still"))?;
                    let kept = serde_json::to_vec_pretty(&Kept { identity, row: row.clone() })?;
                    files::replace(&path, &kept)?;
                    // Its checkpoint has served; a leftover would only take room.
                    let _ = std::fs::remove_dir_all(&directory);
                    row
                }
            };
            progress.event(Event::Step { label: format!("{name}: {:.4}", row.deployed) });
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A row of an earlier run, if it would be the same now.
fn kept(path: &Path, identity: &str) -> Option<Row> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (kept.identity == identity).then_some(kept.row)
}

fn fingerprint(task: &Task) -> String {
    Sha256::digest(task.fingerprint()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn listing(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<18} {:<13} {:<11} {:<5} {:>7} {:>9} {:>9} {:>6} {:>7} {:>8}\n",
        "network", "backend", "quantiser", "bits", "float", "academic", "deployed", "gap", "test", "bytes"
    );
    for row in rows {
        let [float, academic, deployed, test] =
            [row.float, row.academic, row.deployed, row.test].map(|share| format!("{:.2}", 100.0 * share));
        let bits = format!("{}a{}", row.weights, row.activation_bits);
        text += &format!(
            "{:<18} {:<13} {:<11} {bits:<5} {float:>7} {academic:>9} {deployed:>9} {:>+6.2} {test:>7} {:>8}\n",
            row.model,
            row.backend,
            row.quantizer,
            row.gap(),
            row.bytes
        );
    }
    text
}
