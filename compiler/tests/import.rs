//! Importing the reference models: shapes, sizes, names, the native round trip.

mod support;

use pare::import::{ImportError, import, native};
use pare::ir::{Graph, text};
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
        println!("{graph}");
        assert!(graph.nodes.iter().all(|node| node.name.len() <= 24), "{file}: a long name");
        let quantised = file.contains("int8");
        assert_eq!(graph.nodes.iter().any(|node| graph.value(node.output).range.is_some()), quantised, "{file}");
    }
}
