//! What pruning a network costs in accuracy, before any training, and how well an episode of AMC foretells it.
//!
//! `prune MODEL DATA halves` keeps half, then three quarters of the channels inside residual blocks, by every order of
//! channels, and says what accuracy is left; `prune MODEL DATA judges SHARE N` draws N random widths within a
//! share of the multiply-accumulates and correlates the scores of episodes with those of the networks in the end; `prune
//! MODEL DATA plant DIR` writes the network with channels that it does not need: in the first layer that nothing but one
//! other reads, three copies of each channel and as many dead ones, and in the second a copy of each.
//! Choices are made on the val split; `PARE_TEST=1` reports the test split too.
#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use pare::data::{Preprocessing, Split};
use pare::eval::Net;
use pare::import::native;
use pare::ir::constants::Rewriting;
use pare::ir::weighted::Weighted;
use pare::ir::{Graph, NodeId};
use pare::methods::amc::{Effort, Goal, Judge, Price, Pruning, Subject, baselines};
use pare::prune::taylor::Contributions;
use pare::prune::{Group, Groups, Pruner, Saliency, Selection, shrink};
use pare::quant::{Calibration, CalibrationConfig, calibrate};
use pare::task::Task;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, what, rest @ ..] = &arguments[..] else {
        return Err("give a model, a data set, and `halves`, `judges SHARE N` or `plant DIR`".into());
    };
    let graph = pare::passes::simplify(pare::import::import(Path::new(model))?)?;
    if let ("plant", [out]) = (what.as_str(), rest) {
        return Ok(native::save(&planted(graph), Path::new(out))?);
    }
    let task = Task::new(graph, pare::data::open(&data.parse()?)?, Preprocessing::IDENTITY, None)?;
    let bench = Bench::new(&task)?;
    println!("dense: val {:.2}", 100.0 * bench.last.score(&task.graph)?);
    match (what.as_str(), rest) {
        ("halves", []) => bench.halves(),
        ("judges", [share, n]) => bench.judges(share.parse()?, n.parse()?),
        _ => Err(format!("`{what}` is not `halves`, `judges SHARE N` or `plant DIR`").into()),
    }
}

struct Bench<'a> {
    task: &'a Task,
    calibration: Calibration,
    last: Judge<'a>,
}

