//! Sums of products, 16 at a time: four output channels, for two windows or for one.
//!
//! Whole functions in assembly, since no compiler here knows the instructions. Sums are in the even general registers,
//! where VMLADAVA adds what it multiplies; the first step of a window begins them.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::format::Requantise;

/// Channels of a tile.
pub(super) const CHANNELS: usize = 4;
/// Steps of a turn of the loops, which are begun at any step.
const TURN: usize = 4;
/// Bytes of the instructions of a step of [`pairs`] and of [`single`].
const PAIR_CODE: usize = 4 * 14;
const SINGLE_CODE: usize = 4 * 9;

/// From sums to codes, in the form that the loops take it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) pre: i32,
    pub(super) zero: i32,
    pub(super) lo: i32,
    pub(super) hi: i32,
}

impl Scale {
    pub(super) fn new(to: &Requantise) -> Scale {
        Scale { pre: to.pre.into(), zero: to.zero.into(), lo: to.lo.into(), hi: to.hi.into() }
    }
}

/// What the loops go through. Pointers may be read, or for `output` written, as far as the loops go.
#[repr(C)]
pub(super) struct Job {
    /// The first window, which may be read as far as its last step goes; the loop moves it on, and the output.
    pub(super) window: *const u8,
    /// Bytes from window to window.
    pub(super) pitch: usize,
    /// Pairs of windows, one at least.
    pub(super) pairs: usize,
    /// Codes of a window that count.
    pub(super) depth: usize,
    /// Turns after the first step, and bytes of code of the first of them that are left out, so that turns are whole.
    pub(super) turns: usize,
    pub(super) skipped: usize,
    /// Levels of the first quad of channels, which others follow.
    pub(super) levels: *const u8,
    /// One a channel.
    pub(super) bias: *const i32,
    /// Bytes from there to the multipliers, one a channel, modulo 2^32.
    pub(super) mult: usize,
    /// One at least.
    pub(super) channels: usize,
    pub(super) output: *mut u8,
    /// Bytes from pixel to pixel of the output.
    pub(super) step: usize,
    pub(super) scale: Scale,
}

impl Job {
    /// For [`pairs`], and windows of `depth` codes, to be filled in.
    pub(super) fn of_pairs(scale: Scale, depth: usize) -> Job {
        Job::new(scale, depth, PAIR_CODE)
    }

    /// For [`single`], as above.
    pub(super) fn of_single(scale: Scale, depth: usize) -> Job {
        Job::new(scale, depth, SINGLE_CODE)
    }

    fn new(scale: Scale, depth: usize, step_code: usize) -> Job {
        let steps = depth.div_ceil(16).saturating_sub(1);
        Job {
            window: core::ptr::null(),
            pitch: 0,
            pairs: 0,
            depth,
            turns: steps.div_ceil(TURN),
            skipped: steps.wrapping_neg() % TURN * step_code,
            levels: core::ptr::null(),
            bias: core::ptr::null(),
            mult: 0,
            channels: 0,
            output: core::ptr::null_mut(),
            step: 0,
            scale,
        }
    }
}

/// 16 codes of two windows by those of four channels; `a` where there are sums already.
macro_rules! pair_step {
    ($a:literal) => {
        concat!(
            "vldrb.u8 q0, [r3], #16\n",
            "vldrb.u8 q2, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r0, q0, q2\n",
            "vldrb.u8 q1, [r5], #16\n",
            "vmladav",
            $a,
            ".u8 r8, q1, q2\n",
            "vldrb.u8 q3, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r2, q0, q3\n",
            "vmladav",
            $a,
            ".u8 r10, q1, q3\n",
            "vldrb.u8 q2, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r4, q0, q2\n",
            "vmladav",
            $a,
            ".u8 r12, q1, q2\n",
            "vldrb.u8 q3, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r6, q0, q3\n",
            "vmladav",
            $a,
            ".u8 r14, q1, q3\n",
        )
    };
}

