//! Sums, concatenation, functions of one element, softmax.

use super::{Operator, Scratch, Wanted};
use crate::ir::Unary;

/// The sum of two activations.
pub(in crate::train) struct Sum;

impl Operator for Sum {
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        for ((y, a), b) in output.iter_mut().zip(inputs[0]).zip(inputs[1]) {
            *y = a + b;
        }
    }

    fn backward(&self, _: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        for target in wanted.inputs.iter_mut().flatten() {
            target.put(|i| gradient[i]);
        }
    }
}

/// The inputs' blocks of `widths` numbers in turn.
pub(in crate::train) struct Concat {
    pub(in crate::train) widths: Vec<usize>,
}

impl Operator for Concat {
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        let total: usize = self.widths.iter().sum();
        for (block, out) in output.chunks_exact_mut(total).enumerate() {
            let mut from = 0;
            for (input, &width) in inputs.iter().zip(&self.widths) {
                out[from..from + width].copy_from_slice(&input[block * width..][..width]);
                from += width;
            }
        }
    }

    fn backward(&self, _: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        let total: usize = self.widths.iter().sum();
        let mut from = 0;
        for (target, &width) in wanted.inputs.iter_mut().zip(&self.widths) {
            if let Some(target) = target {
                target.put(|i| gradient[i / width * total + from + i % width]);
            }
            from += width;
        }
    }
}

/// A function of each element.
impl Operator for Unary {
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        for (y, &x) in output.iter_mut().zip(inputs[0]) {
            *y = self.apply(x);
        }
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        if let Some(target) = &mut wanted.inputs[0] {
            target.put(|i| gradient[i] * slope(self, inputs[0][i]));
        }
    }
}

/// The derivative; at a corner that of the side of zero.
fn slope(unary: &Unary, x: f32) -> f32 {
    let inside = |within: bool| if within { 1.0 } else { 0.0 };
    match *unary {
        Unary::Clamp(clamp) => inside(x > clamp.min && x < clamp.max),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha
            } else {
                1.0
            }
        }
        Unary::Sigmoid => unary.apply(x) * (1.0 - unary.apply(x)),
        Unary::Tanh => 1.0 - unary.apply(x) * unary.apply(x),
        Unary::HardSigmoid { alpha, beta } => alpha * inside((0.0..1.0).contains(&(alpha * x + beta))),
        Unary::HardSwish if x <= -3.0 => 0.0,
        Unary::HardSwish if x >= 3.0 => 1.0,
        Unary::HardSwish => (2.0 * x + 3.0) / 6.0,
    }
}

/// Softmax over rows of `width` numbers.
pub(in crate::train) struct Softmax {
    pub(in crate::train) width: usize,
}

impl Operator for Softmax {
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        for (y, x) in output.chunks_exact_mut(self.width).zip(inputs[0].chunks_exact(self.width)) {
            softmax(x, y);
        }
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        let Some(target) = &mut wanted.inputs[0] else { return };
        target.begin();
        let mut y = vec![0.0; self.width];
        let rows = inputs[0].chunks_exact(self.width).zip(gradient.chunks_exact(self.width));
        for ((x, dy), dx) in rows.zip(target.gradient.chunks_exact_mut(self.width)) {
            softmax(x, &mut y);
            let along: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
            for ((dx, y), dy) in dx.iter_mut().zip(&y).zip(dy) {
                *dx += y * (dy - along);
            }
        }
    }
}

/// Probabilities from logits.
pub(in crate::train) fn softmax(logits: &[f32], out: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (y, x) in out.iter_mut().zip(logits) {
        *y = (x - top).exp();
        sum += *y;
    }
    out.iter_mut().for_each(|y| *y /= sum);
}
