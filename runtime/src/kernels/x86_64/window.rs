//! Where a convolution reads and writes, checked against the memory at hand.

use core::marker::PhantomData;
use core::ops::Range;

use crate::format::Conv;
pub(super) use crate::kernels::panels::{Panels, is_supported};
use crate::kernels::scratch;

/// A convolution and its memory. Invariants, on which every pointer below rests:
///
/// * `input` holds `h * w * c_in` bytes and `output` leads to `h * w * c_out`, all extents being at least 1;
/// * `scratch` leads to what [`scratch::x86_depthwise`] says, less the bytes skipped to reach an address
///   divisible by 64 (at most [`scratch::X86_SLACK`]); the frame owns both for its life;
/// * `bias` and `mult` have an entry for each output channel;
/// * it is dense or depthwise; extents and steps are below 2^24 each, so that no coordinate overflows.
pub(super) struct Frame<'a> {
    pub(super) conv: &'a Conv<'a>,
    pub(super) input: &'a [u8],
    pub(super) output: *mut u8,
    pub(super) scratch: *mut u8,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Frame<'a> {
    /// `None` when an invariant does not hold.
    pub(super) fn new(
        conv: &'a Conv<'a>,
        input: &'a [u8],
        output: &'a mut [u8],
        scratch: &'a mut [u8],
    ) -> Option<Frame<'a>> {
        let held = input.len() >= conv.input.len() && output.len() >= conv.output.len();
        let channels = conv.bias.len() >= conv.output.c && conv.mult.len() >= conv.output.c;
        if !(is_supported(conv) && held && channels && scratch.len() >= scratch::x86_depthwise(conv)) {
            return None;
        }
        let skip = scratch.as_ptr().align_offset(64).min(scratch::X86_SLACK).min(scratch.len());
        let (output, scratch) = (output.as_mut_ptr(), scratch.get_mut(skip..)?.as_mut_ptr());
        Some(Frame { conv, input, output, scratch, memory: PhantomData })
    }

    /// Output rows and columns whose windows lie inside the input.
    pub(super) fn inside(&self) -> [Range<usize>; 2] {
        let conv = self.conv;
        let axis = |size: usize, out: usize, k: usize| {
            let (stride, pad) = (conv.stride[k], conv.pad[k]);
            let reach = scratch::reach(conv.kernel[k], conv.dilation[k]);
            let end = (size + pad).checked_sub(reach).map_or(0, |last| last / stride + 1).min(out);
            pad.div_ceil(stride).min(end)..end
        };
        [axis(conv.input.h, conv.output.h, 0), axis(conv.input.w, conv.output.w, 1)]
    }
}
