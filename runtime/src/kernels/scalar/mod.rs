//! Kernels for cores whose only help is a multiplier of 32 bits: RISC-V without vectors, Armv6-M, Armv7-M.
//!
//! Dense convolution multiplies a few windows by a few filters at a time (`tile`), so that each code is loaded once
//! for several products: byte by byte, or, where codes have few bits, several codes in a word (`words`). The loop nest
//! (`dense`, by way of `strip` and `codes`) is the same for both and for every core, and is safe code; the innermost loops are assembly where a
//! compiler makes poor use of the registers, and plain Rust elsewhere.

mod codes;
mod dense;
mod depthwise;
mod plan;
mod stream;
mod strip;
mod tile;
mod words;

use self::plan::Plan;
use super::{ConvKernel, Isa, KernelSet, RunConv, portable};
use crate::format::{Conv, Layout, WeightFormat};

/// The kernel for a convolution of weights in [`Layout::Plain`]; the portable one for all others.
pub(super) fn conv_kernel(conv: &Conv<'_>) -> ConvKernel {
    if conv.layout() != Some(Layout::Plain) || !takes(conv) {
        return portable::conv_kernel(conv);
    }
    let run: RunConv = match conv.is_depthwise() {
        true if KernelSet::LINKED.has_depthwise(Layout::Plain) => depthwise::run,
        false if KernelSet::LINKED.has_dense(Layout::Plain) => dense::run,
        _ => |_, _, _, _| (),
    };
    ConvKernel { isa: Isa::Scalar, run, scratch: of_groups, adds: false }
}

/// Whether there is a kernel, as far as geometry goes.
pub(super) const fn takes(conv: &Conv<'_>) -> bool {
    conv.groups == 1 && conv.dilation[1] == 1 || depthwise::takes(conv)
}

/// The largest need of the groups.
fn of_groups(conv: &Conv<'_>) -> usize {
    conv.weight_groups().map(|group| scratch_bytes(conv, group.format)).max().unwrap_or(0)
}

/// Bytes that the kernel wants for a weight group of this format.
pub(super) fn scratch_bytes(conv: &Conv<'_>, format: WeightFormat) -> usize {
    if takes(conv) { Plan::of(conv, format).scratch_bytes(conv, format) } else { 0 }
}
