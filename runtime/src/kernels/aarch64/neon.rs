//! NEON alone: products of 8 bits are 16 bits wide, and go to 32 as late as they can.
//!
//! Codes become signed by a flip of their top bit. If levels are small, as those of few bits are, the products of
//! many steps are summed in 16 bits. If they may be anything, those of two steps are: a code `a` of an even step
//! is taken as `a - 128`, one of an odd step as `127 - a`, whose products are subtracted; then the sum of two
//! is within 16 bits for all codes and levels.

use core::arch::aarch64::*;

use super::dense::{Tile, repeat_quad};
use super::depthwise::{Depthwise, MOST, OutputRow};
use super::levels::{Decoder, lowest_and_span};
use super::requantise::{Sums, load_channels};
use crate::format::{Conv, PANEL_CHANNELS, PANEL_DEPTH, WeightGroup};
use crate::kernels::panels::Panels;
use crate::kernels::panels::dense::{STEP, Stream, Walk};

/// The leaves of this file; every processor has the instructions.
#[derive(Clone, Copy)]
pub(super) struct Neon;

/// Steps whose products may be summed in 16 bits, from which on it is worth to sum more than two.
const LONG: usize = 8;

/// What is worked out of a panel.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The biases, corrected for what codes lose.
    bias: Sums,
    /// Steps, or taps, whose products may be summed in 16 bits.
    steps: usize,
}

/// Sums of 16 channels at 16 bits, four for each.
type Narrow = [int16x8_t; 8];
/// Sums of 16 channels at 32 bits, two for each.
type Wide = [int32x4_t; 8];

impl Tile for Neon {
    const PIXELS: usize = 2;
    const GRAIN: usize = 1;
    type Panel = Panel;

    fn detected() -> Option<Neon> {
        Some(Neon)
    }

    unsafe fn panel(self, bias: Sums, walk: &Walk, levels: *const i8) -> Panel {
        // SAFETY: NEON is there; the contract.
        unsafe { corrected(bias, walk, levels) }
    }

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        self,
        panel: &Panel,
        walk: &Walk,
        levels: *const i8,
        windows: [*const u8; N],
    ) -> [Sums; N] {
        // SAFETY: NEON is there; the contract.
        unsafe {
            let sums = match panel.steps {
                ..LONG => by_two(walk, levels, windows),
                _ => by_many(panel.steps, walk, levels, windows),
            };
            sums.map(|sums| [0, 1, 2, 3].map(|i| vaddq_s32(panel.bias[i], vpaddq_s32(sums[2 * i], sums[2 * i + 1]))))
        }
    }

    fn stream(self, group: &WeightGroup<'_>, stream: &Stream<'_>, done: impl FnMut(usize, Sums)) {
        // SAFETY: NEON is there.
        unsafe { stream_panels(group, stream, done) }
    }
}

/// Works out a panel.
///
/// # Safety
/// There is a step of levels for every quad of the walk.
#[target_feature(enable = "neon")]
unsafe fn corrected(bias: Sums, walk: &Walk, levels: *const i8) -> Panel {
    let (mut all, mut odd, mut highest) = ([vdupq_n_s32(0); 4], [vdupq_n_s32(0); 4], vdupq_n_u8(0));
    let mut levels = levels;
    for _ in 0..walk.rows * walk.taps {
        for quad in 0..walk.quads {
            for i in 0..4 {
                // SAFETY: a step for every quad.
                let levels = unsafe { vld1q_s8(levels.add(16 * i)) };
                let sums = vpaddlq_s8(levels);
                all[i] = vpadalq_s16(all[i], sums);
                if quad % 2 == 1 {
                    odd[i] = vpadalq_s16(odd[i], sums);
                }
                highest = vmaxq_u8(highest, vreinterpretq_u8_s8(vabsq_s8(levels)));
            }
            levels = levels.wrapping_add(STEP);
        }
    }
    let product = 128 * usize::from(vmaxvq_u8(highest).max(1));
    let steps = i16::MAX as usize / product;
    // Codes lose 128, and those of odd steps 127 if there are any.
    let mut corrected = bias;
    for i in 0..4 {
        corrected[i] = vaddq_s32(corrected[i], vshlq_n_s32::<7>(all[i]));
        if steps < LONG {
            corrected[i] = vsubq_s32(corrected[i], odd[i]);
        }
    }
    Panel { bias: corrected, steps }
}

