//! How weights become the steps of [`Layout::Sparse`](crate::format::Layout::Sparse): the other side of
//! [`SparsePanel`](crate::format::SparsePanel), for compilers.

use crate::bits::{code_of, write_code};
use crate::format::{
    PANEL_CHANNELS, PANEL_DEPTH, PANEL_STEP, SPARSE_DEPTH, SPARSE_STEPS, SPARSE_WINDOW, WeightFormat, indices_at,
    sparse_bytes,
};

/// The weights of a group.
#[derive(Clone, Copy, Debug)]
pub struct Packing<'a> {
    /// Rows of [`depth`](Self::depth) levels, one an output channel.
    pub levels: &'a [i8],
    /// Weights of an output channel, [`SPARSE_DEPTH`] at most.
    pub depth: usize,
    /// Coding; it needs a level 0, which odd levels lack.
    pub format: WeightFormat,
    /// Levels of a codebook format.
    pub codebook: &'a [i8],
}

/// A level that the format does not have: in the channel's row, or in what fills up steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCode {
    /// The level.
    pub level: i8,
    /// The output channel, counted within the group.
    pub channel: usize,
}

impl Packing<'_> {
    /// Bytes that [`write`](Self::write) fills; `None` when no blob holds so many weights.
    pub fn bytes(&self) -> Option<usize> {
        sparse_bytes(self.format, self.channels(), self.steps()).filter(|_| self.depth <= SPARSE_DEPTH)
    }

    /// Steps of all panels.
    pub fn steps(&self) -> usize {
        self.panels().map(|rows| padded_steps(Steps::new(rows, self.depth))).sum()
    }

    /// Writes the group's data, as long as it is; what lies beyond the end of `data` is dropped.
    ///
    /// # Errors
    /// When a level has no code, or 0 has none.
    pub fn write(&self, data: &mut [u8]) -> Result<(), NoCode> {
        let zero = self.code(0, 0)?;
        let steps = self.steps();
        let indices_at = indices_at(self.format, self.channels(), steps).unwrap_or(0);
        let (head, indices) = data.split_at_mut_checked(indices_at).unwrap_or_default();
        let (indices, codes) = indices.split_at_mut_checked(steps * PANEL_STEP).unwrap_or_default();
        let (ends, bases) = head.split_at_mut_checked(4 * self.panels().count()).unwrap_or_default();
        let mut bases = bases.as_chunks_mut::<2>().0.iter_mut();
        let mut indices = indices.as_chunks_mut::<PANEL_STEP>().0.iter_mut();
        let step_bytes = PANEL_STEP / 8 * self.format.bits() as usize;
        let mut written = 0;
        for ((panel, rows), end) in self.panels().enumerate().zip(ends.as_chunks_mut().0) {
            let all = padded_steps(Steps::new(rows, self.depth));
            let codes = codes.get_mut(written * step_bytes..(written + all) * step_bytes).unwrap_or_default();
            let steps = Steps::new(rows, self.depth).map(Some).chain(core::iter::repeat(None)).take(all);
            for (step, filled) in steps.enumerate() {
                let Step { base, slots } = filled.unwrap_or(Step::EMPTY);
                let (Some(to), Some(indices)) = (bases.next(), indices.next()) else { break };
                *to = base.to_le_bytes();
                for (j, (slot, index)) in slots.iter().zip(indices).enumerate() {
                    *index = slot.index;
                    let channel = panel * PANEL_CHANNELS + j / PANEL_DEPTH;
                    let code = if slot.level == 0 { zero } else { self.code(slot.level, channel)? };
                    let number = crate::bits::interleave::<PANEL_STEP>(self.format, all, step, j);
                    write_code(codes, self.format.bits(), number, code);
                }
            }
            written += all;
            *end = ((written / SPARSE_STEPS) as u32).to_le_bytes();
        }
        Ok(())
    }

    fn channels(&self) -> usize {
        self.levels.len() / self.depth.max(1)
    }

    fn panels(&self) -> impl Iterator<Item = &[i8]> {
        self.levels.chunks(PANEL_CHANNELS * self.depth.max(1))
    }

    fn code(&self, level: i8, channel: usize) -> Result<u8, NoCode> {
        code_of(self.format, level, self.codebook).ok_or(NoCode { level, channel })
    }
}

/// A weight of a step.
#[derive(Clone, Copy)]
struct Slot {
    index: u8,
    level: i8,
}

/// What a panel multiplies at once: four weights of each channel, from one window of positions.
#[derive(Clone, Copy)]
struct Step {
    base: u16,
    slots: [Slot; PANEL_STEP],
}

impl Step {
    const EMPTY: Step = Step { base: 0, slots: [Slot { index: 0, level: 0 }; PANEL_STEP] };
}

/// The steps of a panel: each begins with the first weight that is left, and takes of every channel what the window has.
struct Steps<'a> {
    rows: &'a [i8],
    depth: usize,
    /// The next weight of each channel, or the depth.
    next: [usize; PANEL_CHANNELS],
}

impl<'a> Steps<'a> {
    fn new(rows: &'a [i8], depth: usize) -> Steps<'a> {
        let mut steps = Steps { rows, depth, next: [0; PANEL_CHANNELS] };
        (0..PANEL_CHANNELS).for_each(|lane| steps.seek(lane, 0));
        steps
    }

    fn row(&self, lane: usize) -> &'a [i8] {
        self.rows.get(lane * self.depth..(lane + 1) * self.depth).unwrap_or(&[])
    }

    /// Goes on to the first weight of a channel from position `from` on.
    fn seek(&mut self, lane: usize, from: usize) {
        let rest = self.row(lane).get(from..).unwrap_or(&[]);
        self.next[lane] = rest.iter().position(|&level| level != 0).map_or(self.depth, |ahead| from + ahead);
    }
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let first = self.next.into_iter().min().filter(|&first| first < self.depth)?;
        let base = first.min(self.depth.saturating_sub(SPARSE_WINDOW));
        let mut step = Step { base: base as u16, ..Step::EMPTY };
        for (lane, slots) in step.slots.as_chunks_mut::<PANEL_DEPTH>().0.iter_mut().enumerate() {
            for slot in slots {
                let at = self.next[lane];
                if at >= self.depth || at >= base + SPARSE_WINDOW {
                    break;
                }
                *slot = Slot { index: (at - base) as u8, level: self.row(lane).get(at).copied().unwrap_or(0) };
                self.seek(lane, at + 1);
            }
        }
        Some(step)
    }
}

fn padded_steps(steps: Steps<'_>) -> usize {
    steps.count().next_multiple_of(SPARSE_STEPS)
}
