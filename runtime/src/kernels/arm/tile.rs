//! Sums of products, two at a time: output channels in pairs, for three windows or for one.
//!
//! The loops are whole functions in assembly, since each wants all 14 registers and a compiler would spill some. They
//! assemble as Thumb-2 and as Arm code. A word of four activations becomes two words of two, `(0, 2)` and `(1, 3)`, by
//! UXTB16 of the word and of the word rotated; levels lie so that halves meet, those of both channels of a pair in each
//! half: that of the first plus 128 in the lower byte, that of the second in the upper one.
//!
//! SMLAD multiplies such a word as it is: the sum is that of the first channel, and 256 times that of the second, and 128
//! times that of the activations. SXTB16 leaves the second channel, whose sum SMLAD makes by itself; the other two are
//! taken off in the end. All is modulo 2^32, so the first channel's own sum is exact. After the last product SMMLAR
//! multiplies, rounds and adds the zero point in one instruction.

use core::arch::naked_asm;

use crate::format::Requantise;

/// Windows of a tile.
pub(super) const WINDOWS: usize = 3;
/// Codes of a window that are multiplied together, and what its depth is padded to.
pub(super) const STEP: usize = 4;
/// Steps of a turn of the loop of [`tile`], which shares a small cache of code with what gathers windows.
const TILE_TURN: usize = 4;
/// Steps of a turn of the loop of [`single`].
const SINGLE_TURN: usize = 8;
/// Bytes of the instructions of a step of each: turns are begun at any step.
const TILE_CODE: usize = 4 * 17;
const SINGLE_CODE: usize = 4 * 19;

/// From sums to codes, in the form that the loops take it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Scale {
    zero: i32,
    /// 0 if `pre` is and every code may come out, else `pre + 1`.
    special: u32,
    /// What brings bytes to `lo..=hi`: added, subtracted and added with saturation.
    pub(super) clamp: [u32; 3],
}

impl Scale {
    pub(super) fn new(to: &Requantise) -> Scale {
        let plain = to.pre == 0 && to.lo == 0 && to.hi == 255;
        let above = 255 - to.hi;
        // `lo <= hi`, but fields are public.
        let clamp = [above, to.lo.saturating_add(above), to.lo].map(|byte| u32::from_ne_bytes([byte; 4]));
        Scale { zero: to.zero.into(), special: if plain { 0 } else { u32::from(to.pre) + 1 }, clamp }
    }
}

/// What the loops go through. Pointers may be read, or for `output` written, as far as the loops go.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Job {
    /// Activations: of [`tile`] taken apart, those of the windows in turn; of [`single`] as they are.
    pub(super) window: *const u8,
    /// Their end; of [`tile`] the sums of the windows follow.
    pub(super) end: *const u8,
    /// Of [`single`]: the sum of the activations, times 128.
    pub(super) offset: u32,
    /// Bytes of code of the first turn that are left out, so that turns are whole.
    skipped: usize,
    /// Of [`single`]: bytes of the levels of a pair, or 0 if there is only one.
    pub(super) pair: usize,
    /// The levels of the first pair.
    pub(super) levels: *const i8,
    /// One a channel, as are the multipliers; the loops move all of them on, and the output.
    pub(super) bias: *const i32,
    pub(super) mult: *const i32,
    pub(super) output: *mut u8,
    /// Bytes from pixel to pixel of the output.
    pub(super) step: usize,
    /// Where `output` is when the last channel is done.
    pub(super) last: *mut u8,
    pub(super) scale: Scale,
}

impl Job {
    /// For [`tile`], and windows of `depth` activations, a multiple of [`STEP`]; to be filled in.
    pub(super) fn of_tiles(scale: Scale, depth: usize) -> Job {
        Job::new(scale, (depth / STEP).wrapping_neg() % TILE_TURN * TILE_CODE)
    }

