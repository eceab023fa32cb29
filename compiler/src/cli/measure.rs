//! `pare measure`: kernels of listed shapes on a target, as a latency table.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pare_runtime::Isa;
use serde_json::json;

use super::progress::Progress;
use super::{Global, Output, args};
use crate::compile::{merged, remembered_path, remembered_table};
use crate::cost::table::{LatencyTable, Row};
use crate::ir::text;
use crate::lower::LowerConfig;
use crate::measure;
use crate::search::Event;
use crate::target::Target;

/// Shapes of the reference models, measured when no file is given.
const SEEDS: &str = include_str!("../../../targets/seeds/mlperf-tiny.txt");

/// Options of `pare measure`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// What to measure on.
    #[arg(long, default_value = "host")]
    target: String,
    /// Shapes, one a line: OPERATOR H W C_IN C_OUT KERNEL STRIDE [default: those of MLPerf Tiny].
    #[arg(long, value_name = "FILE")]
    seeds: Option<PathBuf>,
    /// The table [default: the remembered one of this machine, which searches go by; its other rows stay].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Kernels: portable, avx2 or avx512vnni [default: the fastest].
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let target = Target::find(&args.target)?;
    let isa = args.isa.unwrap_or_else(Isa::best);
    if !isa.is_available() {
        bail!("this processor cannot run the {isa} kernels");
    }
    let (file, seeds) = match &args.seeds {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), text)
        }
        None => ("the built-in seeds".to_owned(), SEEDS.to_owned()),
    };
    let lines: Vec<(usize, &str)> =
        seeds.lines().enumerate().map(|(i, line)| (i + 1, line.split('#').next().unwrap_or("").trim())).collect();
    let lines: Vec<(usize, &str)> = lines.into_iter().filter(|(_, line)| !line.is_empty()).collect();
    let progress = Progress::new(global);
    progress.event(Event::Stage { name: "measure kernels", steps: lines.len() });
    let config = LowerConfig { layout: target.layout(isa) };
    let mut rows: Vec<Row> = Vec::new();
    for (number, line) in lines {
        let network = network(line).with_context(|| format!("{file}, line {number}: `{line}`"))?;
        let graph = text::parse_with(&network, |_, shape| Ok(vec![0.5; shape.iter().product()]))?;
        for row in measure::host_rows(&graph, &target.weight_formats, &[8], config, isa, &mut |_| ())? {
            let known = |old: &Row| (&old.operator, old.shape, old.weights) == (&row.operator, row.shape, row.weights);
            if !rows.iter().any(known) {
                rows.push(row);
            }
        }
        progress.event(Event::Step { label: line.to_owned() });
    }
    progress.finish();
    let (out, rows) = match args.out {
        Some(out) => (out, rows),
        None => {
            let cache = args::cache(global);
            let known = remembered_table(&cache, &target, isa)?.map_or_else(Vec::new, |table| table.rows().to_vec());
            (remembered_path(&cache, &target, isa), merged(rows, known))
        }
    };
    let table = LatencyTable::new(measure::host_provenance(&target.name, isa), target.unit, rows)?;
    table.save(&out)?;

    let held_out = table.held_out();
    let mut text = format!("{} rows in {}\n", table.rows().len(), out.display());
    for fit in &held_out {
        let weights = fit.weights.map_or_else(|| "-".to_owned(), |w| w.to_string());
        text += &format!(
            "  fit of {:<16} {weights:<3} {:>3} rows, held-out error {:>5.1} % median, {:>5.1} % p90\n",
            fit.operator,
            fit.rows,
            100.0 * fit.median,
            100.0 * fit.p90
        );
    }
    let json = json!({
        "rows": table.rows().len(), "unit": table.unit(), "table": out.display().to_string(), "isa": isa.to_string(), "held_out": held_out,
    });
    Ok(Output::new(json, text))
}

/// A network of the one layer that a line of seeds describes.
fn network(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [operator, numbers @ ..] = &words[..] else { bail!("it is empty") };
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|word| word.parse().ok().filter(|n| (1..=4096).contains(n)))
        .collect::<Option<_>>()
        .context("after the operator come numbers from 1 to 4096")?;
    let &[h, w, c_in, c_out, k, s] = &numbers[..] else {
        bail!("write OPERATOR H W C_IN C_OUT KERNEL STRIDE");
    };
    // "Same" padding, more of it behind, as the usual frameworks do.
    let pad = |size: usize| {
        let total = ((size.div_ceil(s) - 1) * s + k).saturating_sub(size);
        (total / 2, total - total / 2)
    };
    let ((top, bottom), (left, right)) = (pad(h), pad(w));
    let (ho, wo) = (h.div_ceil(s), w.div_ceil(s));
    let window = format!("stride=[{s}, {s}] pad=[{top}, {bottom}, {left}, {right}]");
    let head = format!("graph seed\ninput %x: [1, {h}, {w}, {c_in}]\n");
    let weights = |depth: usize| format!("const %w: [{c_out}, {k}, {k}, {depth}]\nconst %b: [{c_out}]\n");
    let out = format!("%y: [1, {ho}, {wo}, {c_out}]");
    let body = match *operator {
        "conv2d" => format!("{}{out} = conv2d(%x, %w, %b) {window}", weights(c_in)),
        "depthwise" if c_in == c_out => format!("{}{out} = conv2d(%x, %w, %b) {window} groups={c_in}", weights(1)),
        "depthwise" => bail!("a depthwise convolution has as many output as input channels"),
        "fully_connected" => {
            let head = format!("graph seed\ninput %x: [1, {c_in}]\nconst %w: [{c_out}, {c_in}]\nconst %b: [{c_out}]\n");
            return Ok(format!("{head}%y: [1, {c_out}] = fully_connected(%x, %w, %b)\noutput %y\n"));
        }
        "add" => format!("%y: [1, {h}, {w}, {c_in}] = add(%x, %x)"),
        "avg_pool" => format!("%y: [1, {ho}, {wo}, {c_in}] = avg_pool(%x) kernel=[{k}, {k}] {window}"),
        "max_pool" => format!("%y: [1, {ho}, {wo}, {c_in}] = max_pool(%x) kernel=[{k}, {k}] {window}"),
        _ => bail!("the operator is conv2d, depthwise, fully_connected, add, avg_pool or max_pool"),
    };
    Ok(format!("{head}{body}\noutput %y\n"))
}
