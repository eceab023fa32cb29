//! Sums of two tensors, four codes at a time.

use core::arch::naked_asm;

use crate::format::Add;

/// See [`reference::add`](crate::kernels::reference::add).
pub(in super::super) fn add(p: &Add, a: &mut [u8], b: &[u8]) {
    let shift = i32::from(p.shift.clamp(1, 31));
    let zeros = i32::from(p.zero_a).wrapping_mul(p.ma).wrapping_add(i32::from(p.zero_b).wrapping_mul(p.mb));
    let job = Job {
        ma: p.ma,
        mb: p.mb,
        offset: (1i32 << (shift - 1)).wrapping_sub(zeros),
        shift: -shift,
        zero: p.zero.into(),
        lo: p.lo.into(),
        hi: p.hi.into(),
    };
    // SAFETY: both have so many codes.
    unsafe { sums(&job, a.as_mut_ptr(), b.as_ptr(), a.len().min(b.len())) };
}

/// `clamp(((a * ma + b * mb + offset) << shift) + zero, lo, hi)`, `shift` being negative.
#[repr(C)]
struct Job {
    ma: i32,
    mb: i32,
    offset: i32,
    shift: i32,
    zero: i32,
    lo: i32,
    hi: i32,
}

/// Writes sums to `a`.
///
/// # Safety
/// There are `count` codes in both.
#[unsafe(naked)]
unsafe extern "C" fn sums(job: &Job, a: *mut u8, b: *const u8, count: usize) {
    naked_asm!(
        helium!(),
        "push {{r4-r8, lr}}",
        "ldm r0, {{r0, r4, r5, r6, r7, r8, r12}}",
        "vdup.32 q2, r8",
        "vdup.32 q3, r12",
        "wlstp.32 lr, r3, 2f",
        "1:",
        "vldrb.u32 q0, [r1]",
        "vldrb.u32 q1, [r2], #4",
        "vmul.i32 q0, q0, r0",
        "vmla.i32 q0, q1, r4",
        "vadd.i32 q0, q0, r5",
        "vshl.s32 q0, r6",
        "vadd.i32 q0, q0, r7",
        "vmin.s32 q0, q0, q3",
        "vmax.s32 q0, q0, q2",
        "vstrb.32 q0, [r1], #4",
        "letp lr, 1b",
        "2:",
        "pop {{r4-r8, pc}}",
    )
}
