//! Three ways to multiply levels by codes and to add up the products.
//!
//! * [`Dots`]: `vpdpbusd`, of AVX-VNNI.
//! * [`Bytes`]: `vpmaddubsw` adds two products in 16 bits. Where codes and levels have few enough bits, sums of
//!   many such pairs fit too, and are widened to 32 bits once in a while.
//! * [`Words`]: `vpmaddwd` on levels and codes of 16 bits, for whatever fits nothing narrower. The even and the odd
//!   bytes of a vector are words as they lie, but for their other byte.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use crate::format::PANEL_DEPTH;

/// Vectors of a step: 8 channels each.
pub(super) type Step = [__m256i; 2];

/// A way to multiply. All methods are inlined, to be compiled for the instruction set.
///
/// # Safety
/// [`prepare`](Self::prepare) leads to as many quads as it was given.
pub(super) unsafe trait Products: Copy {
    /// Bytes of a quad of codes, prepared.
    const QUAD: usize;
    /// How often to go through a run, which leaves registers to more pixels.
    const PASSES: usize;

    /// Where prepared codes of a window are kept.
    type Room: Copy;

    /// Quads that may be added up before they must be [`widen`](Self::widen)ed, at least 1.
    fn run(self) -> usize;

    /// Prepares a run of quads of `N` windows, `step` bytes apart. Returns where they are now, and their distance.
    ///
    /// # Safety
    /// The processor has the instructions; there are `quads` quads to read, no more than [`run`](Self::run).
    unsafe fn prepare<const N: usize>(
        self,
        room: &mut [MaybeUninit<Self::Room>; N],
        windows: *const u8,
        step: usize,
        quads: usize,
    ) -> (*const u8, usize);

    /// Adds those products of a quad of prepared codes of `N` windows and the levels of a step that are of a pass.
    ///
    /// # Safety
    /// The processor has the instructions; there are `N` quads to read.
    unsafe fn add<const N: usize>(self, pass: usize, sums: &mut [Step; N], codes: *const u8, step: usize, levels: Step);

    /// The total, what has been added up included.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn widen(self, total: __m256i, sum: __m256i) -> __m256i;
}

/// 4 products of each channel at a time.
#[derive(Clone, Copy)]
pub(super) struct Dots;

// SAFETY: the codes stay where they are.
unsafe impl Products for Dots {
    const QUAD: usize = PANEL_DEPTH;
    const PASSES: usize = 1;
    type Room = ();

    #[inline(always)]
    fn run(self) -> usize {
        usize::MAX
    }

    #[inline(always)]
    unsafe fn prepare<const N: usize>(
        self,
        _: &mut [MaybeUninit<()>; N],
        windows: *const u8,
        step: usize,
        _: usize,
    ) -> (*const u8, usize) {
        (windows, step)
    }

