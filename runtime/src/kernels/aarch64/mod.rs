//! Kernels for AArch64: NEON, NEON with dot products, NEON with 8-bit matrix multiplication.
//!
//! As for x86-64: a kernel is a loop nest (`dense`, `depthwise`) over leaves of one instruction set (`neon`,
//! `dot`). What is not a convolution is left to the portable code, which the compiler turns into NEON, since
//! every processor with this module has that.
//!
//! Soundness. A leaf runs only on a processor that has its instructions: `conv_kernel` hands out nothing that
//! [`detect`] does not confirm, and the leaves are private.
#![allow(unsafe_code, reason = "vector instructions and the addresses they read")]
#![allow(clippy::needless_range_loop, reason = "sums are indexed by pixel and panel, that is what tiles are")]

mod dense;
mod depthwise;
mod detect;
mod dot;
mod dotprod;
mod i8mm;
mod instructions;
mod levels;
mod neon;
mod requantise;

pub use detect::detect;

use super::{ConvKernel, Isa, RunConv, panels, portable, reference, scratch};
use crate::format::{Add, AvgPool, Conv, Layout, MaxPool};

/// The kernel of `isa` for a convolution whose weights are all in [`Layout::Panels`]; `None` for other
/// layouts, for extents beyond 2^24 and when this processor lacks the instructions.
pub(super) fn conv_kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    if !(detect(isa) && panels::is_supported(conv) && conv.layout()? == Layout::Panels) {
        return None;
    }
    let run: RunConv = match isa {
        Isa::Neon if conv.is_depthwise() => depthwise::run::<neon::Neon>,
        Isa::Neon => panels::dense::run::<neon::Neon>,
        Isa::NeonDotprod if conv.is_depthwise() => depthwise::run::<dot::Dotprod>,
        Isa::NeonDotprod => panels::dense::run::<dot::Dotprod>,
        Isa::NeonI8mm if conv.is_depthwise() => depthwise::run::<dot::I8mm>,
        Isa::NeonI8mm => panels::dense::run::<dot::I8mm>,
        _ => return None,
    };
    Some(ConvKernel { isa, run, scratch: scratch::of_groups, adds: !conv.is_depthwise() })
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
