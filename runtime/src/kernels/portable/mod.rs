//! Fast kernels without any special instruction: blocked loops that a compiler turns into vectors.
//!
//! A convolution is a decoder (`decode`: packed codes to a few rows of i8 levels, whatever the format and
//! layout) and a loop nest: `depthwise` with channels innermost, `dense` for all the rest.
//! What the reference does well enough is not here.

mod decode;
mod dense;
mod depthwise;
mod lanes;
mod pool;
mod rearrange;
mod sparse;

pub(super) use decode::Decoder;
#[cfg(pare_dsp)]
#[cfg(pare_dsp)]
pub(super) use pool::{Block, Fold, Mean, pool};
pub use pool::{avg_pool, max_pool, pool_work};
pub use rearrange::{depth_to_space, pad, resize_bilinear, resize_nearest, transpose};

use super::{ConvKernel, Isa, KernelSet, RunConv};
use crate::format::Conv;

/// Scratch of the kernel for this convolution, whatever its formats and layouts.
pub(super) fn scratch_bytes(conv: &Conv<'_>) -> usize {
    if conv.is_depthwise() { depthwise::scratch_bytes(conv) } else { dense::scratch_bytes(conv) }
}

pub(super) fn conv_kernel(conv: &Conv<'_>) -> ConvKernel {
    let run: RunConv = match conv.is_depthwise() {
        true if KernelSet::LINKED.has_portable_depthwise() => depthwise::conv,
        false if KernelSet::LINKED.has_portable_dense() => dense::conv,
        _ => |_, _, _, _| (),
    };
    let scratch = if KernelSet::LINKED.has_portable() { scratch_bytes } else { |_: &Conv<'_>| 0 };
    ConvKernel { isa: Isa::Portable, run, scratch, adds: false }
}
