//! Kernels for x86-64.

use super::{ConvKernel, Isa};
use crate::format::Conv;

/// Whether this processor has the instructions of `isa`.
pub fn detect(_isa: Isa) -> bool {
    false
}

pub(super) fn conv_kernel(_isa: Isa, _conv: &Conv<'_>) -> Option<ConvKernel> {
    None
}
