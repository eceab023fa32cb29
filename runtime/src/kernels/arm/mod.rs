//! Kernels for 32-bit Arm with the DSP extension: two 16-bit products an instruction.

mod polynomial;

use super::{ConvKernel, Isa, portable, reference};
use crate::format::{Add, AvgPool, Conv, MaxPool};

/// Whether the kernels of `isa` can run here: the extension is there whenever this module is compiled.
pub fn detect(isa: Isa) -> bool {
    matches!(isa, Isa::Reference | Isa::Portable | Isa::Dsp)
}

/// The kernel of `isa` for a convolution; `None` where there is none.
pub(super) fn conv_kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    polynomial::kernel(isa, conv)
}

pub(super) fn add(_isa: Isa, p: &Add, a: &mut [u8], b: &[u8]) {
    reference::add(p, a, b);
}

pub(super) fn avg_pool(_isa: Isa, p: &AvgPool, input: &[u8], output: &mut [u8]) {
    portable::avg_pool(p, input, output);
}

pub(super) fn max_pool(_isa: Isa, p: &MaxPool, input: &[u8], output: &mut [u8]) {
    portable::max_pool(p, input, output);
}
