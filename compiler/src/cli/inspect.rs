//! `pare inspect`: what an artefact holds.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pare_runtime::Model;
use pare_runtime::format::{LayerOp, Tensor};
use serde_json::{Value, json};

use super::Output;
use super::args::{self, PassArgs};
use super::blob::read_blob;
use crate::cost::table::LatencyTable;
use crate::policy::Policy;

/// Options of `pare inspect`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A blob, a model file, a policy or a latency table.
    file: PathBuf,
    /// List the layers.
    #[arg(long)]
    layers: bool,
    /// Show what lies where in the arena, layer by layer.
    #[arg(long)]
    memory_map: bool,
    /// Show what differs from another file of the same kind.
    #[arg(long, value_name = "OTHER")]
    diff: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let mut output = describe(&args.file, &args)?;
    if let Some(other) = &args.diff {
        let theirs = describe(other, &args)?;
        let differences = differences(&output.json, &theirs.json);
        output.text += "\n";
        for (path, ours, theirs) in &differences {
            output.text += &format!("{path}: {ours} | {theirs}\n");
        }
        if differences.is_empty() {
            output.text += "no difference\n";
        }
        output.json["diff"] = differences.into_iter().map(|(path, a, b)| json!([path, a, b])).collect();
    }
    Ok(output)
}

fn describe(path: &Path, args: &Args) -> Result<Output> {
    if let Some(blob) = read_blob(path)? {
        let model = Model::parse(&blob).with_context(|| path.display().to_string())?;
        return Ok(describe_blob(&model, args));
    }
    if path.extension().is_some_and(|e| e == "json") {
        return describe_json(path);
    }
    let graph = args::network(path, &PassArgs::default(), 1)?.graph;
    let macs: u64 = graph.nodes.iter().map(|node| graph.macs(node)).sum();
    let weights: usize = graph.values.iter().filter_map(|v| v.data.as_ref().map(|d| d.len())).sum();
    let layers: Vec<Value> = graph
        .nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.name, "operator": node.op.name(), "shape": graph.value(node.output).shape,
                "macs": graph.macs(node),
            })
        })
        .collect();
    let json = json!({
        "kind": "network", "name": graph.name, "macs": macs, "weights": weights, "weight_bytes": 4 * weights,
        "layers": layers,
    });
    let mut text = format!("network {}: {macs} MACs, {weights} weights\n", graph.name);
    if args.layers {
        text += &graph.to_string();
    }
    Ok(Output::new(json, text))
}

fn describe_json(path: &Path) -> Result<Output> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Ok(policy) = serde_json::from_str::<Policy>(&text) {
        let json = json!({ "kind": "policy", "layers": policy });
        return Ok(Output::new(json, format!("policy for {} layers\n{text}", policy.layers.len())));
    }
    let table = LatencyTable::load(path)?;
    let json = json!({
        "kind": "latency table", "rows": table.rows().len(), "unit": table.unit(), "provenance": table.provenance(),
        "held_out": table.held_out(),
    });
    let p = table.provenance();
    Ok(Output::new(
        json,
        format!("latency table of {} ({}, {}): {} rows, {}\n", p.target, p.cpu, p.isa, table.rows().len(), p.date),
    ))
}

fn describe_blob(model: &Model<'_>, args: &Args) -> Output {
    let layers: Vec<Value> = model
        .layers()
        .enumerate()
        .map(|(i, layer)| {
            let groups: Vec<String> = match &layer.op {
                LayerOp::Conv(conv) => conv.weight_groups().map(|g| format!("{}x{}", g.channels, g.format)).collect(),
                _ => Vec::new(),
            };
            json!({
                "name": model.layer_name(i), "operator": operator(&layer.op), "weights": groups.join(" "),
                "input": extents(&layer.input), "output": extents(&layer.output),
                "a_bits": layer.output.bits, "scale": layer.output.scale, "zero": layer.output.zero,
                "stage": model.stage_of(i).map(|stage| [stage.start, stage.end]),
            })
        })
        .collect();
    let header = model.header();
    let json = json!({
        "kind": "blob", "version": header.version, "blob_bytes": header.blob_bytes,
        "weight_bytes": model.weight_bytes(), "arena_bytes": header.arena_bytes,
        "metadata": serde_json::from_slice::<Value>(model.metadata()).unwrap_or(Value::Null),
        "layers": layers,
    });
    let mut text = format!(
        "blob, format {}: {} bytes, {} of them weights; arena {} bytes; {} layers\n",
        header.version,
        header.blob_bytes,
        model.weight_bytes(),
        header.arena_bytes,
        header.n_layers
    );
    if args.layers {
        for layer in &layers {
            let word = |key: &str| layer[key].as_str().unwrap_or_default().to_owned();
            text += &format!(
                "{:<24} {:<16} {:<12} {:>12} -> {:<12} {} bits\n",
                word("name"),
                word("operator"),
                word("weights"),
                word("input"),
                word("output"),
                layer["a_bits"]
            );
        }
    }
    if args.memory_map {
        text += &memory_map(model);
    }
    Output::new(json, text)
}

