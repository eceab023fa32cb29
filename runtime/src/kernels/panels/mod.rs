//! Loop nests of the kernels that read [`Layout::Panels`], generic over the instruction set.
//!
//! Nothing here is unsafe: a nest checks every extent against the memory at hand when it describes a
//! piece of work, and the leaves of an instruction set, which read and write through pointers, take no
//! other description. A leaf is a method of a value that exists only where the instructions do.

pub(super) mod dense;

use core::ops::Range;

use crate::format::{Conv, Layout, PANEL_CHANNELS, WeightGroup};

/// Whether the kernels take a convolution of this geometry.
pub(super) fn is_supported(conv: &Conv<'_>) -> bool {
    const LIMIT: usize = 1 << 24;
    let (i, o) = (conv.input, conv.output);
    let ([kh, kw], [sh, sw], [dh, dw]) = (conv.kernel, conv.stride, conv.dilation);
    let extents = [kh, kw, sh, sw, dh, dw, i.h, i.w, i.c, o.h, o.w, o.c];
    // All bits at once, as this is asked at every run; 0 - 1 has the highest.
    let bits = extents.iter().fold(conv.pad[0] | conv.pad[1], |bits, &n| bits | n | n.wrapping_sub(1));
    bits < LIMIT && (conv.groups == 1 || conv.is_depthwise())
}

/// A run of panels of one weight group, 16 output channels each but for the last.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// How many.
    pub(super) len: usize,
    /// First output channel.
    pub(super) first: usize,
    /// The biases of the channels.
    pub(super) bias: &'a [i32],
    /// The multipliers of the channels, as many.
    pub(super) mult: &'a [i32],
    /// The codes of the panels, one panel after another.
    pub(super) codes: &'a [u8],
    /// Bytes of codes of each.
    pub(super) step: usize,
}

impl<'a> Panels<'a> {
    /// Panel `index` of a group and those that follow, `most` in all; `None` beyond the last one, if the group
    /// reaches beyond the output, or if it has no panels, being laid out otherwise.
    pub(super) fn of(conv: &Conv<'a>, group: &WeightGroup<'a>, index: usize, most: usize) -> Option<Panels<'a>> {
        let panels = group.channels.div_ceil(PANEL_CHANNELS);
        let len = panels.checked_sub(index).filter(|&left| left > 0)?.min(most);
        let at = index * PANEL_CHANNELS;
        let channels = (group.channels - at).min(len * PANEL_CHANNELS);
        let first = group.first + at;
        let numbers = first..first + channels;
        if numbers.end > conv.output.c || group.layout != Layout::Panels {
            return None;
        }
        let step = group.codes.len() / panels;
        let codes = group.codes.get(index * step..(index + len) * step)?;
        Some(Panels { len, first, bias: conv.bias.get(numbers.clone())?, mult: conv.mult.get(numbers)?, codes, step })
    }

    /// The channels of panel `index` of the run, counted from the first of the run: 16, or what is
    /// left.
    #[inline(always)]
    pub(super) fn channels(&self, index: usize) -> Range<usize> {
        let at = index * PANEL_CHANNELS;
        at.min(self.bias.len())..(at + PANEL_CHANNELS).min(self.bias.len())
    }
}
