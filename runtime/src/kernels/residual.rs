//! Convolutions that add, by kernels that do not: a strip of rows is convolved into scratch, and added from there
//! in place.

use super::scratch::most;
use super::{ConvKernel, Isa};
use crate::format::{Add, Conv, Part};

/// Bytes of a strip, unless one row takes more.
const STRIP_BYTES: usize = 2048;

/// A strip, and the most that one wants, by `wanted`, to be computed.
pub(super) fn scratch_bytes(conv: &Conv<'_>, wanted: impl Fn(&Conv<'_>) -> usize) -> usize {
    let mut most = 0;
    let mut last = None;
    for strip in strips(conv) {
        // Most are like the one before.
        if last.replace(geometry(&strip)) != Some(geometry(&strip)) {
            most = wanted(&strip.conv).max(most);
        }
    }
    strip_bytes(conv).saturating_add(most)
}

/// Convolves and adds; leaves the output alone if the arguments do not fit together.
pub(super) fn run(isa: Isa, conv: &Conv<'_>, add: &Add, input: &[u8], sum: &mut [u8], scratch: &mut [u8]) {
    let Some((codes, scratch)) = scratch.split_at_mut_checked(strip_bytes(conv)) else { return };
    let mut chosen = None;
    for strip in strips(conv) {
        let kernel = match chosen {
            Some((like, kernel)) if like == geometry(&strip) => kernel,
            _ => ConvKernel::choose(isa, &strip.conv),
        };
        chosen = Some((geometry(&strip), kernel));
        let rows = (input.get(strip.input), codes.get_mut(..strip.output.len()), sum.get_mut(strip.output));
        let (Some(input), Some(codes), Some(sum)) = rows else { return };
        kernel.run_whole(&strip.conv, input, codes, scratch);
        isa.add(add, sum, codes);
    }
}

/// The strips, which do not add.
fn strips<'a>(conv: &Conv<'a>) -> impl Iterator<Item = Part<'a>> {
    let mut plain = *conv;
    plain.residual = None;
    plain.parts(strip_rows(conv))
}

/// Rows of output of each: as many strips as there must be, of equal size.
pub(super) const fn strip_rows(conv: &Conv<'_>) -> usize {
    let fitting = match STRIP_BYTES.checked_div(row_bytes(conv)) {
        None | Some(0) => 1,
        Some(rows) => rows,
    };
    match conv.output.h {
        0 => 1,
        rows => rows.div_ceil(most(rows.div_ceil(fitting), 1)),
    }
}

/// Bytes of the codes of a strip.
pub(super) const fn strip_bytes(conv: &Conv<'_>) -> usize {
    strip_rows(conv).saturating_mul(row_bytes(conv))
}

const fn row_bytes(conv: &Conv<'_>) -> usize {
    conv.output.w.saturating_mul(conv.output.c)
}

/// All in which the strips of a convolution differ.
fn geometry(strip: &Part<'_>) -> (usize, usize, usize) {
    (strip.conv.input.h, strip.conv.output.h, strip.conv.pad[0])
}
