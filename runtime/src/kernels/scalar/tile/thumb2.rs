//! For Armv7-M: tiles of two windows by two filters, whose sums and pointers leave registers for what is loaded.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::job::Job;

/// Windows of a tile.
pub(in crate::kernels::scalar) const WINDOWS: usize = 2;
/// Filters of a tile.
pub(in crate::kernels::scalar) const FILTERS: usize = 2;

/// A step of bytes: codes in r10 by levels in r8 and r9.
macro_rules! step {
    (2) => {
        concat!(step!(1), "ldrb r10, [r1], #1\n mla r6, r10, r8, r6\n mla r7, r10, r9, r7\n")
    };
    (1) => {
        "ldrb r10, [r0], #1\n ldrsb r8, [r2], #1\n ldrsb r9, [r3], #1
        mla r4, r10, r8, r4\n mla r5, r10, r9, r5\n"
    };
}

/// Two steps of words: activations in r8 and r9 by levels in r10 and r11, r12 and lr.
macro_rules! steps {
    (2) => {
        concat!(
            steps!(1),
            "ldrd r8, r9, [r1], #8
            mla r6, r8, r10, r6\n mla r7, r8, r12, r7
            mla r6, r9, r11, r6\n mla r7, r9, lr, r7\n"
        )
    };
    (1) => {
        "ldrd r10, r11, [r2], #8\n ldrd r12, lr, [r3], #8\n ldrd r8, r9, [r0], #8
        mla r4, r8, r10, r4\n mla r5, r8, r12, r5
        mla r4, r9, r11, r4\n mla r5, r9, lr, r5\n"
    };
}

/// Moves windows over the gap in r8.
macro_rules! skip {
    (2) => {
        "add r0, r0, r8\n add r1, r1, r8\n"
    };
    (1) => {
        "add r0, r0, r8\n"
    };
}

/// Saves registers and loads the pointers of the job in r0, which comes to lr.
macro_rules! enter {
    () => {
        "push {{r4-r11, lr}}\n mov lr, r0\n ldm r0, {{r0-r3}}\n"
    };
}

/// A function of so many windows of bytes; `$sums` are the registers of their sums.
macro_rules! bytes {
    ($name:ident, $windows:tt, $sums:literal) => {
        /// # Safety
        /// Windows and filters are as long as the job says, there is a run of a byte at least, and there are two sums a
        /// window.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                enter!(),
                "mov r4, #0\n mov r5, #0\n mov r6, #0\n mov r7, #0",
                // A run: r11 is where the last whole turn ends, r12 where it ends itself.
                "1:",
                "ldr r12, [lr, #{len}]",
                "bic r11, r12, #3",
                "add r12, r12, r2",
                "add r11, r11, r2",
                "cmp r2, r11",
                "beq 3f",
                "2:",
                step!($windows),
                step!($windows),
                step!($windows),
                step!($windows),
                "cmp r2, r11",
                "bne 2b",
                "3:",
                "cmp r2, r12",
                "beq 5f",
                "4:",
                step!($windows),
                "cmp r2, r12",
                "bne 4b",
                "5:",
                "ldr r9, [lr, #{runs}]",
                "ldr r8, [lr, #{gap}]",
                skip!($windows),
                "subs r9, r9, #1",
                "str r9, [lr, #{runs}]",
                "bne 1b",
                "ldr r8, [lr, #{sums}]",
                concat!("stm r8, ", $sums),
                "pop {{r4-r11, pc}}",
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

/// Shifts sums and adds what was before, of windows one after the other; r8 is the shift, r9 leads to the sums.
macro_rules! take_out {
    (2) => {
        concat!(
            take_out!(1),
            "ldrd r10, r11, [r9, #8]\n asr r6, r6, r8\n asr r7, r7, r8
            add r6, r6, r10\n add r7, r7, r11\n strd r6, r7, [r9, #8]\n"
        )
    };
    (1) => {
        "ldrd r10, r11, [r9]\n asr r4, r4, r8\n asr r5, r5, r8
        add r4, r4, r10\n add r5, r5, r11\n strd r4, r5, [r9]\n"
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
                // End of what adds up; end of the run; job.
                "sub sp, sp, #12",
                "str lr, [sp, #8]",
                "ldr r9, [lr, #{len}]",
                "add r9, r9, r2",
                "str r9, [sp, #4]",
                // As much of a run as adds up.
                "2:",
                "ldr lr, [sp, #8]",
                "ldr r9, [sp, #4]",
                "ldr r8, [lr, #{room}]",
                "ldr r4, [lr, #{half}]",
                "add r8, r8, r2",
                "mov r5, r4",
                "mov r6, r4",
                "mov r7, r4",
                "cmp r8, r9",
                "it hi",
                "movhi r8, r9",
                "str r8, [sp]",
                "3:",
                steps!($windows),
                steps!($windows),
                "ldr r8, [sp]",
                "cmp r2, r8",
                "bne 3b",
                "ldr lr, [sp, #8]",
                "ldr r10, [sp, #4]",
                "cmp r2, r10",
                "bne 4f",
                // The next run, to which sums may be kept.
                "ldr r9, [lr, #{runs}]",
                "ldr r8, [lr, #{gap}]",
                skip!($windows),
                "subs r9, r9, #1",
                "str r9, [lr, #{runs}]",
                "beq 4f",
                "ldr r9, [lr, #{len}]",
                "ldr r10, [lr, #{whole}]",
                "add r9, r9, r2",
                "str r9, [sp, #4]",
                "str r9, [sp]",
                "cmp r10, #0",
                "bne 3b",
                "4:",
                "ldr r9, [lr, #{sums}]",
                "ldr r8, [lr, #{shift}]",
                take_out!($windows),
                "ldr r10, [sp, #4]",
                "cmp r2, r10",
                "bne 2b",
                "add sp, sp, #12",
                "pop {{r4-r11, pc}}",
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
