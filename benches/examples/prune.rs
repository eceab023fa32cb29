//! What pruning a network costs in accuracy, before any training.
//!
//! `prune MODEL DATA halves` keeps half, then three quarters of the channels inside residual blocks; `prune MODEL DATA amc
//! SHARE EPISODES SEED` searches widths for a share of the multiply-accumulates, by the agent and by all that it must
//! beat. Choices are made on the val split; `PARE_TEST=1` reports the test split too.
#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use pare::data::{Preprocessing, Split};
use pare::eval::Net;
use pare::ir::Graph;
use pare::ir::channels::Kept;
use pare::methods::amc::baselines::{self, Rule};
use pare::methods::amc::{AmcError, Goal, Price, Pruning, Subject, Trial, search};
use pare::prune::{Group, Pruner, Saliency, Selection, refit, shrink};
use pare::quant::{CalibrationConfig, calibrate};
use pare::task::Task;

/// Training images that layers are refitted on.
const IMAGES: usize = 3000;
/// Of each layer at most so many windows of them.
const ROWS: usize = 60_000;
/// Training images that an episode is refitted on.
const GLANCE: usize = 256;
/// Val images that an episode is judged by.
const JUDGES: usize = 1000;
/// The best of a search are refitted with data and compared again.
const FINALISTS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, what, rest @ ..] = &arguments[..] else {
        return Err("give a model, a data set, and `halves` or `amc SHARE EPISODES SEED`".into());
    };
    let graph = pare::passes::simplify(pare::import::import(Path::new(model))?)?;
    let task = Task::new(graph, pare::data::open(&data.parse()?)?, Preprocessing::IDENTITY, None)?;
    let bench = Bench::new(&task)?;
    println!("dense: val {:.2}", bench.accuracy(&task.graph, 5000)?);
    match (what.as_str(), rest) {
        ("halves", []) => bench.halves(),
        ("amc", [share, episodes, seed]) => bench.amc(share.parse()?, episodes.parse()?, seed.parse()?),
        _ => Err(format!("`{what}` is not `halves` or `amc SHARE EPISODES SEED`").into()),
    }
}

struct Bench<'a> {
    task: &'a Task,
    inputs: Vec<f32>,
    config: CalibrationConfig,
    calibration: pare::quant::Calibration,
}

