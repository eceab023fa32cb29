//! What stands in for an architecture that has no kernels of its own: no instruction set is there.

use super::{ConvKernel, Isa, portable, reference};
use crate::format::{Add, AvgPool, Conv, MaxPool};

/// Whether this processor has the instructions: no.
pub(super) fn detect(_isa: Isa) -> bool {
    false
}

/// The kernel of `isa` for a convolution: none.
pub(super) fn conv_kernel(_isa: Isa, _conv: &Conv<'_>) -> Option<ConvKernel> {
    None
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
