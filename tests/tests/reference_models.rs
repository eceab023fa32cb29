//! The whole way with the four reference networks: imported, simplified, calibrated, quantised, lowered,
//! packed and run on every instruction set, against their float selves.
#![allow(clippy::print_stdout, reason = "figures beside the verdict, with --nocapture")]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use pare::board::host::Host;
use pare::board::{AlignedBytes, Board};
use pare::data::Split;
use pare::eval::Net;
use pare::ir::{Graph, Op};
use pare::lower::{Plan, PlannedOp, PlannedWeights};
use pare::passes::Passes;
use pare::policy::{EdgeLayers, LayerPolicy, Policy, WeightChoice, WeightFormat};
use pare::quant::CodeBank;
use pare::task::{Task, encode};
use pare_runtime::format::Layout;
use pare_runtime::{Isa, Model};

/// Samples that are scored, of those that have a class or a mark.
const SCORED: usize = 1000;
/// Network inputs that the ranges are taken from.
const CALIBRATION: usize = 256;
/// Samples on which all instruction sets must agree.
const COMPARED: usize = 64;
/// The definition is slow: it does the first few of them.
const COMPARED_WITH_REFERENCE: usize = 4;

#[test]
fn resnet8() {
    check(0, 10, EXPECTED[0]);
}

#[test]
fn dscnn() {
    check(1, 10, EXPECTED[1]);
}

#[test]
fn mobilenet() {
    check(2, 28, EXPECTED[2]);
}

#[test]
fn toycar() {
    check(3, 10, EXPECTED[3]);
}

/// Training left most channels of its later layers dead.
#[test]
fn half_of_mobilenet_is_dead() {
    let Some(task) = support::NETWORKS[2].task() else { return };
    let imported = support::NETWORKS[2].imported().unwrap();
    let whole = Passes::all().without("remove-channels").run(imported).unwrap().graph;
    let macs = |graph: &Graph| graph.nodes.iter().map(|node| graph.macs(node)).sum::<u64>();
    assert_eq!((macs(&whole), macs(&task.graph)), (7_489_664, 3_742_091));
    let imported = support::NETWORKS[2].imported().unwrap();
    let blocks = Passes::all().with_channel_block(16).run(imported).unwrap().graph;
    assert_eq!(macs(&blocks), 3_934_144, "a few dead channels fill the last block of a layer");
    let names = |graph: &Graph| graph.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&whole), names(&task.graph), "policies name the same layers");

    let samples = [Split::Train, Split::Val, Split::Test].map(|split| task.data.indices(split, None).unwrap()).concat();
    let inputs = task.data.inputs(&samples);
    let [with, without] =
        [&whole, &task.graph].map(|graph| Net::float(graph).unwrap().forward(&inputs, samples.len()).unwrap());
    for (a, b) in with.chunks(2).zip(without.chunks(2)) {
        assert_eq!(a[0] > a[1], b[0] > b[1], "{a:?} became {b:?}");
        assert!((a[0] - b[0]).abs() < 1e-5, "{a:?} became {b:?}");
    }
}

/// Float figures of the first [`SCORED`] test samples.
const EXPECTED: [f64; 4] = [0.8820, 0.9342, 0.8444, 0.8853];

fn check(network: usize, weighted: usize, expected: f64) {
    let network = &support::NETWORKS[network];
    let Some(task) = network.task() else { return };
    assert_eq!(task.graph.weighted().count(), weighted);
    check_simplified(&task.graph);

    let scored = task.data.indices(Split::Test, Some(SCORED)).unwrap();
    let float = task.data.score_net(&Net::float(&task.graph).unwrap(), scored).unwrap().value;
    println!("{}: float {float:.4}", network.file);
    assert!((float - expected).abs() < 0.0011, "float {float}, expected {expected}");

    let calibration = support::calibration(&task, CALIBRATION);
    let bank = CodeBank::new(&task.graph, &calibration, &support::config()).unwrap();
    let eight = policy(&task.graph, 8, 8);
    let deployed = support::deployed(&bank, &eight, Layout::Panels);
    let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
    let quantized = task.data.score_blob(&blob, Host::default(), Isa::best(), scored).unwrap().value;
    println!("{}: w8a8 {quantized:.4}", network.file);
    // Half a point on a whole test set; of a part of it, a few samples are more.
    assert!(float - quantized <= 0.01, "w8a8 {quantized}, float {float}");
    assert_eq!(support::deployed(&bank, &eight, Layout::Panels).blob.digest(), deployed.blob.digest());

    let check_arena = |plan: &Plan| {
        let (arena, bound) = (plan.arena_bytes, plan.arena_lower_bound);
        assert!(arena as f64 <= 1.05 * bound as f64, "arena of {arena} B, {bound} B are live at once");
    };
    check_arena(&deployed.plan);
    for bits in [8, 4, 2] {
        let policy = Policy::uniform(&task.graph, WeightFormat::Linear(bits), 8, EdgeLayers::Uniform);
        let deployed = support::deployed(&bank, &policy, Layout::Plain);
        let (found, budget) = (deployed.blob.bytes.len(), budget(&deployed.plan));
        println!("{}: w{bits} {found} B, {:.3} of {budget} B", network.file, found as f64 / budget as f64);
        assert!(found as f64 <= 1.03 * budget as f64, "w{bits}: {found} B, {budget} B accounted for");
        check_arena(&deployed.plan);
    }
    for policy in [eight, policy(&task.graph, 4, 8), policy(&task.graph, 2, 4), mixed(&task.graph)] {
        check_instruction_sets(&task, &bank, &policy);
    }
}

