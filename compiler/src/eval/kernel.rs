//! How a plain function over slices becomes a candle operator, and the element-wise last step that
//! every node's output passes through.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, InplaceOp1, Layout, Result, Shape, bail};

use crate::ir::{Clamp, Unary};
use crate::quant::ActivationCode;

/// A function that maps each of several samples, back to back, to its output.
pub(super) trait Kernel: Send + Sync {
    /// `input` and `output` hold `samples` samples.
    fn run(&self, samples: usize, input: &[f32], output: &mut [f32]);
}

/// A [`Kernel`] as a candle operator from a batch to a batch.
pub(super) struct Batched<'a> {
    /// What is computed.
    pub(super) kernel: &'a dyn Kernel,
    /// Dimensions of the output, of which the first is the number of samples.
    pub(super) output: Shape,
}

impl CustomOp1 for Batched<'_> {
    fn name(&self) -> &'static str {
        "batched"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((from, to)) = layout.contiguous_offsets() else { bail!("a kernel needs a contiguous input") };
        let mut output = vec![0.0; self.output.elem_count()];
        self.kernel.run(self.output.dims()[0], &storage.as_slice::<f32>()?[from..to], &mut output);
        Ok((CpuStorage::F32(output), self.output.clone()))
    }
}

/// A function of two elements, over two batches of one shape. (Candle's own spin on a thread pool of their own.)
pub(super) struct Pairwise<F>(pub(super) F);

impl<F: Fn(f32, f32) -> f32> CustomOp2 for Pairwise<F> {
    fn name(&self) -> &'static str {
        "pairwise"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (Some(a_span), Some(b_span)) = (a_layout.contiguous_offsets(), b_layout.contiguous_offsets()) else {
            bail!("a function of pairs needs contiguous operands")
        };
        let (a, b) = (&a.as_slice::<f32>()?[a_span.0..a_span.1], &b.as_slice::<f32>()?[b_span.0..b_span.1]);
        let results = a.iter().zip(b).map(|(&a, &b)| self.0(a, b)).collect();
        Ok((CpuStorage::F32(results), a_layout.shape().clone()))
    }
}

/// `scale * x + shift` with one number a channel or one for all.
pub(super) struct Affine {
    /// One a channel.
    pub(super) scale: Vec<f32>,
    /// One a channel.
    pub(super) shift: Vec<f32>,
}

impl Affine {
    /// Adds a constant that is a scalar or one number a channel.
    pub(super) fn add(constant: &[f32]) -> Self {
        Affine { scale: vec![1.0; constant.len()], shift: constant.to_vec() }
    }

    /// Multiplies by such a constant.
    pub(super) fn multiply(constant: &[f32]) -> Self {
        Affine { scale: constant.to_vec(), shift: vec![0.0; constant.len()] }
    }
}

impl Kernel for Affine {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        let channels = self.scale.len();
        for (y, x) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
            for ((y, x), (scale, shift)) in y.iter_mut().zip(x).zip(self.scale.iter().zip(&self.shift)) {
                *y = x * scale + shift;
            }
        }
    }
}

/// A function of each element.
impl Kernel for Unary {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        for (y, &x) in output.iter_mut().zip(input) {
            *y = self.apply(x);
        }
    }
}

/// The last step of a node: its fused clamp, then the code of its output, if it has one.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// See [`Clamp`].
    pub(super) clamp: Clamp,
    /// The code that stands for every element; `None` keeps them as they are.
    pub(super) code: Option<ActivationCode>,
}

impl Finish {
    /// Whether it leaves everything as it is.
    pub(super) fn is_identity(&self) -> bool {
        self.clamp.is_none() && self.code.is_none()
    }

    /// Applies it to every element.
    pub(super) fn run(&self, elements: &mut [f32]) {
        if !self.clamp.is_none() {
            for x in elements.iter_mut() {
                *x = self.clamp.apply(*x);
            }
        }
        if let Some(code) = self.code {
            let (zero, top) = (f32::from(code.zero), f32::from(code.max_code()));
            for x in elements {
                // As `decode(encode(x))`: within 0 ..= 255 adding a half and cutting is rounding
                // half away from zero, and unlike `round` it is one vector instruction everywhere.
                let position = (*x / code.scale + zero).max(0.0).min(top);
                *x = code.scale * ((position + 0.5) as i32 as f32 - zero);
            }
        }
    }
}

impl InplaceOp1 for Finish {
    fn name(&self) -> &'static str {
        "finish"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(elements), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            bail!("the last step needs contiguous f32 elements")
        };
        self.run(&mut elements[from..to]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_are_those_of_encode_and_decode(
            x in -300.0f32..300.0,
            scale in 0.01f32..2.0,
            zero in 0u8..16,
            bits in 4u8..=8,
        ) {
            let code = ActivationCode { scale, zero, bits };
            let finish = Finish { clamp: Clamp::NONE, code: Some(code) };
            let mut elements = [x];
            finish.run(&mut elements);
            prop_assert_eq!(elements[0], code.decode(code.encode(x)));
            let once = elements;
            finish.run(&mut elements);
            prop_assert_eq!(elements, once);
        }
    }
}
