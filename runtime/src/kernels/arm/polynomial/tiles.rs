//! The innermost loop: tiles of two words of activations by two of weights.

use core::arch::naked_asm;

use crate::kernels::KernelSet;
use crate::kernels::polynomial::{Fields, Form, Polynomial, TAPS, TILE};

/// Sums of a tile of [`Form::Taps`] that those of the next one overlap.
const OVERLAP: usize = (TAPS - 1) * TILE;

/// The words of a strip and of a few filters, ready to multiply.
pub(super) struct Tiles<'a> {
    activations: &'a [u32],
    row_words: usize,
    /// Rows of the strip at which windows may begin.
    rows: usize,
    /// Sums of a row.
    sums: usize,
    tiles: usize,
    leaf: unsafe extern "C" fn(&mut Job),
    job: Job,
}

impl<'a> Tiles<'a> {
    /// `runs` are the bytes of those of `weights`, which they make up. `None` where sizes do not fit together.
    pub(super) fn new(
        plan: &Polynomial,
        activations: &'a [u32],
        weights: &'a [u32],
        runs: &'a [u32],
    ) -> Option<Tiles<'a>> {
        let leaf = match (plan.fields, plan.form) {
            (Fields::Ten, Form::Taps) if linked(Form::Taps, Fields::Ten) => taps_10,
            (Fields::Ten, Form::Filters) if linked(Form::Filters, Fields::Ten) => filters_10,
            (Fields::Fourteen, Form::Taps) if linked(Form::Taps, Fields::Fourteen) => taps_14,
            (Fields::Fourteen, Form::Filters) if linked(Form::Filters, Fields::Fourteen) => filters_14,
            _ => return None,
        };
        let row_words = plan.row_steps().checked_mul(TILE)?;
        let tile_words = plan.rows.checked_mul(row_words)?;
        let read = plan.tiles.checked_sub(1)?.checked_mul(tile_words)?.checked_add(weights.len())?;
        let rows = activations.len().checked_sub(read)?.checked_div(row_words)? + 1;
        let all = weights.as_ptr_range();
        let job = Job {
            activations: activations.as_ptr(),
            tile_bytes: tile_words * 4,
            weights: all.start,
            weights_end: all.end,
            first_end: all.start.wrapping_byte_add(*runs.first()? as usize),
            runs: runs.as_ptr(),
            sums: core::ptr::null_mut(),
            tiles: plan.tiles,
        };
        Some(Tiles { activations, row_words, rows, sums: plan.sum_words(), tiles: plan.tiles, leaf, job })
    }

    /// The sums of a row of windows whose first row is `row` of the strip.
    pub(super) fn row(&mut self, row: usize, sums: &mut [i32]) -> Option<()> {
        if row >= self.rows || sums.len() < self.sums {
            return None;
        }
        // What the first tile adds to.
        sums.first_chunk_mut::<OVERLAP>()?.fill(0);
        self.job.activations = self.activations.as_ptr().wrapping_add(row * self.row_words);
        (self.job.sums, self.job.tiles) = (sums.as_mut_ptr(), self.tiles);
        // SAFETY: every tile reads as many words of activations as there are weights, the last of them inside
        // `activations`; the weights are whole runs; `sums` has the columns of all tiles.
        unsafe { (self.leaf)(&mut self.job) };
        Some(())
    }
}

const fn linked(form: Form, fields: Fields) -> bool {
    KernelSet::LINKED.has_form(form, fields)
}

/// A row of tiles.
#[repr(C)]
struct Job {
    /// Words of the first tile.
    activations: *const u32,
    /// From tile to tile.
    tile_bytes: usize,
    /// Whole runs of words.
    weights: *const u32,
    /// Where the last of them ends.
    weights_end: *const u32,
    /// Where the first of them ends.
    first_end: *const u32,
    /// Bytes of each of them.
    runs: *const u32,
    /// Column after column, filter after filter.
    sums: *mut i32,
    /// At least one.
    tiles: usize,
}

