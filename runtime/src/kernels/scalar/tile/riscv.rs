//! For RISC-V of 32 bits: a compiler multiplies all first and adds then, for which it lacks registers.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::job::Job;

/// Windows of a tile.
pub(in crate::kernels::scalar) const WINDOWS: usize = 3;
/// Filters of a tile.
pub(in crate::kernels::scalar) const FILTERS: usize = 4;

/// `$then` for each sum: `\s` is its register, `\i` its number.
macro_rules! each_sum {
    (3, $($then:literal),*) => {
        concat!(
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n", $($then, "\n",)* ".endr\n"
        )
    };
    (1, $($then:literal),*) => {
        concat!(".irp i, 0, 1, 2, 3\n", $($then, "\n",)* ".endr\n")
    };
}

/// Products of a window by four levels: of the activation in t4 by t0 to t3.
macro_rules! products {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            "mul t5, t4, t0\n add ",
            $a,
            ", ",
            $a,
            ", t5\n",
            "mul t5, t4, t1\n add ",
            $b,
            ", ",
            $b,
            ", t5\n",
            "mul t5, t4, t2\n add ",
            $c,
            ", ",
            $c,
            ", t5\n",
            "mul t5, t4, t3\n add ",
            $d,
            ", ",
            $d,
            ", t5\n"
        )
    };
}

/// A step at an offset, by loads of activations and of levels.
macro_rules! step {
    (3, $activation:literal, $level:literal, $at:literal) => {
        concat!(
            $activation,
            " t4, ",
            $at,
            "(a1)\n",
            step!($level, $at),
            products!("s0", "s1", "s2", "s3"),
            $activation,
            " t4, ",
            $at,
            "(a2)\n",
            products!("s4", "s5", "s6", "s7"),
            $activation,
            " t4, ",
            $at,
            "(a3)\n",
            products!("s8", "s9", "s10", "s11")
        )
    };
    (1, $activation:literal, $level:literal, $at:literal) => {
        concat!($activation, " t4, ", $at, "(a1)\n", step!($level, $at), products!("s0", "s1", "s2", "s3"))
    };
    ($level:literal, $at:literal) => {
        concat!(
            $level, " t0, ", $at, "(a4)\n", $level, " t1, ", $at, "(a5)\n", $level, " t2, ", $at, "(a6)\n", $level,
            " t3, ", $at, "(a7)\n"
        )
    };
}

/// Moves windows and filters on.
macro_rules! advance {
    (3, $by:literal) => {
        concat!("addi a2, a2, ", $by, "\n addi a3, a3, ", $by, "\n", advance!(1, $by))
    };
    (1, $by:literal) => {
        concat!(
            "addi a1, a1, ",
            $by,
            "\n addi a4, a4, ",
            $by,
            "\n addi a5, a5, ",
            $by,
            "\n",
            "addi a6, a6, ",
            $by,
            "\n addi a7, a7, ",
            $by,
            "\n"
        )
    };
}

/// Moves windows over the gap in t0.
macro_rules! skip {
    (3) => {
        "add a1, a1, t0\n add a2, a2, t0\n add a3, a3, t0\n"
    };
    (1) => {
        "add a1, a1, t0\n"
    };
}

/// Names the extension, which an assembly function does not take from the target; saves registers and loads the pointers of the job in a0.
macro_rules! enter {
    () => {
        ".option push
        .option arch, +m
        addi sp, sp, -64
        sw ra, 0(sp)
        sw s0, 4(sp)
        sw s1, 8(sp)
        sw s2, 12(sp)
        sw s3, 16(sp)
        sw s4, 20(sp)
        sw s5, 24(sp)
        sw s6, 28(sp)
        sw s7, 32(sp)
        sw s8, 36(sp)
        sw s9, 40(sp)
        sw s10, 44(sp)
        sw s11, 48(sp)
        lw a1, 0(a0)
        lw a2, 4(a0)
        lw a3, 8(a0)
        lw a4, 12(a0)
        lw a5, 16(a0)
        lw a6, 20(a0)
        lw a7, 24(a0)"
    };
}

