//! Damaged model files: whatever the bytes, a reader ends with a graph or an error, soon.

use std::path::Path;
use std::time::{Duration, Instant};

use pare::import::{ImportError, onnx, tflite};
use pare::ir::Graph;
use pare::ir::text;
use pare::ir::verify::verify;
use pare::passes::simplify;

type Reader = fn(&[u8], &str) -> Result<Graph, ImportError>;

/// Small models that between them have every table and field.
const MODELS: &[(&str, Reader)] = &[
    ("inverted_residual.onnx", onnx::parse),
    ("reshape_computed.onnx", onnx::parse),
    ("qdq_conv_weights.onnx", onnx::parse),
    ("resize_scales.onnx", onnx::parse),
    ("avgpool_ceil.onnx", onnx::parse),
    ("conv_clip_transposed_weights.onnx", onnx::parse),
    ("int8_conv.tflite", tflite::parse),
    ("depthwise_x2.tflite", tflite::parse),
    ("float16_weights.tflite", tflite::parse),
    ("reshape.tflite", tflite::parse),
    ("resize_nearest_corners_up.tflite", tflite::parse),
    ("mean.tflite", tflite::parse),
];

/// What a single small file may take, with all allowance for a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_flipped_byte_never_panics() {
    for &(file, parse) in MODELS {
        let mut bytes = model(file);
        for i in 0..bytes.len() {
            let old = bytes[i];
            for new in [old ^ 1, old ^ 0x80, !old, 0, 0xff, 0x7f] {
                bytes[i] = new;
                try_reading(file, parse, &bytes);
            }
            bytes[i] = old;
        }
    }
}

#[test]
fn two_flipped_bytes_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    for &(file, parse) in MODELS {
        let original = model(file);
        for _ in 0..5000 {
            let mut bytes = original.clone();
            for _ in 0..2 + below(4) {
                let at = below(bytes.len());
                bytes[at] = below(256) as u8;
            }
            try_reading(file, parse, &bytes);
        }
    }
}

#[test]
fn a_truncated_file_is_an_error() {
    for &(file, parse) in MODELS {
        let bytes = model(file);
        parse(&bytes, file).unwrap();
        for len in 0..bytes.len() {
            try_reading(file, parse, &bytes[..len]);
        }
        assert!(parse(&bytes[..bytes.len() / 2], file).is_err(), "{file}");
    }
}

#[test]
fn a_damaged_text_never_panics() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests/text/every_operator.ir");
    let whole = std::fs::read_to_string(file).unwrap();
    let original = whole.split("---").next().unwrap();
    for i in 0..original.len() {
        for new in ['%', '9', '-', '[', ' ', '\n', 'é'] {
            let mut text = original.to_owned();
            text.replace_range(i..=i, new.encode_utf8(&mut [0; 4]));
            if let Ok(graph) = text::parse(&text)
                && verify(&graph).is_ok()
            {
                simplify(graph).unwrap();
            }
        }
    }
}

/// Reads, and simplifies what could be read.
fn try_reading(file: &str, parse: Reader, bytes: &[u8]) {
    let start = Instant::now();
    if let Ok(graph) = parse(bytes, file) {
        simplify(graph).unwrap();
    }
    assert!(start.elapsed() < PATIENCE, "{file}: {:?} on {} bytes", start.elapsed(), bytes.len());
}

fn model(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/ops").join(file)).unwrap()
}
