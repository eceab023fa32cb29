//! `pare measure`: kernels of listed shapes on a target, as a latency table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pare_runtime::Isa;
use pare_runtime::format::Layout;
use serde_json::json;

use super::progress::Progress;
use super::{Global, Output, args};
use crate::board::quantile;
use crate::compile::{merged, remembered_path, remembered_table};
use crate::cost::table::{LatencyTable, Row};
use crate::deploy::layers_as_run;
use crate::ir::{Graph, text};
use crate::lower::LowerConfig;
use crate::measure::{self, Subject};
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::search::Event;
use crate::target::Target;
use crate::units::Ticks;

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
    /// Widths of the activations that layers with weights read [default: those that the target is fastest at]; on AVX-512
    /// the few bits of 1,2,8 have kernels of their own.
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    activation_bits: Vec<u8>,
    /// The table [default: the remembered one of this machine, which searches go by; its other rows stay].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also tell how well the table predicts this network's layers and their sum without having seen them.
    #[arg(long, value_name = "MODEL")]
    check: Vec<PathBuf>,
    #[command(flatten)]
    passes: args::PassArgs,
    /// Kernels: portable, scalar, avx2, avxvnni, avx512vnni, neon, dotprod or i8mm [default: the fastest].
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let target = Target::find(&args.target)?;
    let isa = args::isa(&target, args.isa)?;
    let board = target.board();
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
    progress.event(Event::Stage { name: "measure kernels", steps: measure::rounds(board.as_ref()) });
    let mut graphs = Vec::with_capacity(lines.len());
    let activation_bits = match args.activation_bits.is_empty() {
        true => target.searched_activation_bits.clone(),
        false => args.activation_bits,
    };
    if let Some(bits) = activation_bits.iter().find(|bits| !target.activation_bits.contains(bits)) {
        bail!(
            "target `{}` has no kernels for {bits}-bit activations: choose from {:?}",
            target.name,
            target.activation_bits
        );
    }
    let narrow: Vec<u8> = activation_bits.iter().copied().filter(|&bits| bits < 8).collect();
    for (number, line) in lines {
        let parse = |input| -> Result<Graph> {
            let network = network(line, input).with_context(|| format!("{file}, line {number}: `{line}`"))?;
            Ok(text::parse_with(&network, |_, shape| Ok(vec![0.5; shape.iter().product()]))?)
        };
        let graph = parse(Input::Bytes)?;
        if graph.weighted().next().is_some() && !narrow.is_empty() {
            graphs.push((parse(Input::Narrowed)?, &narrow[..]));
        }
        if activation_bits.contains(&8) {
            graphs.push((graph, &[8]));
        }
    }
    let checked: Vec<Graph> = args
        .check
        .iter()
        .map(|path| Ok(args::network(path, &args.passes, target.channel_block)?.graph))
        .collect::<Result<_>>()?;
    let subjects: Vec<Subject<'_>> = graphs
        .iter()
        .map(|(graph, bits)| Subject { graph, policies: policies(graph, &target.weight_formats, bits) })
        .collect();
    let mut step = || progress.event(Event::Step { label: String::new() });
    let config = LowerConfig { sums: args.passes.sums(), ..LowerConfig::new(board.layout(isa)) };
    let rows = measure::rows(board.as_ref(), isa, &subjects, &config, &mut step)?;
    let mut checks = Vec::new();
    for graph in &checked {
        checks.extend(check(graph, &rows, &target, isa, &config)?);
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
    let table = LatencyTable::new(measure::provenance(&target, isa), target.unit, rows)?;
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
    let mut errors: Vec<f64> = held_out.iter().flat_map(|fit| fit.errors.iter().copied()).collect();
    errors.sort_by(f64::total_cmp);
    let [median, p90] = [0.5, 0.9].map(|q| 100.0 * quantile(&errors, q));
    let widths = widths(&table);
    for width in &widths {
        text += &format!(
            "  {:<7} {:>3} shapes, {:.2} times as fast as w8a8 in the middle, faster at {}{}\n",
            width.name(),
            width.shapes,
            width.speed,
            width.faster,
            if width.planes > 0 { format!(", of bit planes at {}", width.planes) } else { String::new() },
        );
    }
    text += &format!("  all fits together: held-out error {median:.1} % median, {p90:.1} % p90\n");
    for check in &checks {
        text += &format!(
            "  {} {}: {} kernels never seen, error {:.1} % median, {:.1} % p90; sum {:+.1} %, with its own rows {:+.1} % of {:.2}\n",
            check.network,
            check.weights,
            check.kernels,
            100.0 * check.median,
            100.0 * check.p90,
            100.0 * (check.unseen / check.measured - 1.0),
            100.0 * (check.seen / check.measured - 1.0),
            Ticks { value: check.measured, unit: table.unit() },
        );
    }
    let json = json!({
        "rows": table.rows().len(), "unit": table.unit(), "table": out.display().to_string(), "isa": isa.to_string(), "held_out": held_out, "widths": widths, "checks": checks,
    });
    Ok(Output::new(json, text))
}

