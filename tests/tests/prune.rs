//! Random networks, cut at random: what is left is legal, computes what it should, and is within its budget.

use std::cell::Cell;

use pare::eval::Net;
use pare::ir::channels::cut;
use pare::ir::constants::Rewriting;
use pare::ir::verify::verify;
use pare::ir::weighted::Weighted;
use pare::ir::{Graph, NodeId};
use pare::methods::amc::{AmcError, Goal, Method, Price, Pruning, Subject, Trial};
use pare::prune::{Groups, Pruner, Refitter, Regression, Saliency, Selection, shrink};
use pare::quant::{CalibrationConfig, calibrate};
use pare_tests::graphs::random_graph;
use pare_tests::problems::Random;
use proptest::prelude::*;

/// Inputs that each network is tried on.
const SAMPLES: usize = 4;

/// What differently ordered sums of `f32` may differ by, relative to the largest output.
const TOLERANCE: f32 = 1e-5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_cut_is_legal_and_what_is_not_read_is_not_missed(nodes in 1..14usize, seed in any::<u64>()) {
        let graph = random_graph(seed, nodes, 8);
        let groups = Groups::of(&graph);
        let random = &mut Random(seed);
        let keep = units(&groups, random);
        let unread = without_readers(&graph, &groups, &keep);
        let cut = shrink(&unread, &groups, &keep);
        verify(&cut).unwrap();
        let names = |graph: &Graph| graph.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        prop_assert_eq!(names(&cut), names(&graph));
        let kept = groups.kept(&keep);
        let stays = |(id, rows): (&NodeId, &Vec<usize>)| rows.iter().all(|&row| kept.stays(graph.node(*id).output, row));
        let mut units = groups.iter().flat_map(|group| group.units.iter().map(move |unit| (group, unit)));
        let goes = units.any(|(group, unit)| !group.producers.iter().zip(&unit.rows).all(stays));
        let weights = |graph: &Graph| graph.weighted().map(|id| graph.input_shape(graph.node(id), 1).iter().product::<usize>()).sum::<usize>();
        prop_assert!(!goes || weights(&cut) < weights(&graph));

        let inputs = inputs(&graph, random);
        let [expected, found] = [&unread, &cut].map(|graph| Net::float(graph).unwrap().forward(&inputs, SAMPLES).unwrap());
        let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
        let error = expected.iter().zip(&found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        prop_assert!(expected.len() == found.len() && error <= TOLERANCE * largest, "{error}\n{unread}---\n{cut}");
    }

    #[test]
    fn pruners_keep_what_they_are_told(nodes in 1..14usize, seed in any::<u64>()) {
        let graph = random_graph(seed, nodes, 6);
        let random = &mut Random(seed);
        let inputs = inputs(&graph, random);
        let calibration = calibrate(&graph, &inputs, SAMPLES, &CalibrationConfig::with_seed(0)).unwrap();
        let pruner = Pruner::new(&graph, &calibration, selection(seed));
        let widths: Vec<usize> = pruner.widths(1).iter().map(|some| some[random.next() as usize % some.len()]).collect();
        let units = pruner.units(&widths);
        prop_assert_eq!(units.iter().map(Vec::len).collect::<Vec<_>>(), widths);
        let pruned = pruner.prune(&units);
        verify(&pruned).unwrap();
        let same = shrink(&graph, pruner.groups(), &units);
        let shapes = |graph: &Graph| graph.nodes.iter().map(|node| graph.value(node.output).shape.clone()).collect::<Vec<_>>();
        prop_assert_eq!(shapes(&pruned), shapes(&same));
    }

    #[test]
    fn refitting_what_is_whole_changes_nothing(nodes in 1..14usize, seed in any::<u64>()) {
        let graph = random_graph(seed, nodes, 6);
        let groups = Groups::of(&graph);
        let random = &mut Random(seed);
        let inputs = inputs(&graph, random);
        let config = CalibrationConfig::with_seed(0);
        let refitter = Refitter::new(&graph, inputs.clone(), &config).unwrap();
        let again = refitter.refit(graph.clone(), &groups.kept(&groups.whole())).unwrap();
        let [expected, found] = [&graph, &again].map(|graph| Net::float(graph).unwrap().forward(&inputs, SAMPLES).unwrap());
        let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
        let error = expected.iter().zip(&found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        prop_assert!(error <= 10.0 * TOLERANCE * largest, "{error}\n{graph}---\n{again}");

        let kept = groups.kept(&units(&groups, random));
        let refitted = refitter.refit(cut(&graph, &kept), &kept).unwrap();
        verify(&refitted).unwrap();
    }

    #[test]
    fn layers_err_no_more_than_if_inputs_were_left_out(nodes in 1..14usize, seed in any::<u64>()) {
        let graph = random_graph(seed, nodes, 6);
        let groups = Groups::of(&graph);
        let random = &mut Random(seed);
        let inputs = inputs(&graph, random);
        let calibration = calibrate(&graph, &inputs, SAMPLES, &CalibrationConfig::with_seed(0)).unwrap();
        let kept = groups.kept(&units(&groups, random));
        for (&id, moments) in calibration.moments.iter().filter(|(_, groups)| groups.len() == 1) {
            let node = graph.node(id);
            let regression = Regression::new(&Weighted::of(&graph, node), &moments[0]);
            let channels = kept.channels(&graph, node.inputs[0]);
            let left = regression.inputs_of(&channels);
            let mut masked = regression.weights().to_vec();
            let n = regression.inputs();
            masked.chunks_exact_mut(n).for_each(|row| (0..n - 1).filter(|i| !left.contains(i)).for_each(|i| row[i] = 0.0));
            // What is made smallest is the error and the ridge.
            let [refitted, masked] = [regression.refit(&channels), masked].map(|weights| {
                regression.error(&weights) + regression.penalty(&weights)
            });
            prop_assert!(refitted <= masked * (1.0 + 1e-6) + 1e-9, "{refitted} {masked}\n{graph}");
        }
    }

    #[test]
    fn every_episode_is_within_its_budget(nodes in 2..14usize, seed in any::<u64>()) {
        let graph = random_graph(seed, nodes, 6);
        let random = &mut Random(seed);
        let inputs = inputs(&graph, random);
        let calibration = calibrate(&graph, &inputs, SAMPLES, &CalibrationConfig::with_seed(0)).unwrap();
        let pruner = Pruner::new(&graph, &calibration, selection(seed));
        let multiple = [1, 2, 4][random.next() as usize % 3];
        let price = if random.next().is_multiple_of(2) { Price::Macs } else { Price::Weights };
        let legal = |pruned: Graph, _: &_| {
            verify(&pruned).unwrap();
            Ok((pruned.values.len() % 7) as f64 / 7.0)
        };
        let subject = Pruning::new(&graph, &pruner, price.clone(), multiple, legal).unwrap();
        prop_assume!(!subject.widths().is_empty());
        let [least, most] = [0, usize::MAX].map(|at| {
            let widths: Vec<usize> = subject.widths().iter().map(|some| some[at.min(some.len() - 1)]).collect();
            subject.cost(&widths).unwrap()
        });
        let budget = least + (most - least) * (random.next() % 100) as f64 / 100.0;
        let method = &Method::ALL[random.next() as usize % Method::ALL.len()];
        for trial in method.trials(&subject, Goal::Within(budget), 3, seed, &mut |_| ()).unwrap() {
            let pruned = pruner.prune(&pruner.units(&trial.widths));
            let cost = price.of(&pruned).unwrap();
            prop_assert!(cost <= budget && cost == trial.cost, "{method:?}: {cost} of {budget}\n{pruned}");
            for (width, group) in trial.widths.iter().zip(pruner.groups().iter()) {
                prop_assert!(group.widths(multiple).any(|known| known == *width));
            }
        }
    }
}

#[test]
fn a_search_that_was_broken_off_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scores.jsonl");
    let graph = (0..).map(|seed| random_graph(seed, 12, 6)).find(|graph| Groups::of(graph).len() > 3).unwrap();
    let inputs = inputs(&graph, &mut Random(1));
    let calibration = calibrate(&graph, &inputs, SAMPLES, &CalibrationConfig::with_seed(0)).unwrap();
    let pruner = Pruner::new(&graph, &calibration, Selection::Elimination);
    // How often a network is scored before the search breaks off, and what it comes to.
    let run = |remember: bool, most: usize| -> (usize, Result<Vec<Trial>, AmcError>) {
        let scored = Cell::new(0);
        let score = |pruned: Graph, _: &_| {
            if scored.get() == most {
                return Err(AmcError::Empty);
            }
            scored.set(scored.get() + 1);
            Ok(1.0 / (1.0 + Price::Weights.of(&pruned)?))
        };
        let subject = Pruning::new(&graph, &pruner, Price::Macs, 1, score).unwrap();
        let subject = if remember { subject.remembering(file.clone()) } else { subject };
        let full: Vec<usize> = subject.widths().iter().map(|some| some[some.len() - 1]).collect();
        let goal = Goal::Within(0.7 * subject.cost(&full).unwrap());
        let trials = Method::Amc.trials(&subject, goal, 20, 1, &mut |_| ());
        (scored.get(), trials)
    };
    let (all, expected) = run(false, usize::MAX);
    assert!(run(true, 5).1.is_err());
    let mut text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 5);
    // The fifth line was not written to its end.
    text.truncate(text.len() - 4);
    std::fs::write(&file, text).unwrap();
    let (again, found) = run(true, usize::MAX);
    assert_eq!((again, found.unwrap()), (all - 4, expected.unwrap()));
    assert_eq!(run(true, usize::MAX).0, 0, "everything was remembered");
}

