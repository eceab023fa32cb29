//! For Armv6-M: tiles of two windows by two filters. Eight registers multiply and load; sums need only be added to,
//! which the others can do too.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::job::Job;

/// Windows of a tile.
pub(in crate::kernels::scalar) const WINDOWS: usize = 2;
/// Filters of a tile.
pub(in crate::kernels::scalar) const FILTERS: usize = 2;

/// A step at index r4, which moves on by `$by` and sets the flags.
macro_rules! step {
    (2, $activation:literal, $level:literal, $by:literal) => {
        concat!(
            step!($activation, $level),
            "mov r7, r5\n muls r7, r6, r7\n add r8, r7\n",
            $level,
            " r7, [r3, r4]\n muls r5, r7, r5\n add r9, r5\n",
            $activation,
            " r5, [r1, r4]\n muls r6, r5, r6\n add r10, r6\n muls r7, r5, r7\n add r11, r7\n",
            "adds r4, #",
            $by,
            "\n"
        )
    };
    (1, $activation:literal, $level:literal, $by:literal) => {
        concat!(
            step!($activation, $level),
            $level,
            " r7, [r3, r4]\n muls r6, r5, r6\n add r8, r6\n muls r7, r5, r7\n add r9, r7\n",
            "adds r4, #",
            $by,
            "\n"
        )
    };
    ($activation:literal, $level:literal) => {
        concat!($activation, " r5, [r0, r4]\n", $level, " r6, [r2, r4]\n")
    };
}

/// Saves registers, and keeps the job in r12.
macro_rules! enter {
    () => {
        "push {{r4-r7, lr}}
        mov r4, r8
        mov r5, r9
        mov r6, r10
        mov r7, r11
        push {{r4-r7}}
        mov r12, r0
        ldm r0!, {{r1-r4}}
        mov r0, r1
        mov r1, r2
        mov r2, r3
        mov r3, r4"
    };
}

macro_rules! leave {
    () => {
        "pop {{r4-r7}}
        mov r8, r4
        mov r9, r5
        mov r10, r6
        mov r11, r7
        pop {{r4-r7, pc}}"
    };
}

/// Moves windows and filters to the end of as many bytes as r4 says, which becomes the index of the first.
macro_rules! to_end {
    () => {
        "adds r0, r0, r4\n adds r1, r1, r4\n adds r2, r2, r4\n adds r3, r3, r4\n rsbs r4, r4, #0"
    };
}

/// Writes r4 to the sums.
macro_rules! start {
    () => {
        "mov r8, r4\n mov r9, r4\n mov r10, r4\n mov r11, r4"
    };
}

/// A function of so many windows of bytes.
macro_rules! bytes {
    ($name:ident, $windows:tt, $last:literal) => {
        /// # Safety
        /// Windows and filters are as long as the job says, there is a run of a byte at least, and there are two sums a
        /// window.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                enter!(),
                "movs r4, #0",
                start!(),
                "1:",
                "mov r5, r12",
                "ldr r4, [r5, #{len}]",
                to_end!(),
                "2:",
                step!($windows, "ldrb", "ldrsb", "1"),
                "bne 2b",
                "mov r5, r12",
                "ldr r6, [r5, #{gap}]",
                "ldr r7, [r5, #{runs}]",
                "adds r0, r0, r6",
                "adds r1, r1, r6",
                "subs r7, r7, #1",
                "str r7, [r5, #{runs}]",
                "bne 1b",
                "ldr r0, [r5, #{sums}]",
                "mov r4, r8",
                "mov r5, r9",
                "mov r6, r10",
                "mov r7, r11",
                concat!("stm r0!, ", $last),
                leave!(),
                len = const offset_of!(Job, len),
                gap = const offset_of!(Job, gap),
                runs = const offset_of!(Job, runs),
                sums = const offset_of!(Job, sums),
            )
        }
    };
}

bytes!(bytes_tile, 2, "{{r4-r7}}");
bytes!(bytes_single, 1, "{{r4, r5}}");

/// Shifts a sum by r6 and adds what was before, where r7 leads.
macro_rules! take_out {
    (2) => {
        concat!(take_out!(1), take_out!("r10", "8"), take_out!("r11", "12"))
    };
    (1) => {
        concat!(take_out!("r8", "0"), take_out!("r9", "4"))
    };
    ($sum:literal, $at:literal) => {
        concat!(
            "mov r4, ",
            $sum,
            "\n ldr r5, [r7, #",
            $at,
            "]\n asrs r4, r6\n adds r4, r4, r5\n str r4, [r7, #",
            $at,
            "]\n"
        )
    };
}

/// A function of so many windows of words.
macro_rules! words {
    ($name:ident, $windows:tt) => {
        /// # Safety
        /// As for bytes; runs and room are whole blocks of four words, one of them at least.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                enter!(),
                // Bytes of the run that are left.
                "mov r5, r12",
                "ldr r4, [r5, #{len}]",
                "mov lr, r4",
                // As much of a run as adds up.
                "2:",
                "mov r5, r12",
                "ldr r4, [r5, #{half}]",
                start!(),
                "3:",
                "mov r5, r12",
                "mov r6, lr",
                "ldr r4, [r5, #{room}]",
                "cmp r4, r6",
                "bls 4f",
                "mov r4, r6",
                "4:",
                "subs r6, r6, r4",
                "mov lr, r6",
                to_end!(),
                "5:",
                step!($windows, "ldr", "ldr", "4"),
                step!($windows, "ldr", "ldr", "4"),
                step!($windows, "ldr", "ldr", "4"),
                step!($windows, "ldr", "ldr", "4"),
                "bne 5b",
                "mov r5, r12",
                "mov r6, lr",
                "cmp r6, #0",
                "bne 6f",
                // The next run, to which sums may be kept.
                "ldr r6, [r5, #{runs}]",
                "ldr r7, [r5, #{gap}]",
                "adds r0, r0, r7",
                "adds r1, r1, r7",
                "subs r6, r6, #1",
                "str r6, [r5, #{runs}]",
                "beq 6f",
                "ldr r7, [r5, #{len}]",
                "mov lr, r7",
                "ldr r7, [r5, #{whole}]",
                "cmp r7, #0",
                "bne 3b",
                "6:",
                "ldr r7, [r5, #{sums}]",
                "ldr r6, [r5, #{shift}]",
                take_out!($windows),
                "mov r5, lr",
                "cmp r5, #0",
                "beq 7f",
                "b 2b",
                "7:",
                leave!(),
                len = const offset_of!(Job, len),
                gap = const offset_of!(Job, gap),
                runs = const offset_of!(Job, runs),
                sums = const offset_of!(Job, sums),
                room = const offset_of!(Job, room),
                whole = const offset_of!(Job, whole),
                shift = const offset_of!(Job, shift),
                half = const offset_of!(Job, half),
            )
        }
    };
}

words!(words_tile, 2);
words!(words_single, 1);
