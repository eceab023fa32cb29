//! Importing the reference models: shapes, sizes, names, the native round trip.

mod support;

use std::path::Path;

use pare::import::{ImportError, import, native, onnx, tflite};
use pare::ir::Graph;
use pare::passes::simplify;
use rten_onnx::onnx::{
    Dimension, GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};
use support::reference_model;

fn macs(graph: &Graph) -> u64 {
    graph.nodes.iter().map(|node| graph.macs(node)).sum()
}

#[test]
fn reference_models_have_their_known_size() {
    let cases = [
        ("resnet8_float.tflite", vec![1, 32, 32, 3], vec![1, 10], 12_501_632),
        ("resnet8_int8.tflite", vec![1, 32, 32, 3], vec![1, 10], 12_501_632),
        ("dscnn_kws_float.onnx", vec![1, 49, 10, 1], vec![1, 12], 2_656_768),
        ("dscnn_kws_int8.tflite", vec![1, 49, 10, 1], vec![1, 12], 2_656_768),
        ("mobilenetv1_025_vww_float.tflite", vec![1, 96, 96, 3], vec![1, 2], 7_489_664),
        ("mobilenetv1_025_vww_int8.tflite", vec![1, 96, 96, 3], vec![1, 2], 7_489_664),
        ("toycar_autoencoder_float.tflite", vec![1, 640], vec![1, 640], 264_192),
        ("toycar_autoencoder_int8.tflite", vec![1, 640], vec![1, 640], 264_192),
    ];
    for (file, input, output, expected) in cases {
        let Some(path) = reference_model(file) else { return };
        let graph = import(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(graph.value(graph.inputs[0]).shape, input, "{file}");
        assert_eq!(graph.value(graph.outputs[0]).shape, output, "{file}");
        assert_eq!(macs(&graph), expected, "{file}");
        assert!(graph.nodes.iter().all(|node| node.name.len() <= 24), "{file}: a long name");
        let quantised = file.contains("int8");
        assert_eq!(graph.nodes.iter().any(|node| graph.value(node.output).range.is_some()), quantised, "{file}");
    }
}

#[test]
fn a_saved_model_loads_again_from_its_parts() {
    let Some(path) = reference_model("resnet8_int8.tflite") else { return };
    let graph = import(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    native::save(&graph, dir.path()).unwrap();
    let text = std::fs::read_to_string(dir.path().join(native::GRAPH_FILE)).unwrap();
    let weights = std::fs::read(dir.path().join(native::WEIGHTS_FILE)).unwrap();
    assert_eq!(native::load_parts(&text, &weights).unwrap(), graph);
    let cut = native::load_parts(&text, &weights[..weights.len() - 1]).unwrap_err();
    assert!(matches!(cut, ImportError::Malformed { .. }), "{cut}");
    let renamed = native::load_parts(&text.replace("%dense.w", "%other"), &weights).unwrap_err();
    assert!(renamed.to_string().contains("constant `other`"), "{renamed}");
}

#[test]
fn simplifying_keeps_layers_and_their_names() {
    let Some(path) = reference_model("dscnn_kws_float.onnx") else { return };
    let graph = import(&path).unwrap();
    let simplified = simplify(graph.clone()).unwrap();
    let names = |graph: &Graph| -> Vec<String> { graph.weighted().map(|id| graph.node(id).name.clone()).collect() };
    assert_eq!(names(&graph), names(&simplified));
    assert_eq!(macs(&graph), macs(&simplified));
    let kinds: Vec<&str> = simplified.nodes.iter().map(|node| node.op.name()).collect();
    assert_eq!(kinds, [vec!["conv2d"; 9], vec!["avg_pool", "reshape", "fully_connected", "softmax"]].concat());
    assert_eq!(simplify(simplified.clone()).unwrap(), simplified);
}

#[test]
fn files_that_are_no_model_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = import(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error} does not name the file");
        error
    };
    assert!(refusal("empty.tflite", b"").contains("is empty"));
    assert!(refusal("empty.onnx", b"").contains("is empty"));
    assert!(refusal("text.tflite", b"not a model at all").contains("TFL3"));
    assert!(refusal("text.onnx", b"not a model at all").contains("damaged or truncated"));
    assert!(refusal("model.h5", b"not a model at all").contains("no model that Pare reads"));
    assert!(import(&dir.path().join("absent.onnx")).unwrap_err().to_string().contains("cannot read"));
    assert!(import(dir.path()).unwrap_err().to_string().contains("graph.ir"));
}

#[test]
fn all_unsupported_nodes_are_listed_with_shapes_and_a_way_out() {
    let error = onnx::parse(&unsupported_onnx(), "net").unwrap_err();
    let ImportError::Unsupported { items, .. } = &error else { panic!("{error}") };
    let nodes: Vec<(&str, &str)> = items.iter().map(|item| (item.node.as_str(), item.op.as_str())).collect();
    assert_eq!(nodes, [("up", "ConvTranspose"), ("late", "Erf")], "{error}");
    assert_eq!(items[0].shapes, [[1, 2, 4, 4]]);
    assert!(items[0].suggestion.as_deref().unwrap().contains("resize"));
    assert!(error.to_string().contains("2 unsupported nodes"));
}

#[test]
fn quantised_activations_leave_their_range() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/ops/qdq_activations.onnx");
    let graph = import(&file).unwrap();
    let kinds: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
    assert_eq!(kinds, ["tanh"]);
    for id in [graph.inputs[0], graph.outputs[0]] {
        let (min, max) = graph.value(id).range.unwrap();
        assert!((min + 3.2768).abs() < 1e-4 && (max - 3.2767).abs() < 1e-4, "{min} {max}");
    }
}

#[test]
fn nan_weights_are_refused_by_name() {
    let Some(path) = reference_model("toycar_autoencoder_float.tflite") else { return };
    let mut bytes = std::fs::read(path).unwrap();
    let graph = tflite::parse(&bytes, "toycar").unwrap();
    let weights = graph.value(graph.node(graph.weighted().next().unwrap()).inputs[1]);
    let first: Vec<u8> = weights.data.as_ref().unwrap()[..4].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(16).position(|window| window == first).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = tflite::parse(&bytes, "toycar").unwrap_err().to_string();
    assert!(error.contains(&format!("`{}` is not finite", weights.name)), "{error}");
}

/// An unsupported node, a supported one on its result, and another unsupported one.
fn unsupported_onnx() -> Vec<u8> {
    let node = |op: &str, name: &str, input: &str, output: &str| NodeProto {
        op_type: Some(op.to_owned()),
        name: Some(name.to_owned()),
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let dims = [1, 2, 4, 4].map(|d| Dimension { dim_value: Some(d), dim_param: None }).to_vec();
    let tensor_type = TypeProtoTensor { elem_type: None, shape: Some(TensorShapeProto { dim: dims }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type), sequence: None });
    let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), r#type: r#type.clone() };
    let graph = GraphProto {
        node: vec![
            node("ConvTranspose", "up", "x", "a"),
            node("Relu", "fine", "a", "b"),
            node("Erf", "late", "b", "y"),
        ],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    ModelProto { graph: Some(graph), ..ModelProto::default() }.write_buf().unwrap()
}
