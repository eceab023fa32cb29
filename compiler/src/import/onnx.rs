//! ONNX files, float and quantised with QuantizeLinear/DequantizeLinear pairs.
//!
//! * `guard`: what must hold of the bytes before `rten-onnx` decodes them.
//! * `constant`: initialisers, and the arithmetic on constants that exporters leave in a graph.
//! * `translate`: one operator at a time into the graph.
//!
//! # Layout
//! ONNX numbers the axes `[n, c, h, w]`; the graph stores images `[n, h, w, c]`. Each value carries
//! the order in which its axes are stored, and a transpose of the file merely renumbers them; a
//! transpose appears in the graph only where an operator needs another order than the value has. A
//! rank-4 input is stored `[n, h, w, c]`, unless all its readers transpose it from there to
//! `[n, c, h, w]` themselves: then it is stored as the file has it. Likewise a rank-4 output is stored
//! `[n, h, w, c]`, unless it comes out of a transpose of the file. So a test with NCHW arrays permutes
//! rank-4 arrays where their shape differs from the graph's.
//!
//! A first dimension that the file leaves open is the batch, 1.

mod constant;
mod guard;
mod translate;

use rten_onnx::onnx::ModelProto;

use self::translate::Translator;
use super::ImportError;
use crate::ir::Graph;

/// Reads a model from the bytes of a file; `name` becomes the graph's.
pub fn parse(bytes: &[u8], name: &str) -> Result<Graph, ImportError> {
    if bytes.is_empty() {
        return Err(ImportError::Empty { file: name.to_owned() });
    }
    let malformed = |problem: String| ImportError::Malformed { file: name.to_owned(), problem };
    guard::check(bytes).map_err(|problem| malformed(problem.to_owned()))?;
    let model = ModelProto::parse_buf(bytes).map_err(|error| malformed(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| malformed("it holds no graph".to_owned()))?;
    let is_standard = |domain: Option<&str>| matches!(domain, None | Some("" | "ai.onnx"));
    let opset = model.opset_import.iter().find(|set| is_standard(set.domain.as_deref()));
    let opset = opset.and_then(|set| set.version).unwrap_or(1);
    Translator::new(graph, opset, name, bytes.len())?.run()
}
