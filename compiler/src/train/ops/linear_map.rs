//! Sums of some inputs with fixed weights: average pools, resizes, and everything that only moves
//! numbers (reshapes, padding, transposes, depth to space).

use super::max_pool::covered;
use super::{Operator, Scratch, Wanted};
use crate::eval::spatial::Resizing;
use crate::ir::{DepthToSpaceOrder, Graph, Node, Op, Pool};

/// A sparse matrix over one sample, row after row.
pub(in crate::train) struct LinearMap {
    input: usize,
    /// For each output where its terms end.
    ends: Vec<u32>,
    terms: Vec<Term>,
}

/// Which input, and its weight.
type Term = (u32, f32);

impl LinearMap {
    /// Of a node whose output depends on its first operand in such a way; `None` for other operators.
    pub(in crate::train) fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let (input, output) = (graph.input_shape(node, 0), &graph.value(node.output).shape);
        let mut map = LinearMap { input: input.iter().product(), ends: Vec::new(), terms: Vec::new() };
        let moved = |map: &mut LinearMap, source: &dyn Fn(&[usize]) -> Option<Vec<usize>>| {
            for i in 0..output.iter().product() {
                map.push(source(&place(i, output)).map(|from| (index(&from, input), 1.0)));
            }
        };
        match &node.op {
            Op::Reshape => (0..map.input).for_each(|i| map.push([(i as u32, 1.0)])),
            Op::Transpose { perm } => moved(&mut map, &|at| {
                let mut from = vec![0; at.len()];
                perm.iter().zip(at).for_each(|(&dim, &at)| from[dim] = at);
                Some(from)
            }),
            Op::Pad { pads } => moved(&mut map, &|at| {
                let from = at.iter().zip(pads).zip(input);
                from.map(|((at, pad), &len)| at.checked_sub(pad.0).filter(|&from| from < len)).collect()
            }),
            Op::DepthToSpace { block, order } => {
                moved(&mut map, &|at| Some(before_depth_to_space(at, output[3], *block, *order)));
            }
            Op::AvgPool(pool) => map.average(pool, input, output),
            Op::Resize { mode, coordinates } => {
                let sizes = ([input[1], input[2], input[3]], [output[1], output[2]]);
                let resizing = Resizing::new(*mode, *coordinates, sizes.0, sizes.1);
                resizing.terms().for_each(|terms| map.push(terms));
            }
            _ => return None,
        }
        Some(map)
    }

    fn push(&mut self, terms: impl IntoIterator<Item = Term>) {
        self.terms.extend(terms);
        self.ends.push(self.terms.len() as u32);
    }

    fn average(&mut self, pool: &Pool, input: &[usize], output: &[usize]) {
        let (w, c) = (input[2], input[3]);
        for i in 0..output.iter().product() {
            let at = place(i, output);
            let rows = covered(at[1] * pool.stride[0], pool.pad.top, pool.kernel[0], input[1]);
            let columns = covered(at[2] * pool.stride[1], pool.pad.left, pool.kernel[1], w);
            let share = 1.0 / (rows.len() * columns.len()).max(1) as f32;
            let places = rows.flat_map(|y| columns.clone().map(move |x| (y * w + x) * c));
            self.push(places.map(|pixel| ((pixel + at[3]) as u32, share)));
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[Term]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.terms[start as usize..end as usize])
    }
}

/// The place of element `i`, a number a dimension.
fn place(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (at, &len) in place.iter_mut().zip(shape).rev() {
        (*at, i) = (i % len, i / len);
    }
    place
}

/// The element at a place.
fn index(place: &[usize], shape: &[usize]) -> u32 {
    place.iter().zip(shape).fold(0, |index, (&at, &len)| index * len + at) as u32
}

/// Where the number at `[_, y, x, k]` of the output comes from.
fn before_depth_to_space(at: &[usize], channels: usize, block: usize, order: DepthToSpaceOrder) -> Vec<usize> {
    let (y, x, k) = (at[1], at[2], at[3]);
    let (dy, dx) = (y % block, x % block);
    let channel = match order {
        DepthToSpaceOrder::BlockFirst => (dy * block + dx) * channels + k,
        DepthToSpaceOrder::ChannelFirst => (k * block + dy) * block + dx,
    };
    vec![0, y / block, x / block, channel]
}

impl Operator for LinearMap {
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        for (x, y) in inputs[0].chunks_exact(self.input).zip(output.chunks_exact_mut(self.ends.len())) {
            for (y, terms) in y.iter_mut().zip(self.rows()) {
                *y = terms.iter().map(|&(i, weight)| x[i as usize] * weight).sum();
            }
        }
    }

    fn backward(&self, _: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        let Some(target) = &mut wanted.inputs[0] else { return };
        target.begin();
        let samples = target.gradient.chunks_exact_mut(self.input).zip(gradient.chunks_exact(self.ends.len()));
        for (dx, dy) in samples {
            for (dy, terms) in dy.iter().zip(self.rows()) {
                terms.iter().for_each(|&(i, weight)| dx[i as usize] += dy * weight);
            }
        }
    }
}
