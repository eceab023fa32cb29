//! `pare bench`: how long a blob takes, as a whole and layer by layer.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, bail};
use pare_runtime::format::{Conv, Layer, LayerOp, Layout};
use pare_runtime::{Isa, Model};
use serde_json::json;

use super::args::{self, PortArgs, ThreadArgs};
use super::blob::read_blob;
use super::{Global, Output};
use crate::board::{FirstInference, quantile};
use crate::compile::remembered_table;
use crate::cost::layers::{Shape, Steps, with_sum};
use crate::cost::table::{KernelQuery, LatencyTable};
use crate::measure::kernel_name;
use crate::policy::WeightFormat;
use crate::units::TickUnit;

/// Options of `pare bench`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A blob (.pare).
    blob: PathBuf,
    /// Where to run it.
    #[arg(long, default_value = "host")]
    target: String,
    #[command(flatten)]
    on: PortArgs,
    /// Samples, each of some 50 microseconds or more.
    #[arg(long, value_name = "N", default_value = "201")]
    runs: NonZeroUsize,
    /// Show every layer, predicted beside measured.
    #[arg(long)]
    layers: bool,
    /// Kernels: reference, portable, scalar, avx2, avxvnni, avx512vnni, neon, dotprod or i8mm [default: the fastest].
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    #[command(flatten)]
    sharing: ThreadArgs,
}

/// One layer as it is shown.
struct Row {
    name: String,
    kernel: String,
    macs: u64,
    weights: Option<String>,
    w_bits: Option<f64>,
    a_bits: u8,
    median: f64,
    predicted: Option<f64>,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let target = args.on.target(&args.target)?;
    let Some(blob) = read_blob(&args.blob)? else {
        bail!("{} is no blob: compile it first (`pare compile`)", args.blob.display());
    };
    let isa = args::isa(&target, args.isa)?;
    let model = Model::parse(&blob)?;
    let codes: Vec<u8> = model.inputs().flat_map(|t| vec![t.zero; t.shape.len()]).collect();
    // Mapped anew: the first inference pays for bringing the pages in.
    let Some(cold) = read_blob(&args.blob)? else { bail!("{} is gone", args.blob.display()) };
    let timing = args.sharing.board(&target)?.time(&cold, isa, &codes, args.runs.get())?;
    let threads = args.sharing.threads;
    // Tables are of kernels that run alone.
    let table = match threads {
        NonZeroUsize::MIN => remembered_table(&args::cache(global), &target, isa)?,
        _ => None,
    };
    // Predictions are for the speed at which the table was measured.
    let speed = table.as_ref().map_or(1.0, |table| timing.yardstick / table.yardstick());
    let rows: Vec<Row> = model
        .layers()
        .enumerate()
        .map(|(i, layer)| {
            let predicted = |weights: Option<&str>| Some(speed * predict(&layer, weights, table.as_ref()?)?);
            row(&model, i, &layer, timing.isas[i], quantile(&timing.layers[i], 0.5), predicted)
        })
        .collect();
    let [median, p10, min] = [0.5, 0.1, 0.0].map(|q| quantile(&timing.total, q));
    let predicted: Option<f64> = rows.iter().map(|row| row.predicted).sum();
    let layers: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name, "kernel": row.kernel, "macs": row.macs, "w_bits": row.w_bits, "a_bits": row.a_bits,
                "weights": row.weights, "median": row.median, "predicted": row.predicted,
            })
        })
        .collect();
    let estimate = target.estimate(timing.ticks(median));
    let json = json!({
        "estimate": estimate.as_ref().map(|(time, how)| json!({ "value": time.value, "unit": time.unit, "how": how })),
        "target": target.name, "unit": timing.unit, "median": median, "p10": p10, "min": min, "runs": args.runs, "threads": threads,
        "first": timing.first.total(), "first_parse": timing.first.parse, "first_setup": timing.first.setup,
        "first_run": timing.first.run, "isa": isa.to_string(), "predicted": predicted, "layers": layers, "quiet": timing.quiet, "stack_bytes": timing.stack, "yardstick": timing.yardstick,
    });
    let (scale, unit, rate_unit) = match timing.unit {
        TickUnit::Nanoseconds => (1e3, "us", "GMAC/s"),
        TickUnit::Instructions => (1.0, "instr", "in/MAC"),
        TickUnit::Cycles => (1.0, "cycles", "cy/MAC"),
    };
    // Fast machines are told by what they do in a tick, slow ones by the ticks that they take.
    let rate = |macs: u64, ticks: f64| match timing.unit {
        TickUnit::Nanoseconds => format!("{:.1}", macs as f64 / ticks.max(1.0)),
        TickUnit::Instructions | TickUnit::Cycles => format!("{:.2}", ticks / macs as f64),
    };
    let us = |ticks: f64| format!("{:.1}", ticks / scale);
    let samples = match timing.unit {
        TickUnit::Instructions => "counted exactly".to_owned(),
        TickUnit::Cycles if target.port.is_some() => format!("{} runs on the board", timing.total.len()),
        TickUnit::Cycles => "estimated from a trace".to_owned(),
        TickUnit::Nanoseconds => format!("{} samples", args.runs),
    };
    let sharing = if threads.get() > 1 { format!(", {threads} threads") } else { String::new() };
    let mut text = format!("{} on {}, {isa} kernels{sharing}, {samples}\n", args.blob.display(), target.name);
    for (name, ticks) in [("median", Some(median)), ("p10", Some(p10)), ("min", Some(min)), ("predicted", predicted)] {
        text += &ticks.map_or_else(String::new, |ticks| format!("  {name:<10} {:>10} {unit}\n", us(ticks)));
    }
    if let Some((time, how)) = &estimate {
        text += &format!("  {:<10} {:>10.2} ms: {how}\n", "time", time.value / 1e6);
    }
    let FirstInference { parse, setup, run } = timing.first;
    let parts = format!("parse {}, set-up {}, run {}", us(parse), us(setup), us(run));
    text += &format!("  {:<10} {:>10} {unit}: {parts}\n", "first", us(timing.first.total()));
    if let Some(stack) = timing.stack {
        text += &format!("  {:<10} {:>10} B\n", "stack", stack.0);
    }
    if args.layers {
        let width = |texts: &mut dyn Iterator<Item = &str>| texts.map(|t| t.chars().count()).max().unwrap_or(0).max(6);
        let names = width(&mut rows.iter().map(|row| row.name.as_str()));
        let kernels = width(&mut rows.iter().map(|row| row.kernel.as_str()));
        text += &format!(
            "\n{:<names$}  {:<kernels$} {:>10} {:>7} {:>6} {:>13} {:>16} {:>7}\n",
            "layer",
            "kernel",
            "MACs",
            "weights",
            "a bits",
            format!("median {unit}"),
            format!("predicted {unit}"),
            rate_unit
        );
        for row in &rows {
            text += &format!(
                "{:<names$}  {:<kernels$} {:>10} {:>7} {:>6} {:>13} {:>16} {:>7}\n",
                row.name,
                row.kernel,
                row.macs,
                row.weights.as_deref().unwrap_or("-"),
                row.a_bits,
                us(row.median),
                row.predicted.map_or_else(|| "-".to_owned(), us),
                if row.macs > 0 { rate(row.macs, row.median) } else { "-".to_owned() },
            );
        }
    }
    Ok(Output::new(json, text))
}