impl<'a> Bench<'a> {
    fn new(task: &'a Task) -> Result<Bench<'a>> {
        let inputs = task.data.spread(Split::Train, IMAGES)?;
        let config = CalibrationConfig { rows_per_layer: ROWS, seed: 0 };
        let calibration = calibrate(&task.graph, &inputs, inputs.len() / task.input_len(), &config)?;
        Ok(Bench { task, inputs, config, calibration })
    }

    fn halves(&self) -> Result<()> {
        let graph = &self.task.graph;
        for selection in [Selection::Least(Saliency::L1), Selection::Least(Saliency::L2), Selection::Elimination] {
            let pruner = Pruner::new(graph, &self.calibration, selection);
            for share in [0.5, 0.75] {
                let inner = |group: &Group| group.producers.len() == 1 && group.consumers.len() == 1;
                let width = |group: &Group| {
                    let all = group.units.len();
                    if inner(group) { (share * all as f64) as usize } else { all }
                };
                let last = pruner.groups().len() - 1;
                let widths: Vec<usize> = pruner.groups().iter().map(width).collect();
                let units = pruner.units(&widths);
                println!("{selection:?}: {widths:?} of {last} groups, MACs {:.3}", self.share(&pruner, &widths)?);
                self.report("masked", &shrink(graph, pruner.groups(), &units))?;
                let pruned = pruner.prune(&units);
                self.report("refitted", &pruned)?;
                let again = refit(graph, pruned, &pruner.groups().kept(&units), &self.inputs, &self.config)?;
                self.report("refitted with data", &again)?;
            }
        }
        Ok(())
    }

    fn amc(&self, share: f64, episodes: usize, seed: u64) -> Result<()> {
        let graph = &self.task.graph;
        let pruner = Pruner::new(graph, &self.calibration, Selection::Elimination);
        let (images, labels) = self.task.data.spread_labelled(Split::Val, JUDGES)?;
        // How well layers make up for channels shows only where each is refitted to what those before it leave.
        let few = self.task.data.spread(Split::Train, GLANCE)?;
        let config = CalibrationConfig { rows_per_layer: GLANCE * 40, seed: 0 };
        let score = |pruned: Graph, kept: &Kept| -> std::result::Result<f64, AmcError> {
            let outputs = Net::float(&refit(graph, pruned, kept, &few, &config)?)?.forward(&images, labels.len())?;
            Ok(right(&outputs, &labels) / labels.len() as f64)
        };
        let subject = Pruning::new(graph, &pruner, Price::Macs, 4, score)?;
        let full: Vec<usize> = subject.widths().iter().filter_map(|some| some.last().copied()).collect();
        let goal = Goal::Within(share * subject.cost(&full)?);
        for rule in Rule::ALL {
            let trial = baselines::by_rule(&subject, goal, rule)?;
            self.finish(&pruner, &format!("{rule:?}"), &trial)?;
        }
        let methods: [(&str, Search); 3] =
            [("agent", search), ("random", baselines::random), ("evolution", baselines::evolution)];
        for (name, method) in methods {
            let start = Instant::now();
            let mut trials = method(&subject, goal, episodes, seed, &mut |_| ())?;
            println!("{name}: {episodes} episodes in {:.1} s", start.elapsed().as_secs_f64());
            trials.sort_by(|a, b| goal.reward(b).total_cmp(&goal.reward(a)));
            trials.dedup();
            for trial in trials.iter().take(FINALISTS) {
                self.finish(&pruner, name, trial)?;
            }
        }
        Ok(())
    }

    fn finish(&self, pruner: &Pruner<'_>, name: &str, trial: &Trial) -> Result<()> {
        let units = pruner.units(&trial.widths);
        let share = self.share(pruner, &trial.widths)?;
        println!("{name}: {:?} MACs {share:.3}, episode's val {:.2}", trial.widths, 100.0 * trial.accuracy);
        let pruned = pruner.prune(&units);
        self.report("refitted", &pruned)?;
        let kept = pruner.groups().kept(&units);
        self.report("refitted with data", &refit(&self.task.graph, pruned, &kept, &self.inputs, &self.config)?)
    }

    fn share(&self, pruner: &Pruner<'_>, widths: &[usize]) -> Result<f64> {
        let graph = &self.task.graph;
        let pruned = shrink(graph, pruner.groups(), &pruner.units(widths));
        Ok(Price::Macs.of(&pruned)? / Price::Macs.of(graph)?)
    }

    fn report(&self, what: &str, graph: &Graph) -> Result<()> {
        print!("  {what}: val {:.2}", self.accuracy(graph, 5000)?);
        if std::env::var_os("PARE_TEST").is_some() {
            let test = self.task.data.indices(Split::Test, None)?;
            print!(", test {:.2}", 100.0 * self.task.data.score_net(&Net::float(graph)?, test)?.value);
        }
        println!();
        Ok(())
    }

    fn accuracy(&self, graph: &Graph, n: usize) -> Result<f64> {
        let (images, labels) = self.task.data.spread_labelled(Split::Val, n)?;
        let outputs = Net::float(graph)?.forward(&images, labels.len())?;
        Ok(100.0 * right(&outputs, &labels) / labels.len() as f64)
    }
}

type Search = fn(&dyn Subject, Goal, usize, u64, &mut dyn FnMut(&Trial)) -> std::result::Result<Vec<Trial>, AmcError>;

/// How many answers are right.
fn right(outputs: &[f32], labels: &[Option<u32>]) -> f64 {
    let n = outputs.len() / labels.len().max(1);
    let answer = |row: &[f32]| (0..n).max_by(|&a, &b| row[a].total_cmp(&row[b])).map(|best| best as u32);
    outputs.chunks(n).zip(labels).filter(|(row, label)| answer(row) == **label).count() as f64
}