macro_rules! leave {
    () => {
        "lw ra, 0(sp)
        lw s0, 4(sp)
        lw s1, 8(sp)
        lw s2, 12(sp)
        lw s3, 16(sp)
        lw s4, 20(sp)
        lw s5, 24(sp)
        lw s6, 28(sp)
        lw s7, 32(sp)
        lw s8, 36(sp)
        lw s9, 40(sp)
        lw s10, 44(sp)
        lw s11, 48(sp)
        addi sp, sp, 64
        ret
        .option pop"
    };
}

/// A function of so many windows of bytes.
macro_rules! bytes {
    ($name:ident, $windows:tt) => {
        /// # Safety
        /// Windows and filters are as long as the job says, there is a run of a byte at least, and there are four sums
        /// a window.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                enter!(),
                each_sum!($windows, "li s\\i, 0"),
                // A run: ra is where the last whole turn ends, t6 where it ends itself.
                "1:",
                "lw t6, {len}(a0)",
                "andi ra, t6, -4",
                "add t6, t6, a4",
                "add ra, ra, a4",
                "beq a4, ra, 3f",
                "2:",
                step!($windows, "lbu", "lb", "0"),
                step!($windows, "lbu", "lb", "1"),
                step!($windows, "lbu", "lb", "2"),
                step!($windows, "lbu", "lb", "3"),
                advance!($windows, "4"),
                "bne a4, ra, 2b",
                "3:",
                "beq a4, t6, 5f",
                "4:",
                step!($windows, "lbu", "lb", "0"),
                advance!($windows, "1"),
                "bne a4, t6, 4b",
                "5:",
                "lw t1, {runs}(a0)",
                "lw t0, {gap}(a0)",
                "addi t1, t1, -1",
                "sw t1, {runs}(a0)",
                skip!($windows),
                "bnez t1, 1b",
                "lw t0, {sums}(a0)",
                each_sum!($windows, "sw s\\i, 4 * \\i(t0)"),
                leave!(),
                len = const offset_of!(Job, len),
                gap = const offset_of!(Job, gap),
                runs = const offset_of!(Job, runs),
                sums = const offset_of!(Job, sums),
            )
        }
    };
}

bytes!(bytes_tile, 3);
bytes!(bytes_single, 1);

/// A function of so many windows of words.
macro_rules! words {
    ($name:ident, $windows:tt) => {
        /// # Safety
        /// As for bytes; runs and room are multiples of four words, one of them at least.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                enter!(),
                // A run, which ends at t6.
                "lw t6, {len}(a0)",
                "add t6, t6, a4",
                // As much of it as adds up: to ra.
                "2:",
                "lw ra, {room}(a0)",
                "lw t0, {half}(a0)",
                "add ra, ra, a4",
                each_sum!($windows, "mv s\\i, t0"),
                "bltu ra, t6, 3f",
                "mv ra, t6",
                "3:",
                step!($windows, "lw", "lw", "0"),
                step!($windows, "lw", "lw", "4"),
                step!($windows, "lw", "lw", "8"),
                step!($windows, "lw", "lw", "12"),
                advance!($windows, "16"),
                "bne a4, ra, 3b",
                "bne a4, t6, 4f",
                // The next run, to which sums may be kept.
                "lw t1, {runs}(a0)",
                "lw t2, {whole}(a0)",
                "lw t0, {gap}(a0)",
                "addi t1, t1, -1",
                "sw t1, {runs}(a0)",
                skip!($windows),
                "beqz t1, 4f",
                "lw t6, {len}(a0)",
                "add t6, t6, a4",
                "mv ra, t6",
                "bnez t2, 3b",
                // Sums are taken out, and come to what was before.
                "4:",
                "lw t0, {sums}(a0)",
                "lw t1, {shift}(a0)",
                each_sum!($windows, "sra s\\i, s\\i, t1", "lw t2, 4 * \\i(t0)", "add t2, t2, s\\i", "sw t2, 4 * \\i(t0)"),
                "bne a4, t6, 2b",
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

words!(words_tile, 3);
words!(words_single, 1);
