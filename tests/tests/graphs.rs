//! Random networks through the passes, one by one and all together, and from there to the bytes of every
//! instruction set.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use pare::board::host::Host;
use pare::board::{AlignedBytes, Board};
use pare::deploy::deploy;
use pare::eval::Net;
use pare::ir::verify::verify;
use pare::ir::{Graph, Node};
use pare::lower::{Layouts, LowerConfig, Stages, Sums};
use pare::passes::{Passes, simplify};
use pare::policy::{LayerPolicy, Policy, WeightChoice, WeightFormat};
use pare::quant::{BiasCorrection, CalibrationConfig, ClipMethod, CodeBank, QuantConfig, Rounding, calibrate};
use pare_runtime::format::Layout;
use pare_runtime::{Isa, Model};
use pare_tests::graphs::random_graph;
use pare_tests::problems::Random;
use proptest::prelude::*;

/// Inputs that each network is tried on.
const SAMPLES: usize = 6;

/// What differently ordered sums of `f32` may differ by, relative to the largest output.
const TOLERANCE: f32 = 1e-4;

fn graphs() -> impl Strategy<Value = Graph> {
    (1..14usize, any::<u64>()).prop_map(|(nodes, seed)| random_graph(seed, nodes, 8))
}

/// One in twenty has layers large enough for threads to share.
fn graphs_to_share() -> impl Strategy<Value = Graph> {
    let large = (1..14usize, any::<u64>()).prop_map(|(nodes, seed)| random_graph(seed, nodes, 40));
    prop_oneof![19 => graphs(), 1 => large]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passes_keep_the_outputs(graph in graphs(), seed in any::<u64>()) {
        verify(&graph).unwrap();
        let inputs = inputs(&graph, seed);
        let expected = Net::float(&graph).unwrap().forward(&inputs, SAMPLES).unwrap();
        let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
        let alone = |wanted: &str| {
            Passes::names().filter(|name| *name != wanted).fold(Passes::all(), |passes, name| passes.without(name))
        };
        let together = [("all", Passes::all()), ("in blocks", Passes::all().with_channel_block(4))];
        for (name, passes) in Passes::names().map(|name| (name, alone(name))).chain(together) {
            let simplified = passes.run(graph.clone()).unwrap().graph;
            prop_assert!(simplified.nodes.len() <= graph.nodes.len());
            let outputs = Net::float(&simplified).unwrap().forward(&inputs, SAMPLES).unwrap();
            let error = outputs.iter().zip(&expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            let allowed = TOLERANCE * largest;
            prop_assert!(outputs.len() == expected.len() && error <= allowed, "{name}: {error}\n{graph}---\n{simplified}");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes(graph in graphs_to_share(), seed in any::<u64>()) {
        let graph = simplify(graph).unwrap();
        let inputs = inputs(&graph, seed);
        let calibration = calibrate(&graph, &inputs, SAMPLES, &CalibrationConfig::with_seed(0)).unwrap();
        let config = QuantConfig {
            clip: ClipMethod::MinMax,
            rounding: Rounding::Nearest,
            bias_correction: BiasCorrection::MeanInput, ..QuantConfig::USUAL };
        let bank = CodeBank::new(&graph, &calibration, &config).unwrap();
        let policy = policy(&graph, &mut Random(seed));
        let mut expected: Option<Vec<u8>> = None;
        let fused = [Layout::Plain, Layout::Panels, Layout::Planes]
            .map(|layout| LowerConfig::new(layout).with(Layouts::All(layout)));
        let apart = LowerConfig { sums: Sums::Apart, ..fused[1].clone() };
        let staged = [Layout::Plain, Layout::Panels, Layout::Planes, Layout::Words]
            .map(|layout| LowerConfig { stages: Stages::Smallest, ..LowerConfig::new(layout) });
        for config in [apart].into_iter().chain(fused).chain(staged) {
            let deployed = deploy(&bank, &policy, &config, "");
            let deployed = deployed.map_err(|error| TestCaseError::reject(error.to_string()))?;
            let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
            let model = Model::parse(&blob).unwrap();
            let input = model.inputs().next().unwrap();
            let codes: Vec<u8> = inputs.iter().map(|&x| input.encode(x)).collect();
            for isa in Isa::available() {
                for threads in [1, 2].map(|n| NonZeroUsize::new(n).unwrap()) {
                    let outputs = Host::with_threads(threads).run(&blob, isa, &codes).unwrap();
                    let expected = expected.get_or_insert_with(|| outputs.clone());
                    prop_assert_eq!(&outputs, expected, "{:?} {} by {} differs\n{}", config, isa, threads, graph);
                }
            }
        }
    }
}

/// Numbers from -2 to 2.
fn inputs(graph: &Graph, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let n = SAMPLES * graph.value(graph.inputs[0]).len();
    (0..n).map(|_| (random.next() >> 40) as f32 / (1u64 << 22) as f32 - 2.0).collect()
}

/// Any format for any layer, or for any channel; any width of activations.
fn policy(graph: &Graph, random: &mut Random) -> Policy {
    const FORMATS: [WeightFormat; 7] = [
        WeightFormat::Linear(8),
        WeightFormat::Linear(4),
        WeightFormat::Linear(3),
        WeightFormat::Linear(2),
        WeightFormat::Linear(1),
        WeightFormat::Ternary,
        WeightFormat::Codebook(4),
    ];
    let mut pick = |n: usize| (random.next() % n as u64) as usize;
    let mut layer = |node: &Node| {
        let channels = graph.value(node.output).shape.last().copied().unwrap_or(1);
        let choice = match pick(4) {
            0 => WeightChoice::Channels((0..channels).map(|_| FORMATS[pick(FORMATS.len())]).collect()),
            _ => WeightChoice::Layer(FORMATS[pick(FORMATS.len())]),
        };
        let weights = node.op.has_weights().then_some(choice);
        (node.name.clone(), LayerPolicy { weights, activation_bits: [8, 8, 4, 2][pick(4)], keep: None })
    };
    Policy { layers: graph.nodes.iter().map(&mut layer).collect::<BTreeMap<_, _>>() }
}
