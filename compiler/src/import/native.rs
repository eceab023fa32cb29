//! Pare's own model format: `graph.ir` (text, see [`crate::ir::text`]) beside `weights.safetensors`.
//!
//! The text can be read, compared and edited; constants too large for it are tensors of the same
//! name in the other file, little-endian `f32`.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{ImportError, read};
use crate::files;
use crate::ir::Graph;
use crate::ir::text::{INLINE, parse_with};
use crate::ir::verify::verify;

/// The textual graph in a model's directory.
pub const GRAPH_FILE: &str = "graph.ir";
/// The weights in a model's directory.
pub const WEIGHTS_FILE: &str = "weights.safetensors";

/// Reads a model from a directory.
pub fn load(dir: &Path) -> Result<Graph, ImportError> {
    let (graph_file, weights_file) = (dir.join(GRAPH_FILE), dir.join(WEIGHTS_FILE));
    if !graph_file.is_file() {
        return Err(ImportError::UnknownFormat { file: dir.display().to_string() });
    }
    let text = String::from_utf8_lossy(&read(&graph_file)?).into_owned();
    let weights = if weights_file.is_file() { read(&weights_file)? } else { Vec::new() };
    load_parts(&text, &weights).map_err(|error| match error {
        ImportError::Malformed { .. } => error.in_file(&weights_file.display().to_string()),
        error => error.in_file(&graph_file.display().to_string()),
    })
}

/// Reads the graph of a model in whose directory there need be no weights: those that are missing are zeros.
///
/// # Errors
/// As [`load`].
pub fn load_untrained(dir: &Path) -> Result<Graph, ImportError> {
    let graph_file = dir.join(GRAPH_FILE);
    if !graph_file.is_file() {
        return Err(ImportError::UnknownFormat { file: dir.display().to_string() });
    }
    let file = graph_file.display().to_string();
    let text = String::from_utf8_lossy(&read(&graph_file)?).into_owned();
    let graph = parse_with(&text, |_, shape| Ok(vec![0.0; shape.iter().product()]))
        .map_err(|source| ImportError::Text { file: file.clone(), source })?;
    verify(&graph).map_err(|source| ImportError::Invalid { file, source })?;
    Ok(graph)
}

/// Reads a model from the contents of its two files, as a program that embeds them does. `safetensors`
/// may be empty when every constant stands in the text.
pub fn load_parts(ir_text: &str, safetensors: &[u8]) -> Result<Graph, ImportError> {
    let weights = match safetensors {
        [] => None,
        bytes => Some(SafeTensors::deserialize(bytes).map_err(|error| malformed(error.to_string()))?),
    };
    let graph = parse_with(ir_text, |name, shape| {
        let weights = weights.as_ref().ok_or_else(|| format!("{WEIGHTS_FILE} is missing"))?;
        let tensor = weights.tensor(name).map_err(|_| format!("{WEIGHTS_FILE} has no tensor of this name"))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let (dtype, found) = (tensor.dtype(), tensor.shape());
            return Err(format!("{WEIGHTS_FILE} holds {dtype:?} {found:?} where F32 {shape:?} is declared"));
        }
        Ok(tensor.data().chunks_exact(4).filter_map(|b| b.try_into().ok().map(f32::from_le_bytes)).collect())
    })
    .map_err(|source| ImportError::Text { file: GRAPH_FILE.to_owned(), source })?;
    match verify(&graph) {
        Ok(()) => Ok(graph),
        Err(source) => Err(ImportError::Invalid { file: GRAPH_FILE.to_owned(), source }),
    }
}

/// Writes a model into a directory, which is made where it is missing.
pub fn save(graph: &Graph, dir: &Path) -> Result<(), ImportError> {
    let files = encode(graph)?.map(|(name, bytes)| (dir.join(name), bytes.into()));
    let write = |source| ImportError::Write { file: dir.display().to_string(), source };
    files::replace_all(&files).map_err(write)
}

/// Names and contents of the files of a model.
///
/// # Errors
/// When two of its constants have the same name.
pub fn encode(graph: &Graph) -> Result<[(&'static str, Vec<u8>); 2], ImportError> {
    let graph = graph.compact();
    Ok([(WEIGHTS_FILE, weights(&graph)?), (GRAPH_FILE, graph.to_string().into_bytes())])
}

fn weights(graph: &Graph) -> Result<Vec<u8>, ImportError> {
    let large = graph.values.iter().filter_map(|value| {
        let data = value.data.as_ref().filter(|data| data.len() > INLINE)?;
        Some((value, data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
    });
    let large: Vec<_> = large.collect();
    let views = large.iter().map(|(value, bytes)| {
        TensorView::new(Dtype::F32, value.shape.clone(), bytes).map(|view| (value.name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| malformed(error.to_string()))?;
    safetensors::serialize(views, None).map_err(|error| malformed(error.to_string()))
}

fn malformed(problem: String) -> ImportError {
    ImportError::Malformed { file: WEIGHTS_FILE.to_owned(), problem }
}
