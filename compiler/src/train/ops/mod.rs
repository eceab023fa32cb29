//! What a node computes, and its gradients: one file an operator, each serial and over a few samples
//! at a time. [`super::net`] spreads samples over threads.
//!
//! The gradients of parameters are added up in [`Lanes`], laid out as the operator likes it, and only
//! brought into the order of the parameters when those of all samples are added.

pub(super) mod affine;
pub(super) mod conv;
pub(super) mod depthwise;
pub(super) mod frame;
pub(super) mod linear;
pub(super) mod linear_map;
pub(super) mod max_pool;
pub(super) mod simple;

use super::simd::Lanes;
pub(super) use super::sweep::Write;

/// The arithmetic of one node: a function of whole samples, back to back.
pub(super) trait Operator: Send + Sync {
    /// Takes the parameters that the next passes use: weights and bias, in the graph's layout.
    fn load(&mut self, _parameters: &[&[f32]]) {}

    /// Vectors in which gradients of parameters are added up.
    fn sums_len(&self) -> usize {
        0
    }

    /// The output of each sample.
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], scratch: &mut Scratch);

    /// From the gradient of the output those of the inputs that are wanted, and of the parameters.
    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, scratch: &mut Scratch);

    /// Brings sums into the order of the parameters.
    fn collect(&self, _sums: &[Lanes], _gradients: &mut [&mut [f32]]) {}
}

/// Where gradients go.
pub(super) struct Wanted<'a> {
    /// One an input; `None` where nothing trains before it.
    pub(super) inputs: Vec<Option<Target<'a>>>,
    /// Of the parameters; they are added to.
    pub(super) sums: &'a mut [Lanes],
}

/// The gradient of an input.
pub(super) struct Target<'a> {
    pub(super) gradient: &'a mut [f32],
    pub(super) write: Write,
}

impl Target<'_> {
    /// Makes adding right: what is replaced begins at zero.
    pub(super) fn begin(&mut self) {
        if self.write == Write::Set {
            self.gradient.fill(0.0);
        }
    }

    /// Writes or adds `value(i)` everywhere.
    #[inline]
    pub(super) fn put(&mut self, value: impl Fn(usize) -> f32) {
        match self.write {
            Write::Set => self.gradient.iter_mut().enumerate().for_each(|(i, g)| *g = value(i)),
            Write::Add => self.gradient.iter_mut().enumerate().for_each(|(i, g)| *g += value(i)),
        }
    }
}

/// Memory that a thread keeps between samples.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) source: Vec<f32>,
    pub(super) gradient: Vec<f32>,
}

/// The first `len` numbers of a buffer that grows when needed.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
