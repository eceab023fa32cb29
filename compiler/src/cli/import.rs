//! `pare import`: a model file as a graph, or what of it is not supported.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::Output;
use super::args::PassArgs;
use crate::import::{ImportError, import, native};

/// Options of `pare import`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A model file: .tflite, .onnx, or a directory in Pare's own format.
    model: PathBuf,
    /// Only say whether everything is supported, and what is not; exit code 3 when something is not.
    #[arg(long)]
    check: bool,
    /// What to make of it.
    #[arg(long, value_enum, default_value = "ir")]
    to: To,
    #[command(flatten)]
    passes: PassArgs,
    /// Write the graph and its weights into a directory instead of printing the graph.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What to make of a model file.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum To {
    /// The textual graph.
    Ir,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let graph = match import(&args.model) {
        Ok(graph) => args.passes.simplify(graph, 1).with_context(|| args.model.display().to_string())?.graph,
        Err(error @ ImportError::Unsupported { .. }) if args.check => return Ok(unsupported(&error)),
        Err(error) => return Err(error.into()),
    };
    if args.check {
        let json = json!({ "supported": true, "unsupported": [], "nodes": graph.nodes.len() });
        return Ok(Output::new(json, format!("all {} nodes are supported\n", graph.nodes.len())));
    }
    let To::Ir = args.to;
    if let Some(directory) = &args.out {
        native::save(&graph, directory)?;
    }
    let text = graph.to_string();
    let json = json!({ "supported": true, "unsupported": [], "nodes": graph.nodes.len(), "ir": text });
    Ok(Output::new(json, if args.out.is_some() { String::new() } else { text }))
}

fn unsupported(error: &ImportError) -> Output {
    let items: Vec<_> = match error {
        ImportError::Unsupported { items, .. } => items
            .iter()
            .map(|item| {
                json!({
                    "node": item.node, "op": item.op, "shapes": item.shapes, "why": item.why,
                    "suggestion": item.suggestion,
                })
            })
            .collect(),
        _ => Vec::new(),
    };
    let json = json!({ "supported": false, "unsupported": items });
    Output { json, text: format!("{error}\n"), code: 3 }
}
