//! Quantising a small network end to end: error bounds, shared codes, refusals, determinism.

use std::sync::Arc;

use pare::eval::{Net, sqnr::sqnr};
use pare::ir::{Clamp, Conv2d, Graph, Node, Op, Padding, Pool, Value, ValueId};
use pare::policy::{EdgeLayers, LayerPolicy, Policy, WeightChoice, WeightFormat};
use pare::quant::{
    Calibration, CalibrationConfig, CodeBank, QuantConfig, QuantError, Quantized, Rounding, calibrate, quantize,
};

const SAMPLES: usize = 96;

fn config(rounding: Rounding) -> QuantConfig {
    QuantConfig { rounding, ..QuantConfig::USUAL }
}

/// Numbers in -1..1.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Convolution, depthwise and grouped convolutions, max pool, add, average pool, fully connected, softmax.
fn network() -> Graph {
    let mut net = Builder { graph: Graph { name: "small".to_owned(), ..Graph::default() } };
    let x = net.value("x", vec![1, 8, 8, 3]);
    net.graph.inputs = vec![x];
    let first = net.conv("first", x, 3, [8, 3, 3, 3], Clamp::RELU, [1, 8, 8, 8]);
    let depthwise = net.conv("depthwise", first, 8, [8, 3, 3, 1], Clamp::RELU6, [1, 8, 8, 8]);
    let grouped = net.conv("grouped", depthwise, 8, [8, 3, 3, 4], Clamp::NONE, [1, 8, 8, 8]);
    let sum = net.node("sum", Op::Add { clamp: Clamp::RELU }, vec![grouped, first], vec![1, 8, 8, 8]);
    let window = |n| Pool { kernel: [n; 2], stride: [n; 2], pad: Padding::default(), clamp: Clamp::NONE };
    let largest = net.node("largest", Op::MaxPool(window(2)), vec![sum], vec![1, 4, 4, 8]);
    let mean = net.node("mean", Op::AvgPool(window(4)), vec![largest], vec![1, 1, 1, 8]);
    let flat = net.node("flat", Op::Reshape, vec![mean], vec![1, 8]);
    let (weights, bias) = (net.constant("w", vec![5, 8]), net.constant("b", vec![5]));
    let logits = net.node("logits", Op::FullyConnected { clamp: Clamp::NONE }, vec![flat, weights, bias], vec![1, 5]);
    let output = net.node("softmax", Op::Softmax, vec![logits], vec![1, 5]);
    net.graph.outputs = vec![output];
    net.graph
}

struct Builder {
    graph: Graph,
}

impl Builder {
    fn value(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        self.graph.add_value(Value { name: name.to_owned(), shape, data: None, range: None })
    }

    fn constant(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        let data = noise(shape.iter().product(), 1 + self.graph.values.len() as u64);
        self.graph.add_value(Value { name: name.to_owned(), shape, data: Some(Arc::new(data)), range: None })
    }

    fn node(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, shape: Vec<usize>) -> ValueId {
        let output = self.value(name, shape);
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, output });
        output
    }

    fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        c_in: usize,
        weights: [usize; 4],
        clamp: Clamp,
        to: [usize; 4],
    ) -> ValueId {
        let pad = Padding { top: 1, bottom: 1, left: 1, right: 1 };
        let groups = c_in / weights[3];
        let op = Op::Conv2d(Conv2d { stride: [1; 2], pad, dilation: [1; 2], groups, clamp });
        let bias = self.constant(&format!("{name}.bias"), vec![weights[0]]);
        let weights = self.constant(&format!("{name}.weights"), weights.to_vec());
        self.node(name, op, vec![x, weights, bias], to.to_vec())
    }
}

fn samples(graph: &Graph, n: usize) -> Vec<f32> {
    noise(n * graph.value(graph.inputs[0]).len(), 99)
}

fn calibrated(graph: &Graph) -> Calibration {
    calibrate(graph, &samples(graph, SAMPLES), SAMPLES, &CalibrationConfig::with_seed(3)).unwrap()
}

/// Of the logits.
fn output_sqnr(graph: &Graph, quantized: &Quantized) -> f64 {
    let (float, fake) = (Net::float(graph).unwrap(), Net::fake_quantized(quantized).unwrap());
    sqnr(&float, &fake, &samples(graph, SAMPLES), SAMPLES).unwrap()[&graph.nodes[7].output]
}

fn uniform(graph: &Graph, format: &str, bits: u8) -> Policy {
    Policy::uniform(graph, format.parse().unwrap(), bits, EdgeLayers::Uniform)
}

#[test]
fn eight_bits_keep_the_answer_and_fewer_bits_lose_gradually() {
    let graph = network();
    let calibration = calibrated(&graph);
    let at = |format, bits, rounding| {
        let quantized = quantize(&graph, &uniform(&graph, format, bits), &calibration, &config(rounding)).unwrap();
        output_sqnr(&graph, &quantized)
    };
    let eight = at("w8", 8, Rounding::Nearest);
    assert!(eight > 30.0, "{eight} dB");
    assert!(at("w4", 8, Rounding::DataAware) < eight);
    assert!(at("w4", 8, Rounding::DataAware) > at("w2", 8, Rounding::DataAware));
    assert!(at("w8", 8, Rounding::Nearest) > at("w8", 3, Rounding::Nearest));
}

