//! Products of channels by themselves: what a window and the rows of its neighbours have of a channel is one vector.
//!
//! A *cell* is the codes of four rows of a column, of one channel; VST4 makes those of 16 channels of a column from
//! the codes of their pixels. A vector of four columns of cells of a channel is gathered, and multiplied by the taps
//! in the same order.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::tile::Scale;

/// What cells are made of.
#[repr(C)]
pub(super) struct Rows {
    /// The first code of each row.
    pub(super) from: [*const u8; 4],
    /// Bytes from column to column of each.
    pub(super) pitch: [usize; 4],
    /// Columns, one at least.
    pub(super) columns: usize,
    /// Channels, 16 at most; there are cells for 16.
    pub(super) channels: usize,
    /// Bits that are inverted in each code.
    pub(super) inverted: usize,
}

/// Writes cells to `to`, column after column.
///
/// # Safety
/// Rows have so many columns, and to `to`, which is aligned to 4, can be written 64 bytes for each.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn make(rows: &Rows, to: *mut u8) {
    naked_asm!(
        helium!(),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d9}}",
        "mov r9, r1",
        "ldrd r10, r11, [r0, #{channels}]",
        "ldr r12, [r0, #{columns}]",
        "ldm r0, {{r1, r2, r3, r4, r5, r6, r7, r8}}",
        "vdup.8 q4, r11",
        "vctp.8 r10",
        "dls lr, r12",
        "1:",
        "vpstttt",
        "vldrbt.u8 q0, [r1]",
        "vldrbt.u8 q1, [r2]",
        "vldrbt.u8 q2, [r3]",
        "vldrbt.u8 q3, [r4]",
        "veor q0, q0, q4",
        "veor q1, q1, q4",
        "veor q2, q2, q4",
        "veor q3, q3, q4",
        "vst40.8 {{q0, q1, q2, q3}}, [r9]",
        "add r1, r1, r5",
        "vst41.8 {{q0, q1, q2, q3}}, [r9]",
        "add r2, r2, r6",
        "vst42.8 {{q0, q1, q2, q3}}, [r9]",
        "add r3, r3, r7",
        "vst43.8 {{q0, q1, q2, q3}}, [r9]!",
        "add r4, r4, r8",
        "le lr, 1b",
        "vpop {{d8-d9}}",
        "pop {{r4-r11, pc}}",
        columns = const offset_of!(Rows, columns),
        channels = const offset_of!(Rows, channels),
    )
}

/// Channels of a panel and what the loops multiply. They move pointers on from channel to channel.
#[repr(C)]
pub(super) struct Panel {
    pub(super) channels: usize,
    /// The cells of the first row's first window.
    pub(super) cells: *const u8,
    /// Weights as cells: blocks of four columns.
    pub(super) weights: *const u8,
    pub(super) bias: *const i32,
    pub(super) mult: *const i32,
    pub(super) output: *mut u8,
    pub(super) scale: Scale,
    /// How far apart what is gathered lies: columns of the cells, and of the weights.
    pub(super) gather: [[u32; 4]; 2],
    /// How far apart the codes of a vector of sums go.
    pub(super) scatter: [u32; 4],
    /// Bytes from vector to vector of sums of a row.
    pub(super) step: usize,
    /// Of [`two_rows`]: sets of rows, one at least; bytes from set to set of the cells and of the output.
    pub(super) sets: usize,
    pub(super) set_steps: [usize; 2],
    /// Of [`two_rows`]: pairs of columns, and whether there is one by itself. Of [`row`]: columns, 0.
    pub(super) columns: [usize; 2],
    /// Of [`row`]: bytes from the cells of a window to those of the next, and where blocks lie.
    pub(super) window_step: usize,
    pub(super) table: *const u32,
    pub(super) blocks: usize,
}

