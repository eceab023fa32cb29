//! Packed codes become levels in three instructions whatever the format: bring the bytes of 8 codes
//! together (`vpermb`), shift each code to the bottom of its own byte (`vpmultishiftqb`), look it up in a
//! table that repeats with the code's period, so that the neighbour's bits above it do not matter
//! (`vpermb`, or `vpermt2b` for 7 bits).

use core::arch::x86_64::*;
use core::array;

use super::{STEP, lanes};
use crate::format::WeightGroup;

/// Turns packed codes into levels, 64 at a time.
///
/// # Safety
/// [`load`](Self::load) reads `BITS` times 8 bytes and no more.
pub(super) unsafe trait Levels {
    /// Bytes of 64 codes.
    fn bytes(&self) -> usize;

    /// The levels of the 64 codes at an address.
    ///
    /// # Safety
    /// The processor has the instructions; the address has [`bytes`](Self::bytes) bytes to read.
    unsafe fn load(&self, at: *const u8) -> __m512i;

    /// The levels of step `step` out of the `steps` of a dense panel.
    ///
    /// # Safety
    /// The processor has the instructions; `step < steps`, and the panel can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, panel: *const u8, _steps: usize, step: usize) -> __m512i {
        // SAFETY: steps are in sequence.
        unsafe { self.load(panel.add(step * self.bytes())) }
    }
}

/// 8 bits: codes are levels.
pub(super) struct Bytes;

// SAFETY: 64 bytes.
unsafe impl Levels for Bytes {
    #[inline(always)]
    fn bytes(&self) -> usize {
        STEP
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
}

/// 1 to 6 bits: the low 6 bits of a byte are looked up, whatever is above the code.
pub(super) struct Table64 {
    spread: Spread,
    /// Binary logarithm of the steps of a dense panel that interleave.
    together: u32,
    table: __m512i,
}

/// 7 bits.
pub(super) struct Table128 {
    spread: Spread,
    table: [__m512i; 2],
}

impl Table64 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new(group: &WeightGroup<'_>) -> Table64 {
        Table64 {
            spread: Spread::new(group.format.bits()),
            together: group.format.interleaved().ilog2(),
            table: table64(group),
        }
    }
}

impl Table128 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new(group: &WeightGroup<'_>) -> Table128 {
        // SAFETY: 64 levels each.
        let table = [0, 64].map(|first| unsafe { _mm512_loadu_si512(levels_of::<64>(group, first).as_ptr().cast()) });
        Table128 { spread: Spread::new(group.format.bits()), table }
    }
}

// SAFETY: the spread's mask.
unsafe impl Levels for Table64 {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.spread.bytes
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_permutexvar_epi8(self.spread.load(at), self.table) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, panel: *const u8, steps: usize, step: usize) -> __m512i {
        // SAFETY: `together` steps take 64 bytes, those left over are in sequence.
        unsafe {
            let together = 1 << self.together;
            if together == 1 || step >= steps & !(together - 1) {
                return self.load(panel.add(step * self.spread.bytes));
            }
            let packed = _mm512_loadu_si512(panel.add((step >> self.together) * STEP).cast());
            // 8 bits are shared by `together` codes.
            let shift = _mm_cvtsi32_si128(((step & (together - 1)) << (3 - self.together)) as i32);
            _mm512_permutexvar_epi8(_mm512_srl_epi16(packed, shift), self.table)
        }
    }
}

// SAFETY: the spread's mask.
unsafe impl Levels for Table128 {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.spread.bytes
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_permutex2var_epi8(self.table[0], self.spread.load(at), self.table[1]) }
    }
}

/// Brings each of 64 codes to the bottom of its own byte.
struct Spread {
    bytes: usize,
    mask: __mmask64,
    gather: __m512i,
    shifts: __m512i,
}

impl Spread {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(bits: u32) -> Spread {
        const EVERY: u64 = 0x0101_0101_0101_0101;
        const COUNT: u64 = 0x0706_0504_0302_0100;
        let bits = u64::from(bits);
        let gather: [u64; 8] = array::from_fn(|eight| eight as u64 * bits * EVERY + COUNT);
        let shifts = [COUNT * bits; 8];
        let bytes = 8 * bits as usize;
        // SAFETY: 64 bytes each.
        let [gather, shifts] = [&gather, &shifts].map(|table| unsafe { _mm512_loadu_si512(table.as_ptr().cast()) });
        Spread { bytes, mask: lanes(bytes), gather, shifts }
    }

    /// # Safety
    /// `bytes` can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the mask keeps the load to those.
        let packed = unsafe { _mm512_maskz_loadu_epi8(self.mask, at.cast()) };
        _mm512_multishift_epi64_epi8(self.shifts, _mm512_permutexvar_epi8(self.gather, packed))
    }
}

/// The levels of the numbers below 64, their low bits being the code.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn table64(group: &WeightGroup<'_>) -> __m512i {
    // SAFETY: 16 and 64 levels.
    unsafe {
        match group.format.bits() {
            0..=4 => _mm512_broadcast_i32x4(_mm_loadu_si128(levels_of::<16>(group, 0).as_ptr().cast())),
            _ => _mm512_loadu_si512(levels_of::<64>(group, 0).as_ptr().cast()),
        }
    }
}

/// The levels of the numbers from `first` on, their low bits being the code.
#[inline]
fn levels_of<const N: usize>(group: &WeightGroup<'_>, first: u8) -> [i8; N] {
    let mask = ((1u32 << group.format.bits()) - 1) as u8;
    array::from_fn(|number| group.format.level((first + number as u8) & mask, group.codebook))
}
