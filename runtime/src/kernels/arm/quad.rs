//! Sums of products of four channels by themselves: the taps of a window in pairs.
//!
//! In assembly for the reasons of [`tile`](super::tile). PKHBT and PKHTB join the halves of the words of two taps, and
//! UXTB16 makes pairs of them, one for each channel; levels are 16 bits wide already.

use core::arch::naked_asm;

use super::tile::Scale;

/// Channels of a quad.
pub(super) const CHANNELS: usize = 4;
/// Pairs of taps of a turn of the loop of [`quads`].
const TURN: usize = 4;
/// Bytes of the instructions of a pair of taps: the loop is begun at any pair of a turn.
const PAIR_CODE: usize = 4 * 14;

/// What the loop goes through. Pointers may be read, or for `output` written, as far as it goes.
#[repr(C)]
pub(super) struct Job {
    /// How far from `input` the taps of the window lie: bytes, modulo 2^32.
    pub(super) taps: *const u32,
    /// Their end, but for the last of an odd number.
    pub(super) end: *const u32,
    /// The levels of the first quad.
    pub(super) levels: *const i16,
    /// One a channel, as are the multipliers.
    pub(super) bias: *const i32,
    pub(super) mult: *const i32,
    /// The same two, of the next quad.
    next: [*const i32; 2],
    /// The loop moves it on, and the next two.
    pub(super) input: *const u8,
    pub(super) output: *mut u8,
    /// Where `output` is when the last quad of a pixel is done.
    pub(super) last: *mut u8,
    /// Pixels, one at least, whose windows lie alike.
    pub(super) pixels: usize,
    /// Bytes from the last quad of a pixel to the first of the next: of input and of output.
    pub(super) gaps: [usize; 2],
    /// Bytes from pixel to pixel of the output.
    pub(super) step: usize,
    pub(super) scale: Scale,
    /// Bytes of code of the first turn that are left out, so that turns are whole.
    skipped: usize,
    /// Whether there is a last tap by itself.
    odd: u32,
}

impl Job {
    /// For windows of so many taps, to be filled in.
    pub(super) fn new(scale: Scale, taps: usize) -> Job {
        Job {
            taps: core::ptr::null(),
            end: core::ptr::null(),
            levels: core::ptr::null(),
            bias: core::ptr::null(),
            mult: core::ptr::null(),
            next: [core::ptr::null(); 2],
            input: core::ptr::null(),
            output: core::ptr::null_mut(),
            last: core::ptr::null_mut(),
            pixels: 1,
            gaps: [0; 2],
            step: 0,
            scale,
            skipped: (taps / 2).wrapping_neg() % TURN * PAIR_CODE,
            odd: (taps % 2) as u32,
        }
    }
}

/// Two taps of four channels.
macro_rules! pair {
    () => {
        "ldrd r6, r7, [r4], #8
        ldr r8, [r5, r6]
        ldr r9, [r5, r7]
        pkhbt r6, r8, r9, lsl #16
        pkhtb r7, r9, r8, asr #16
        ldm lr!, {{r8-r11}}
        uxtb16 r12, r6
        smlad r0, r12, r8, r0
        uxtb16 r6, r6, ror #8
        smlad r1, r6, r9, r1
        uxtb16 r12, r7
        smlad r2, r12, r10, r2
        uxtb16 r7, r7, ror #8
        smlad r3, r7, r11, r3"
    };
}

