//! What this processor supports.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::kernels::Isa;

const KNOWN: u8 = 1;
const DOTPROD: u8 = 2;
const I8MM: u8 = 4;

/// Whether the kernels of `isa` can run here. NEON is there whenever this module is compiled.
///
/// On Linux and Android the kernel answers reads of the identification registers (since 4.11; asked once
/// in a process, as each read is a trap). Elsewhere, without an operating system above all, the extensions are
/// those that the crate was compiled for: `-C target-cpu` or `-C target-feature=+dotprod,+i8mm`.
pub fn detect(isa: Isa) -> bool {
    static FOUND: AtomicU8 = AtomicU8::new(0);
    let mut found = FOUND.load(Ordering::Relaxed);
    if found == 0 {
        found = KNOWN | compiled_for() | ask();
        FOUND.store(found, Ordering::Relaxed);
    }
    match isa {
        Isa::Reference | Isa::Portable | Isa::Neon => true,
        Isa::NeonDotprod => found & DOTPROD != 0,
        // The kernels of this level use both.
        Isa::NeonI8mm => found & (DOTPROD | I8MM) == DOTPROD | I8MM,
        _ => false,
    }
}

const fn compiled_for() -> u8 {
    let dotprod = if cfg!(target_feature = "dotprod") { DOTPROD } else { 0 };
    let i8mm = if cfg!(target_feature = "i8mm") { I8MM } else { 0 };
    dotprod | i8mm
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask() -> u8 {
    let (isar0, isar1): (u64, u64);
    // SAFETY: the registers are read and nothing else; where user space may not, the kernel does it instead.
    unsafe {
        core::arch::asm!("mrs {}, ID_AA64ISAR0_EL1", out(reg) isar0, options(pure, nomem, nostack, preserves_flags));
        core::arch::asm!("mrs {}, ID_AA64ISAR1_EL1", out(reg) isar1, options(pure, nomem, nostack, preserves_flags));
    }
    let field = |register: u64, bit: u32| register >> bit & 0xf;
    let dotprod = if field(isar0, 44) > 0 { DOTPROD } else { 0 };
    let i8mm = if field(isar1, 52) > 0 { I8MM } else { 0 };
    dotprod | i8mm
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ask() -> u8 {
    0
}
