//! Times the runtime's kernels on a target and turns the samples into rows of a latency table.
//!
//! Kernels are timed where they will run: inside whole networks, after one another, with the cache in the
//! state that their neighbours leave. Single shapes (`pare measure --seeds`) are networks of one layer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use pare_runtime::format::{LayerOp, Layout};
use pare_runtime::kernels::KernelName;
use pare_runtime::{Isa, Model};
use rayon::prelude::*;

use crate::board::{AlignedBytes, Board, BoardError, Timing, quantile, runtime_version};
use crate::cost::layers::{Layer, Layers, Steps};
use crate::cost::table::{Provenance, Row};
use crate::deploy::{DeployError, deploy};
use crate::eval::EvalError;
use crate::ir::{Graph, NodeId};
use crate::lower::{LowerConfig, Plan, PlannedLayer, PlannedOp};
use crate::policy::{Policy, WeightChoice};
use crate::quant::{
    BiasCorrection, Calibration, CalibrationConfig, ClipMethod, CodeBank, QuantConfig, QuantError, Rounding, calibrate,
};
use crate::rng::Pcg32;
use crate::search::Event;
use crate::target::Target;
use crate::units::TickUnit;

/// Rounds over all networks: a shared machine is slow in spells of seconds, and each kernel should be seen
/// in several. Counts are the same in all.
fn rounds(board: &dyn Board) -> usize {
    if board.unit() == TickUnit::Nanoseconds { 7 } else { 1 }
}

/// The quietest rounds, which count.
const KEPT: usize = 4;
/// Samples of each kernel in a round.
const SAMPLES: usize = 5;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The network could not be deployed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// It could not be quantised.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// It could not be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The blob does not run on the board.
    #[error(transparent)]
    Board(#[from] BoardError),
}

/// A network and what it is timed under.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Each is a blob of its own.
    pub policies: Vec<Policy>,
}

/// Times every kernel of every subject on a board, and each layer in every layout that it can have.
///
/// Times do not depend on what the weights and activations are, so no data is needed.
///
/// # Errors
/// See [`MeasureError`].
pub fn rows(
    board: &dyn Board,
    isa: Isa,
    subjects: &[Subject<'_>],
    config: &LowerConfig,
    events: &mut dyn FnMut(Event),
) -> Result<Vec<Row>, MeasureError> {
    let mut variants = Vec::new();
    for subject in subjects {
        variants.extend(variants_of(subject, &config.candidates(&Layers::of(subject.graph)))?);
    }
    // Emulators do not slow one another's counts, and a board at a port is asked one thing at a time anyway.
    let together = if board.unit() == TickUnit::Nanoseconds { 1 } else { rayon::current_num_threads() };
    let rounds = rounds(board);
    events(Event::Stage { name: "measure kernels", steps: rounds * variants.len().div_ceil(together) });
    for _ in 0..rounds {
        for some in variants.chunks_mut(together) {
            match some {
                [one] => one.time(board, isa)?,
                some => some.par_iter_mut().try_for_each(|variant| variant.time(board, isa))?,
            }
            events(Event::Step { label: String::new() });
        }
    }
    let yardstick = variants.iter().flat_map(|v| &v.rounds).map(|round| round.yardstick).fold(f64::INFINITY, f64::min);
    let mut rows: BTreeMap<_, Row> = BTreeMap::new();
    for variant in variants {
        for row in variant.rows(yardstick) {
            let key =
                (row.operator.clone(), row.shape, row.weights, row.activation_bits, row.steps, row.kernel.clone());
            match rows.entry(key) {
                Entry::Vacant(place) => drop(place.insert(row)),
                // Layers alike in everything are one kernel, seen in several places.
                Entry::Occupied(mut known) => known.get_mut().samples.extend(row.samples),
            }
        }
    }
    Ok(rows.into_values().map(summed_up).collect())
}

/// Times a whole network under each of its policies.
///
/// # Errors
/// See [`MeasureError`].
pub fn end_to_end(
    board: &dyn Board,
    isa: Isa,
    subject: &Subject<'_>,
    config: &LowerConfig,
    runs: usize,
) -> Result<Vec<Timing>, MeasureError> {
    let time = |variant: &Variant<'_>| Ok(board.time(&variant.blob, isa, &variant.codes()?, runs)?);
    variants_of(subject, std::slice::from_ref(config))?.iter().map(time).collect()
}

/// A network under one policy, and what each round of timing saw.
struct Variant<'a> {
    policy: &'a Policy,
    blob: AlignedBytes,
    /// The layout of each node that has weights.
    layouts: BTreeMap<NodeId, Layout>,
    layers: Layers,
    served: Vec<Option<NodeId>>,
    rounds: Vec<Round>,
}