    /// For [`single`], as above.
    pub(super) fn of_singles(scale: Scale, depth: usize) -> Job {
        Job::new(scale, (depth / STEP).wrapping_neg() % SINGLE_TURN * SINGLE_CODE)
    }

    fn new(scale: Scale, skipped: usize) -> Job {
        Job {
            window: core::ptr::null(),
            end: core::ptr::null(),
            offset: 0,
            skipped,
            pair: 0,
            levels: core::ptr::null(),
            bias: core::ptr::null(),
            mult: core::ptr::null(),
            output: core::ptr::null_mut(),
            step: 0,
            last: core::ptr::null_mut(),
            scale,
        }
    }
}

/// The numbers of at most four channels from `first` on, and 0 for those that make them four.
#[inline(never)]
pub(super) fn quad_of(numbers: &[i32], first: usize) -> [i32; 4] {
    let mut quad = [0; 4];
    quad.iter_mut().zip(numbers.get(first..).unwrap_or_default()).for_each(|(to, &number)| *to = number);
    quad
}

/// Four levels of two channels by four activations of three windows.
macro_rules! step {
    () => {
        "ldm r12!, {{r6, r7, r8}}
        ldrd r10, r11, [lr], #8
        smlad r0, r6, r10, r0
        smlad r2, r7, r10, r2
        smlad r4, r8, r10, r4
        sxtb16 r10, r10, ror #8
        smlad r1, r6, r10, r1
        smlad r3, r7, r10, r3
        smlad r5, r8, r10, r5
        ldm r12!, {{r6, r7, r8}}
        smlad r0, r6, r11, r0
        smlad r2, r7, r11, r2
        smlad r4, r8, r11, r4
        sxtb16 r11, r11, ror #8
        smlad r1, r6, r11, r1
        smlad r3, r7, r11, r3
        smlad r5, r8, r11, r5"
    };
}