/// Sums the products of two steps in 16 bits.
///
/// # Safety
/// As [`Tile::sums`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn by_two<const N: usize>(walk: &Walk, levels: *const i8, windows: [*const u8; N]) -> [Wide; N] {
    let mut sums = [[vdupq_n_s32(0); 8]; N];
    let mut levels = levels;
    // Signs of an even step, of an odd one.
    let flip = vcreate_u8(0x7f7f_7f7f_8080_8080);
    for row in 0..walk.rows {
        for tap in 0..walk.taps {
            let mut at = row * walk.row_step + tap * walk.tap_step;
            for _ in 0..walk.quads / 2 {
                // SAFETY: quads and steps within the walk.
                unsafe {
                    let mut codes = [[vdupq_n_s8(0); 2]; N];
                    for n in 0..N {
                        let two = vreinterpret_s32_u8(veor_u8(vld1_u8(windows[n].add(at)), flip));
                        let repeated = [vdupq_lane_s32::<0>(two), vdupq_lane_s32::<1>(two)];
                        codes[n] = repeated.map(|codes| vreinterpretq_s8_s32(codes));
                    }
                    for i in 0..4 {
                        let [even, odd] = [vld1q_s8(levels.add(16 * i)), vld1q_s8(levels.add(STEP + 16 * i))];
                        for n in 0..N {
                            let [a, b] = codes[n];
                            let low = vmull_s8(vget_low_s8(even), vget_low_s8(a));
                            let low = vmlsl_s8(low, vget_low_s8(odd), vget_low_s8(b));
                            sums[n][2 * i] = vpadalq_s16(sums[n][2 * i], low);
                            let high = vmlsl_high_s8(vmull_high_s8(even, a), odd, b);
                            sums[n][2 * i + 1] = vpadalq_s16(sums[n][2 * i + 1], high);
                        }
                    }
                    at += 8;
                    levels = levels.add(2 * STEP);
                }
            }
            if !walk.quads.is_multiple_of(2) {
                // SAFETY: as above.
                unsafe {
                    let codes = windows.map(|window| flipped(repeat_quad(window.add(at))));
                    for i in 0..4 {
                        let even = vld1q_s8(levels.add(16 * i));
                        for n in 0..N {
                            let low = vmull_s8(vget_low_s8(even), vget_low_s8(codes[n]));
                            sums[n][2 * i] = vpadalq_s16(sums[n][2 * i], low);
                            let high = vmull_high_s8(even, codes[n]);
                            sums[n][2 * i + 1] = vpadalq_s16(sums[n][2 * i + 1], high);
                        }
                    }
                    levels = levels.add(STEP);
                }
            }
        }
    }
    sums
}

/// Sums the products of `most` steps in 16 bits.
///
/// # Safety
/// As [`Tile::sums`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn by_many<const N: usize>(most: usize, walk: &Walk, levels: *const i8, windows: [*const u8; N]) -> [Wide; N] {
    let mut sums = [[vdupq_n_s32(0); 8]; N];
    let mut narrow = [[vdupq_n_s16(0); 8]; N];
    let (mut levels, mut room) = (levels, most);
    for row in 0..walk.rows {
        for tap in 0..walk.taps {
            let mut at = row * walk.row_step + tap * walk.tap_step;
            let mut left = walk.quads;
            while left > 0 {
                if room == 0 {
                    widen(&mut sums, &mut narrow);
                    room = most;
                }
                let run = left.min(room);
                // SAFETY: quads and steps within the walk.
                unsafe {
                    for _ in 0..run / 4 {
                        let codes = windows.map(|window| flipped(vld1q_u8(window.add(at))));
                        accumulate::<0, N>(&mut narrow, &codes, levels);
                        accumulate::<1, N>(&mut narrow, &codes, levels.add(STEP));
                        accumulate::<2, N>(&mut narrow, &codes, levels.add(2 * STEP));
                        accumulate::<3, N>(&mut narrow, &codes, levels.add(3 * STEP));
                        at += 16;
                        levels = levels.add(4 * STEP);
                    }
                    for _ in 0..run % 4 {
                        let codes = windows.map(|window| flipped(repeat_quad(window.add(at))));
                        accumulate::<0, N>(&mut narrow, &codes, levels);
                        at += 4;
                        levels = levels.add(STEP);
                    }
                }
                (left, room) = (left - run, room - run);
            }
        }
    }
    widen(&mut sums, &mut narrow);
    sums
}

