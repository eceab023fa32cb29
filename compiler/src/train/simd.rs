//! Plain loops compiled for the widest vectors of the machine they run on.
//!
//! A [`Work`] is written once, in ordinary Rust over arrays of fixed size that the compiler keeps in
//! vector registers; [`dispatch`] holds a copy of it for each instruction set and picks one at run
//! time. On a core with AVX-512 its products of matrices reach more than nine tenths of what the
//! multipliers can do, so nothing here is written by hand.
//!
//! Sums are made in one order for one instruction set; another one may round them otherwise.

/// Something to compute in vectors of [`LANES`] numbers.
pub(super) trait Work {
    /// What comes of it.
    type Output;

    /// Computes it with tiles of `R` rows by `V` vectors. Must be `#[inline(always)]`, and so must all
    /// that is worth vectors in it: what is not inlined is compiled for the least of machines.
    fn run<A: Arithmetic, const R: usize, const V: usize>(self) -> Self::Output;
}

/// How a product is added.
pub(super) trait Arithmetic {
    /// `a * b + c`.
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// Numbers in a vector: one register of the widest instruction set.
pub(super) const LANES: usize = 16;

/// A vector's numbers.
pub(super) type Lanes = [f32; LANES];

/// Runs the copy for this machine.
pub(super) fn dispatch<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    return x86_64::dispatch(work);
    #[cfg(target_arch = "aarch64")]
    return work.run::<Fused, 4, 1>();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return work.run::<Separate, 4, 1>();
}

/// In one rounding, where one instruction does both.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct Fused;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// In two roundings.
#[cfg(not(target_arch = "aarch64"))]
struct Separate;

#[cfg(not(target_arch = "aarch64"))]
impl Arithmetic for Separate {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{Fused, Separate, Work};

    #[inline]
    pub(super) fn dispatch<W: Work>(work: W) -> W::Output {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the instructions that the function needs were detected.
            unsafe { avx512(work) }
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            unsafe { avx2(work) }
        } else {
            work.run::<Separate, 4, 1>()
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    fn avx512<W: Work>(work: W) -> W::Output {
        work.run::<Fused, 8, 2>()
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2<W: Work>(work: W) -> W::Output {
        work.run::<Fused, 4, 1>()
    }
}
