//! ONNX.
use super::ImportError; use crate::ir::Graph;
pub fn parse(_bytes: &[u8], name: &str) -> Result<Graph, ImportError> { Err(ImportError::Empty { file: name.to_owned() }) }
