//! `pare prune`: takes channels out of a network, which ones decided by a search, and writes what is left as a model.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::args::{self, DataArgs, PassArgs, TargetArgs};
use super::progress::Progress;
use super::{Global, Output};
use crate::compile::{Settings, Workshop};
use crate::cost::table::LatencyTable;
use crate::data::Split;
use crate::eval::Net;
use crate::ir::Graph;
use crate::methods::amc::baselines::Rule;
use crate::methods::amc::{Aim, Contest, Entry, Method, Outcome, Price, Pruned, shapes};
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::prune::taylor::Contributions;
use crate::prune::{Saliency, Selection};
use crate::task::Task;
use crate::units::{Count, Ticks};

/// Bits of weights and activations that latency is measured with.
const BITS: u8 = 8;
/// Pruned versions of the network whose kernels are timed.
const TIMED: usize = 24;

/// Options of `pare prune`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("aim").required(true))]
pub(super) struct Args {
    /// The trained network.
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Share of the price that stays, as 0.5macs, 0.6weights, 0.65latency.
    #[arg(long, value_name = "SHARE", group = "aim")]
    keep: Option<Keep>,
    /// Most multiply-accumulates, as 6M.
    #[arg(long, value_name = "COUNT", group = "aim")]
    max_macs: Option<Count>,
    /// Most weights, as 40K.
    #[arg(long, value_name = "COUNT", group = "aim")]
    max_weights: Option<Count>,
    /// Longest inference with 8-bit weights and activations, by the latency table of the target, as 5ms.
    #[arg(long, value_name = "TIME", group = "aim")]
    max_latency: Option<Ticks>,
    /// Most points (hundredths) of the metric to lose on the validation samples, as cheap as can be.
    #[arg(long, value_name = "POINTS", group = "aim")]
    max_drop: Option<f64>,
    /// Channels of every group of layers, as 16,8,16,32,24,64: what a search, or a paper, came to.
    #[arg(long, value_name = "CHANNELS", value_delimiter = ',', group = "aim")]
    widths: Vec<usize>,
    /// What is to be cheap with --max-drop.
    #[arg(long, value_enum, value_name = "PRICE", default_value = "weights")]
    price: PriceArg,
    /// How widths are chosen; amc is reported beside all others.
    #[arg(long, value_enum, value_name = "METHOD", default_value = "amc")]
    method: MethodArg,
    /// With --method amc: by the agent alone.
    #[arg(long)]
    alone: bool,
    /// Which channels of a layer go first.
    #[arg(long, value_enum, value_name = "CRITERION", default_value = "elimination")]
    select: SelectArg,
    /// Networks that each method tries.
    #[arg(long, value_name = "N", default_value_t = 300)]
    episodes: usize,
    /// Layers keep multiples of so many channels [default: what the target's kernels compute at once].
    #[arg(long, value_name = "CHANNELS")]
    multiple: Option<usize>,
    /// Where the pruned network goes, and its card.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What is to be pruned away, and how.
pub(super) struct Plan {
    /// How much.
    pub aim: Aim,
    /// Of what.
    pub price: PriceArg,
    /// Which channels of a layer first.
    pub select: SelectArg,
    /// Layers keep multiples of so many channels.
    pub multiple: usize,
    /// How widths are chosen; the first is the one that counts.
    pub methods: Vec<Method>,
    /// Networks that each method tries.
    pub episodes: usize,
}

/// A share of a price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Keep {
    pub(super) share: f64,
    pub(super) of: PriceArg,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum PriceArg {
    /// Multiply-accumulates.
    Macs,
    /// Numbers to store, biases apart.
    Weights,
    /// Time by the target's latency table.
    Latency,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum MethodArg {
    /// An agent that learns from episodes.
    Amc,
    /// The same share of every layer.
    Uniform,
    /// Most from the first layers.
    Shallow,
    /// Most from the last layers.
    Deep,
    /// Guesses.
    Random,
    /// Children of the best guesses.
    Evolution,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum SelectArg {
    /// Those that the layers that read them, refitted, miss least.
    Elimination,
    /// Those that are read by the smallest absolute weights.
    L1,
    /// Those that are read by the smallest squared weights.
    L2,
    /// Those with the smallest factors of batch norms that were not folded.
    Scale,
    /// Those that the loss depends on least, to first order.
    Taylor,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Keep, String> {
        let prices = [("macs", PriceArg::Macs), ("weights", PriceArg::Weights), ("latency", PriceArg::Latency)];
        let found = prices.into_iter().find_map(|(name, of)| Some((text.strip_suffix(name)?.parse::<f64>().ok()?, of)));
        let found = found.filter(|(share, _)| *share > 0.0 && *share <= 1.0);
        let (share, of) =
            found.ok_or("give a share from 0 to 1 and what of: macs, weights or latency, as in 0.5macs")?;
        Ok(Keep { share, of })
    }
}

impl Args {
    fn aim(&self, settings: &Settings) -> Result<(Aim, PriceArg)> {
        let Args { keep, max_macs, max_weights, max_latency, max_drop, price, .. } = self;
        Ok(match (keep, max_macs, max_weights, max_latency, max_drop) {
            (Some(keep), ..) => (Aim::Share(keep.share), keep.of),
            (_, Some(count), ..) => (Aim::Within(count.0 as f64), PriceArg::Macs),
            (_, _, Some(count), ..) => (Aim::Within(count.0 as f64), PriceArg::Weights),
            (_, _, _, Some(ticks), _) => {
                let ticks = settings.target.counted(*ticks);
                if ticks.unit != settings.target.unit {
                    bail!(
                        "--max-latency is not in the unit of target `{}`: give {}",
                        settings.target.name,
                        settings.target.unit
                    );
                }
                (Aim::Within(ticks.value), PriceArg::Latency)
            }
            (.., Some(points)) => (Aim::Drop(*points), *price),
            _ if !self.widths.is_empty() => (Aim::Share(1.0), PriceArg::Macs),
            _ => bail!(
                "how much is to go? give --keep, --max-macs, --max-weights, --max-latency, --max-drop or --widths"
            ),
        })
    }

    fn methods(&self) -> Vec<Method> {
        match self.method {
            _ if !self.widths.is_empty() => vec![Method::Given(self.widths.clone())],
            MethodArg::Amc if self.alone => vec![Method::Amc],
            MethodArg::Amc => Method::ALL.to_vec(),
            MethodArg::Uniform => vec![Method::Rule(Rule::Uniform)],
            MethodArg::Shallow => vec![Method::Rule(Rule::Shallow)],
            MethodArg::Deep => vec![Method::Rule(Rule::Deep)],
            MethodArg::Random => vec![Method::Random],
            MethodArg::Evolution => vec![Method::Evolution],
        }
    }
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let usual = args.target.settings(global)?;
    let settings = Settings { sums: args.passes.sums(), stages: args.passes.stages(usual.stages), ..usual };
    let block = settings.target.channel_block;
    let (task, _) = args::task(Some(&args.model), &args.data, &args.passes, block)?;
    let (aim, price) = args.aim(&settings)?;
    let plan = Plan {
        aim,
        price,
        select: args.select,
        multiple: args.multiple.unwrap_or(if args.widths.is_empty() { block } else { 1 }),
        methods: args.methods(),
        episodes: args.episodes,
    };
    let clock = Instant::now();
    let calibration = OnceCell::new();
    let outcome = prune(&plan, &Workshop::new(&task, &settings, &calibration), &progress)?;
    let best = outcome.chosen()?;
    progress.stage("scoring on the test samples");
    let test = task.data.score_net(&Net::float(&best.graph)?, task.data.indices(Split::Test, None)?)?;
    let card = args::card_of(&args.model, "Pruned by `pare prune`", &task, [best.score, test.value], global.seed);
    card.save_with(&best.graph, &args.out)?;
    progress.finish();

    let wall_s = clock.elapsed().as_secs_f64();
    let json = json!({
        "metric": task.data.metric,
        "dense": figures(&outcome.dense, &outcome),
        "chosen": figures(best, &outcome),
        "test": test.value,
        "n": test.n,
        "groups": outcome.groups,
        "full_widths": outcome.dense.widths,
        "methods": outcome.entries.iter().map(|entry| of_entry(entry, &outcome)).collect::<Vec<_>>(),
        "out": args.out,
        "wall_s": wall_s,
    });
    let text = format!(
        "{}test {} {:.4} on {} samples\nwritten to {} after {wall_s:.0} s\n",
        listing(&outcome),
        task.data.metric,
        test.value,
        test.n,
        args.out.display(),
    );
    Ok(Output::new(json, text))
}

/// Prunes the network of a workshop; scores of episodes are remembered in its cache.
///
/// # Errors
/// When the network cannot be pruned, priced or scored.
pub(super) fn prune(plan: &Plan, workshop: &Workshop<'_>, progress: &Progress) -> Result<Outcome> {
    let (task, settings) = (workshop.task, workshop.settings);
    let table = (plan.price == PriceArg::Latency).then(|| table(workshop, plan.multiple, progress)).transpose()?;
    let price = match (plan.price, &table) {
        (PriceArg::Weights, _) => Price::Weights,
        (PriceArg::Latency, Some(table)) => Price::Latency {
            table,
            config: workshop.lower_config(),
            weights: WeightFormat::Linear(BITS),
            activation_bits: BITS,
        },
        _ => Price::Macs,
    };
    let contest = Contest {
        task,
        price,
        aim: plan.aim,
        selection: plan.select.selection(task)?,
        multiple: plan.multiple,
        episodes: plan.episodes,
        seed: settings.seed,
        scores: Some(settings.cache.join("scores")),
    };
    Ok(contest.run(&plan.methods, &mut |event| progress.event(event))?)
}

impl SelectArg {
    fn selection(self, task: &Task) -> Result<Selection> {
        Ok(match self {
            SelectArg::Elimination => Selection::Elimination,
            SelectArg::L1 => Selection::Least(Saliency::L1),
            SelectArg::L2 => Selection::Least(Saliency::L2),
            SelectArg::Scale => Selection::Least(Saliency::Scale),
            SelectArg::Taylor => Selection::Least(Saliency::Taylor(Contributions::of(&task.graph, &task.data)?)),
        })
    }
}

/// Kernels of the network and of versions of it, from the narrowest on, timed in 8 bits.
fn table(workshop: &Workshop<'_>, multiple: usize, progress: &Progress) -> Result<LatencyTable> {
    let graph = &workshop.task.graph;
    let policy = Policy::uniform(graph, WeightFormat::Linear(BITS), BITS, EdgeLayers::Uniform);
    let pruned = shapes(graph, multiple, TIMED, workshop.settings.seed);
    let graphs: Vec<&Graph> = [graph].into_iter().chain(&pruned).collect();
    Ok(workshop.table_of(&graphs, &[policy], &mut |event| progress.event(event))?)
}

fn listing(outcome: &Outcome) -> String {
    let mut text = format!("{:<10} {:>8} {:>7} {:>12} {:>6}  channels\n", "", "episodes", "val", "price", "share");
    let mut line = |name: &str, trials: usize, network: Option<&Pruned>| {
        text += &match network {
            None => format!("{name:<10} {trials:>8}    none loses so little\n"),
            Some(Pruned { score, cost, widths, .. }) => {
                let share = cost / outcome.dense.cost;
                let widths = widths.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
                format!("{name:<10} {trials:>8} {score:>7.4} {cost:>12.0} {share:>6.3}  {widths}\n")
            }
        };
    };
    line("whole", 0, Some(&outcome.dense));
    outcome.entries.iter().for_each(|entry| line(entry.method.name(), entry.trials.len(), entry.best.as_ref()));
    text
}

fn of_entry(entry: &Entry, outcome: &Outcome) -> Value {
    json!({
        "method": entry.method.name(),
        "episodes": entry.trials.len(),
        "best": entry.best.as_ref().map(|best| figures(best, outcome)),
    })
}

fn figures(network: &Pruned, outcome: &Outcome) -> Value {
    let Pruned { score, cost, widths, .. } = network;
    json!({ "val": score, "price": cost, "share": cost / outcome.dense.cost, "widths": widths })
}
