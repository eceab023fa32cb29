//! The batched evaluator against the scalar interpreter, which `goldens.rs` holds against the reference
//! runtimes: on every operator model, on the reference networks, and on random layers.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pare::eval::Net;
use pare::import::import;
use pare::ir::{Clamp, Conv2d, Coordinates, Graph, Node, Op, Padding, Pool, ResizeMode, Rounding, Value, ValueId};
use pare::passes::simplify;
use proptest::prelude::*;
use support::{interpreter, reference_model};

/// More than a strip of the smaller graphs holds.
const SAMPLES: usize = 67;

#[test]
fn every_operator_agrees() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/ops");
    let mut models: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension != "npz"));
    models.sort();
    assert!(models.len() > 100, "models are missing");
    for model in models {
        let imported = import(&model).unwrap();
        check(&imported, SAMPLES);
        check(&simplify(imported).unwrap(), SAMPLES);
    }
}

#[test]
fn reference_networks_agree() {
    let files = ["resnet8_float.tflite", "dscnn_kws_float.onnx", "mobilenetv1_025_vww_float.tflite"];
    for file in files.into_iter().chain(["toycar_autoencoder_float.tflite", "mobilenetv1_025_vww_int8.tflite"]) {
        let Some(model) = reference_model(file) else { return };
        check(&simplify(import(&model).unwrap()).unwrap(), 2);
    }
}

/// Both evaluators on the same random samples.
fn check(graph: &Graph, samples: usize) {
    let lens: Vec<usize> = graph.inputs.iter().map(|&id| graph.value(id).len()).collect();
    let batch = noise(samples * lens.iter().sum::<usize>(), 1);
    let mut expected = Vec::new();
    let mut rest = batch.as_slice();
    for _ in 0..samples {
        let mut inputs = Vec::new();
        for &len in &lens {
            let (input, after) = rest.split_at(len);
            inputs.push(input.to_vec());
            rest = after;
        }
        expected.extend(interpreter::run(graph, &inputs).concat());
    }
    let found = Net::float(graph).unwrap().forward(&batch, samples).unwrap();
    assert_eq!(found.len(), expected.len(), "{}", graph.name);
    let size = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= 1e-4 * size, "{}: off by {error} of {size}\n{graph}", graph.name);
}

/// Numbers in -2..2, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

/// A graph of one node; `constants` are operands after the input.
fn single(op: Op, input: Vec<usize>, constants: Vec<Vec<usize>>, output: Vec<usize>) -> Graph {
    let mut graph = Graph { name: op.name().to_owned(), ..Graph::default() };
    let value = |name: String, shape: Vec<usize>, data| Value { name, shape, data, range: None };
    let x = graph.add_value(value("x".to_owned(), input, None));
    let mut inputs = vec![x];
    for (i, shape) in constants.into_iter().enumerate() {
        let data = Some(Arc::new(noise(shape.iter().product(), 7 + i as u64)));
        inputs.push(graph.add_value(value(format!("c{i}"), shape, data)));
    }
    let output = graph.add_value(value("y".to_owned(), output, None));
    graph.nodes.push(Node { name: "node".to_owned(), op, inputs, output });
    graph.inputs = vec![ValueId(0)];
    graph.outputs = vec![output];
    graph
}

fn padding() -> impl Strategy<Value = Padding> {
    (0usize..3, 0usize..3, 0usize..3, 0usize..3).prop_map(|(top, bottom, left, right)| Padding {
        top,
        bottom,
        left,
        right,
    })
}

fn clamp() -> impl Strategy<Value = Clamp> {
    prop_oneof![Just(Clamp::NONE), Just(Clamp::RELU), Just(Clamp::RELU6)]
}

/// Windows along one edge, if any fits.
fn windows(edge: usize, before: usize, after: usize, kernel: usize, stride: usize, dilation: usize) -> Option<usize> {
    Some((edge + before + after).checked_sub((kernel - 1) * dilation + 1)? / stride + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree(
        (h, w, kh, kw) in (1usize..9, 1usize..9, 1usize..4, 1usize..4),
        (groups, group_in, group_out) in (1usize..20, 1usize..4, 1usize..4),
        (stride, dilation) in (prop::array::uniform2(1usize..3), prop::array::uniform2(1usize..3)),
        (pad, clamp, samples) in (padding(), clamp(), 1usize..4),
    ) {
        let oh = windows(h, pad.top, pad.bottom, kh, stride[0], dilation[0]);
        let ow = windows(w, pad.left, pad.right, kw, stride[1], dilation[1]);
        prop_assume!(oh.is_some() && ow.is_some());
        let (c_in, c_out) = (groups * group_in, groups * group_out);
        let op = Op::Conv2d(Conv2d { stride, pad, dilation, groups, clamp });
        let weights = vec![c_out, kh, kw, group_in];
        let output = vec![1, oh.unwrap(), ow.unwrap(), c_out];
        check(&single(op.clone(), vec![1, h, w, c_in], vec![weights.clone(), vec![c_out]], output.clone()), samples);
        check(&single(op, vec![1, h, w, c_in], vec![weights], output), samples);
    }

    #[test]
    fn pools_agree(
        (h, w, c, kh, kw) in (1usize..9, 1usize..9, 1usize..20, 1usize..4, 1usize..4),
        (stride, pad, clamp) in (prop::array::uniform2(1usize..3), padding(), clamp()),
    ) {
        // A window must cover at least one element.
        prop_assume!(pad.top < kh && pad.left < kw && pad.bottom < kh && pad.right < kw);
        let oh = windows(h, pad.top, pad.bottom, kh, stride[0], 1);
        let ow = windows(w, pad.left, pad.right, kw, stride[1], 1);
        prop_assume!(oh.is_some() && ow.is_some());
        let pool = Pool { kernel: [kh, kw], stride, pad, clamp };
        let output = vec![1, oh.unwrap(), ow.unwrap(), c];
        check(&single(Op::AvgPool(pool.clone()), vec![1, h, w, c], vec![], output.clone()), 2);
        check(&single(Op::MaxPool(pool), vec![1, h, w, c], vec![], output), 2);
    }

    #[test]
    fn bilinear_resizes_agree(
        (h, w, oh, ow, c) in (1usize..9, 1usize..9, 1usize..17, 1usize..17, 1usize..4),
        coordinates in
            prop_oneof![Just(Coordinates::Asymmetric), Just(Coordinates::HalfPixel), Just(Coordinates::AlignCorners)],
    ) {
        let op = Op::Resize { mode: ResizeMode::Bilinear, coordinates };
        check(&single(op, vec![1, h, w, c], vec![], vec![1, oh, ow, c]), 2);
    }

    /// Edges are powers of two, so that the interpreter's floating-point positions are exact.
    #[test]
    fn nearest_resizes_agree(
        (h, w, oh, ow, c) in (0u32..4, 0u32..4, 0u32..5, 0u32..5, 1usize..4),
        rounding in prop_oneof![
            Just(Rounding::Floor), Just(Rounding::HalfUp), Just(Rounding::HalfDown), Just(Rounding::Ceil)
        ],
        coordinates in prop_oneof![Just(Coordinates::Asymmetric), Just(Coordinates::HalfPixel)],
    ) {
        let op = Op::Resize { mode: ResizeMode::Nearest(rounding), coordinates };
        check(&single(op, vec![1, 1 << h, 1 << w, c], vec![], vec![1, 1 << oh, 1 << ow, c]), 2);
    }
}