fn row(
    model: &Model<'_>,
    index: usize,
    layer: &Layer<'_>,
    isa: Isa,
    median: f64,
    predicted: impl Fn(Option<&str>) -> Option<f64>,
) -> Row {
    let kernel = kernel_name(isa, &layer.op);
    let (mut macs, mut weights, mut w_bits) = (0, None, None);
    if let LayerOp::Conv(conv) = &layer.op {
        macs = conv.macs();
        let channels = |bits: u32, n: usize| f64::from(bits) * n as f64;
        let total: f64 = conv.weight_groups().map(|g| channels(g.format.bits(), g.channels)).sum();
        w_bits = Some(total / conv.output.c as f64);
        weights = Some(kernel.rsplit('_').next().unwrap_or_default().to_owned());
    }
    Row {
        name: model.layer_name(index).to_owned(),
        predicted: predicted(weights.as_deref()),
        kernel,
        macs,
        weights,
        w_bits,
        a_bits: layer.input.bits,
        median,
    }
}

fn predict(layer: &Layer<'_>, weights: Option<&str>, table: &LatencyTable) -> Option<f64> {
    let (input, output) = (layer.input.shape, layer.output.shape);
    let plain = Shape {
        h: input.h,
        w: input.w,
        c_in: input.c,
        h_out: output.h,
        w_out: output.w,
        c_out: output.c,
        kernel: [1, 1],
        stride: [1, 1],
        groups: 1,
    };
    let mut steps = Steps::ALL;
    let (operator, shape) = match &layer.op {
        LayerOp::Conv(conv) => {
            steps = steps_of(conv, input.c);
            let shape = Shape { kernel: conv.kernel, stride: conv.stride, groups: conv.groups, ..plain };
            // A 1x1 convolution on a vector is what a fully connected layer became.
            let operator = match layer.output.rank {
                _ if conv.is_depthwise() => "depthwise",
                1 => "fully_connected",
                _ => "conv2d",
            };
            (if conv.residual.is_some() { with_sum(operator) } else { operator }, shape)
        }
        LayerOp::Add(_) => ("add", plain),
        LayerOp::AvgPool(p) => ("avg_pool", Shape { kernel: p.window.kernel, stride: p.window.stride, ..plain }),
        LayerOp::MaxPool(p) => ("max_pool", Shape { kernel: p.window.kernel, stride: p.window.stride, ..plain }),
        LayerOp::Softmax(_) => ("softmax", plain),
        LayerOp::Concat { .. } => ("concat", plain),
        LayerOp::Pad(_) => ("pad", plain),
        LayerOp::Transpose(_) => ("transpose", plain),
        LayerOp::ResizeNearest(_) | LayerOp::ResizeBilinear(_) => ("resize", plain),
        LayerOp::DepthToSpace(_) => ("depth_to_space", plain),
        LayerOp::Lut(_) => return None,
    };
    let weights: Option<WeightFormat> = weights.map(str::parse).transpose().ok()?;
    let query = KernelQuery { operator, shape, weights, activation_bits: layer.input.bits, steps };
    table.predict(&query).map(|predicted| predicted.ticks.value)
}

/// What a layer whose weights were stored without zeros, `depth` an output channel, takes of a dense one.
fn steps_of(conv: &Conv<'_>, depth: usize) -> Steps {
    let mut levels = Vec::new();
    for group in conv.weight_groups() {
        if group.layout != Layout::Sparse {
            return Steps::ALL;
        }
        for channel in 0..group.channels {
            let first = levels.len();
            levels.resize(first + depth, 0);
            let row = levels.get_mut(first..).unwrap_or_default();
            for (k, level) in group.sparse_weights(channel) {
                if let Some(slot) = row.get_mut(k) {
                    *slot = level;
                }
            }
        }
    }
    Steps::of(&levels, depth)
}