/// What weights and activations of some widths gain over 8 bits of both, at the shapes that a table has of both.
#[derive(Debug, serde::Serialize)]
struct Width {
    weights: WeightFormat,
    activation_bits: u8,
    shapes: usize,
    /// Shapes at which they are faster.
    faster: usize,
    /// Shapes at which the fastest layout is bit planes.
    planes: usize,
    /// Middle ratio of the times of 8 bits to theirs.
    speed: f64,
}

impl Width {
    fn name(&self) -> String {
        format!("{}a{}", self.weights, self.activation_bits)
    }
}

fn widths(table: &LatencyTable) -> Vec<Width> {
    let eight = (Some(WeightFormat::Linear(8)), 8);
    let of = |row: &Row| (row.weights, row.activation_bits);
    let bytes: BTreeMap<_, f64> =
        table.fastest().filter(|row| of(row) == eight).map(|row| ((&row.operator, row.shape), row.median)).collect();
    let mut ratios: BTreeMap<_, Vec<(f64, Option<Layout>)>> = BTreeMap::new();
    for row in table.fastest().filter(|row| of(row) != eight) {
        if let (Some(weights), Some(bytes)) = (row.weights, bytes.get(&(&row.operator, row.shape))) {
            ratios.entry((weights, row.activation_bits)).or_default().push((bytes / row.median, row.layout));
        }
    }
    let width = |((weights, activation_bits), mut rows): (_, Vec<(f64, Option<Layout>)>)| {
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let speeds: Vec<f64> = rows.iter().map(|row| row.0).collect();
        Width {
            weights,
            activation_bits,
            shapes: rows.len(),
            faster: speeds.iter().filter(|&&speed| speed > 1.0).count(),
            planes: rows.iter().filter(|row| row.1 == Some(Layout::Planes)).count(),
            speed: quantile(&speeds, 0.5),
        }
    };
    ratios.into_iter().map(width).collect()
}

/// How well a table predicts a network under one policy.
#[derive(Debug, serde::Serialize)]
struct Check {
    network: String,
    weights: WeightFormat,
    kernels: usize,
    /// Middle and ninth tenth of the relative errors over its kernels, none of whose shapes the table has.
    median: f64,
    p90: f64,
    /// The network by the sum of these predictions, by that of its own rows, and by the clock.
    unseen: f64,
    seen: f64,
    measured: f64,
}