fn selection(seed: u64) -> Selection {
    let least = [Saliency::L1, Saliency::L2, Saliency::Scale].map(Selection::Least);
    least.into_iter().nth(seed as usize % 4).unwrap_or(Selection::Elimination)
}

/// Some of each group's units, one at least.
fn units(groups: &Groups, random: &mut Random) -> Vec<Vec<usize>> {
    let some = |all: usize, random: &mut Random| {
        let keep: Vec<usize> = (0..all).filter(|_| random.next().is_multiple_of(2)).collect();
        if keep.is_empty() { vec![(random.next() % all as u64) as usize] } else { keep }
    };
    groups.iter().map(|group| some(group.units.len(), random)).collect()
}

/// The graph in which no layer reads the units that go.
fn without_readers(graph: &Graph, groups: &Groups, keep: &[Vec<usize>]) -> Graph {
    let mut gone: Vec<(NodeId, usize)> = Vec::new();
    for (group, keep) in groups.iter().zip(keep) {
        for (_, unit) in group.units.iter().enumerate().filter(|(i, _)| !keep.contains(i)) {
            for (&id, columns) in group.consumers.iter().zip(&unit.columns) {
                gone.extend(columns.iter().map(|&c| (id, c)));
            }
        }
    }
    let mut new = Rewriting::new(graph);
    for id in graph.weighted() {
        let layer = Weighted::of(graph, graph.node(id));
        let weight = |(c, w): (usize, f32)| if gone.contains(&(id, c)) { 0.0 } else { w };
        let weights = (0..layer.n_rows).flat_map(|o| layer.terms(o).map(weight)).collect();
        new.replace(id, 1, graph.input_shape(graph.node(id), 1).to_vec(), weights);
    }
    new.finish().unwrap().compact()
}

/// Numbers from -2 to 2.
fn inputs(graph: &Graph, random: &mut Random) -> Vec<f32> {
    let n = SAMPLES * graph.value(graph.inputs[0]).len();
    (0..n).map(|_| (random.next() >> 40) as f32 / (1u64 << 22) as f32 - 2.0).collect()
}