/// Every policy under every configuration that makes a difference to it.
fn variants_of<'a>(subject: &'a Subject<'_>, configs: &[LowerConfig]) -> Result<Vec<Variant<'a>>, MeasureError> {
    let graph = subject.graph;
    let calibration = noise_calibration(graph)?;
    let quant = QuantConfig {
        clip: ClipMethod::MinMax,
        rounding: Rounding::Nearest,
        bias_correction: BiasCorrection::Off,
        ..QuantConfig::USUAL
    };
    let bank = CodeBank::new(graph, &calibration, &quant)?;
    let mut variants: Vec<Variant<'a>> = Vec::new();
    for policy in &subject.policies {
        let first = variants.len();
        for config in configs {
            let deployed = deploy(&bank, policy, config, "")?;
            let layouts = layouts_of(&deployed.plan);
            if variants[first..].iter().all(|variant| variant.layouts != layouts) {
                let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
                let layers = Layers::of(graph).with_sums(deployed.plan.sums());
                let served = deployed.plan.served();
                variants.push(Variant { policy, blob, layouts, layers, served, rounds: Vec::new() });
            }
        }
    }
    Ok(variants)
}

/// The layout of each node's weights, which is one for all their formats.
fn layouts_of(plan: &Plan) -> BTreeMap<NodeId, Layout> {
    let of = |layer: &PlannedLayer| match &layer.op {
        PlannedOp::Conv(conv) => Some((layer.node?, conv.weights.first()?.layout)),
        _ => None,
    };
    plan.layers.iter().filter_map(of).collect()
}

struct Round {
    yardstick: f64,
    /// The kernel of each node and its median.
    nodes: BTreeMap<NodeId, (String, f64)>,
}

impl Variant<'_> {
    /// Some input.
    fn codes(&self) -> Result<Vec<u8>, BoardError> {
        Ok(vec![0x55; Model::parse(&self.blob)?.inputs().map(|t| t.shape.len()).sum()])
    }

    fn time(&mut self, board: &dyn Board, isa: Isa) -> Result<(), MeasureError> {
        let model = Model::parse(&self.blob).map_err(BoardError::from)?;
        let timing = board.time(&self.blob, isa, &self.codes()?, SAMPLES)?;
        let nodes = per_node(&self.served, &model, &timing);
        self.rounds.push(Round { yardstick: timing.yardstick, nodes });
        Ok(())
    }

    /// The quietest rounds, scaled to where the yardstick takes `yardstick`.
    fn rows(mut self, yardstick: f64) -> Vec<Row> {
        self.rounds.sort_by(|a, b| a.yardstick.total_cmp(&b.yardstick));
        self.rounds.truncate(KEPT);
        let layers = &self.layers;
        let timed = |(index, layer): (usize, &Layer)| {
            let node = NodeId(index as u32);
            let (kernel, _) = self.rounds.first()?.nodes.get(&node)?.clone();
            let weights = match layer.choice(self.policy) {
                Ok(WeightChoice::Layer(format)) => Some(*format),
                // A layer of several formats is no row: it is priced by the share of each.
                Ok(WeightChoice::Channels(_)) => return None,
                Err(_) => None,
            };
            let activation_bits = layers.input_bits(layer, self.policy);
            let (operator, shape) = (layer.operator.to_owned(), layer.shape);
            let layout = self.layouts.get(&node).copied();
            let steps = if layout == Some(Layout::Sparse) { layer.steps } else { Steps::ALL };
            let scaled = |round: &Round| Some(round.nodes.get(&node)?.1 * yardstick / round.yardstick);
            let samples = self.rounds.iter().filter_map(scaled).collect();
            Some(Row {
                kernel,
                operator,
                shape,
                weights,
                activation_bits,
                steps,
                layout,
                median: 0.0,
                p10: 0.0,
                yardstick,
                samples,
            })
        };
        layers.iter().enumerate().filter_map(timed).collect()
    }
}