/// Sums of two columns of two rows, by weights in `q2` and `q3`; cells are those at `q5`, which moves on.
macro_rules! two_by_two {
    () => {
        "vldrw.u32 q0, [q5, #64]!
        vmladav.s8 r0, q0, q2
        vmladav.s8 r2, q0, q3
        vldrw.u32 q0, [q5, #64]!
        vmladav.s8 r4, q0, q2
        vmladav.s8 r6, q0, q3"
    };
}

/// Makes the sums in `r0`, `r2`, `r4` and `r6` codes, in `q0`.
macro_rules! requantise {
    ($bias:literal, $pre:literal, $zero:literal) => {
        concat!(
            "vmov q0[2], q0[0], r0, r4\n",
            "vmov q0[3], q0[1], r2, r6\n",
            "vadd.i32 q0, q0, ",
            $bias,
            "\n",
            "vshl.s32 q0, ",
            $pre,
            "\n",
            "vrmulh.s32 q0, q0, q4\n",
            "vadd.i32 q0, q0, ",
            $zero,
            "\n",
            "vmax.s32 q0, q0, q6\n",
            "vmin.s32 q0, q0, q7\n",
        )
    };
}

/// Channels, two rows of output at a time whose windows are four rows and columns at most, together.
///
/// # Safety
/// The panel is described as its fields say: there are the cells of all windows, and of one more.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn two_rows(panel: &mut Panel) {
    naked_asm!(
        helium!(),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d15}}",
        "mov r11, r0",
        "ldrd r12, r7, [r11, #{pre}]",
        "ldrd r1, r2, [r11, #{lo}]",
        "vdup.32 q6, r1",
        "vdup.32 q7, r2",
        "add r1, r11, #{scatter}",
        "vldrw.u32 q1, [r1]",
        "ldr r10, [r11, #{step}]",
        // A channel.
        "10:",
        "add r1, r11, #{gather}",
        "vldrw.u32 q5, [r1]",
        "ldrd r1, r2, [r11, #{cells}]",
        "vldrw.u32 q2, [r2, q5]",
        "add r3, r2, #256",
        "vldrw.u32 q3, [r3, q5]",
        "add r3, r1, #4",
        "add r2, r2, #4",
        "strd r3, r2, [r11, #{cells}]",
        "ldrd r4, r5, [r11, #{bias}]",
        "vaddv.s8 r0, q2",
        "ldr r8, [r4], #4",
        "ldr r6, [r5], #4",
        "strd r4, r5, [r11, #{bias}]",
        "add r8, r8, r0, lsl #7",
        "vdup.32 q4, r6",
        "ldr r3, [r11, #{output}]",
        "add r2, r3, #1",
        "str r2, [r11, #{output}]",
        "ldr r9, [r11, #{sets}]",
        "sub r1, r1, #64",
        // A set of rows.
        "20:",
        "add r2, r11, #{gather}",
        "vldrw.u32 q5, [r2]",
        "vadd.i32 q5, q5, r1",
        "ldr r2, [r11, #{columns}]",
        "mov r5, r3",
        "wls lr, r2, 40f",
        "30:",
        two_by_two!(),
        requantise!("r8", "r12", "r7"),
        "vstrb.32 q0, [r3, q1]",
        "add r3, r3, r10",
        "le lr, 30b",
        "40:",
        "ldr r0, [r11, #{columns} + 4]",
        "cmp r0, #0",
        "beq 50f",
        two_by_two!(),
        requantise!("r8", "r12", "r7"),
        "mov r0, #2",
        "vctp.32 r0",
        "vpst",
        "vstrbt.32 q0, [r3, q1]",
        "50:",
        "ldrd r0, r2, [r11, #{set_steps}]",
        "add r1, r1, r0",
        "add r3, r5, r2",
        "subs r9, r9, #1",
        "bne 20b",
        "ldr r0, [r11, #{channels}]",
        "subs r0, r0, #1",
        "str r0, [r11, #{channels}]",
        "bne 10b",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
        pre = const offset_of!(Panel, scale) + offset_of!(Scale, pre),
        lo = const offset_of!(Panel, scale) + offset_of!(Scale, lo),
        scatter = const offset_of!(Panel, scatter),
        step = const offset_of!(Panel, step),
        gather = const offset_of!(Panel, gather),
        cells = const offset_of!(Panel, cells),
        bias = const offset_of!(Panel, bias),
        output = const offset_of!(Panel, output),
        sets = const offset_of!(Panel, sets),
        columns = const offset_of!(Panel, columns),
        set_steps = const offset_of!(Panel, set_steps),
        channels = const offset_of!(Panel, channels),
    )
}

