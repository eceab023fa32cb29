//! Kernels for 32-bit Arm with the DSP extension: two 16-bit products an instruction.
//!
//! Soundness. Whoever compiles this module has told the compiler of a processor with the extension (see `build.rs`),
//! so its instructions are there. Loops in assembly go through memory that their callers have checked.
#![allow(unsafe_code, reason = "instructions of the extension, and loops in assembly")]

mod dense;
mod polynomial;
mod tile;

use super::{ConvKernel, Isa, portable, reference, scratch};
use crate::format::{Add, AvgPool, Conv, Layout, MaxPool};

/// Whether the kernels of `isa` can run here: the extension is there whenever this module is compiled.
pub fn detect(isa: Isa) -> bool {
    matches!(isa, Isa::Reference | Isa::Portable | Isa::Dsp)
}

/// The kernel of `isa` for a convolution whose weights are all in [`Layout::Words`]; `None` for other layouts.
pub(super) fn conv_kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    if isa != Isa::Dsp || conv.is_depthwise() || conv.weight_groups().any(|group| group.layout != Layout::Words) {
        return None;
    }
    polynomial::kernel(isa, conv).or_else(|| {
        let scratch_bytes = conv.weight_groups().map(|group| scratch::words(conv, group.format)).max()?;
        Some(ConvKernel { isa, scratch_bytes, run: dense::run })
    })
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