/// Quads of channels for pairs of windows.
///
/// # Safety
/// The job is described as its fields say.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn pairs(job: &mut Job) {
    naked_asm!(
        helium!(),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d11}}",
        "sub sp, sp, #52",
        // 0: where the first turn begins, 4: turns, 8: the windows, 16: their surplus, 24: from biases to multipliers,
        // 28: shift and zero point, 36: the output and its step, 44: pairs, 48: the job.
        "ldrd r1, r2, [r0, #{lo}]",
        "vdup.32 q4, r1",
        "vdup.32 q5, r2",
        "ldrd r2, r3, [r0, #{turns}]",
        "adr r1, 30f",
        "add r1, r1, r3",
        "cmp r2, #0",
        "bne 5f",
        "adr r1, 40f",
        "5:",
        "orr r1, r1, #1",
        "strd r1, r2, [sp]",
        "ldr r1, [r0, #{mult}]",
        "ldrd r2, r3, [r0, #{pre}]",
        "ldrd r4, r5, [r0, #{output}]",
        "ldr r6, [r0, #{pairs}]",
        "str r1, [sp, #24]",
        "strd r2, r3, [sp, #28]",
        "strd r4, r5, [sp, #36]",
        "strd r6, r0, [sp, #44]",
        "mov r11, r0",
        // A pair of windows.
        "10:",
        "ldrd r3, r7, [r11, #{window}]",
        "ldr r1, [r11, #{depth}]",
        "add r5, r3, r7",
        "add r7, r5, r7",
        "str r7, [r11, #{window}]",
        "strd r3, r5, [sp, #8]",
        "mov r0, #0",
        "mov r2, #0",
        "dlstp.8 lr, r1",
        "12:",
        "vldrb.u8 q0, [r3], #16",
        "vaddva.u8 r0, q0",
        "vldrb.u8 q1, [r5], #16",
        "vaddva.u8 r2, q1",
        "letp lr, 12b",
        "lsl r0, r0, #7",
        "lsl r2, r2, #7",
        "strd r0, r2, [sp, #16]",
        "ldrd r1, r9, [r11, #{levels}]",
        "ldr r11, [r11, #{channels}]",
        // A quad of channels.
        "20:",
        "ldrd r3, r5, [sp, #8]",
        "ldr r7, [sp, #4]",
        pair_step!(""),
        "ldr pc, [sp]",
        ".p2align 2",
        "30:",
        pair_step!("a"),
        pair_step!("a"),
        pair_step!("a"),
        pair_step!("a"),
        "subs r7, r7, #1",
        "bne 30b",
        ".p2align 2",
        "40:",
        "vmov q0[2], q0[0], r0, r4",
        "vmov q0[3], q0[1], r2, r6",
        "vmov q1[2], q1[0], r8, r12",
        "vmov q1[3], q1[1], r10, r14",
        "ldr r4, [sp, #24]",
        "ldrd r0, r2, [sp, #16]",
        "add r4, r4, r9",
        "vctp.32 r11",
        "vpstt",
        "vldrwt.u32 q2, [r9], #16",
        "vldrwt.u32 q3, [r4]",
        "ldrd r6, r7, [sp, #28]",
        "vsub.i32 q0, q0, r0",
        "vsub.i32 q1, q1, r2",
        "vadd.i32 q0, q0, q2",
        "vadd.i32 q1, q1, q2",
        "vshl.s32 q0, r6",
        "vshl.s32 q1, r6",
        "vrmulh.s32 q0, q0, q3",
        "vrmulh.s32 q1, q1, q3",
        "ldrd r3, r5, [sp, #36]",
        "vadd.i32 q0, q0, r7",
        "vadd.i32 q1, q1, r7",
        "vmax.s32 q0, q0, q4",
        "vmax.s32 q1, q1, q4",
        "vmin.s32 q0, q0, q5",
        "vmin.s32 q1, q1, q5",
        "add r5, r3, r5",
        "vpstt",
        "vstrbt.32 q0, [r3], #4",
        "vstrbt.32 q1, [r5]",
        "str r3, [sp, #36]",
        "subs r11, r11, #4",
        "bgt 20b",
        "ldrd r6, r11, [sp, #44]",
        "ldrd r3, r5, [r11, #{output}]",
        "add r3, r3, r5, lsl #1",
        "str r3, [r11, #{output}]",
        "str r3, [sp, #36]",
        "subs r6, r6, #1",
        "str r6, [sp, #44]",
        "bne 10b",
        "add sp, sp, #52",
        "vpop {{d8-d11}}",
        "pop {{r4-r11, pc}}",
        window = const offset_of!(Job, window),
        pairs = const offset_of!(Job, pairs),
        depth = const offset_of!(Job, depth),
        turns = const offset_of!(Job, turns),
        levels = const offset_of!(Job, levels),
        mult = const offset_of!(Job, mult),
        channels = const offset_of!(Job, channels),
        output = const offset_of!(Job, output),
        pre = const offset_of!(Job, scale) + offset_of!(Scale, pre),
        lo = const offset_of!(Job, scale) + offset_of!(Scale, lo),
    )
}

