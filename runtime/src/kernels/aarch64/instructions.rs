//! The instructions that the stable compiler has no intrinsics for.

use core::arch::aarch64::*;
use core::arch::asm;

/// Defines a function of one instruction that adds to `sums`.
macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident $(<$lane:ident>)?, $extension:literal, $text:literal, $a:ty, $b:ty) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The processor has the instruction.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(super) unsafe fn $name$(<const $lane: usize>)?(sums: int32x4_t, a: $a, b: $b) -> int32x4_t {
            let mut sums = sums;
            // SAFETY: registers alone are read and written; the processor has the instruction.
            unsafe {
                asm!(
                    concat!(".arch_extension ", $extension),
                    $text,
                    sums = inout(vreg) sums,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    $(lane = const $lane,)?
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            sums
        }
    };
}

instruction! {
    /// `sums[i] += a[4i..][..4] * b[4i..][..4]`.
    sdot, "dotprod", "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b", int8x16_t, int8x16_t
}
instruction! {
    /// `sums[i] += a[4i..][..4] * b[4 * LANE..][..4]`.
    sdot_lane<LANE>, "dotprod", "sdot {sums:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]", int8x16_t, int8x16_t
}
instruction! {
    /// `sums[i] += a[4i..][..4] * b[4i..][..4]`.
    usdot, "i8mm", "usdot {sums:v}.4s, {a:v}.16b, {b:v}.16b", uint8x16_t, int8x16_t
}
instruction! {
    /// `sums[i] += a[4i..][..4] * b[4 * LANE..][..4]`.
    sudot_lane<LANE>, "i8mm", "sudot {sums:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]", int8x16_t, uint8x16_t
}
instruction! {
    /// `sums[2i + j] += a[8i..][..8] * b[8j..][..8]`.
    usmmla, "i8mm", "usmmla {sums:v}.4s, {a:v}.16b, {b:v}.16b", uint8x16_t, int8x16_t
}