/// Field `i`, counted from the lowest, of the pair of registers `lo` and `hi`.
macro_rules! field {
    (10, 0, $to:literal, $lo:literal, $hi:literal) => {
        concat!("ubfx ", $to, ", ", $lo, ", #0, #10\n")
    };
    (10, 1, $to:literal, $lo:literal, $hi:literal) => {
        concat!("ubfx ", $to, ", ", $lo, ", #10, #10\n")
    };
    (10, 2, $to:literal, $lo:literal, $hi:literal) => {
        concat!("ubfx ", $to, ", ", $lo, ", #20, #10\n")
    };
    (10, 3, $to:literal, $lo:literal, $hi:literal) => {
        concat!("lsr ", $to, ", ", $lo, ", #30\n bfi ", $to, ", ", $hi, ", #2, #8\n")
    };
    (10, 4, $to:literal, $lo:literal, $hi:literal) => {
        concat!("ubfx ", $to, ", ", $hi, ", #8, #10\n")
    };
    (10, 5, $to:literal, $lo:literal, $hi:literal) => {
        concat!("lsr ", $to, ", ", $hi, ", #18\n")
    };
    (14, 0, $to:literal, $lo:literal, $hi:literal) => {
        concat!("ubfx ", $to, ", ", $lo, ", #0, #14\n")
    };
    (14, 1, $to:literal, $lo:literal, $hi:literal) => {
        concat!("ubfx ", $to, ", ", $lo, ", #14, #14\n")
    };
    (14, 2, $to:literal, $lo:literal, $hi:literal) => {
        concat!("lsr ", $to, ", ", $lo, ", #28\n bfi ", $to, ", ", $hi, ", #4, #10\n")
    };
    (14, 3, $to:literal, $lo:literal, $hi:literal) => {
        concat!("lsr ", $to, ", ", $hi, ", #10\n")
    };
}

/// Stores r8 and r9 as the sums at an offset from r12, or adds them there.
macro_rules! keep {
    (put, $at:literal) => {
        concat!("strd r8, r9, [r12, #", $at, "]\n")
    };
    (add, $at:literal) => {
        concat!("ldrd r10, r11, [r12, #", $at, "]\n add r8, r8, r10\n add r9, r9, r11\n", keep!(put, $at))
    };
}

/// Sums of a column of two filters: fields of the products by the first word of activations, by the second, or by both.
macro_rules! column {
    ($keep:tt, $bits:tt, $i:tt -, $at:literal) => {
        concat!(field!($bits, $i, "r8", "r0", "r1"), field!($bits, $i, "r9", "r4", "r5"), keep!($keep, $at))
    };
    ($keep:tt, $bits:tt, - $i:tt, $at:literal) => {
        concat!(field!($bits, $i, "r8", "r2", "r3"), field!($bits, $i, "r9", "r6", "r7"), keep!($keep, $at))
    };
    ($keep:tt, $bits:tt, $i:tt $j:tt, $at:literal) => {
        concat!(
            field!($bits, $i, "r8", "r0", "r1"),
            field!($bits, $j, "r10", "r2", "r3"),
            "add r8, r8, r10\n",
            field!($bits, $i, "r9", "r4", "r5"),
            field!($bits, $j, "r11", "r6", "r7"),
            "add r9, r9, r11\n",
            keep!($keep, $at)
        )
    };
}

/// Sums of all columns of a tile, two filters each; those that the tile before overlaps are added in any case.
macro_rules! taps {
    ($keep:tt, 14) => {
        concat!(
            column!(add, 14, 0 -, 0), column!(add, 14, 1 -, 8), column!($keep, 14, 2 0, 16),
            column!($keep, 14, 3 1, 24), column!($keep, 14, - 2, 32), column!($keep, 14, - 3, 40)
        )
    };
    ($keep:tt, 10) => {
        concat!(
            column!(add, 10, 0 -, 0), column!(add, 10, 1 -, 8), column!($keep, 10, 2 -, 16),
            column!($keep, 10, 3 -, 24), column!($keep, 10, 4 0, 32), column!($keep, 10, 5 1, 40),
            column!($keep, 10, - 2, 48), column!($keep, 10, - 3, 56), column!($keep, 10, - 4, 64),
            column!($keep, 10, - 5, 72)
        )
    };
}

/// Sums of a column for the two filters of a word.
macro_rules! pair {
    ($keep:tt, $bits:tt, $i:tt $j:tt, $lo:literal $hi:literal, $at:literal) => {
        concat!(field!($bits, $i, "r8", $lo, $hi), field!($bits, $j, "r9", $lo, $hi), keep!($keep, $at))
    };
}