    #[inline(always)]
    unsafe fn add<const N: usize>(self, _: usize, sums: &mut [Step; N], codes: *const u8, step: usize, levels: Step) {
        // SAFETY: the contract.
        unsafe {
            for n in 0..N {
                let codes = broadcast(at(codes, step, n));
                for half in 0..2 {
                    sums[n][half] = _mm256_dpbusd_avx_epi32(sums[n][half], codes, levels[half]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn widen(self, total: __m256i, sum: __m256i) -> __m256i {
        // SAFETY: the contract.
        unsafe { _mm256_add_epi32(total, sum) }
    }
}

/// 2 products of each channel at a time, in 16 bits.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    run: usize,
}

impl Bytes {
    /// `None` where not even a pair of products fits.
    pub(super) fn new(largest_product: u32) -> Option<Bytes> {
        let run = i16::MAX as usize / (2 * largest_product.max(1)) as usize;
        (run > 0).then_some(Bytes { run })
    }
}

// SAFETY: the codes stay where they are.
unsafe impl Products for Bytes {
    const QUAD: usize = PANEL_DEPTH;
    const PASSES: usize = 1;
    type Room = ();

    #[inline(always)]
    fn run(self) -> usize {
        self.run
    }

    #[inline(always)]
    unsafe fn prepare<const N: usize>(
        self,
        _: &mut [MaybeUninit<()>; N],
        windows: *const u8,
        step: usize,
        _: usize,
    ) -> (*const u8, usize) {
        (windows, step)
    }

    #[inline(always)]
    unsafe fn add<const N: usize>(self, _: usize, sums: &mut [Step; N], codes: *const u8, step: usize, levels: Step) {
        // SAFETY: the contract.
        unsafe {
            for n in 0..N {
                let codes = broadcast(at(codes, step, n));
                for half in 0..2 {
                    sums[n][half] = _mm256_add_epi16(sums[n][half], _mm256_maddubs_epi16(codes, levels[half]));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn widen(self, total: __m256i, sum: __m256i) -> __m256i {
        // SAFETY: the contract.
        unsafe { _mm256_add_epi32(total, _mm256_madd_epi16(sum, _mm256_set1_epi16(1))) }
    }
}

/// 2 products of each channel at a time, in 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Words;

/// Quads of a run.
const WORDS_RUN: usize = 64;

// SAFETY: the room takes a run.
unsafe impl Products for Words {
    /// The even codes, then the odd ones.
    const QUAD: usize = 2 * PANEL_DEPTH;
    /// One for the even codes, one for the odd.
    const PASSES: usize = 2;
    type Room = [[i16; PANEL_DEPTH]; WORDS_RUN];

    #[inline(always)]
    fn run(self) -> usize {
        WORDS_RUN
    }

    #[inline(always)]
    unsafe fn prepare<const N: usize>(
        self,
        room: &mut [MaybeUninit<Self::Room>; N],
        windows: *const u8,
        step: usize,
        quads: usize,
    ) -> (*const u8, usize) {
        // SAFETY: the contract; rooms take as many quads.
        unsafe {
            for n in 0..N {
                let (from, to) = (windows.add(n * step), room[n].as_mut_ptr().cast::<u8>());
                if quads < 8 {
                    for quad in 0..quads {
                        let codes = u64::from(from.add(quad * PANEL_DEPTH).cast::<u32>().read_unaligned());
                        let words = (codes | codes << 24) & 0x00ff_00ff_00ff_00ff;
                        to.add(quad * Self::QUAD).cast::<u64>().write_unaligned(words);
                    }
                    continue;
                }
                let mut quad = 0;
                while quad < quads {
                    // The last 8 may meet some again.
                    let first = quad.min(quads - 8);
                    let codes = _mm256_loadu_si256(from.add(first * PANEL_DEPTH).cast());
                    let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(codes);
                    let even = _mm256_and_si256(codes, _mm256_set1_epi16(0xff));
                    let odd = _mm256_srli_epi16::<8>(codes);
                    let to = to.add(first * Self::QUAD);
                    _mm256_storeu_si256(to.cast(), _mm256_unpacklo_epi32(even, odd));
                    _mm256_storeu_si256(to.add(32).cast(), _mm256_unpackhi_epi32(even, odd));
                    quad += 8;
                }
            }
        }
        (room.as_ptr().cast(), size_of::<Self::Room>())
    }

    #[inline(always)]
    unsafe fn add<const N: usize>(
        self,
        pass: usize,
        sums: &mut [Step; N],
        codes: *const u8,
        step: usize,
        levels: Step,
    ) {
        // SAFETY: the contract.
        unsafe {
            let mut words = levels;
            for half in 0..2 {
                let high = if pass == 1 { levels[half] } else { _mm256_slli_epi16::<8>(levels[half]) };
                words[half] = _mm256_srai_epi16::<8>(high);
            }
            for n in 0..N {
                let codes = broadcast(at(codes.add(pass * PANEL_DEPTH), step, n));
                for half in 0..2 {
                    sums[n][half] = _mm256_add_epi32(sums[n][half], _mm256_madd_epi16(codes, words[half]));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn widen(self, total: __m256i, sum: __m256i) -> __m256i {
        // SAFETY: the contract.
        unsafe { _mm256_add_epi32(total, sum) }
    }
}

/// Window `n`, as a distance of 0, 1 or 2 steps from every third, which an operand can say.
#[inline(always)]
fn at(windows: *const u8, step: usize, n: usize) -> *const u8 {
    windows.wrapping_add(n / 3 * 3 * step).wrapping_add(n % 3 * step)
}

/// # Safety
/// The processor has the instructions; 4 bytes can be read.
#[inline(always)]
unsafe fn broadcast(at: *const u8) -> __m256i {
    // SAFETY: the contract.
    unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
}