/// Pairs of channels, one at least, for [`WINDOWS`] windows.
///
/// # Safety
/// The job is described as its fields say.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn tile(job: &mut Job) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        "ldr r1, [r0, #{end}]",
        "ldr r3, [r0, #{skipped}]",
        "adr r2, 20f",
        "add r2, r2, r3",
        // 0: the job, 4: the end of the windows, 8: where the first turn begins.
        "push {{r0, r1, r2}}",
        "mov r11, r0",
        "ldr lr, [r0, #{levels}]",
        // A pair: sums of its channels alternate.
        "10:",
        "ldr r9, [sp, #4]",
        "ldr r10, [sp, #8]",
        "ldr r6, [r11, #{bias}]",
        "ldr r12, [r11, #{window}]",
        "ldrd r0, r1, [r6], #8",
        "str r6, [r11, #{bias}]",
        "ldm r9, {{r6, r7, r8}}",
        "add r0, r0, r1, lsl #8",
        "mov r3, r1",
        "mov r5, r1",
        "sub r2, r0, r7, lsl #7",
        "sub r4, r0, r8, lsl #7",
        "sub r0, r0, r6, lsl #7",
        "mov pc, r10",
        ".p2align 2",
        "20:",
        step!(),
        step!(),
        step!(),
        step!(),
        "cmp r12, r9",
        "bne 20b",
        "ldr r11, [sp]",
        "ldr r6, [r11, #{mult}]",
        "sub r0, r0, r1, lsl #8",
        "sub r2, r2, r3, lsl #8",
        "sub r4, r4, r5, lsl #8",
        "ldrd r8, r9, [r6], #8",
        "str r6, [r11, #{mult}]",
        "ldrd r6, r7, [r11, #{scale}]",
        "cmp r7, #0",
        "bne 40f",
        "smmlar r0, r0, r8, r6",
        "smmlar r1, r1, r9, r6",
        "smmlar r2, r2, r8, r6",
        "smmlar r3, r3, r9, r6",
        "smmlar r4, r4, r8, r6",
        "smmlar r5, r5, r9, r6",
        "usat r0, #8, r0",
        "usat r1, #8, r1",
        "usat r2, #8, r2",
        "usat r3, #8, r3",
        "usat r4, #8, r4",
        "usat r5, #8, r5",
        "orr r0, r0, r1, lsl #8",
        "orr r2, r2, r3, lsl #8",
        "orr r4, r4, r5, lsl #8",
        "30:",
        "ldrd r6, r7, [r11, #{output}]",
        "ldr r9, [r11, #{last}]",
        "strh r0, [r6]",
        "strh r2, [r6, r7]",
        "add r8, r6, r7",
        "strh r4, [r8, r7]",
        "add r6, r6, #2",
        "str r6, [r11, #{output}]",
        "cmp r6, r9",
        "bne 10b",
        "add sp, sp, #12",
        "pop {{r4-r11, pc}}",
        "40:",
        "subs r7, r7, #1",
        "beq 45f",
        "lsl r0, r0, r7",
        "lsl r1, r1, r7",
        "lsl r2, r2, r7",
        "lsl r3, r3, r7",
        "lsl r4, r4, r7",
        "lsl r5, r5, r7",
        "45:",
        "smmlar r0, r0, r8, r6",
        "smmlar r1, r1, r9, r6",
        "smmlar r2, r2, r8, r6",
        "smmlar r3, r3, r9, r6",
        "smmlar r4, r4, r8, r6",
        "smmlar r5, r5, r9, r6",
        "usat r0, #8, r0",
        "usat r1, #8, r1",
        "usat r2, #8, r2",
        "usat r3, #8, r3",
        "usat r4, #8, r4",
        "usat r5, #8, r5",
        "add r12, r11, #{clamp}",
        "ldm r12, {{r6, r7, r8}}",
        "orr r0, r0, r1, lsl #8",
        "orr r2, r2, r3, lsl #8",
        "orr r4, r4, r5, lsl #8",
        "orr r0, r0, r2, lsl #16",
        "uqadd8 r0, r0, r6",
        "uqadd8 r4, r4, r6",
        "uqsub8 r0, r0, r7",
        "uqsub8 r4, r4, r7",
        "uqadd8 r0, r0, r8",
        "uqadd8 r4, r4, r8",
        "lsr r2, r0, #16",
        "b 30b",
        end = const core::mem::offset_of!(Job, end),
        skipped = const core::mem::offset_of!(Job, skipped),
        levels = const core::mem::offset_of!(Job, levels),
        bias = const core::mem::offset_of!(Job, bias),
        window = const core::mem::offset_of!(Job, window),
        mult = const core::mem::offset_of!(Job, mult),
        scale = const core::mem::offset_of!(Job, scale),
        output = const core::mem::offset_of!(Job, output),
        last = const core::mem::offset_of!(Job, last),
        clamp = const core::mem::offset_of!(Job, scale) + core::mem::offset_of!(Scale, clamp),
    )
}

