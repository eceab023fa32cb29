//! Kernels for 32-bit Arm with the DSP extension: two 16-bit products an instruction.
//!
//! Soundness. Whoever compiles this module has told the compiler of a processor with the extension (see `build.rs`),
//! so its instructions are there. Loops in assembly go through memory that their callers have checked.
#![allow(unsafe_code, reason = "instructions of the extension, and loops in assembly")]

/// Opens an assembly function: assemblers take the processor of the target's name for granted, and that of Armv8-M has
/// no DSP extension. (There is no directive for an extension alone.)
#[cfg(pare_armv8m)]
macro_rules! processor {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(not(pare_armv8m))]
macro_rules! processor {
    () => {
        ""
    };
}

mod add;
mod dense;
mod depthwise;
mod levels;
mod polynomial;
mod pool;
mod quad;
mod stream;
mod tile;
mod windows;

use super::{ConvKernel, Isa, KernelSet, portable, scratch};
use crate::format::{Add, AvgPool, Conv, Layout, MaxPool};

/// Whether the kernels of `isa` can run here: the extension is there whenever this module is compiled.
pub fn detect(isa: Isa) -> bool {
    matches!(isa, Isa::Reference | Isa::Portable | Isa::Dsp)
}

/// The kernel of `isa` for a convolution whose weights are all in [`Layout::Words`]; `None` for other layouts.
pub(super) fn conv_kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    if isa != Isa::Dsp || conv.layout()? != Layout::Words {
        return None;
    }
    if conv.is_depthwise() && KernelSet::LINKED.has_depthwise(Layout::Words) {
        return Some(ConvKernel { isa, run: depthwise::run, scratch: scratch::of_groups, adds: false });
    }
    if KernelSet::LINKED.has_packing()
        && let Some(kernel) = polynomial::kernel(isa, conv)
    {
        return Some(kernel);
    }
    let dense = ConvKernel { isa, run: dense::run, scratch: scratch::of_groups, adds: false };
    KernelSet::LINKED.has_dense(Layout::Words).then_some(dense)
}

pub(super) fn add(_isa: Isa, p: &Add, a: &mut [u8], b: &[u8]) {
    add::add(p, a, b);
}

pub(super) fn avg_pool(_isa: Isa, p: &AvgPool, input: &[u8], output: &mut [u8]) {
    pool::avg_pool(p, input, output);
}

pub(super) fn max_pool(_isa: Isa, p: &MaxPool, input: &[u8], output: &mut [u8]) {
    portable::max_pool(p, input, output);
}
