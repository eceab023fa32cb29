//! Instructions that the stable compiler has no intrinsics for, or none that stay what they are.

use core::arch::aarch64::*;
use core::arch::asm;

/// The products of the upper halves. As an intrinsic it would become two instructions and a register wherever
/// `b` is a constant of a loop.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn smull2(a: int32x4_t, b: int32x4_t) -> int64x2_t {
    let product;
    // SAFETY: registers alone are read and written.
    unsafe {
        asm!(
            "smull2 {product:v}.2d, {a:v}.4s, {b:v}.4s",
            product = out(vreg) product,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    product
}

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
    udot, "dotprod", "udot {sums:v}.4s, {a:v}.16b, {b:v}.16b", uint8x16_t, uint8x16_t
}
instruction! {
    /// `sums[i] += a[4i..][..4] * b[4i..][..4]`.
    usdot, "i8mm", "usdot {sums:v}.4s, {a:v}.16b, {b:v}.16b", uint8x16_t, int8x16_t
}
instruction! {
    /// `sums[2i + j] += a[8i..][..8] * b[8j..][..8]`.
    usmmla, "i8mm", "usmmla {sums:v}.4s, {a:v}.16b, {b:v}.16b", uint8x16_t, int8x16_t
}