/// Sums of all columns of a tile, four filters each.
macro_rules! filters {
    ($keep:tt, 14) => {
        concat!(
            pair!($keep, 14, 0 2, "r0" "r1", 0), pair!($keep, 14, 0 2, "r4" "r5", 8),
            pair!($keep, 14, 1 3, "r0" "r1", 16), pair!($keep, 14, 1 3, "r4" "r5", 24),
            pair!($keep, 14, 0 2, "r2" "r3", 32), pair!($keep, 14, 0 2, "r6" "r7", 40),
            pair!($keep, 14, 1 3, "r2" "r3", 48), pair!($keep, 14, 1 3, "r6" "r7", 56)
        )
    };
    ($keep:tt, 10) => {
        concat!(
            pair!($keep, 10, 0 3, "r0" "r1", 0), pair!($keep, 10, 0 3, "r4" "r5", 8),
            pair!($keep, 10, 1 4, "r0" "r1", 16), pair!($keep, 10, 1 4, "r4" "r5", 24),
            pair!($keep, 10, 2 5, "r0" "r1", 32), pair!($keep, 10, 2 5, "r4" "r5", 40),
            pair!($keep, 10, 0 3, "r2" "r3", 48), pair!($keep, 10, 0 3, "r6" "r7", 56),
            pair!($keep, 10, 1 4, "r2" "r3", 64), pair!($keep, 10, 1 4, "r6" "r7", 72),
            pair!($keep, 10, 2 5, "r2" "r3", 80), pair!($keep, 10, 2 5, "r6" "r7", 88)
        )
    };
}

/// A step: two words of activations by two of weights, each by each, `umull` or `umlal`.
macro_rules! step {
    ($multiply:literal) => {
        concat!(
            "ldrd r8, r9, [r12], #8\n ldrd r10, r11, [lr], #8\n",
            $multiply,
            " r0, r1, r8, r10\n",
            $multiply,
            " r2, r3, r9, r10\n",
            $multiply,
            " r4, r5, r8, r11\n",
            $multiply,
            " r6, r7, r9, r11\n"
        )
    };
}

/// A function for a row of tiles of `$bytes` bytes of sums each.
macro_rules! tiles {
    ($name:ident, $form:ident $bits:tt, $bytes:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                processor!(),
                "push {{r4-r11, lr}}",
                // End of the run; job; activations; next run.
                "sub sp, sp, #16",
                "str r0, [sp, #4]",
                // A tile.
                "2:",
                "ldrd r2, r3, [r0]",
                "ldr lr, [r0, #8]",
                "mov r12, r2",
                "add r2, r2, r3",
                "str r2, [r0]",
                "ldr r2, [r0, #20]",
                // A run.
                "3:",
                "ldr r1, [r2], #4",
                "add r1, r1, lr",
                "str r1, [sp]",
                "str r2, [sp, #12]",
                step!("umull"),
                ".rept 7",
                step!("umlal"),
                ".endr",
                "ldr r8, [sp]",
                "cmp lr, r8",
                "beq 5f",
                "4:",
                ".rept 8",
                step!("umlal"),
                ".endr",
                "ldr r8, [sp]",
                "cmp lr, r8",
                "bne 4b",
                "5:",
                "ldr r10, [sp, #4]",
                "str r12, [sp, #8]",
                "ldr r11, [r10, #16]",
                "ldr r12, [r10, #24]",
                "cmp lr, r11",
                "bne 6f",
                $form!(put, $bits),
                "b 7f",
                "6:",
                $form!(add, $bits),
                "7:",
                "ldr r0, [sp, #4]",
                "ldr r1, [r0, #12]",
                "ldr r12, [sp, #8]",
                "ldr r2, [sp, #12]",
                "cmp lr, r1",
                "bne 3b",
                "ldrd r2, r3, [r0, #24]",
                concat!("add r2, r2, #", $bytes),
                "subs r3, r3, #1",
                "strd r2, r3, [r0, #24]",
                "bne 2b",
                "add sp, sp, #16",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

tiles!(taps_10, taps 10, 64);
tiles!(taps_14, taps 14, 32);
tiles!(filters_10, filters 10, 96);
tiles!(filters_14, filters 14, 64);