/// Channels, one row of output whose windows are blocks of four rows and columns, four columns of output at a time.
///
/// # Safety
/// The panel is described as its fields say: there are the cells of all windows, and of three more.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn row(panel: &mut Panel) {
    naked_asm!(
        helium!(),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d15}}",
        "mov r11, r0",
        "ldrd r1, r2, [r11, #{lo}]",
        "vdup.32 q6, r1",
        "vdup.32 q7, r2",
        "add r1, r11, #{scatter}",
        "vldrw.u32 q1, [r1]",
        "add r1, r11, #{gather}",
        "vldrw.u32 q2, [r1]",
        "vldrw.u32 q3, [r1, #16]",
        "ldr r12, [r11, #{window_step}]",
        // A channel.
        "10:",
        "ldr r5, [r11, #{weights}]",
        "ldr lr, [r11, #{blocks}]",
        "mov r0, #0",
        "dls lr, lr",
        "15:",
        "vldrw.u32 q5, [r5, q3]",
        "add r5, r5, #256",
        "vaddva.s8 r0, q5",
        "le lr, 15b",
        "ldrd r4, r5, [r11, #{bias}]",
        "ldr r9, [r4], #4",
        "ldr r6, [r5], #4",
        "strd r4, r5, [r11, #{bias}]",
        "add r9, r9, r0, lsl #7",
        "vdup.32 q4, r6",
        "ldr r10, [r11, #{output}]",
        "ldr r1, [r11, #{cells}]",
        "ldr r7, [r11, #{columns}]",
        // Four columns.
        "20:",
        "ldr r5, [r11, #{weights}]",
        "ldrd r8, lr, [r11, #{table}]",
        "mov r0, #0",
        "mov r2, #0",
        "mov r4, #0",
        "mov r6, #0",
        "dls lr, lr",
        "30:",
        "ldr r3, [r8], #4",
        "vldrw.u32 q5, [r5, q3]",
        "add r3, r3, r1",
        "add r5, r5, #256",
        "vldrw.u32 q0, [r3, q2]",
        "vmladava.s8 r0, q0, q5",
        "add r3, r3, r12",
        "vldrw.u32 q0, [r3, q2]",
        "vmladava.s8 r2, q0, q5",
        "add r3, r3, r12",
        "vldrw.u32 q0, [r3, q2]",
        "vmladava.s8 r4, q0, q5",
        "add r3, r3, r12",
        "vldrw.u32 q0, [r3, q2]",
        "vmladava.s8 r6, q0, q5",
        "le lr, 30b",
        "ldrd r3, r5, [r11, #{pre}]",
        requantise!("r9", "r3", "r5"),
        "ldr r0, [r11, #{step}]",
        "vctp.32 r7",
        "vpst",
        "vstrbt.32 q0, [r10, q1]",
        "add r10, r10, r0",
        "add r1, r1, r12, lsl #2",
        "subs r7, r7, #4",
        "bgt 20b",
        "ldrd r0, r1, [r11, #{channels}]",
        "ldr r2, [r11, #{weights}]",
        "ldr r3, [r11, #{output}]",
        "add r1, r1, #4",
        "add r2, r2, #4",
        "add r3, r3, #1",
        "subs r0, r0, #1",
        "strd r0, r1, [r11, #{channels}]",
        "str r2, [r11, #{weights}]",
        "str r3, [r11, #{output}]",
        "bne 10b",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
        pre = const offset_of!(Panel, scale) + offset_of!(Scale, pre),
        lo = const offset_of!(Panel, scale) + offset_of!(Scale, lo),
        scatter = const offset_of!(Panel, scatter),
        step = const offset_of!(Panel, step),
        gather = const offset_of!(Panel, gather),
        cells = const offset_of!(Panel, cells),
        weights = const offset_of!(Panel, weights),
        bias = const offset_of!(Panel, bias),
        output = const offset_of!(Panel, output),
        columns = const offset_of!(Panel, columns),
        window_step = const offset_of!(Panel, window_step),
        table = const offset_of!(Panel, table),
        blocks = const offset_of!(Panel, blocks),
        channels = const offset_of!(Panel, channels),
    )
}