/// Four levels of four channels by four activations.
macro_rules! single_step {
    () => {
        "ldr r5, [r12], #4
        ldr r7, [lr, #4]
        ldr r6, [lr], #8
        ldr r9, [r11, #4]
        ldr r8, [r11], #8
        uxtb16 r4, r5
        uxtb16 r5, r5, ror #8
        smlad r0, r4, r6, r0
        sxtb16 r6, r6, ror #8
        smlad r2, r4, r8, r2
        sxtb16 r8, r8, ror #8
        smlad r1, r4, r6, r1
        smlad r3, r4, r8, r3
        smlad r0, r5, r7, r0
        sxtb16 r7, r7, ror #8
        smlad r2, r5, r9, r2
        sxtb16 r9, r9, ror #8
        smlad r1, r5, r7, r1
        smlad r3, r5, r9, r3"
    };
}

/// Pairs of pairs of channels, one at least, for one window, whose codes are as they are.
///
/// # Safety
/// The job is described as its fields say.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn single(job: &mut Job) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        "ldr r1, [r0, #{end}]",
        "ldr r3, [r0, #{skipped}]",
        "adr r2, 20f",
        "add r2, r2, r3",
        // 0: the job, 4: the end of the window, 8: where the first turn begins.
        "push {{r0, r1, r2}}",
        "mov r10, r0",
        "ldr r11, [r0, #{levels}]",
        "10:",
        "ldr r6, [r10, #{bias}]",
        "ldr r12, [r10, #{window}]",
        // The levels of the second pair follow those of the first.
        "mov lr, r11",
        "ldr r7, [r10, #{pair}]",
        "add r11, r11, r7",
        "ldr r8, [r10, #{offset}]",
        "ldm r6!, {{r0, r1, r2, r3}}",
        "str r6, [r10, #{bias}]",
        "ldr r9, [sp, #8]",
        "ldr r10, [sp, #4]",
        "add r0, r0, r1, lsl #8",
        "add r2, r2, r3, lsl #8",
        "sub r0, r0, r8",
        "sub r2, r2, r8",
        "mov pc, r9",
        ".p2align 2",
        "20:",
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        "cmp r12, r10",
        "bne 20b",
        "ldr r10, [sp]",
        "sub r0, r0, r1, lsl #8",
        "sub r2, r2, r3, lsl #8",
        "ldr r4, [r10, #{mult}]",
        "ldm r4!, {{r6, r7, r8, r9}}",
        "str r4, [r10, #{mult}]",
        "ldrd r4, r5, [r10, #{scale}]",
        "cmp r5, #0",
        "bne 40f",
        "30:",
        "smmlar r0, r0, r6, r4",
        "smmlar r1, r1, r7, r4",
        "smmlar r2, r2, r8, r4",
        "smmlar r3, r3, r9, r4",
        "usat r0, #8, r0",
        "usat r1, #8, r1",
        "usat r2, #8, r2",
        "usat r3, #8, r3",
        "orr r0, r0, r1, lsl #8",
        "orr r2, r2, r3, lsl #8",
        "orr r0, r0, r2, lsl #16",
        "cmp r5, #0",
        "bne 50f",
        "35:",
        "ldr r6, [r10, #{output}]",
        "ldr r9, [r10, #{last}]",
        "str r0, [r6], #4",
        "str r6, [r10, #{output}]",
        "cmp r6, r9",
        "bne 10b",
        "add sp, sp, #12",
        "pop {{r4-r11, pc}}",
        "40:",
        "sub r12, r5, #1",
        "lsl r0, r0, r12",
        "lsl r1, r1, r12",
        "lsl r2, r2, r12",
        "lsl r3, r3, r12",
        "b 30b",
        "50:",
        "add r12, r10, #{clamp}",
        "ldm r12, {{r6, r7, r8}}",
        "uqadd8 r0, r0, r6",
        "uqsub8 r0, r0, r7",
        "uqadd8 r0, r0, r8",
        "b 35b",
        end = const core::mem::offset_of!(Job, end),
        skipped = const core::mem::offset_of!(Job, skipped),
        pair = const core::mem::offset_of!(Job, pair),
        offset = const core::mem::offset_of!(Job, offset),
        levels = const core::mem::offset_of!(Job, levels),
        bias = const core::mem::offset_of!(Job, bias),
        window = const core::mem::offset_of!(Job, window),
        mult = const core::mem::offset_of!(Job, mult),
        scale = const core::mem::offset_of!(Job, scale),
        output = const core::mem::offset_of!(Job, output),
        last = const core::mem::offset_of!(Job, last),
        clamp = const core::mem::offset_of!(Job, scale) + core::mem::offset_of!(Scale, clamp),
    )
}

/// Parts of three windows, to be taken apart: `rows` runs of `words` words each, one at least.
#[repr(C)]
pub(super) struct Runs {
    pub(super) from: [*const u8; WINDOWS],
    pub(super) words: usize,
    pub(super) rows: usize,
    /// Bytes from the end of a run to the start of the next.
    pub(super) skip: usize,
}

