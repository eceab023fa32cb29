//! First and second moments of the inputs that a weighted layer's channels multiply: what turns an
//! error in weights into an error in outputs.

use super::calibrate::CalibrationConfig;
use crate::eval::gemm::{Matrix, multiply_add};
use crate::eval::patches::Patches;
use crate::ir::{Graph, Node, NodeId, Op, ValueId};

/// Windows per input of a layer beyond which its moments gain nothing.
const ROWS_PER_INPUT: usize = 64;

/// Sums over input rows `x` (windows of a convolution, in the layout of its weights).
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Rows summed.
    pub rows: f64,
    /// `sum x`, `k` numbers.
    pub first: Vec<f64>,
    /// `sum x xᵀ`, `k * k` numbers.
    pub second: Vec<f64>,
}

impl Moments {
    /// Nothing summed yet, for rows of `k` inputs.
    pub fn new(k: usize) -> Self {
        Moments { rows: 0.0, first: vec![0.0; k], second: vec![0.0; k * k] }
    }

    /// The mean of every input.
    pub fn mean(&self) -> Vec<f64> {
        self.first.iter().map(|sum| sum / self.rows.max(1.0)).collect()
    }

    /// `E[x xᵀ]`.
    pub fn uncentred(&self) -> Vec<f64> {
        self.second.iter().map(|sum| sum / self.rows.max(1.0)).collect()
    }

    /// `E[(x - E x)(x - E x)ᵀ]`.
    pub fn centred(&self) -> Vec<f64> {
        let mean = self.mean();
        let mut covariance = self.uncentred();
        for (row, &a) in covariance.chunks_exact_mut(mean.len().max(1)).zip(&mean) {
            for (x, &b) in row.iter_mut().zip(&mean) {
                *x -= a * b;
            }
        }
        covariance
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &Moments) {
        self.rows += other.rows;
        add(&mut self.first, other.first.iter().copied());
        add(&mut self.second, other.second.iter().copied());
    }
}

fn add(sums: &mut [f64], terms: impl Iterator<Item = f64>) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// Draws input rows of one weighted node from activations.
pub(crate) struct InputSampler {
    node: NodeId,
    input: ValueId,
    windows: Windows,
    groups: usize,
    rows_per_sample: usize,
    seed: u64,
}

/// Where the rows of a layer come from.
enum Windows {
    /// The last dimension of a fully connected layer's input.
    Rows { k: usize, per_sample: usize },
    /// Windows of a convolution.
    Patches(Patches),
}

impl InputSampler {
    /// For a weighted node that will see `samples` samples.
    pub(crate) fn new(graph: &Graph, id: NodeId, samples: usize, config: &CalibrationConfig) -> Self {
        let node = graph.node(id);
        let (windows, groups) = Windows::of(graph, node);
        let k: usize = graph.input_shape(node, 1)[1..].iter().product();
        let rows = config.rows_per_layer.min(k * ROWS_PER_INPUT);
        let rows_per_sample = rows.div_ceil(samples.max(1)).clamp(1, windows.per_sample());
        let seed = mix(config.seed ^ u64::from(id.0));
        InputSampler { node: id, input: node.inputs[0], windows, groups, rows_per_sample, seed }
    }

    /// The weighted node.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// The activation it reads.
    pub(super) fn input(&self) -> ValueId {
        self.input
    }

    /// Empty moments, one a group.
    pub(super) fn no_moments(&self) -> Vec<Moments> {
        vec![Moments::new(self.row_len() / self.groups); self.groups]
    }

    /// Inputs of a row over all groups.
    fn row_len(&self) -> usize {
        match &self.windows {
            Windows::Rows { k, .. } => *k,
            Windows::Patches(patches) => patches.taps() * patches.channels(),
        }
    }

    /// The same windows of a graph in which the layer reads fewer channels.
    pub(crate) fn on(&self, graph: &Graph) -> Self {
        let (windows, groups) = Windows::of(graph, graph.node(self.node));
        InputSampler { windows, groups, ..*self }
    }

