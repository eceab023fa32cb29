//! What this processor and its operating system support.

use core::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max, _xgetbv};
use core::sync::atomic::{AtomicU8, Ordering};

use crate::kernels::Isa;

const KNOWN: u8 = 1;
const AVX2: u8 = 2;
const AVX_VNNI: u8 = 4;
const AVX512: u8 = 8;

/// Whether the kernels of `isa` can run here.
///
/// `cpuid` takes tens of microseconds under a hypervisor, so it is asked once in a process.
pub fn detect(isa: Isa) -> bool {
    static FOUND: AtomicU8 = AtomicU8::new(0);
    let mut found = FOUND.load(Ordering::Relaxed);
    if found == 0 {
        found = KNOWN | ask();
        FOUND.store(found, Ordering::Relaxed);
    }
    match isa {
        Isa::Avx2 => found & AVX2 != 0,
        Isa::AvxVnni => found & AVX_VNNI != 0,
        Isa::Avx512Vnni => found & AVX512 != 0,
        Isa::Reference | Isa::Portable => true,
        _ => false,
    }
}

fn ask() -> u8 {
    let has = |register: u32, bits: &[u32]| bits.iter().all(|&bit| register >> bit & 1 == 1);
    let (highest, _) = __get_cpuid_max(0);
    if highest < 7 {
        return 0;
    }
    let basic = __cpuid(1);
    const XSAVE_OSXSAVE_AVX: [u32; 3] = [26, 27, 28];
    if !has(basic.ecx, &XSAVE_OSXSAVE_AVX) {
        return 0;
    }
    // SAFETY: OSXSAVE is set, so the instruction exists and the operating system has enabled it.
    let state = unsafe { saved_state() };
    let extended = __cpuid_count(7, 0);
    const XMM_YMM: u64 = 0x06;
    const XMM_YMM_MASK_ZMM: u64 = 0xe6;
    const AVX2_BMI2: [u32; 2] = [5, 8];
    const F_BW_VL: [u32; 3] = [16, 30, 31];
    const VBMI_VNNI_VPOPCNTDQ: [u32; 3] = [1, 11, 14];
    const POPCNT: [u32; 1] = [23];
    let mut found = 0;
    if state & XMM_YMM == XMM_YMM && has(extended.ebx, &AVX2_BMI2) {
        found |= AVX2;
        // Subleaf 0 says in `eax` how many more there are.
        if extended.eax >= 1 && has(__cpuid_count(7, 1).eax, &[4]) {
            found |= AVX_VNNI;
        }
        let wide = has(extended.ebx, &F_BW_VL) && has(extended.ecx, &VBMI_VNNI_VPOPCNTDQ) && has(basic.ecx, &POPCNT);
        if state & XMM_YMM_MASK_ZMM == XMM_YMM_MASK_ZMM && wide {
            found |= AVX512;
        }
    }
    found
}

/// The register files that the operating system preserves.
///
/// # Safety
/// The processor reports OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn saved_state() -> u64 {
    // SAFETY: as this function's contract says.
    unsafe { _xgetbv(0) }
}