#[test]
fn every_format_uses_its_own_levels() {
    let graph = network();
    let calibration = calibrated(&graph);
    for rounding in [Rounding::Nearest, Rounding::DataAware] {
        let bank = CodeBank::new(&graph, &calibration, &config(rounding)).unwrap();
        for (node, format) in graph.weighted().flat_map(|node| WeightFormat::ALL.map(|format| (node, format))) {
            let codes = bank.weights(node, format).unwrap();
            let legal = |level: i8| match format {
                WeightFormat::Linear(1) => level.abs() == 1,
                WeightFormat::Linear(2) => level.abs() == 1 || level.abs() == 3,
                WeightFormat::Linear(bits) => i32::from(level).abs() < 1 << (bits - 1),
                WeightFormat::Ternary => level.abs() <= 1,
                WeightFormat::Codebook(_) => codes.codebook.contains(&level),
            };
            assert!(codes.levels.iter().all(|&level| legal(level)), "{format}");
            assert!(codes.scales.iter().all(|&scale| scale > 0.0 && scale.is_finite()), "{format}");
            if let WeightFormat::Codebook(bits) = format {
                assert_eq!(codes.codebook.len(), 1 << bits);
                assert!(codes.codebook.is_sorted_by(|a, b| a < b) && codes.codebook[0] >= -127);
            }
        }
    }
}

#[test]
fn codes_follow_the_rules_of_each_value() {
    let graph = network();
    let quantized =
        quantize(&graph, &uniform(&graph, "w4", 4), &calibrated(&graph), &config(Rounding::Nearest)).unwrap();
    let code = |name: &str| {
        let place = graph.values.iter().position(|value| value.name == name).unwrap();
        quantized.activations[place].unwrap()
    };
    assert_eq!(code("x").bits, 8);
    assert_eq!((code("first").bits, code("first").zero), (4, 0));
    assert!(code("depthwise").decode(code("depthwise").max_code()) <= 6.0);
    assert_eq!(code("sum"), code("largest"));
    assert_eq!(code("mean").bits, 8);
    assert_eq!(code("mean"), code("flat"));
    assert_eq!(code("logits").bits, 8);
    assert_eq!((code("softmax").scale, code("softmax").zero), (1.0 / 256.0, 0));
    assert!(graph.values.iter().zip(&quantized.activations).all(|(v, code)| v.is_constant() == code.is_none()));
}

#[test]
fn a_recorded_range_is_used_at_eight_bits() {
    let mut graph = network();
    let first = graph.nodes[0].output;
    graph.values[first.0 as usize].range = Some((0.0, 25.5));
    let calibration = calibrated(&graph);
    let scale = |bits| {
        let policy = uniform(&graph, "w8", bits);
        quantize(&graph, &policy, &calibration, &config(Rounding::Nearest)).unwrap().activations[first.0 as usize]
    };
    assert!((scale(8).unwrap().scale - 0.1).abs() < 1e-6);
    assert!(scale(4).unwrap().scale * 15.0 < 25.0);
}

#[test]
fn channels_take_formats_of_their_own() {
    let graph = network();
    let calibration = calibrated(&graph);
    let bank = CodeBank::new(&graph, &calibration, &config(Rounding::DataAware)).unwrap();
    let first = graph.weighted().next().unwrap();
    let with = |formats: &[&str]| {
        let formats = formats.iter().map(|format| format.parse().unwrap()).collect();
        let layer = LayerPolicy { weights: Some(WeightChoice::Channels(formats)), activation_bits: 8, keep: None };
        bank.quantize(&Policy { layers: [("first".to_owned(), layer)].into() })
    };
    let mixed = with(&["w8", "w1", "k3", "t", "w2", "w4", "k3", "w8"]).unwrap();
    let codes = &mixed.weights[&first];
    for (o, format) in codes.formats.iter().enumerate() {
        let alone = bank.weights(first, *format).unwrap();
        assert_eq!(codes.levels[o * 27..(o + 1) * 27], alone.levels[o * 27..(o + 1) * 27]);
        assert_eq!((codes.scales[o], codes.bias[o]), (alone.scales[o], alone.bias[o]));
    }
    assert!(matches!(with(&["k2", "k3", "w8", "w8", "w8", "w8", "w8", "w8"]), Err(QuantError::TwoCodebooks { .. })));
    assert!(matches!(with(&["w8"]), Err(QuantError::ChannelCount { channels: 8, formats: 1, .. })));
}

#[test]
fn policies_for_other_networks_are_refused() {
    let graph = network();
    let calibration = calibrated(&graph);
    let apply = |name: &str, weights: Option<WeightFormat>, activation_bits| {
        let layer = LayerPolicy { weights: weights.map(WeightChoice::Layer), activation_bits, keep: None };
        let policy = Policy { layers: [(name.to_owned(), layer)].into() };
        quantize(&graph, &policy, &calibration, &config(Rounding::Nearest))
    };
    assert!(matches!(apply("nowhere", None, 8), Err(QuantError::UnknownLayer { .. })));
    assert!(matches!(apply("first", None, 9), Err(QuantError::ActivationBits { bits: 9, .. })));
    assert!(matches!(apply("sum", Some(WeightFormat::Ternary), 8), Err(QuantError::NoWeights { .. })));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let graph = network();
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let policy = uniform(&graph, "k3", 5);
            let quantized = quantize(&graph, &policy, &calibrated(&graph), &config(Rounding::DataAware)).unwrap();
            let outputs = Net::fake_quantized(&quantized).unwrap().forward(&samples(&graph, SAMPLES), SAMPLES).unwrap();
            (quantized.activations, quantized.weights, outputs)
        })
    };
    assert_eq!(with_threads(1), with_threads(3));
}
