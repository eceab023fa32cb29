//! A factor or an addend for each channel.

use super::super::simd::{LANES, Lanes};
use super::{Operator, Scratch, Wanted};

/// What the constant does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::train) enum Kind {
    /// It multiplies.
    Factor,
    /// It is added.
    Addend,
}

/// See the module. One number for all channels is not trained.
pub(in crate::train) struct Affine {
    pub(in crate::train) kind: Kind,
    /// One a channel, or one for all.
    pub(in crate::train) constant: Vec<f32>,
}

impl Operator for Affine {
    fn load(&mut self, parameters: &[&[f32]]) {
        if let Some(constant) = parameters.first() {
            self.constant.copy_from_slice(constant);
        }
    }

    fn sums_len(&self) -> usize {
        self.constant.len().div_ceil(LANES)
    }

    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        let width = self.constant.len();
        for (y, x) in output.chunks_exact_mut(width).zip(inputs[0].chunks_exact(width)) {
            for ((y, x), c) in y.iter_mut().zip(x).zip(&self.constant) {
                *y = if self.kind == Kind::Factor { x * c } else { x + c };
            }
        }
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        let width = self.constant.len();
        let sums = wanted.sums.as_flattened_mut();
        for (dy, x) in gradient.chunks_exact(width).zip(inputs[0].chunks_exact(width)) {
            for ((sum, dy), x) in sums.iter_mut().zip(dy).zip(x) {
                *sum += if self.kind == Kind::Factor { dy * x } else { *dy };
            }
        }
        if let Some(target) = &mut wanted.inputs[0] {
            target
                .put(|i| if self.kind == Kind::Factor { gradient[i] * self.constant[i % width] } else { gradient[i] });
        }
    }

    fn collect(&self, sums: &[Lanes], gradients: &mut [&mut [f32]]) {
        if let Some(gradient) = gradients.first_mut() {
            gradient.iter_mut().zip(sums.as_flattened()).for_each(|(g, sum)| *g += sum);
        }
    }
}