/// Predicts a network from the rows of other shapes, and from its own.
fn check(graph: &Graph, rows: &[Row], target: &Target, isa: Isa, config: &LowerConfig) -> Result<Vec<Check>> {
    let board = target.board();
    let provenance = measure::provenance(target, isa);
    let subject = Subject { graph, policies: policies(graph, &target.weight_formats, &[8]) };
    let own = measure::rows(board.as_ref(), isa, std::slice::from_ref(&subject), config, &mut || ())?;
    let shapes: BTreeSet<_> = own.iter().map(|row| (&row.operator, row.shape)).collect();
    let others = rows.iter().filter(|row| !shapes.contains(&(&row.operator, row.shape))).cloned().collect();
    let others = LatencyTable::new(provenance.clone(), target.unit, others)?;
    let own = LatencyTable::new(provenance, target.unit, own.clone())?;
    let config = config.with(own.layouts());
    let timings = measure::end_to_end(board.as_ref(), isa, &subject, &config, 201)?;
    let layers = layers_as_run(graph, &config)?;
    let mut checks = Vec::new();
    for ((policy, timing), &weights) in subject.policies.iter().zip(timings).zip(&target.weight_formats) {
        let (mut errors, mut unseen, mut seen) = (Vec::new(), 0.0, 0.0);
        for query in layers.queries(policy) {
            let ticks = |table: &LatencyTable| {
                let predicted = table.predict(&query)?;
                Some(predicted.ticks.value * timing.yardstick / table.yardstick())
            };
            // What only this network runs, a softmax perhaps, is no fault of the fits.
            let Some(truth) = ticks(&own) else { continue };
            let guess = ticks(&others).unwrap_or(truth);
            (unseen, seen) = (unseen + guess, seen + truth);
            errors.push((guess / truth - 1.0).abs());
        }
        errors.sort_by(f64::total_cmp);
        checks.push(Check {
            network: graph.name.clone(),
            weights,
            kernels: errors.len(),
            median: quantile(&errors, 0.5),
            p90: quantile(&errors, 0.9),
            unseen,
            seen,
            measured: timing.total(0.5).value,
        });
    }
    Ok(checks)
}

/// One policy a weight format and activation width; one in all for a network without weights.
fn policies(graph: &Graph, formats: &[WeightFormat], bits: &[u8]) -> Vec<Policy> {
    let formats = if graph.weighted().next().is_some() { formats } else { &formats[..1] };
    let widths = |&format| bits.iter().map(move |&bits| Policy::uniform(graph, format, bits, EdgeLayers::Uniform));
    formats.iter().flat_map(widths).collect()
}

/// What the layer of a seed reads.
#[derive(Clone, Copy)]
enum Input {
    /// The network's input, whose codes have 8 bits.
    Bytes,
    /// The output of a layer in front, whose codes have as many as a policy says.
    Narrowed,
}

impl Input {
    /// The lines that give the layer its `%x`.
    fn head(self, shape: &str) -> String {
        match self {
            Input::Bytes => format!("input %x: [{shape}]\n"),
            Input::Narrowed => format!("input %in: [{shape}]\n%x: [{shape}] = sigmoid(%in)\n"),
        }
    }
}

/// A network of the layer that a line of seeds describes.
fn network(line: &str, input: Input) -> Result<String> {
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
    let head = format!("graph seed\n{}", input.head(&format!("1, {h}, {w}, {c_in}")));
    let weights = |depth: usize| format!("const %w: [{c_out}, {k}, {k}, {depth}]\nconst %b: [{c_out}]\n");
    let out = format!("%y: [1, {ho}, {wo}, {c_out}]");
    let body = match *operator {
        "conv2d" => format!("{}{out} = conv2d(%x, %w, %b) {window}", weights(c_in)),
        "depthwise" if c_in == c_out => format!("{}{out} = conv2d(%x, %w, %b) {window} groups={c_in}", weights(1)),
        "depthwise" => bail!("a depthwise convolution has as many output as input channels"),
        "fully_connected" => {
            let head = format!("graph seed\n{}", input.head(&format!("1, {c_in}")));
            let weights = format!("const %w: [{c_out}, {c_in}]\nconst %b: [{c_out}]\n");
            return Ok(format!("{head}{weights}%y: [1, {c_out}] = fully_connected(%x, %w, %b)\noutput %y\n"));
        }
        "add" => format!("%y: [1, {h}, {w}, {c_in}] = add(%x, %x)"),
        "avg_pool" => format!("%y: [1, {ho}, {wo}, {c_in}] = avg_pool(%x) kernel=[{k}, {k}] {window}"),
        "max_pool" => format!("%y: [1, {ho}, {wo}, {c_in}] = max_pool(%x) kernel=[{k}, {k}] {window}"),
        _ => bail!("the operator is conv2d, depthwise, fully_connected, add, avg_pool or max_pool"),
    };
    Ok(format!("{head}{body}\noutput %y\n"))
}