/// 16 codes of a window by those of four channels.
macro_rules! single_step {
    ($a:literal) => {
        concat!(
            "vldrb.u8 q0, [r3], #16\n",
            "vldrb.u8 q1, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r0, q0, q1\n",
            "vldrb.u8 q2, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r2, q0, q2\n",
            "vldrb.u8 q1, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r4, q0, q1\n",
            "vldrb.u8 q2, [r1], #16\n",
            "vmladav",
            $a,
            ".u8 r6, q0, q2\n",
        )
    };
}

/// Quads of channels for one window.
///
/// # Safety
/// The job is described as its fields say.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn single(job: &mut Job) {
    naked_asm!(
        helium!(),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d11}}",
        "sub sp, sp, #20",
        // 0: where the first turn begins, 4: turns, 8: the window, 12: from biases to multipliers.
        "ldrd r1, r2, [r0, #{lo}]",
        "vdup.32 q4, r1",
        "vdup.32 q5, r2",
        "ldrd r2, r3, [r0, #{turns}]",
        "adr r1, 30f",
        "add r1, r1, r3",
        "cmp r2, #0",
        "bne 5f",
        "adr r1, 40f",
        "5:",
        "orr r1, r1, #1",
        "strd r1, r2, [sp]",
        "mov r11, r0",
        "ldr r3, [r11, #{window}]",
        "ldr r4, [r11, #{mult}]",
        "ldr r1, [r11, #{depth}]",
        "strd r3, r4, [sp, #8]",
        "mov r8, #0",
        "dlstp.8 lr, r1",
        "12:",
        "vldrb.u8 q0, [r3], #16",
        "vaddva.u8 r8, q0",
        "letp lr, 12b",
        "lsl r8, r8, #7",
        "ldrd r1, r9, [r11, #{levels}]",
        "ldr r5, [r11, #{output}]",
        "ldrd r12, r7, [r11, #{pre}]",
        "ldr r11, [r11, #{channels}]",
        "20:",
        "ldr r3, [sp, #8]",
        "ldr lr, [sp, #4]",
        single_step!(""),
        "ldr pc, [sp]",
        ".p2align 2",
        "30:",
        single_step!("a"),
        single_step!("a"),
        single_step!("a"),
        single_step!("a"),
        "le lr, 30b",
        ".p2align 2",
        "40:",
        "vmov q0[2], q0[0], r0, r4",
        "vmov q0[3], q0[1], r2, r6",
        "ldr r4, [sp, #12]",
        "add r4, r4, r9",
        "vctp.32 r11",
        "vpstt",
        "vldrwt.u32 q2, [r9], #16",
        "vldrwt.u32 q3, [r4]",
        "vsub.i32 q0, q0, r8",
        "vadd.i32 q0, q0, q2",
        "vshl.s32 q0, r12",
        "vrmulh.s32 q0, q0, q3",
        "vadd.i32 q0, q0, r7",
        "vmax.s32 q0, q0, q4",
        "vmin.s32 q0, q0, q5",
        "vpst",
        "vstrbt.32 q0, [r5], #4",
        "subs r11, r11, #4",
        "bgt 20b",
        "add sp, sp, #20",
        "vpop {{d8-d11}}",
        "pop {{r4-r11, pc}}",
        window = const offset_of!(Job, window),
        depth = const offset_of!(Job, depth),
        turns = const offset_of!(Job, turns),
        levels = const offset_of!(Job, levels),
        mult = const offset_of!(Job, mult),
        channels = const offset_of!(Job, channels),
        output = const offset_of!(Job, output),
        pre = const offset_of!(Job, scale) + offset_of!(Scale, pre),
        lo = const offset_of!(Job, scale) + offset_of!(Scale, lo),
    )
}