/// Adds the products of one step of levels and quad `LANE` of the codes of each pixel.
///
/// # Safety
/// There is a step of levels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn accumulate<const LANE: i32, const N: usize>(
    sums: &mut [Narrow; N],
    codes: &[int8x16_t; N],
    levels: *const i8,
) {
    let codes = codes.map(|codes| vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(codes))));
    for i in 0..4 {
        // SAFETY: the contract.
        let levels = unsafe { vld1q_s8(levels.add(16 * i)) };
        for n in 0..N {
            sums[n][2 * i] = vmlal_s8(sums[n][2 * i], vget_low_s8(levels), vget_low_s8(codes[n]));
            sums[n][2 * i + 1] = vmlal_high_s8(sums[n][2 * i + 1], levels, codes[n]);
        }
    }
}

/// Moves what has been summed in 16 bits to 32.
#[inline]
#[target_feature(enable = "neon")]
fn widen<const N: usize>(sums: &mut [Wide; N], narrow: &mut [Narrow; N]) {
    for n in 0..N {
        for i in 0..8 {
            sums[n][i] = vpadalq_s16(sums[n][i], narrow[n][i]);
            narrow[n][i] = vdupq_n_s16(0);
        }
    }
}

/// Codes less 128.
#[inline]
#[target_feature(enable = "neon")]
fn flipped(codes: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)))
}

/// Streams panels, their levels brought to 0 and more: codes are unsigned too, and as many steps as fit are summed
/// in 16 bits.
#[target_feature(enable = "neon")]
fn stream_panels(group: &WeightGroup<'_>, stream: &Stream<'_>, mut done: impl FnMut(usize, Sums)) {
    let (panels, window, quads) = (stream.panels(), stream.window(), stream.quads());
    let (lowest, span) = lowest_and_span(group);
    let decoder = Decoder::new(group, lowest.wrapping_neg());
    let most = u16::MAX as usize / (255 * usize::from(span.max(1)));
    let mut all = 0u32;
    for i in 0..PANEL_DEPTH * quads {
        // SAFETY: the window has that many quads.
        all = all.wrapping_add(unsafe { *window.add(i) }.into());
    }
    let lost = vdupq_n_s32((all as i32).wrapping_mul(lowest.into()));
    for (p, codes) in panels.codes.chunks(panels.step).enumerate() {
        let mut sums = [vdupq_n_u32(0); 8];
        // SAFETY: the window has that many quads.
        unsafe {
            if most == 1 {
                stream_one(&decoder, codes, quads, window, &mut sums);
            } else {
                stream_many(most, &decoder, codes, quads, window, &mut sums);
            }
        }
        let sums = [0, 1, 2, 3].map(|i| vreinterpretq_s32_u32(vpaddq_u32(sums[2 * i], sums[2 * i + 1])));
        done(p, sums.map(|sums| vaddq_s32(sums, lost)));
    }
}

/// Sums the products of each step in 32 bits.
///
/// # Safety
/// The window has `quads` quads.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn stream_one(decoder: &Decoder, codes: &[u8], quads: usize, window: *const u8, sums: &mut [uint32x4_t; 8]) {
    let (mut at, mut wide) = (window, *sums);
    decoder.each(codes, quads, |levels| {
        // SAFETY: the window has that many quads.
        let codes = unsafe { repeat_quad(at) };
        at = at.wrapping_add(PANEL_DEPTH);
        for i in 0..4 {
            let levels = vreinterpretq_u8_s8(levels[i]);
            wide[2 * i] = vpadalq_u16(wide[2 * i], vmull_u8(vget_low_u8(levels), vget_low_u8(codes)));
            wide[2 * i + 1] = vpadalq_u16(wide[2 * i + 1], vmull_high_u8(levels, codes));
        }
    });
    *sums = wide;
}

/// Sums the products of `most` steps in 16 bits.
///
/// # Safety
/// The window has `quads` quads.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn stream_many(
    most: usize,
    decoder: &Decoder,
    codes: &[u8],
    quads: usize,
    window: *const u8,
    sums: &mut [uint32x4_t; 8],
) {
    let (mut at, mut room) = (window, most);
    let (mut wide, mut narrow) = (*sums, [vdupq_n_u16(0); 8]);
    decoder.each(codes, quads, |levels| {
        // SAFETY: the window has that many quads.
        let codes = unsafe { repeat_quad(at) };
        at = at.wrapping_add(PANEL_DEPTH);
        for i in 0..4 {
            let levels = vreinterpretq_u8_s8(levels[i]);
            narrow[2 * i] = vmlal_u8(narrow[2 * i], vget_low_u8(levels), vget_low_u8(codes));
            narrow[2 * i + 1] = vmlal_high_u8(narrow[2 * i + 1], levels, codes);
        }
        room -= 1;
        if room == 0 {
            room = most;
            for i in 0..8 {
                wide[i] = vpadalq_u16(wide[i], narrow[i]);
                narrow[i] = vdupq_n_u16(0);
            }
        }
    });
    for i in 0..8 {
        sums[i] = vpadalq_u16(wide[i], narrow[i]);
    }
}