    /// Adds rows of `count` samples, the first of which is sample `first` of all.
    pub(super) fn observe(&self, elements: &[f32], first: usize, count: usize, moments: &mut [Moments]) {
        let rows = self.rows(elements, first, count);
        if self.groups == 1 {
            accumulate(&rows, &mut moments[0]);
        } else {
            self.accumulate_groups(&rows, moments);
        }
    }

    /// The rows of `count` samples, the first of which is sample `first` of all, back to back.
    pub(crate) fn rows(&self, elements: &[f32], first: usize, count: usize) -> Vec<f32> {
        let len = self.row_len();
        let sample_len = elements.len() / count.max(1);
        let mut rows = vec![0.0; count * self.rows_per_sample * len];
        for (row, (sample, position)) in rows.chunks_exact_mut(len).zip(self.places(first, count)) {
            let sample = &elements[sample * sample_len..][..sample_len];
            match &self.windows {
                Windows::Rows { k, .. } => row.copy_from_slice(&sample[position * k..][..*k]),
                Windows::Patches(patches) => patches.copy(sample, position, 0..patches.channels(), row),
            }
        }
        rows
    }

    /// Where [`InputSampler::rows`] are: the sample, counted from `first`, and the position of the output.
    pub(crate) fn places(&self, first: usize, count: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let of_sample = move |s| (0..self.rows_per_sample).map(move |r| (s, self.position(first + s, r)));
        (0..count).flat_map(of_sample)
    }

    /// The `r`-th of this sample's windows: one at random out of each equal part of the image.
    fn position(&self, sample: usize, r: usize) -> usize {
        let all = self.windows.per_sample();
        let (from, to) = (r * all / self.rows_per_sample, (r + 1) * all / self.rows_per_sample);
        let random = mix(self.seed ^ mix((sample * self.rows_per_sample + r) as u64));
        from + (random % (to - from).max(1) as u64) as usize
    }

    /// Rows are `[taps, groups, channels of a group]`.
    fn accumulate_groups(&self, rows: &[f32], moments: &mut [Moments]) {
        let len = self.row_len();
        let channels = match &self.windows {
            Windows::Rows { k, .. } => *k,
            Windows::Patches(patches) => patches.channels(),
        };
        let width = channels / self.groups;
        for (g, moments) in moments.iter_mut().enumerate() {
            let own = |row: &[f32]| -> Vec<f32> {
                row.chunks_exact(channels).flat_map(|tap| tap[g * width..(g + 1) * width].to_vec()).collect()
            };
            let group: Vec<f32> = rows.chunks_exact(len).flat_map(own).collect();
            accumulate(&group, moments);
        }
    }
}

impl Windows {
    /// The windows of a weighted node, and its groups of channels.
    fn of(graph: &Graph, node: &Node) -> (Self, usize) {
        let (input, weights) = (graph.input_shape(node, 0), graph.input_shape(node, 1));
        match &node.op {
            Op::Conv2d(conv) => {
                let patches = Patches::new(conv, input, weights, &graph.value(node.output).shape);
                (Windows::Patches(patches), conv.groups)
            }
            _ => {
                let k = weights[1];
                (Windows::Rows { k, per_sample: input.iter().product::<usize>() / k }, 1)
            }
        }
    }

    fn per_sample(&self) -> usize {
        match self {
            Windows::Rows { per_sample, .. } => *per_sample,
            Windows::Patches(patches) => patches.positions(),
        }
    }
}

/// Adds rows of `moments.first.len()` inputs each.
fn accumulate(rows: &[f32], moments: &mut Moments) {
    let k = moments.first.len();
    let count = rows.len() / k.max(1);
    let mut second = vec![0.0; k * k];
    let matrix = Matrix::row_major(rows, count, k);
    multiply_add(matrix.transposed(), matrix, &mut second, k);
    moments.rows += count as f64;
    add(&mut moments.second, second.iter().copied().map(f64::from));
    for row in rows.chunks_exact(k.max(1)) {
        add(&mut moments.first, row.iter().copied().map(f64::from));
    }
}

/// SplitMix64: one well-mixed number for each input.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
