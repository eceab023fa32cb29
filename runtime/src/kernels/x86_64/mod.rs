//! Kernels for x86-64: AVX2 with BMI2, the same with AVX-VNNI, and AVX-512 with VNNI.
//!
//! A kernel is a loop nest (`dense`, `depthwise`; safe but for the calls) over leaves of one
//! instruction set (`avx2`, `avx512`): decode weights, fetch a window, multiply a tile of
//! pixels by panels of 16 channels. Weight formats differ in the decoder alone.
//!
//! Soundness. A leaf runs only on a processor that has its instructions: `conv_kernel` hands out
//! nothing that [`detect`] does not confirm, and the leaves are private. A leaf reads and writes
//! through pointers: the loop nests derive them from slices whose lengths they check against the extents of the
//! convolution, so that any safe caller, with any `Conv`, is served or
//! left without (part of) its output, never let out of bounds.
#![allow(unsafe_code, reason = "vector instructions and the addresses they read")]
#![allow(clippy::needless_range_loop, reason = "sums are indexed by pixel and panel, that is what tiles are")]

mod add;
mod avx2;
mod avx512;
mod depthwise;
mod detect;
mod pool;
mod store;
mod widened;

pub use add::add;
pub use detect::detect;
pub use pool::{avg_pool, avg_pool_work};
pub use widened::max_pool;

use super::panels::{dense, is_supported};
use super::work::Work;
use super::{ConvKernel, Isa, RunConv, scratch};
use crate::format::{Conv, Layout, WeightFormat};

/// The kernel of `isa` for a convolution whose weights are all in one layout that it reads; `None` for others,
/// for extents beyond 2^24 and when this processor lacks the instructions.
pub(super) fn conv_kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    if !(detect(isa) && is_supported(conv)) {
        return None;
    }
    let layout = conv.layout()?;
    let run: RunConv = match (isa, layout) {
        (Isa::Avx2, Layout::Panels) if conv.is_depthwise() => depthwise::run::<avx2::Avx2>,
        (Isa::Avx2, Layout::Panels) => dense::run::<avx2::Avx2>,
        (Isa::AvxVnni, Layout::Panels) if conv.is_depthwise() => depthwise::run::<avx2::Avx2>,
        (Isa::AvxVnni, Layout::Panels) => dense::run::<avx2::AvxVnni>,
        (Isa::Avx512Vnni, Layout::Panels) if conv.is_depthwise() => avx512::windows::run,
        (Isa::Avx512Vnni, Layout::Panels) => dense::run::<avx512::Avx512>,
        (Isa::Avx512Vnni, Layout::Planes) if conv.groups == 1 => avx512::planes::run,
        (Isa::Avx512Vnni, Layout::Sparse) if avx512::sparse::takes(conv) => avx512::sparse::run,
        _ => return None,
    };
    Some(ConvKernel { isa, run, scratch: scratch::of_groups, adds: layout == Layout::Panels && !conv.is_depthwise() })
}

/// The work of the kernel of `isa` for weights in panels.
pub(super) fn conv_work(isa: Isa, conv: &Conv<'_>, format: WeightFormat) -> Work {
    match isa {
        Isa::Avx512Vnni if conv.is_depthwise() => avx512::windows::work(conv),
        _ if conv.is_depthwise() => depthwise::work::<avx2::Avx2>(conv),
        Isa::Avx512Vnni => dense::work::<avx512::Avx512>(conv, format),
        Isa::AvxVnni => dense::work::<avx2::AvxVnni>(conv, format),
        _ => dense::work::<avx2::Avx2>(conv, format),
    }
}
