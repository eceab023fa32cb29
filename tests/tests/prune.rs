//! Random networks, cut at random: what is left is legal, and computes what it should.

use pare::eval::Net;
use pare::ir::channels::cut;
use pare::ir::constants::Rewriting;
use pare::ir::verify::verify;
use pare::ir::weighted::Weighted;
use pare::ir::{Graph, NodeId};
use pare::prune::{Groups, Pruner, Saliency, Selection, refit, shrink};
use pare::quant::{CalibrationConfig, calibrate};
use pare_tests::graphs::random_graph;
use pare_tests::problems::Random;
use proptest::prelude::*;

/// Inputs that each network is tried on.
const SAMPLES: usize = 4;

/// What differently ordered sums of `f32` may differ by, relative to the largest output.
const TOLERANCE: f32 = 1e-5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

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
        let selections = [Selection::Least(Saliency::L1), Selection::Least(Saliency::Scale), Selection::Elimination];
        let pruner = Pruner::new(&graph, &calibration, selections[seed as usize % 3]);
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
        let again = refit(&graph, graph.clone(), &groups.kept(&groups.whole()), &inputs, &config).unwrap();
        let [expected, found] = [&graph, &again].map(|graph| Net::float(graph).unwrap().forward(&inputs, SAMPLES).unwrap());
        let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
        let error = expected.iter().zip(&found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        prop_assert!(error <= 10.0 * TOLERANCE * largest, "{error}\n{graph}---\n{again}");

        let kept = groups.kept(&units(&groups, random));
        let refitted = refit(&graph, cut(&graph, &kept), &kept, &inputs, &config).unwrap();
        verify(&refitted).unwrap();
    }
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
