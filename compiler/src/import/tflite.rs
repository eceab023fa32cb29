//! TensorFlow Lite files: float, float16 and quantised ones.
//!
//! * `flatbuffer`: the bounded reader of the container.
//! * `model`: the dozen tables of the schema that matter, constants dequantised.
//! * `translate`: one operator at a time into the graph.
//! * `naming`: short names out of the paths that converters leave.
//!
//! Only the first subgraph is read. A first dimension that the file leaves open is the batch, 1. A
//! fused TANH is applied, as the schema says; the reference kernels ignore it.
//!
//! Time and memory are bounded by the file's size: tables are counted, names cut, and operand lists
//! and constants, which tables may share, are charged to budgets.

mod flatbuffer;
mod model;
mod naming;
mod opcodes;
mod translate;

use self::flatbuffer::Malformed;
use self::model::Model;
use self::translate::Translator;
use super::ImportError;
use crate::ir::Graph;

/// Whether the bytes bear the mark of the format.
pub fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

/// Reads a model from the bytes of a file; `name` becomes the graph's.
pub fn parse(bytes: &[u8], name: &str) -> Result<Graph, ImportError> {
    if bytes.is_empty() {
        return Err(ImportError::Empty { file: name.to_owned() });
    }
    let malformed = |problem: String| ImportError::Malformed { file: name.to_owned(), problem };
    if !is_tflite(bytes) {
        return Err(malformed("it does not bear the mark TFL3 of TensorFlow Lite".to_owned()));
    }
    let model = Model::read(bytes).map_err(|error| malformed(error.to_string()))?;
    Translator::new(&model, name)?.run()
}

impl From<Malformed> for super::builder::Problem {
    fn from(error: Malformed) -> Self {
        super::builder::Problem::Invalid(error.to_string())
    }
}
