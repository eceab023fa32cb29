//! Model files to the graph: TensorFlow Lite, ONNX, and Pare's own text with its weights.
//!
//! Each reader translates into the closed operator set of [`crate::ir`], exactly, in float: weights
//! that a file holds quantised are dequantised, and the ranges it records are kept in
//! [`crate::ir::Value::range`]. What does not translate is reported at once, all of it, as
//! [`ImportError::Unsupported`].
//!
//! A model file is hostile until proven otherwise: whatever the bytes, a reader ends with a graph
//! that passes [`crate::ir::verify`] or with an error, in time and memory bounded by the file's size.
//!
//! # Layout
//! The graph is NHWC. TensorFlow Lite files are too, so inputs and outputs are the file's own. ONNX
//! files are NCHW: an input or output of rank 4 is `[n, c, h, w]` in the file and `[n, h, w, c]` in
//! the graph, unless the model itself transposes it at its border (see [`onnx`]); all other ranks
//! are the same on both sides.

mod builder;
pub mod native;
pub mod onnx;
pub mod tflite;

use std::fmt;
use std::path::Path;

use crate::ir::Graph;
use crate::ir::text::ParseError;
use crate::ir::verify::VerifyError;

/// Files above this size are refused unread: no network for a small device needs them.
const MAX_FILE_BYTES: u64 = 1 << 31;

/// Why a model could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Io {
        /// Path.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Path.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Nothing in the file.
    #[error("{file} is empty: it holds no model")]
    Empty {
        /// Path.
        file: String,
    },
    /// Above 2 GiB.
    #[error("{file} is too large ({bytes} bytes): Pare reads models of up to 2 GiB")]
    TooLarge {
        /// Path.
        file: String,
        /// Its size.
        bytes: u64,
    },
    /// Neither of the known formats.
    #[error("{file} is no model that Pare reads: give a .tflite or .onnx file, or a directory with graph.ir in it")]
    UnknownFormat {
        /// Path.
        file: String,
    },
    /// Bytes that are no model of their format.
    #[error("{file} is damaged or truncated: {problem}")]
    Malformed {
        /// Path.
        file: String,
        /// What was found.
        problem: String,
    },
    /// A textual graph with an error.
    #[error("{file}, {source}")]
    Text {
        /// Path.
        file: String,
        /// Line and reason.
        source: ParseError,
    },
    /// A node that makes no sense.
    #[error("{file}: node `{node}`: {problem}")]
    Node {
        /// Path.
        file: String,
        /// Its name in the file, or its operator and position.
        node: String,
        /// What is wrong.
        problem: String,
    },
    /// A graph that breaks an invariant, NaN weights among them.
    #[error("{file}: {source}")]
    Invalid {
        /// Path.
        file: String,
        /// The invariant.
        source: VerifyError,
    },
    /// Everything in the file that Pare does not support.
    #[error("{file} has {} unsupported node{}:{}", .items.len(), if .items.len() == 1 { "" } else { "s" }, Lines(.items))]
    Unsupported {
        /// Path.
        file: String,
        /// One item a node, in the file's order.
        items: Vec<UnsupportedNode>,
    },
}

/// A node that Pare cannot represent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// Its name in the file, or its operator and position.
    pub node: String,
    /// Operator, as the file's format calls it.
    pub op: String,
    /// Shapes of its operands, in the file's layout, where they are known.
    pub shapes: Vec<Vec<usize>>,
    /// What about it is unsupported.
    pub why: String,
    /// A rewrite of the model that would import.
    pub suggestion: Option<String>,
}

impl fmt::Display for UnsupportedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.op, self.node)?;
        if !self.shapes.is_empty() {
            write!(f, " on {:?}", self.shapes)?;
        }
        write!(f, ": {}", self.why)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

struct Lines<'a>(&'a [UnsupportedNode]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|item| write!(f, "\n  {item}"))
    }
}

/// Reads a model: a `.tflite` or `.onnx` file, or a directory in the native format. A file's content
/// decides its format where it can.
pub fn import(path: &Path) -> Result<Graph, ImportError> {
    if path.is_dir() {
        return native::load(path);
    }
    let bytes = read(path)?;
    let file = path.display().to_string();
    let name = path.file_stem().map_or_else(|| "model".into(), |stem| stem.to_string_lossy());
    let graph = if tflite::is_tflite(&bytes) || has_extension(path, "tflite") {
        tflite::parse(&bytes, &name)
    } else if has_extension(path, "onnx") {
        onnx::parse(&bytes, &name)
    } else {
        return Err(ImportError::UnknownFormat { file });
    };
    graph.map_err(|error| error.in_file(&file))
}

/// The bytes of a file of a sensible size.
fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    let file = path.display().to_string();
    let io = |source| ImportError::Io { file: file.clone(), source };
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(ImportError::TooLarge { file, bytes });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    if bytes.is_empty() { Err(ImportError::Empty { file }) } else { Ok(bytes) }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

impl ImportError {
    /// The same error about the file at `path`: readers of bytes know a model's name only.
    fn in_file(mut self, path: &str) -> ImportError {
        use ImportError::{Empty, Invalid, Io, Malformed, Node, Text, TooLarge, UnknownFormat, Unsupported, Write};
        match &mut self {
            Io { file, .. }
            | Write { file, .. }
            | Empty { file }
            | TooLarge { file, .. }
            | UnknownFormat { file }
            | Malformed { file, .. }
            | Text { file, .. }
            | Node { file, .. }
            | Invalid { file, .. }
            | Unsupported { file, .. } => path.clone_into(file),
        }
        self
    }
}
