//! Where a convolution reads and writes, checked against the memory at hand.

use core::marker::PhantomData;
use core::ops::Range;

use crate::format::{Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH, WeightGroup};
use crate::kernels::scratch;

/// A convolution and its memory. Invariants, on which every pointer below rests:
///
/// * `input` holds `h * w * c_in` bytes and `output` leads to `h * w * c_out`, all extents being at least 1;
/// * `scratch` leads to what [`scratch::x86_conv`] says, less the bytes skipped to reach an address
///   divisible by 64 (at most [`scratch::X86_SLACK`]); the frame owns both for its life;
/// * `bias` and `mult` have an entry for each output channel;
/// * it is dense or depthwise; extents and steps are below 2^24 each, so that no coordinate overflows.
pub(super) struct Frame<'a> {
    pub(super) conv: &'a Conv<'a>,
    pub(super) input: &'a [u8],
    pub(super) output: *mut u8,
    pub(super) scratch: *mut u8,
    memory: PhantomData<&'a mut [u8]>,
    /// Segments of a window, codes of each, and codes of each with padding.
    pub(super) segments: usize,
    pub(super) len: usize,
    pub(super) padded: usize,
}

/// Whether the kernels take a convolution of this geometry.
pub(super) fn is_supported(conv: &Conv<'_>) -> bool {
    const LIMIT: usize = 1 << 24;
    let (i, o) = (conv.input, conv.output);
    let steps = [conv.kernel, conv.stride, conv.dilation];
    let sane = steps.iter().flatten().chain(&[i.h, i.w, i.c, o.h, o.w, o.c]).all(|&n| 0 < n && n < LIMIT);
    sane && conv.pad.iter().all(|&pad| pad < LIMIT) && (conv.groups == 1 || conv.is_depthwise())
}

/// How the quads (4 codes) of a window follow one another from its first byte.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub(super) rows: usize,
    pub(super) row_step: usize,
    pub(super) taps: usize,
    pub(super) tap_step: usize,
    pub(super) quads: usize,
}

/// A segment of a window: byte `i` of it is byte `start + i` of the input for `i` in `valid`; the
/// other bytes are beyond the edge.
pub(super) struct Segment {
    pub(super) start: isize,
    pub(super) valid: Range<usize>,
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
        if !(is_supported(conv) && held && channels && scratch.len() >= scratch::x86_conv(conv)) {
            return None;
        }
        let skip = scratch.as_ptr().align_offset(64).min(scratch::X86_SLACK).min(scratch.len());
        let (output, scratch) = (output.as_mut_ptr(), scratch.get_mut(skip..)?.as_mut_ptr());
        let (segments, len) = conv.segments();
        let padded = len.next_multiple_of(PANEL_DEPTH);
        Some(Frame { conv, input, output, scratch, memory: PhantomData, segments, len, padded })
    }

    /// Depth of a dense panel.
    pub(super) fn depth(&self) -> usize {
        self.segments * self.padded
    }

    /// From quad to quad in the input, for a window that lies inside it.
    pub(super) fn walk_input(&self) -> Walk {
        let [kh, kw] = self.conv.kernel;
        let [down, right] = self.conv.dilation;
        let taps = if self.segments == kh { 1 } else { kw };
        // Where saturation bites, no window lies inside.
        let row_step = down.saturating_mul(self.conv.input.w * self.conv.input.c);
        Walk { rows: kh, row_step, taps, tap_step: right * self.conv.input.c, quads: self.padded / PANEL_DEPTH }
    }

    /// From quad to quad in a window fetched segment after segment.
    pub(super) fn walk_fetched(&self) -> Walk {
        Walk { rows: 1, row_step: 0, taps: 1, tap_step: 0, quads: self.depth() / PANEL_DEPTH }
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

    /// Segment `index` of the window of output pixel (y, x).
    #[inline(always)]
    pub(super) fn segment(&self, y: usize, x: usize, index: usize) -> Segment {
        let conv = self.conv;
        let [kh, kw] = conv.kernel;
        let (ky, kx, width) = if self.segments == kh { (index, 0, kw) } else { (index / kw, index % kw, 1) };
        let c = conv.input.c as isize;
        let row = (y * conv.stride[0] + ky * conv.dilation[0]) as isize - conv.pad[0] as isize;
        let column = (x * conv.stride[1] + kx * conv.dilation[1]) as isize - conv.pad[1] as isize;
        let (w, width) = (conv.input.w as isize, width as isize);
        if row < 0 || row >= conv.input.h as isize || column >= w || column + width <= 0 {
            return Segment { start: 0, valid: 0..0 };
        }
        let left = (-column).max(0) * c;
        let right = width.min(w - column) * c;
        Segment { start: (row * w + column) * c, valid: left as usize..right as usize }
    }
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

    /// The channels of panel `index` of the run, counted from the first of the run: 16, or what is left.
    #[inline(always)]
    pub(super) fn channels(&self, index: usize) -> Range<usize> {
        let at = index * PANEL_CHANNELS;
        at..(at + PANEL_CHANNELS).min(self.bias.len())
    }
}