/// Channels in lanes; the products of as many taps as fit are summed in 16 bits.
impl Depthwise for Neon {
    const TOGETHER: usize = 1;
    const FLIP: u8 = 0x80;
    type Panel = Panel;

    fn detected() -> Option<Neon> {
        Some(Neon)
    }

    unsafe fn decode(self, conv: &Conv<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, weights: *mut u8) -> Panel {
        // SAFETY: NEON is there; the contract.
        unsafe { decode(conv, group, panel, weights) }
    }

    unsafe fn row(self, panel: &Panel, row: &OutputRow<'_>) {
        // SAFETY: NEON is there; as many pixels as there are left.
        unsafe {
            row.tiles(|first, pixels| match pixels {
                1 => correlate::<1>(panel, row, first),
                2 => correlate::<2>(panel, row, first),
                3 => correlate::<3>(panel, row, first),
                4 => correlate::<4>(panel, row, first),
                _ => correlate::<MOST>(panel, row, first),
            });
        }
    }
}

/// See [`Depthwise::decode`].
///
/// # Safety
/// As there.
#[target_feature(enable = "neon")]
unsafe fn decode(conv: &Conv<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, weights: *mut u8) -> Panel {
    let decoder = Decoder::new(group, 0);
    let bytes = 2 * group.format.bits() as usize;
    let (mut bias, mut highest) = (load_channels(panel.bias), vdupq_n_u8(0));
    for (tap, codes) in panel.codes.chunks(bytes).take(conv.depth()).enumerate() {
        let levels = decoder.sixteen(codes);
        highest = vmaxq_u8(highest, vreinterpretq_u8_s8(vabsq_s8(levels)));
        // Codes lose 128.
        let lost = [vshll_n_s8::<7>(vget_low_s8(levels)), vshll_high_n_s8::<7>(levels)];
        add_wide(&mut bias, lost);
        // SAFETY: there is room for every tap.
        unsafe { vst1q_s8(weights.add(tap * PANEL_CHANNELS).cast(), levels) };
    }
    Panel { bias, steps: i16::MAX as usize / (128 * usize::from(vmaxvq_u8(highest).max(1))) }
}

/// Adds numbers of 16 channels at 16 bits.
#[inline]
#[target_feature(enable = "neon")]
fn add_wide(sums: &mut Sums, narrow: [int16x8_t; 2]) {
    for i in 0..2 {
        sums[2 * i] = vaddw_s16(sums[2 * i], vget_low_s16(narrow[i]));
        sums[2 * i + 1] = vaddw_high_s16(sums[2 * i + 1], narrow[i]);
    }
}

/// Pixels `first..first + N` of an output row. Not inlined: the loops would carry the scale along, and spill sums.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn correlate<const N: usize>(panel: &Panel, row: &OutputRow<'_>, first: usize) {
    let conv = row.conv;
    let step = conv.stride[1] * PANEL_CHANNELS;
    let mut sums = [panel.bias; N];
    let mut narrow = [[vdupq_n_s16(0); 2]; N];
    let (mut weights, mut room) = (row.weights, panel.steps);
    // SAFETY: ring, weights and output are what the row's invariants say.
    unsafe {
        for k in 0..conv.kernel[0] {
            let mut pixels = row.ring_row(k).add(first * step);
            for _ in 0..conv.kernel[1] {
                let levels = vld1q_s8(weights.cast());
                weights = weights.add(PANEL_CHANNELS);
                for n in 0..N {
                    let codes = vld1q_s8(pixels.add(n * step).cast());
                    narrow[n][0] = vmlal_s8(narrow[n][0], vget_low_s8(codes), vget_low_s8(levels));
                    narrow[n][1] = vmlal_high_s8(narrow[n][1], codes, levels);
                }
                pixels = pixels.wrapping_add(conv.dilation[1] * PANEL_CHANNELS);
                room -= 1;
                if room == 0 {
                    room = panel.steps;
                    for n in 0..N {
                        add_wide(&mut sums[n], narrow[n]);
                        narrow[n] = [vdupq_n_s16(0); 2];
                    }
                }
            }
        }
        for n in 0..N {
            add_wide(&mut sums[n], narrow[n]);
        }
        for n in 0..N {
            row.scale.store(sums[n], row.output.add((first + n) * conv.output.c));
        }
    }
}