/// A line a layer: `i` operands, `o` output, over the arena in 64 columns; in a stage, the rows that there are at a time.
fn memory_map(model: &Model<'_>) -> String {
    const COLUMNS: usize = 64;
    let arena = model.arena_bytes().max(1);
    let mut text =
        format!("{:<24}   0 .. {arena} bytes, i operands, o output, * both; + | run together in bands\n", "layer");
    for (index, layer) in model.layers().enumerate() {
        let mut line = [b'.'; COLUMNS];
        let mut mark = |range: Range<usize>, with: u8| {
            let (from, to) = (range.start * COLUMNS / arena, (range.end * COLUMNS).div_ceil(arena));
            for cell in &mut line[from.min(COLUMNS)..to.min(COLUMNS)] {
                *cell = if *cell == b'.' || *cell == with { with } else { b'*' };
            }
        };
        model.operands(&layer).skip(1).for_each(|tensor| mark(tensor.range(), b'i'));
        let [input, output] = model.memory_of(index).unwrap_or_default();
        mark(input, b'i');
        mark(output, b'o');
        let stage = match model.stage_of(index) {
            Some(stage) if stage.start == index => '+',
            Some(_) => '|',
            None => ' ',
        };
        text += &format!("{:<24} {stage} {}\n", model.layer_name(index), String::from_utf8_lossy(&line));
    }
    text
}

fn operator(op: &LayerOp<'_>) -> &'static str {
    match op {
        LayerOp::Conv(conv) => match (conv.is_depthwise(), conv.residual) {
            (true, None) => "depthwise",
            (true, Some(_)) => "depthwise_add",
            (false, None) => "conv",
            (false, Some(_)) => "conv_add",
        },
        LayerOp::Add(_) => "add",
        LayerOp::AvgPool(_) => "avg_pool",
        LayerOp::MaxPool(_) => "max_pool",
        LayerOp::Lut(_) => "lut",
        LayerOp::Softmax(_) => "softmax",
        LayerOp::Concat { .. } => "concat",
        LayerOp::Pad(_) => "pad",
        LayerOp::Transpose(_) => "transpose",
        LayerOp::ResizeNearest(_) => "resize_nearest",
        LayerOp::ResizeBilinear(_) => "resize_bilinear",
        LayerOp::DepthToSpace(_) => "depth_to_space",
    }
}

fn extents(tensor: &Tensor) -> String {
    format!("{}x{}x{}", tensor.shape.h, tensor.shape.w, tensor.shape.c)
}

/// Paths at which two JSON values differ, with both values.
fn differences(ours: &Value, theirs: &Value) -> Vec<(String, Value, Value)> {
    fn walk(path: &str, a: &Value, b: &Value, found: &mut Vec<(String, Value, Value)>) {
        match (a, b) {
            (Value::Object(x), Value::Object(y)) => {
                for key in x.keys().chain(y.keys().filter(|key| !x.contains_key(*key))) {
                    walk(&format!("{path}/{key}"), &a[key.as_str()], &b[key.as_str()], found);
                }
            }
            (Value::Array(x), Value::Array(y)) => {
                for i in 0..x.len().max(y.len()) {
                    walk(
                        &format!("{path}/{i}"),
                        x.get(i).unwrap_or(&Value::Null),
                        y.get(i).unwrap_or(&Value::Null),
                        found,
                    );
                }
            }
            _ if a != b => found.push((path.to_owned(), a.clone(), b.clone())),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", ours, theirs, &mut found);
    found
}
