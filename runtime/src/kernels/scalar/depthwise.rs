//! Depthwise convolution of three by three taps: along a row of one channel, whose levels and whose window stay in
//! registers as far as there are some.

use core::num::NonZero;

use super::codes::{Bytes, Codes};
use super::plan::Plan;
use super::strip;
use crate::format::{Conv, Requantise, WeightGroup};

/// Rows and columns of a window.
const SIDE: usize = 3;

/// Whether there is a kernel, as far as geometry goes.
pub(super) const fn takes(conv: &Conv<'_>) -> bool {
    conv.is_depthwise()
        && matches!(conv.kernel, [SIDE, SIDE])
        && matches!(conv.dilation, [1, 1])
        && matches!(conv.stride[1], 1 | 2)
}

/// Depthwise convolution of weights in [`Layout::Plain`](crate::format::Layout::Plain); leaves the output alone if the
/// arguments do not fit together.
pub(super) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    for group in conv.weight_groups() {
        // `None` would come of arguments that do not fit together.
        let _ran = self::group(conv, &group, input, output, scratch);
    }
}

fn group(conv: &Conv<'_>, group: &WeightGroup<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let plan = Plan::of(conv, group.format);
    let (strip, _) = scratch.split_at_mut_checked(plan.strip())?;
    let along = if conv.stride[1] == 1 { row::<1> } else { row::<2> };
    let (channels, pitch) = (NonZero::new(conv.output.c)?, plan.width * conv.input.c);
    let c = channels.get();
    strip::each(conv, &plan, Bytes, input, strip, |rows, codes| {
        let output = output.get_mut(rows.start * conv.output.w * c..rows.end * conv.output.w * c)?;
        for index in 0..group.channels {
            let mut levels = [0; SIDE * SIDE];
            Bytes.expand(conv, group, index, &mut levels);
            let channel = group.first + index;
            let filter = Filter {
                levels: levels.map(i32::from),
                bias: *conv.bias.get(channel)?,
                mult: *conv.mult.get(channel)?,
                requantise: conv.requantise,
                channels,
            };
            for (y, output) in output.chunks_exact_mut((conv.output.w * c).max(1)).enumerate() {
                let first = y * conv.stride[0] * pitch;
                let mut rows: [&[u8]; SIDE] = [&[]; SIDE];
                for (row, line) in rows.iter_mut().enumerate() {
                    *line = codes.get(first + row * pitch + channel..first + (row + 1) * pitch)?;
                }
                along(&filter, rows, output.get_mut(channel..)?)?;
            }
        }
        Some(())
    })
}

/// A channel.
struct Filter {
    levels: [i32; SIDE * SIDE],
    bias: i32,
    mult: i32,
    requantise: Requantise,
    /// Of a pixel.
    channels: NonZero<usize>,
}

/// A row of output, windows `STRIDE` pixels apart, 1 or 2. Rows and output begin with the channel of their first pixel.
///
/// A column of codes is multiplied by all columns of levels as it is loaded: for the output whose last column it is, and
/// for those that begin with it or before. So sums are kept, and no codes.
fn row<const STRIDE: usize>(filter: &Filter, [upper, middle, lower]: [&[u8]; SIDE], output: &mut [u8]) -> Option<()> {
    // Of one length, so that one check does for all.
    let (middle, lower) = (middle.get(..upper.len())?, lower.get(..upper.len())?);
    let mut at = 0;
    let mut next = || {
        let column = (at < upper.len()).then(|| [upper[at], middle[at], lower[at]].map(i32::from));
        at += filter.channels.get();
        column
    };
    let levels = filter.levels;
    let add = |sum: i32, column: [i32; SIDE], x: usize| {
        (0..SIDE).fold(sum, |sum, y| sum.wrapping_add(column[y] * levels[y * SIDE + x]))
    };
    let first = next()?;
    // Of the next output all columns but the last or, two pixels apart, the first; of the one after it the first.
    let (mut begun, mut after) = (add(filter.bias, first, 0), 0);
    if STRIDE == 1 {
        let second = next()?;
        (begun, after) = (add(begun, second, 1), add(filter.bias, second, 0));
    }
    for code in output.iter_mut().step_by(filter.channels.get()) {
        if STRIDE == 2 {
            begun = add(begun, next()?, 1);
        }
        let last = next()?;
        *code = filter.requantise.apply(add(begun, last, 2), filter.mult);
        let fresh = add(filter.bias, last, 0);
        (begun, after) = if STRIDE == 1 { (add(after, last, 1), fresh) } else { (fresh, after) };
    }
    Some(())
}