/// A word of three windows.
macro_rules! word {
    () => {
        "ldr r7, [r0], #4
        ldr r8, [r2], #4
        ldr r9, [r3], #4
        mov r4, #0
        usada8 r10, r7, r4, r10
        usada8 r11, r8, r4, r11
        usada8 r12, r9, r4, r12
        uxtb16 r4, r7
        uxtb16 r5, r8
        uxtb16 r6, r9
        uxtb16 r7, r7, ror #8
        uxtb16 r8, r8, ror #8
        uxtb16 r9, r9, ror #8
        stm r1!, {{r4-r9}}"
    };
}

/// Writes the words, taken apart, to `to`, [`STEP`] codes of each window in turn, and adds those of each window to its
/// sum; returns where they end.
///
/// # Safety
/// The runs can be read; `to` is aligned to 4 and takes two bytes for every code.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn take_apart(runs: &Runs, to: *mut u8, sums: *mut [u32; WINDOWS]) -> *mut u8 {
    naked_asm!(
        processor!(),
        "push {{r2, r4-r11, lr}}",
        "ldm r2, {{r10, r11, r12}}",
        "ldm r0, {{r0, r2, r3, r4, r5, r6}}",
        // 0: words, 4: rows, 8: what is between them, 12: the sums.
        "push {{r4, r5, r6}}",
        "10:",
        "ldr lr, [sp]",
        "ands r4, lr, #1",
        "add lr, lr, r4",
        "bne 30f",
        "20:",
        word!(),
        "30:",
        word!(),
        "subs lr, lr, #2",
        "bne 20b",
        "ldr r5, [sp, #4]",
        "ldr r6, [sp, #8]",
        "subs r5, r5, #1",
        "str r5, [sp, #4]",
        "add r0, r0, r6",
        "add r2, r2, r6",
        "add r3, r3, r6",
        "bne 10b",
        "add sp, sp, #12",
        "pop {{r2, r4}}",
        "stm r2, {{r10, r11, r12}}",
        "mov r0, r1",
        "pop {{r5-r11, pc}}",
    )
}

/// The sum of so many words of codes, one at least.
///
/// # Safety
/// They can be read.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn sum(from: *const u8, words: usize) -> u32 {
    naked_asm!(
        processor!(),
        "mov r2, r0",
        "mov r0, #0",
        "mov r12, #0",
        "10:",
        "ldr r3, [r2], #4",
        "subs r1, r1, #1",
        "usada8 r0, r3, r12, r0",
        "bne 10b",
        "bx lr",
    )
}

/// Runs of codes, one at least, of one byte at least.
#[repr(C)]
pub(super) struct Rows {
    pub(super) bytes: usize,
    pub(super) rows: usize,
    /// Bytes from the end of a run to the start of the next.
    pub(super) skip: usize,
}

/// Copies runs from `from` to `to`, where they follow one another.
///
/// # Safety
/// The runs can be read, and `to` written.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_rows(from: *const u8, to: *mut u8, rows: &Rows) {
    naked_asm!(
        processor!(),
        "push {{r4-r6, lr}}",
        "ldm r2, {{r4, r5, r6}}",
        "10:",
        "subs r3, r4, #4",
        "blt 30f",
        "20:",
        "ldr r12, [r0], #4",
        "subs r3, r3, #4",
        "str r12, [r1], #4",
        "bge 20b",
        "30:",
        "adds r3, r3, #4",
        "beq 50f",
        "40:",
        "ldrb r12, [r0], #1",
        "subs r3, r3, #1",
        "strb r12, [r1], #1",
        "bne 40b",
        "50:",
        "add r0, r0, r6",
        "subs r5, r5, #1",
        "bne 10b",
        "pop {{r4-r6, pc}}",
    )
}
