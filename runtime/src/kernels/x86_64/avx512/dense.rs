//! Dense convolution: a tile of pixels by a few panels, all sums in registers.

use core::arch::x86_64::*;

use super::levels::{Bytes, Levels, Table64, Table128};
use super::requantise::{Scale, load_channels};
use super::stream::stream;
use super::{Avx512, STEP, lanes};
use crate::format::{PANEL_CHANNELS, WeightFormat, WeightGroup};
use crate::kernels::x86_64::dense::{Block, Dense, MAX_PIXELS, Stream, Tile};
use crate::kernels::x86_64::window::{Frame, Segment, Walk};

// SAFETY: two panels of one-byte levels take the 32 bytes that there are for a step of the depth; 12 pixels.
unsafe impl Dense for Avx512 {
    const PIXELS: usize = MAX_PIXELS;
    const PANELS: usize = 2;
    const LEVEL_BYTES: usize = 1;
    const STREAM_PANELS: usize = usize::MAX;

    fn levels_in_place(frame: &Frame<'_>, group: &WeightGroup<'_>) -> bool {
        group.format == WeightFormat::Linear(8) && frame.len == frame.padded
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn decode(frame: &Frame<'_>, group: &WeightGroup<'_>, codes: &[u8], to: *mut u8) {
        // SAFETY: a panel has `64 * bits / 8` bytes for each step of the depth.
        unsafe {
            match group.format.bits() {
                8 => decode_segments(&Bytes, frame, codes, to),
                7 => decode_segments(&Table128::new(group), frame, codes, to),
                _ => decode_segments(&Table64::new(group), frame, codes, to),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn fetch(frame: &Frame<'_>, y: usize, x: usize, to: *mut u8) {
        let zero = _mm512_set1_epi8(frame.conv.zero_in as i8);
        for index in 0..frame.segments {
            let Segment { start, valid } = frame.segment(y, x, index);
            let mut at = 0;
            while at < frame.padded {
                let mask = lanes(valid.end.saturating_sub(at)) & !lanes(valid.start.saturating_sub(at));
                let zero = _mm512_maskz_mov_epi8(lanes(frame.len - at), zero);
                // SAFETY: lanes outside `valid`, which may lie outside the input, are not read. What is written
                // beyond a segment is overwritten by the next; 64 bytes follow the last.
                unsafe {
                    let from = frame.input.as_ptr().wrapping_offset(start).wrapping_add(at);
                    let codes = _mm512_mask_loadu_epi8(zero, mask, from.cast());
                    _mm512_storeu_si512(to.add(index * frame.padded + at).cast(), codes);
                }
                at += STEP;
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn tile(walk: &Walk, tile: &Tile, block: &Block<'_>) {
        // SAFETY: this function's contract is that of the callee; there are `len` pixels and panels at least,
        // and pixels beyond `len` repeat the first.
        unsafe {
            match (block.panels.len, tile.len) {
                (1, 1) => multiply::<1, 1>(walk, tile, block),
                (1, 2) => multiply::<1, 2>(walk, tile, block),
                (1, 3..=4) => multiply::<1, 4>(walk, tile, block),
                (1, 5..=6) => multiply::<1, 6>(walk, tile, block),
                (1, 7..=8) => multiply::<1, 8>(walk, tile, block),
                (1, 9..=10) => multiply::<1, 10>(walk, tile, block),
                (1, _) => multiply::<1, 12>(walk, tile, block),
                (_, 1) => multiply::<2, 1>(walk, tile, block),
                (_, 2) => multiply::<2, 2>(walk, tile, block),
                (_, 3..=4) => multiply::<2, 4>(walk, tile, block),
                (_, 5..=6) => multiply::<2, 6>(walk, tile, block),
                (_, 7..=8) => multiply::<2, 8>(walk, tile, block),
                (_, 9..=10) => multiply::<2, 10>(walk, tile, block),
                _ => multiply::<2, 12>(walk, tile, block),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn stream(group: &WeightGroup<'_>, window: &Stream<'_>) {
        // SAFETY: the contract.
        unsafe { stream(group, window) };
    }
}

/// `P` panels by `N` pixels, all sums in registers.
///
/// # Safety
/// As [`Dense::tile`], with `P` panels and `N` pixels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn multiply<const P: usize, const N: usize>(walk: &Walk, tile: &Tile, block: &Block<'_>) {
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the contract.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); N]; P];
        for p in 0..P {
            sums[p] = [load_channels(block.panels.bias, block.panels.channels(p)); N];
        }
        let mut windows = [core::ptr::null(); N];
        windows.copy_from_slice(&tile.windows[..N]);
        let mut levels = block.levels;
        for row in 0..walk.rows {
            for tap in 0..walk.taps {
                let mut at = row * walk.row_step + tap * walk.tap_step;
                for _ in 0..walk.quads {
                    let mut weights = [_mm512_setzero_si512(); P];
                    for p in 0..P {
                        weights[p] = _mm512_loadu_si512(levels.add(p * block.level_step).cast());
                    }
                    for n in 0..N {
                        let codes = _mm512_set1_epi32(windows[n].add(at).cast::<i32>().read_unaligned());
                        for p in 0..P {
                            sums[p][n] = _mm512_dpbusd_epi32(sums[p][n], codes, weights[p]);
                        }
                    }
                    at += 4;
                    levels = levels.add(STEP);
                }
            }
        }
        // A copy, so that `sums` is never indexed by a variable and stays in registers all through the loops above.
        let mut done = [[_mm512_setzero_si512(); N]; P];
        for p in 0..P {
            for n in 0..N {
                done[p][n] = sums[p][n];
            }
        }
        for p in 0..P {
            let scale = Scale::new(&block.requantise, &block.panels, p);
            let output = block.output.add(block.panels.first + p * PANEL_CHANNELS);
            let mut n = 0;
            while n < N {
                let some = [n, (n + 1).min(N - 1), (n + 2).min(N - 1), (n + 3).min(N - 1)];
                scale.store(some.map(|n| done[p][n]), some.map(|n| output.add(tile.outputs[n])));
                n += 4;
            }
        }
    }
}

/// Decodes a dense panel, 0 at padding.
///
/// # Safety
/// `codes` and `to` have room for the frame's depth.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn decode_segments<L: Levels>(levels: &L, frame: &Frame<'_>, codes: &[u8], to: *mut u8) {
    let counted = match frame.len % 4 {
        0 => !0,
        n => (1 << (8 * n)) - 1,
    };
    let counted = _mm512_set1_epi32(counted);
    let quads = frame.padded / 4;
    let steps = frame.segments * quads;
    for step in 0..steps {
        // SAFETY: the steps are the depth.
        unsafe {
            let mut here = levels.step(codes.as_ptr(), steps, step);
            if (step + 1).is_multiple_of(quads) {
                here = _mm512_and_si512(here, counted);
            }
            _mm512_storeu_si512(to.add(step * STEP).cast(), here);
        }
    }
}