/// Quads of channels, one at least, of windows side by side.
///
/// # Safety
/// The job is described as its fields say.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn quads(job: &mut Job) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        "ldr r1, [r0, #{end}]",
        "ldr r3, [r0, #{skipped}]",
        "adr r2, 20f",
        "add r2, r2, r3",
        // No pair at all: the only tap is that by itself.
        "ldr r3, [r0, #{taps}]",
        "cmp r1, r3",
        "bne 5f",
        "adr r2, 28f",
        "5:",
        // 0: the job, 4: the end of the taps, 8: where the first turn begins.
        "push {{r0, r1, r2}}",
        "mov r11, r0",
        // A pixel.
        "8:",
        "ldr lr, [r11, #{levels}]",
        "ldrd r6, r7, [r11, #{bias}]",
        "strd r6, r7, [r11, #{next}]",
        // A quad.
        "10:",
        "ldr r6, [r11, #{next}]",
        "ldr r4, [r11, #{taps}]",
        "ldr r5, [r11, #{input}]",
        "ldr r9, [sp, #8]",
        "ldm r6!, {{r0, r1, r2, r3}}",
        "str r6, [r11, #{next}]",
        "mov pc, r9",
        ".p2align 2",
        "20:",
        pair!(),
        pair!(),
        pair!(),
        pair!(),
        "ldr r12, [sp, #4]",
        "cmp r4, r12",
        "bne 20b",
        ".p2align 2",
        "28:",
        "ldr r11, [sp]",
        "ldr r6, [r11, #{odd}]",
        "cmp r6, #0",
        "beq 29f",
        "ldr r6, [r4]",
        "ldr r6, [r5, r6]",
        "ldm lr!, {{r8-r11}}",
        "uxtb16 r7, r6",
        "uxtb16 r6, r6, ror #8",
        "smlabb r0, r7, r8, r0",
        "smlabb r1, r6, r9, r1",
        "smlatb r2, r7, r10, r2",
        "smlatb r3, r6, r11, r3",
        "ldr r11, [sp]",
        "29:",
        "ldr r10, [r11, #{next} + 4]",
        "ldm r10!, {{r6, r7, r8, r9}}",
        "str r10, [r11, #{next} + 4]",
        "ldrd r4, r5, [r11, #{scale}]",
        "cmp r5, #0",
        "bne 40f",
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
        "30:",
        "ldrd r4, r5, [r11, #{input}]",
        "ldr r6, [r11, #{last}]",
        "add r4, r4, #4",
        "str r0, [r5], #4",
        "strd r4, r5, [r11, #{input}]",
        "cmp r5, r6",
        "bne 10b",
        "ldrd r8, r9, [r11, #{gaps}]",
        "ldr r7, [r11, #{pixels}]",
        "ldr r10, [r11, #{step}]",
        "add r4, r4, r8",
        "add r5, r5, r9",
        "strd r4, r5, [r11, #{input}]",
        "add r6, r6, r10",
        "str r6, [r11, #{last}]",
        "subs r7, r7, #1",
        "str r7, [r11, #{pixels}]",
        "bne 8b",
        "add sp, sp, #12",
        "pop {{r4-r11, pc}}",
        "40:",
        "subs r5, r5, #1",
        "beq 45f",
        "lsl r0, r0, r5",
        "lsl r1, r1, r5",
        "lsl r2, r2, r5",
        "lsl r3, r3, r5",
        "45:",
        "smmlar r0, r0, r6, r4",
        "smmlar r1, r1, r7, r4",
        "smmlar r2, r2, r8, r4",
        "smmlar r3, r3, r9, r4",
        "usat r0, #8, r0",
        "usat r1, #8, r1",
        "usat r2, #8, r2",
        "usat r3, #8, r3",
        "add r10, r11, #{clamp}",
        "ldm r10, {{r6, r7, r8}}",
        "orr r0, r0, r1, lsl #8",
        "orr r2, r2, r3, lsl #8",
        "orr r0, r0, r2, lsl #16",
        "uqadd8 r0, r0, r6",
        "uqsub8 r0, r0, r7",
        "uqadd8 r0, r0, r8",
        "b 30b",
        end = const core::mem::offset_of!(Job, end),
        skipped = const core::mem::offset_of!(Job, skipped),
        taps = const core::mem::offset_of!(Job, taps),
        levels = const core::mem::offset_of!(Job, levels),
        bias = const core::mem::offset_of!(Job, bias),
        next = const core::mem::offset_of!(Job, next),
        gaps = const core::mem::offset_of!(Job, gaps),
        pixels = const core::mem::offset_of!(Job, pixels),
        step = const core::mem::offset_of!(Job, step),
        input = const core::mem::offset_of!(Job, input),
        last = const core::mem::offset_of!(Job, last),
        odd = const core::mem::offset_of!(Job, odd),
        scale = const core::mem::offset_of!(Job, scale),
        clamp = const core::mem::offset_of!(Job, scale) + core::mem::offset_of!(Scale, clamp),
    )
}