fn policy(graph: &Graph, bits: u8, activation_bits: u8) -> Policy {
    Policy::uniform(graph, WeightFormat::Linear(bits), activation_bits, EdgeLayers::EightBit)
}

/// Another format in every layer, two in every third; another width of activations every second.
fn mixed(graph: &Graph) -> Policy {
    let layer = |(i, id): (usize, _)| {
        let node = graph.node(id);
        let format = WeightFormat::ALL[i * 5 % WeightFormat::ALL.len()];
        let channels = graph.input_shape(node, 1)[0];
        let halves = (0..channels).map(|o| if o < channels / 3 { format } else { WeightFormat::Linear(4) });
        let weights = if i % 3 == 0 { WeightChoice::Channels(halves.collect()) } else { WeightChoice::Layer(format) };
        let activation_bits = [8, 5, 3][i % 3];
        (node.name.clone(), LayerPolicy { weights: Some(weights), activation_bits, keep: None })
    };
    Policy { layers: graph.weighted().enumerate().map(layer).collect::<BTreeMap<_, _>>() }
}

/// Nothing is left that a pass should have folded, fused or dropped.
fn check_simplified(graph: &Graph) {
    for node in &graph.nodes {
        let fused = match &node.op {
            Op::Mul | Op::Unary(_) | Op::Pad { .. } | Op::Transpose { .. } => false,
            Op::Add { .. } => !graph.value(node.inputs[1]).is_constant(),
            _ => true,
        };
        assert!(fused, "{} ({}) should be part of a neighbour", node.name, node.op.name());
    }
}

/// What a blob must hold: packed weights, each channel's in whole bytes, a bias and a multiplier a channel, and 64
/// bytes a layer.
fn budget(plan: &Plan) -> usize {
    let of = |op: &PlannedOp| match op {
        PlannedOp::Conv(conv) => {
            let row = |group: &PlannedWeights| group.levels.len() / group.channels * usize::from(group.format.bits());
            let weights = conv.weights.iter().map(|group| group.channels * row(group).div_ceil(8));
            weights.sum::<usize>() + 8 * conv.bias.len()
        }
        _ => 0,
    };
    plan.layers.iter().map(|layer| of(&layer.op) + 64).sum()
}

/// Every layout, every instruction set: the same bytes.
fn check_instruction_sets(task: &Task, bank: &CodeBank<'_>, policy: &Policy) {
    let inputs = task.data.spread(Split::Train, COMPARED).unwrap();
    let input_len = task.graph.value(task.graph.inputs[0]).len();
    // Small sets have fewer.
    let compared = COMPARED.min(task.data.dataset.split(Split::Train).len());
    assert_eq!(inputs.len(), compared * input_len);
    let mut answer: Option<Vec<u8>> = None;
    for layout in [Layout::Plain, Layout::Panels, Layout::Planes, Layout::Words, Layout::Vectors] {
        let blob = AlignedBytes::from(&support::deployed(bank, policy, layout).blob.bytes[..]);
        let codes = encode(&Model::parse(&blob).unwrap(), &inputs);
        for isa in Isa::available().rev() {
            let samples = if isa == Isa::Reference { COMPARED_WITH_REFERENCE } else { compared };
            // The reference by one thread: it is what others are compared with.
            for threads in if isa == Isa::Reference { 1..2 } else { 1..3 } {
                let host = Host::with_threads(NonZeroUsize::new(threads).unwrap());
                let found = host.run(&blob, isa, &codes[..samples * input_len]).unwrap();
                let answer = answer.get_or_insert_with(|| found.clone());
                assert!(answer[..found.len()] == found, "{layout:?} {isa} by {threads} threads differs");
            }
        }
    }
}
