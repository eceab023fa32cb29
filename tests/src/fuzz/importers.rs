//! Hostile bytes as a model file.

use pare::import::{self, ImportError};
use pare::ir::Graph;
use pare::ir::verify::verify;
use pare::passes::simplify;

use super::Outcome;

/// Reads bytes as a TensorFlow Lite file, and simplifies the graph if there is one.
///
/// # Panics
/// When the reader panics, or its graph breaks an invariant: the finding.
pub fn tflite(bytes: &[u8]) -> Outcome {
    outcome(import::tflite::parse(bytes, "fuzz.tflite"))
}

/// Reads bytes as an ONNX file, and simplifies the graph if there is one.
///
/// # Panics
/// When the reader panics, or its graph breaks an invariant: the finding.
pub fn onnx(bytes: &[u8]) -> Outcome {
    outcome(import::onnx::parse(bytes, "fuzz.onnx"))
}

fn outcome(read: Result<Graph, ImportError>) -> Outcome {
    match read {
        Ok(graph) => {
            verify(&graph).expect("a reader ends with a graph that holds the invariants");
            simplify(graph).expect("a pass leaves the invariants whole");
            Outcome::Ran
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Outcome::Refused
        }
    }
}
