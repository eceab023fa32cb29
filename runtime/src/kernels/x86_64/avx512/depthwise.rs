//! Depthwise convolution: 4 taps of 16 channels an instruction.

use core::arch::x86_64::*;
use core::ops::Range;

use super::levels::{Bytes, Levels, Table64, Table128};
use super::requantise::{Scale, load_channels};
use super::{Avx512, STEP, lanes};
use crate::format::WeightGroup;
use crate::kernels::x86_64::depthwise::{Depthwise, InputRow, MAX_TAPS, OutputRow};

// SAFETY: 4 taps.
unsafe impl Depthwise for Avx512 {
    const TAPS: usize = 4;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8) {
        // SAFETY: `codes` are whole taps, and `to` takes a byte for each.
        unsafe {
            match group.format.bits() {
                8 => decode_taps(&Bytes, codes, to),
                7 => decode_taps(&Table128::new(group), codes, to),
                _ => decode_taps(&Table64::new(group), codes, to),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn interleave_pixels(row: &InputRow, to: *mut u8) {
        let bytes = row.columns * STEP;
        // SAFETY: a row hands out addresses of 16 bytes, for columns inside all taps at once; the cells fit.
        unsafe {
            interleave_edge(row, 0..row.inside.start, to);
            for output in row.inside.clone() {
                let mut tap = row.first_tap(output);
                let mut to = to.add(output * bytes);
                for _ in 0..row.columns {
                    let next = |k: usize| tap.wrapping_add(k * row.tap_step);
                    interleave(&[tap, next(1), next(2), next(3)], to);
                    tap = next(4);
                    to = to.add(STEP);
                }
            }
            interleave_edge(row, row.inside.end..row.outputs, to);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn interleave_taps(taps: &[*const u8; MAX_TAPS], to: *mut u8) {
        // SAFETY: the contract.
        unsafe { interleave(taps, to) };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn row(row: &OutputRow<'_>) {
        let scale = Scale::new(&row.requantise, row.panel, 0);
        let mut first = 0;
        while first < row.pixels {
            // SAFETY: as many pixels as there are left.
            unsafe {
                match row.pixels - first {
                    1 => correlate::<1>(row, &scale, first),
                    2 => correlate::<2>(row, &scale, first),
                    3 => correlate::<3>(row, &scale, first),
                    4 => correlate::<4>(row, &scale, first),
                    5 => correlate::<5>(row, &scale, first),
                    6 => correlate::<6>(row, &scale, first),
                    7 => correlate::<7>(row, &scale, first),
                    _ => correlate::<8>(row, &scale, first),
                }
            }
            first += 8;
        }
    }
}

/// Pixels `first..first + N` of an output row.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn correlate<const N: usize>(row: &OutputRow<'_>, scale: &Scale, first: usize) {
    let mut sums = [load_channels(row.panel.bias, row.panel.channels(0)); N];
    let step = row.columns * STEP;
    let mut weights = row.weights;
    // SAFETY: cells and output are where the row's invariants say.
    unsafe {
        for k in 0..row.rows {
            let cells = row.ring_row(k).add(first * step);
            for column in 0..row.columns {
                let taps = _mm512_loadu_si512(weights.cast());
                weights = weights.add(STEP);
                for n in 0..N {
                    let codes = _mm512_loadu_si512(cells.add(n * step + column * STEP).cast());
                    sums[n] = _mm512_dpbusd_epi32(sums[n], codes, taps);
                }
            }
        }
        let output = row.output.add(first * row.output_step);
        let last = N - 1;
        let some = [0, 1.min(last), 2.min(last), 3.min(last)];
        scale.store(some.map(|n| sums[n]), some.map(|n| output.add(n * row.output_step)));
        if N > 4 {
            let some = [4.min(last), 5.min(last), 6.min(last), last];
            scale.store(some.map(|n| sums[n]), some.map(|n| output.add(n * row.output_step)));
        }
    }
}

/// Cells of output columns that read beyond the edge of the row, or near the end of the input.
///
/// # Safety
/// `to` takes the cells of the row.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn interleave_edge(row: &InputRow, outputs: Range<usize>, to: *mut u8) {
    for output in outputs {
        for column in 0..row.columns {
            // SAFETY: a row hands out addresses of 16 bytes; the cells fit.
            unsafe { interleave(&row.taps(output, 4 * column), to.add((output * row.columns + column) * STEP)) };
        }
    }
}

/// Byte `4c + j` becomes byte `c` at address `j`.
///
/// # Safety
/// 16 bytes can be read at each address; `to` takes 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn interleave(from: &[*const u8; 4], to: *mut u8) {
    const ORDER: [u8; 64] = {
        let mut order = [0; 64];
        let mut i = 0;
        while i < 64 {
            order[i] = (i % 4 * 16 + i / 4) as u8;
            i += 1;
        }
        order
    };
    // SAFETY: the contract.
    unsafe {
        let [a, b, c, d] = from.map(|at| _mm_loadu_si128(at.cast()));
        let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
        let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
        let all = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi8(order, all));
    }
}

/// Decodes a depthwise panel.
///
/// # Safety
/// `to` takes a byte for each code.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn decode_taps<L: Levels>(levels: &L, codes: &[u8], to: *mut u8) {
    let mut to = to;
    // A last piece of 1 to 3 taps is decoded aside.
    for from in codes.chunks(levels.bytes()) {
        let taps = from.len() * STEP / levels.bytes();
        let mut piece = [0; STEP];
        piece[..from.len()].copy_from_slice(from);
        // SAFETY: 64 bytes hold the codes of any width; 16 levels a tap fit.
        unsafe {
            let mask = lanes(taps);
            _mm512_mask_storeu_epi8(to.cast(), mask, levels.load(piece.as_ptr()));
            to = to.add(taps);
        }
    }
}
