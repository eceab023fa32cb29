//! Rows of input with what surrounds them, as a few rows of windows read them.

use core::ops::Range;

use super::codes::Codes;
use super::plan::Plan;
use crate::format::Conv;
use crate::moving::move_down;

/// Shows strip after strip: some rows of output, and the activations of their windows from the first row on. They are
/// brought together in `strip`, unless they are read where they lie.
pub(super) fn each<C: Codes>(
    conv: &Conv<'_>,
    plan: &Plan,
    codes: C,
    input: &[u8],
    strip: &mut [C::Activation],
    mut show: impl FnMut(Range<usize>, &[C::Activation]) -> Option<()>,
) -> Option<()> {
    let h = conv.output.h;
    if plan.in_place {
        return show(0..h, codes.in_place(input)?);
    }
    for first in (0..h).step_by(plan.outputs.max(1)) {
        fill(conv, plan, codes, first, input, strip)?;
        show(first..h.min(first + plan.outputs), strip)?;
    }
    Some(())
}

/// The strip from output row `first` on.
fn fill<C: Codes>(
    p: &Conv<'_>,
    plan: &Plan,
    codes: C,
    first: usize,
    input: &[u8],
    strip: &mut [C::Activation],
) -> Option<()> {
    let Plan { unit, width, rows, outputs, .. } = *plan;
    let pitch = width * unit;
    // Rows that the strip before had too.
    let kept = if first == 0 { 0 } else { rows.saturating_sub(outputs * p.stride[0]) };
    if kept > 0 {
        move_down(strip.get_mut(..rows * pitch)?, (rows - kept) * pitch);
    }
    for (row, to) in strip.chunks_exact_mut(pitch.max(1)).enumerate().skip(kept) {
        let y = (first * p.stride[0] + row).wrapping_sub(p.pad[0]);
        let (lead, columns) = if y < p.input.h { (p.pad[1].min(width), p.input.w) } else { (width, 0) };
        let columns = columns.min(width - lead);
        let (lead, to) = to.split_at_mut_checked(lead * unit)?;
        let (inside, trail) = to.split_at_mut_checked(columns * unit)?;
        lead.fill(codes.padding(p.zero_in));
        trail.fill(codes.padding(p.zero_in));
        if columns > 0 {
            codes.pack(input.get(y * p.input.w * p.input.c..)?.get(..columns * p.input.c)?, inside);
        }
    }
    Some(())
}
