//! Output and exit through the debugger or emulator (Arm, "Semihosting for AArch32 and AArch64"; RISC-V
//! International, "RISC-V Semihosting").

use core::sync::atomic::{AtomicU32, Ordering};

const SYS_OPEN: u32 = 0x01;
const SYS_WRITE: u32 = 0x05;
const SYS_EXIT_EXTENDED: u32 = 0x20;
const ADP_STOPPED_APPLICATION_EXIT: u32 = 0x2_0026;

/// Writes to the host's standard output.
pub(crate) fn write(bytes: &[u8]) {
    // The handle plus one; 0 before it is opened.
    static STDOUT: AtomicU32 = AtomicU32::new(0);
    if STDOUT.load(Ordering::Relaxed) == 0 {
        const NAME: &[u8] = b":tt\0";
        const WRITE: u32 = 4;
        let handle = call(SYS_OPEN, &[NAME.as_ptr() as u32, WRITE, NAME.len() as u32 - 1]);
        STDOUT.store(handle.wrapping_add(1), Ordering::Relaxed);
    }
    let handle = STDOUT.load(Ordering::Relaxed).wrapping_sub(1);
    call(SYS_WRITE, &[handle, bytes.as_ptr() as u32, bytes.len() as u32]);
}

/// Ends the program with an exit code.
pub(crate) fn exit(code: u32) -> ! {
    loop {
        call(SYS_EXIT_EXTENDED, &[ADP_STOPPED_APPLICATION_EXIT, code]);
    }
}

fn call(operation: u32, arguments: &[u32]) -> u32 {
    let result: u32;
    // SAFETY: the host reads the block and the memory that it names, and writes none; `arguments` is as long as
    // the operation's block.
    #[cfg(target_arch = "arm")]
    unsafe {
        core::arch::asm!("bkpt #0xab", inout("r0") operation => result, in("r1") arguments.as_ptr(), options(nostack));
    }
    // SAFETY: as above. The three instructions are the call, in this encoding, and must share a page.
    #[cfg(target_arch = "riscv32")]
    unsafe {
        core::arch::asm!(
            ".option push", ".option norvc", ".balign 16",
            "slli zero, zero, 0x1f", "ebreak", "srai zero, zero, 7",
            ".option pop",
            inout("a0") operation => result, in("a1") arguments.as_ptr(), options(nostack)
        );
    }
    result
}
