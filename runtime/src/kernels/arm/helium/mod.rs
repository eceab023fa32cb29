//! Kernels for the M-profile vector extension, called Helium: 16 products of bytes an instruction.
//!
//! Soundness is that of the parent module. What VMLADAVA multiplies is of one signedness: dense convolution takes codes
//! as they are and levels that count from -128, whose surplus is 128 times the sum of a window; depthwise convolution
//! takes levels as they are and codes less 128, whose surplus is that of a channel. Vectors of sums become codes by
//! VRMULH, which is [`Requantise`](crate::format::Requantise) to the bit.

/// Opens an assembly function: see the parent module's.
macro_rules! helium {
    () => {
        ".cpu cortex-m55"
    };
}

mod add;
mod cells;
mod dense;
mod depthwise;
mod levels;
mod strip;
mod tile;

pub(super) use add::add;

use crate::format::{Conv, Layout};
use crate::kernels::{ConvKernel, Isa, KernelSet, scratch};

/// The kernel for a convolution whose weights are all in [`Layout::Vectors`], if it is linked.
pub(super) fn conv_kernel(conv: &Conv<'_>) -> Option<ConvKernel> {
    let (isa, scratch) = (Isa::Helium, scratch::of_groups);
    if conv.is_depthwise() {
        let depthwise = ConvKernel { isa, run: depthwise::run, scratch, adds: false };
        return KernelSet::LINKED.has_depthwise(Layout::Vectors).then_some(depthwise);
    }
    let dense = ConvKernel { isa, run: dense::run, scratch, adds: false };
    KernelSet::LINKED.has_dense(Layout::Vectors).then_some(dense)
}