impl<'a> Bench<'a> {
    fn new(task: &'a Task) -> Result<Bench<'a>> {
        let inputs = task.data.spread(Split::Train, Effort::LAST.refitted)?;
        let config = CalibrationConfig { rows_per_layer: Effort::LAST.rows, seed: 0 };
        let calibration = calibrate(&task.graph, &inputs, inputs.len() / task.input_len(), &config)?;
        Ok(Bench { task, calibration, last: Judge::new(task, Effort::LAST)? })
    }

    fn halves(&self) -> Result<()> {
        let graph = &self.task.graph;
        let taylor = Saliency::Taylor(Contributions::of(graph, &self.task.data)?);
        let selections = [
            ("L1", Selection::Least(Saliency::L1)),
            ("L2", Selection::Least(Saliency::L2)),
            ("Taylor", Selection::Least(taylor)),
            ("elimination", Selection::Elimination),
        ];
        for (name, selection) in selections {
            let pruner = Pruner::new(graph, &self.calibration, selection);
            for share in [0.5, 0.75] {
                let width = |group: &Group| {
                    let (all, inner) = (group.units.len(), group.producers.len() == 1 && group.consumers.len() == 1);
                    if inner { (share * all as f64) as usize } else { all }
                };
                let widths: Vec<usize> = pruner.groups().iter().map(width).collect();
                let units = pruner.units(&widths);
                let masked = shrink(graph, pruner.groups(), &units);
                println!("{name}: {widths:?}, MACs {:.3}", Price::Macs.of(&masked)? / Price::Macs.of(graph)?);
                self.report("masked", &masked)?;
                let pruned = pruner.prune(&units);
                self.report("refitted", &pruned)?;
                let again = self.last.refit(pruned, &pruner.groups().kept(&units))?.0;
                self.report("refitted with data", &again)?;
            }
        }
        Ok(())
    }

    fn judges(&self, share: f64, n: usize) -> Result<()> {
        let graph = &self.task.graph;
        let pruner = Pruner::new(graph, &self.calibration, Selection::Elimination);
        let start = Instant::now();
        let glance = Judge::new(self.task, Effort::EPISODE)?;
        println!("{:.2} s to begin", start.elapsed().as_secs_f64());
        let score = |pruned: Graph, kept: &_| Ok(glance.refit(pruned, kept)?.1);
        let subject = Pruning::new(graph, &pruner, Price::Macs, 4, score)?;
        let full: Vec<usize> = subject.widths().iter().filter_map(|some| some.last().copied()).collect();
        let goal = Goal::Within(share * subject.cost(&full)?);
        let start = Instant::now();
        let trials = baselines::random(&subject, goal, n, 0, &mut |_| ())?;
        println!("{:.2} s an episode", start.elapsed().as_secs_f64() / n as f64);
        let (mut episodes, mut ends) = (Vec::new(), Vec::new());
        for trial in trials {
            let units = pruner.units(&trial.widths);
            let end = self.last.refit(pruner.prune(&units), &pruner.groups().kept(&units))?.1;
            println!("{:?} episode {:.4} end {end:.4}", trial.widths, trial.accuracy);
            episodes.push(trial.accuracy);
            ends.push(end);
        }
        println!("rank correlation {:.3}", correlation(&ranks(&episodes), &ranks(&ends)));
        Ok(())
    }

    fn report(&self, what: &str, graph: &Graph) -> Result<()> {
        print!("  {what}: val {:.2}", 100.0 * self.last.score(graph)?);
        if std::env::var_os("PARE_TEST").is_some() {
            let test = self.task.data.indices(Split::Test, None)?;
            print!(", test {:.2}", 100.0 * self.task.data.score_net(&Net::float(graph)?, test)?.value);
        }
        println!();
        Ok(())
    }
}

/// The same function by more channels.
fn planted(graph: Graph) -> Graph {
    let inner: Vec<(NodeId, NodeId, usize)> = Groups::of(&graph)
        .iter()
        .filter(|group| group.producers.len() == 1 && group.consumers.len() == 1)
        .map(|group| (group.producers[0], group.consumers[0], group.units.len()))
        .collect();
    let mut graph = graph;
    for (&(producer, consumer, n), (copies, dead)) in inner.iter().zip([(3, 1), (1, 0)]) {
        let [copies, dead] = [copies * n, dead * n];
        let mut new = Rewriting::new(&graph);
        let layer = Weighted::of(&graph, graph.node(producer));
        let rows = |o: usize| layer.row(o % n);
        let mut weights: Vec<f32> = (0..n + copies).flat_map(rows).copied().collect();
        weights.resize((n + copies + dead) * layer.row, 0.0);
        let mut biases: Vec<f32> = (0..n + copies).map(|o| layer.bias(o % n)).collect();
        biases.resize(n + copies + dead, 0.0);
        let mut shape = graph.input_shape(graph.node(producer), 1).to_vec();
        shape[0] = n + copies + dead;
        new.replace(producer, 1, shape, weights);
        new.set_bias(producer, biases);
        // A channel that is there twice counts half each time.
        let share = 1.0 / (1 + copies / n) as f32;
        let reader = Weighted::of(&graph, graph.node(consumer));
        let tap = |tap: &[f32]| -> Vec<f32> {
            let of = |c: usize| if c < n + copies { share * tap[c % n] } else { tap[c % n] };
            (0..n + copies + dead).map(of).collect()
        };
        let weights = (0..reader.n_rows).flat_map(|o| reader.row(o).chunks_exact(n).flat_map(tap)).collect();
        let mut shape = graph.input_shape(graph.node(consumer), 1).to_vec();
        if let Some(depth) = shape.last_mut() {
            *depth = n + copies + dead;
        }
        new.replace(consumer, 1, shape, weights);
        let between = graph.node(producer).output;
        if let Some(channels) = new.graph.values[between.0 as usize].shape.last_mut() {
            *channels = n + copies + dead;
        }
        graph = new.finish().map_or(graph, |new| new.compact());
    }
    graph
}

/// The place of each number among all; equal ones share theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let place = |x: &f64| {
        let below = numbers.iter().filter(|y| *y < x).count();
        let equal = numbers.iter().filter(|y| *y == x).count();
        below as f64 + (equal - 1) as f64 / 2.0
    };
    numbers.iter().map(place).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product =
        |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 { x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum() };
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
}
