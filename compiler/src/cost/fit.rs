//! What measured kernels say about shapes that were not measured.
//!
//! Two parts. A sum of non-negative prices of what the kernels do ([`pare_runtime::kernels::work`]), of a call and
//! of bytes, by least squares of the *relative* error: right in the large, whatever the shape.
//! And what that leaves over, interpolated between shapes of like traits by Gaussian-process regression
//! (Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), algorithm 2.1): the tails and caches
//! that nobody counts.

use pare_runtime::Isa;
use pare_runtime::format::{self, Conv, Pool};
use pare_runtime::kernels::work::{self, Work};

use crate::cholesky::Cholesky;
use crate::policy::WeightFormat;

use super::layers::Shape;
use super::nnls::nnls;
use super::table::KernelQuery;

/// Number of [`causes`].
const CAUSES: usize = 5 + work::CAUSES;
/// Number of [`traits`].
const TRAITS: usize = 12;

/// Prices and interpolation of one operator in one weight format.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    isa: Isa,
    prices: [f64; CAUSES],
    /// Of each trait: one over its spread; 0 where all shapes agree in it.
    scales: [f64; TRAITS],
    /// Scaled traits of each shape, and the weight of its leftover.
    anchors: Vec<([f64; TRAITS], f64)>,
}

impl Fit {
    /// The fit of kernels of an instruction set and their measured times.
    pub(super) fn new(isa: Isa, samples: &[(KernelQuery<'_>, f64)]) -> Fit {
        let causes: Vec<[f64; CAUSES]> = samples.iter().map(|(query, _)| causes(isa, query)).collect();
        let ticks: Vec<f64> = samples.iter().map(|(_, ticks)| *ticks).collect();
        let prices = prices(&causes, &ticks);
        let traits: Vec<[f64; TRAITS]> = samples.iter().map(|(query, _)| traits(query)).collect();
        let scales = scales(&traits);
        let places: Vec<[f64; TRAITS]> = traits.iter().map(|traits| scaled(traits, &scales)).collect();
        let mut weights: Vec<f64> =
            causes.iter().zip(&ticks).map(|(causes, ticks)| (ticks / priced(&prices, causes)).ln()).collect();
        let covariance = |i: usize, j: usize| alike(&places[i], &places[j]) + if i == j { NOISE } else { 0.0 };
        Cholesky::of(places.len(), covariance).solve(&mut weights);
        Fit { isa, prices, scales, anchors: places.into_iter().zip(weights).collect() }
    }

    /// The ticks of a kernel.
    pub(super) fn time(&self, query: &KernelQuery<'_>) -> f64 {
        let place = scaled(&traits(query), &self.scales);
        let leftover: f64 = self.anchors.iter().map(|(anchor, weight)| alike(anchor, &place) * weight).sum();
        priced(&self.prices, &causes(self.isa, query)) * leftover.exp()
    }
}

/// What a kernel's time is made of, in the order of the prices: a call, bytes, and what the kernel says.
fn causes(isa: Isa, query: &KernelQuery<'_>) -> [f64; CAUSES] {
    let bytes = Bytes::of(query);
    let mut causes = [0.0; CAUSES];
    let all = [1.0, bytes.input, bytes.output, bytes.weights, bytes.spill()].into_iter();
    let work = work(isa, query).map(|count| count as f64);
    causes.iter_mut().zip(all.chain(work)).for_each(|(cause, count)| *cause = count);
    causes
}

/// What the kernel of an instruction set says that it does.
fn work(isa: Isa, query: &KernelQuery<'_>) -> Work {
    let Shape { h, w, c_in, h_out, w_out, c_out, kernel, stride, groups } = query.shape;
    let (input, output) = (format::Shape { h, w, c: c_in }, format::Shape { h: h_out, w: w_out, c: c_out });
    // More of the padding is behind, as the usual frameworks have it.
    let pad = |axis: usize, from: usize, to: usize| {
        (to.saturating_sub(1) * stride[axis] + kernel[axis]).saturating_sub(from) / 2
    };
    let pad = [pad(0, h, h_out), pad(1, w, w_out)];
    let pool = Pool { input, output, kernel, stride, pad };
    match (query.operator, query.weights) {
        ("avg_pool", _) => isa.avg_pool_work(&pool),
        ("max_pool", _) => isa.max_pool_work(&pool),
        (_, Some(format)) => {
            let mut conv = Conv::EMPTY;
            (conv.input, conv.output, conv.groups) = (input, output, groups);
            (conv.kernel, conv.stride, conv.pad) = (kernel, stride, pad);
            isa.conv_work(&conv, format.into())
        }
        _ => isa.pointwise_work(output),
    }
}

/// What a kernel reads and writes.
struct Bytes {
    input: f64,
    output: f64,
    weights: f64,
}

impl Bytes {
    fn of(query: &KernelQuery<'_>) -> Bytes {
        let Shape { h, w, c_in, h_out, w_out, c_out, .. } = query.shape;
        let bits = query.weights.map_or(0.0, |format: WeightFormat| f64::from(format.bits()));
        let weights = (panels(query) * 16 * steps(query) * terms(query)) as f64 * bits / 8.0;
        Bytes { input: (h * w * c_in) as f64, output: (h_out * w_out * c_out) as f64, weights }
    }

    /// Those that a first-level cache cannot hold (32 to 48 KiB where there is one).
    fn spill(&self) -> f64 {
        (self.input + self.output + self.weights - CACHE_BYTES).max(0.0)
    }
}

const CACHE_BYTES: f64 = 40e3;

/// Blocks of 16 output channels.
fn panels(query: &KernelQuery<'_>) -> usize {
    query.shape.c_out.div_ceil(16)
}

/// Steps of a window: [`terms`] of a row of it each.
fn steps(query: &KernelQuery<'_>) -> usize {
    let Shape { c_in, kernel: [rows, columns], .. } = query.shape;
    rows * if terms(query) == 1 { columns } else { (columns * c_in).div_ceil(terms(query)) }
}

/// Products that are summed at once: four of a dense window, else one.
fn terms(query: &KernelQuery<'_>) -> usize {
    if matches!(query.operator, "conv2d" | "fully_connected") { 4 } else { 1 }
}

/// Where a kernel stands among its like.
fn traits(query: &KernelQuery<'_>) -> [f64; TRAITS] {
    let Shape { c_in, h_out, w_out, c_out, kernel, stride, groups, .. } = query.shape;
    let panels = panels(query);
    let ln = |x: usize| (x.max(1) as f64).ln();
    [
        ln(h_out * w_out),
        ln(w_out),
        ln(panels),
        ln(steps(query)),
        ln(c_in / groups.max(1)),
        // How full the last panel is, and whether panels go in twos and fours.
        (c_out as f64 / (16 * panels).max(1) as f64).ln(),
        (panels % 2) as f64,
        f64::from(u8::from(panels.is_multiple_of(4))),
        kernel[0] as f64,
        stride[0] as f64,
        (Bytes::of(query).spill() / CACHE_BYTES).ln_1p(),
        f64::from(query.activation_bits),
    ]
}

fn priced(prices: &[f64; CAUSES], causes: &[f64; CAUSES]) -> f64 {
    let sum: f64 = causes.iter().zip(prices).map(|(cause, price)| cause * price).sum();
    sum.max(f64::MIN_POSITIVE)
}

/// Prices that minimise the sum of squared relative errors.
fn prices(causes: &[[f64; CAUSES]], ticks: &[f64]) -> [f64; CAUSES] {
    // Causes span six decades: each column is brought to unit length for the solver.
    let mut lengths = [0.0; CAUSES];
    let mut matrix: Vec<Vec<f64>> = Vec::with_capacity(ticks.len() + CAUSES);
    for (causes, ticks) in causes.iter().zip(ticks) {
        let relative = causes.map(|cause| cause / ticks);
        lengths.iter_mut().zip(relative).for_each(|(length, x)| *length += x * x);
        matrix.push(relative.to_vec());
    }
    let lengths = lengths.map(|x: f64| if x > 0.0 { x.sqrt() } else { 1.0 });
    for row in &mut matrix {
        row.iter_mut().zip(lengths).for_each(|(x, length)| *x /= length);
    }
    // A trace of ridge picks, among prices that explain few rows equally well, the most even ones.
    const RIDGE: f64 = 1e-3;
    let mut wanted = vec![1.0; ticks.len()];
    for i in 0..CAUSES {
        matrix.push((0..CAUSES).map(|j| if i == j { RIDGE } else { 0.0 }).collect());
        wanted.push(0.0);
    }
    let solution = nnls(&matrix, &wanted);
    let mut prices = [0.0; CAUSES];
    for (price, (x, length)) in prices.iter_mut().zip(solution.iter().zip(lengths)) {
        *price = x / length;
    }
    prices
}

/// Variance of a sample's own error, of what interpolation explains.
const NOISE: f64 = 0.02;
/// Distance over which likeness fades, in standard deviations of the traits.
const REACH: f64 = 3.0;

/// Covariance of the leftovers at two places: 1 at the same, 0 far off.
fn alike(a: &[f64; TRAITS], b: &[f64; TRAITS]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (-0.5 * distance).exp()
}

fn scaled(traits: &[f64; TRAITS], scales: &[f64; TRAITS]) -> [f64; TRAITS] {
    let mut place = *traits;
    place.iter_mut().zip(scales).for_each(|(x, scale)| *x *= scale);
    place
}

fn scales(traits: &[[f64; TRAITS]]) -> [f64; TRAITS] {
    let n = traits.len() as f64;
    let mut scales = [0.0; TRAITS];
    for (t, scale) in scales.iter_mut().enumerate() {
        let mean = traits.iter().map(|traits| traits[t]).sum::<f64>() / n;
        let variance = traits.iter().map(|traits| (traits[t] - mean) * (traits[t] - mean)).sum::<f64>() / n;
        *scale = if variance > 1e-12 { 1.0 / (REACH * variance.sqrt()) } else { 0.0 };
    }
    scales
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_what_prices_cannot_say() {
        // A kernel that takes panels in pairs: an odd number costs as much as the next even one.
        let query = |edge: usize, c_in: usize, c_out: usize| KernelQuery {
            operator: "conv2d",
            shape: Shape {
                h: edge,
                w: edge,
                c_in,
                h_out: edge,
                w_out: edge,
                c_out,
                kernel: [1, 1],
                stride: [1, 1],
                groups: 1,
            },
            weights: Some(WeightFormat::Linear(8)),
            activation_bits: 8,
            steps: Default::default(),
        };
        let truth = |q: &KernelQuery<'_>| {
            let pixels = (q.shape.h_out * q.shape.w_out) as f64;
            150.0 + pixels * panels(q).next_multiple_of(2) as f64 * (2.0 + 0.3 * steps(q) as f64)
        };
        let grid = [4, 6, 8, 12, 16].into_iter().flat_map(|edge| {
            [8, 16, 32, 64].into_iter().flat_map(move |c_in| [16, 32, 48, 64, 96, 128].map(|c| (edge, c_in, c)))
        });
        let queries: Vec<KernelQuery<'_>> = grid.map(|(edge, c_in, c_out)| query(edge, c_in, c_out)).collect();
        let samples: Vec<(KernelQuery<'_>, f64)> = queries.iter().map(|q| (*q, truth(q))).collect();
        let fit = Fit::new(Isa::Portable, &samples);
        for q in [query(10, 24, 48), query(7, 48, 80), query(14, 12, 112)] {
            assert!((fit.time(&q) / truth(&q) - 1.0).abs() < 0.05, "{q:?}: {} of {}", fit.time(&q), truth(&q));
        }
    }
}