/// The kernel of each node and its median; `served` says for each step which node it counts for.
pub fn per_node(served: &[Option<NodeId>], model: &Model<'_>, timing: &Timing) -> BTreeMap<NodeId, (String, f64)> {
    let mut of_node: BTreeMap<NodeId, (String, f64)> = BTreeMap::new();
    let layers = model.layers().zip(&timing.layers).zip(&timing.isas);
    for (((layer, samples), &isa), node) in layers.zip(served.iter().copied()) {
        let Some(node) = node else { continue };
        let (kernel, sum) = of_node.entry(node).or_default();
        *kernel = kernel_name(isa, &layer.op);
        *sum += quantile(samples, 0.5);
    }
    of_node
}

/// Who measured what, and when.
pub fn provenance(target: &Target, isa: Isa) -> Provenance {
    Provenance {
        target: target.measured(),
        cpu: target.board().processor(),
        isa: isa.to_string(),
        runtime_version: runtime_version(),
        pare_version: env!("CARGO_PKG_VERSION").to_owned(),
        date: today(),
    }
}

/// The name of the kernel of a family that runs an operator: what joins tables, dispatch and benches.
pub fn kernel_name(isa: Isa, op: &LayerOp<'_>) -> String {
    match op {
        LayerOp::Conv(conv) => KernelName::of(isa, conv).to_string(),
        LayerOp::Add(_) => format!("{isa}_add"),
        LayerOp::AvgPool(_) => format!("{isa}_avg_pool"),
        LayerOp::MaxPool(_) => format!("{isa}_max_pool"),
        LayerOp::Lut(_) => format!("{isa}_lut"),
        LayerOp::Softmax(_) => format!("{isa}_softmax"),
        LayerOp::Concat { .. } => format!("{isa}_concat"),
        LayerOp::Pad(_) => format!("{isa}_pad"),
        LayerOp::Transpose(_) => format!("{isa}_transpose"),
        LayerOp::ResizeNearest(_) => format!("{isa}_resize_nearest"),
        LayerOp::ResizeBilinear(_) => format!("{isa}_resize_bilinear"),
        LayerOp::DepthToSpace(_) => format!("{isa}_depth_to_space"),
    }
}

/// Sorts a row's samples and takes its figures from them.
fn summed_up(mut row: Row) -> Row {
    // The clock ticks in whole nanoseconds; a kernel takes at least one.
    row.samples.iter_mut().for_each(|ns| *ns = ns.max(1.0));
    row.samples.sort_by(f64::total_cmp);
    row.median = quantile(&row.samples, 0.5);
    row.p10 = quantile(&row.samples, 0.1);
    row
}

fn noise_calibration(graph: &Graph) -> Result<Calibration, MeasureError> {
    const N: usize = 4;
    let mut random = Pcg32::new(0, 0);
    let len: usize = graph.inputs.iter().map(|&v| graph.value(v).len()).sum();
    let samples: Vec<f32> = (0..N * len).map(|_| random.unit() * 2.0 - 1.0).collect();
    Ok(calibrate(graph, &samples, N, &CalibrationConfig { rows_per_layer: 64, seed: 0 })?)
}

/// Today in UTC, `YYYY-MM-DD`, from the days since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn today() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
