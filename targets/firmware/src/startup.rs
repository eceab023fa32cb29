//! From reset to `main`: the stack is painted, `.data` copied, `.bss` cleared, the floating-point unit enabled.

use core::arch::global_asm;

#[cfg(feature = "serial")]
use crate::line::fail;
#[cfg(not(any(feature = "serial", feature = "network")))]
use crate::report::fail;
#[cfg(feature = "network")]
use crate::stop as fail;

/// What the stack holds where nothing has been pushed yet.
pub(crate) const PAINT: u32 = 0xa5a5_a5a5;

// Armv6-M's instructions, which every Cortex-M has.
#[cfg(target_arch = "arm")]
global_asm!(
    ".section .vectors, \"a\"",
    ".word reset",
    // Non-maskable interrupt, hard fault, memory, bus and usage faults, ...
    ".rept 13",
    ".word fault",
    ".endr",
    // System tick.
    ".word tick",
    ".section .text.reset, \"ax\"",
    ".global reset",
    ".type reset, %function",
    ".thumb_func",
    "reset:",
    "ldr r0, =stack_bottom",
    "ldr r1, =stack_top",
    "ldr r2, ={paint}",
    "2: str r2, [r0]",
    "adds r0, #4",
    "cmp r0, r1",
    "blo 2b",
    "ldr r0, =data_begin",
    "ldr r1, =data_end",
    "ldr r2, =data_source",
    "b 4f",
    "3: ldr r3, [r2]",
    "str r3, [r0]",
    "adds r2, #4",
    "adds r0, #4",
    "4: cmp r0, r1",
    "blo 3b",
    "ldr r0, =bss_begin",
    "ldr r1, =bss_end",
    "movs r2, #0",
    "b 6f",
    "5: str r2, [r0]",
    "adds r0, #4",
    "6: cmp r0, r1",
    "blo 5b",
    // CPACR: coprocessors 10 and 11. Where there are none the write is ignored.
    "ldr r0, =0xe000ed88",
    "ldr r1, =0x00f00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "bl main",
    "7: b 7b",
    ".pool",
    paint = const PAINT,
);

#[cfg(target_arch = "riscv32")]
global_asm!(
    ".section .reset, \"ax\"",
    ".global reset",
    "reset:",
    ".option push",
    ".option norelax",
    "la gp, global_pointer",
    ".option pop",
    "la sp, stack_top",
    "la t0, trap",
    "csrw mtvec, t0",
    "la a0, stack_bottom",
    "li a2, {paint}",
    "2: sw a2, 0(a0)",
    "addi a0, a0, 4",
    "bltu a0, sp, 2b",
    "la a0, data_begin",
    "la a1, data_end",
    "la a2, data_source",
    "j 4f",
    "3: lw a3, 0(a2)",
    "sw a3, 0(a0)",
    "addi a2, a2, 4",
    "addi a0, a0, 4",
    "4: bltu a0, a1, 3b",
    "la a0, bss_begin",
    "la a1, bss_end",
    "j 6f",
    "5: sw zero, 0(a0)",
    "addi a0, a0, 4",
    "6: bltu a0, a1, 5b",
    "call main",
    "7: j 7b",
    // The two low bits of mtvec are its mode.
    ".balign 4",
    "trap: j fault",
    paint = const PAINT,
);

/// Any fault and any interrupt: none is expected.
#[unsafe(no_mangle)]
extern "C" fn fault() -> ! {
    fail("the processor faulted")
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    fail("the firmware panicked")
}
