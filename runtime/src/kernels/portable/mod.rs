//! Fast kernels without any special instruction.

use super::{ConvKernel, Isa, reference};
use crate::format::Conv;

/// Scratch of the kernel for this convolution.
pub(super) fn scratch_bytes(_conv: &Conv<'_>) -> usize {
    0
}

pub(super) fn conv_kernel(conv: &Conv<'_>) -> ConvKernel {
    ConvKernel {
        isa: Isa::Portable,
        scratch_bytes: scratch_bytes(conv),
        run: |conv, input, output, _| reference::conv(conv, input, output),
    }
}
