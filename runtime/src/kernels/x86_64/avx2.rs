//! AVX2 with BMI2: levels and codes as 16-bit numbers, since `vpmaddubsw` would saturate.
//!
//! Codes of 1 to 7 bits are spread to bytes by `pdep`, then looked up (up to 4 bits) or sign-extended.

mod depthwise;

use core::arch::x86_64::*;

use super::dense::{Block, Dense, Stream, Tile};
use super::store::store_some;
use super::window::{Frame, Panels, Segment, Walk};
use crate::format::{PANEL_CHANNELS, Requantise, WeightGroup};

/// Bytes of 16 channels by 4 levels of 16 bits.
const STEP: usize = 128;

/// The leaves of this file.
pub(super) struct Avx2;

// SAFETY: one panel of two-byte levels takes the 32 bytes that there are for a step of the depth; 3 pixels.
unsafe impl Dense for Avx2 {
    const PIXELS: usize = 3;
    const PANELS: usize = 1;
    const LEVEL_BYTES: usize = 2;
    const STREAM_PANELS: usize = 1;

    fn levels_in_place(_frame: &Frame<'_>, _group: &WeightGroup<'_>) -> bool {
        false
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn decode(frame: &Frame<'_>, group: &WeightGroup<'_>, codes: &[u8], to: *mut u8) {
        let decoder = Decoder::new(group);
        let quads = frame.padded / 4;
        let counted = match frame.len % 4 {
            0 => !0,
            n => (1 << (8 * n)) - 1,
        };
        let counted = _mm_set1_epi32(counted);
        let (mut rest, mut to) = (codes, to);
        for _ in 0..frame.segments {
            for quad in 0..quads {
                for _ in 0..4 {
                    let mut levels = decoder.next(&mut rest);
                    if quad + 1 == quads {
                        levels = _mm_and_si128(levels, counted);
                    }
                    // SAFETY: `segments * quads` steps of 128 bytes are the depth at 16 bits a level.
                    unsafe {
                        _mm256_storeu_si256(to.cast(), _mm256_cvtepi8_epi16(levels));
                        to = to.add(STEP / 4);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn fetch(frame: &Frame<'_>, y: usize, x: usize, to: *mut u8) {
        for index in 0..frame.segments {
            let Segment { start, valid } = frame.segment(y, x, index);
            // SAFETY: `padded` bytes a segment are the depth; `valid` bytes of the segment lie in the input.
            unsafe {
                let to = to.add(index * frame.padded);
                to.write_bytes(frame.conv.zero_in, frame.len);
                to.add(frame.len).write_bytes(0, frame.padded - frame.len);
                if !valid.is_empty() {
                    let from = frame.input.as_ptr().offset(start + valid.start as isize);
                    to.add(valid.start).copy_from_nonoverlapping(from, valid.len());
                }
            }
        }
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn tile(walk: &Walk, tile: &Tile, block: &Block<'_>) {
        // SAFETY: this function's contract is that of the callee.
        unsafe {
            match tile.len {
                1 => multiply::<1>(walk, tile, block),
                2 => multiply::<2>(walk, tile, block),
                _ => multiply::<3>(walk, tile, block),
            }
        }
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn stream(group: &WeightGroup<'_>, stream: &Stream<'_>) {
        let decoder = Decoder::new(group);
        let mut sums = [_mm256_setzero_si256(); 4];
        let mut rest = stream.panels.codes;
        for quad in 0..stream.quads {
            // SAFETY: the window has that many quads.
            let codes = unsafe { stream.window.add(4 * quad).cast::<i32>().read_unaligned() };
            let codes = _mm256_cvtepu8_epi16(_mm_set1_epi32(codes));
            for sum in &mut sums {
                let levels = _mm256_cvtepi8_epi16(decoder.next(&mut rest));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(codes, levels));
            }
        }
        let [a, b, c, d] = sums;
        let scale = Scale::new(&stream.requantise, &stream.panels);
        // SAFETY: the panel's channels lie in the output.
        unsafe { scale.store([join(a, b), join(c, d)], stream.output.add(stream.panels.first)) };
    }
}

/// A panel by `N` pixels, all sums in registers: two for each channel, of the even and the odd pairs.
///
/// # Safety
/// As [`Dense::tile`], with one panel and `N` pixels.
#[target_feature(enable = "avx2,bmi2")]
unsafe fn multiply<const N: usize>(walk: &Walk, tile: &Tile, block: &Block<'_>) {
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the contract.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 4]; N];
        let mut windows = [core::ptr::null(); N];
        windows.copy_from_slice(&tile.windows[..N]);
        let mut levels = block.levels;
        for row in 0..walk.rows {
            for tap in 0..walk.taps {
                let mut at = row * walk.row_step + tap * walk.tap_step;
                for _ in 0..walk.quads {
                    let mut codes = [_mm256_setzero_si256(); N];
                    for n in 0..N {
                        let quad = _mm_set1_epi32(windows[n].add(at).cast::<i32>().read_unaligned());
                        codes[n] = _mm256_cvtepu8_epi16(quad);
                    }
                    for quarter in 0..4 {
                        let weights = _mm256_loadu_si256(levels.add(quarter * STEP / 4).cast());
                        for n in 0..N {
                            let products = _mm256_madd_epi16(codes[n], weights);
                            sums[n][quarter] = _mm256_add_epi32(sums[n][quarter], products);
                        }
                    }
                    at += 4;
                    levels = levels.add(STEP);
                }
            }
        }
        let scale = Scale::new(&block.requantise, &block.panels);
        let output = block.output.add(block.panels.first);
        for n in 0..N {
            let [a, b, c, d] = sums[n];
            scale.store([join(a, b), join(c, d)], output.add(tile.outputs[n]));
        }
    }
}

/// Sums neighbours: channels 0..4 in pairs and 4..8 in pairs become channels 0..8.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn join(a: __m256i, b: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b))
}

/// From sums to codes for the channels of a panel.
struct Scale {
    bias: [__m256i; 2],
    mult: [__m256i; 2],
    pre: __m128i,
    /// Half a unit, and the zero point above it.
    round: __m256i,
    lo: __m128i,
    hi: __m128i,
    channels: usize,
}

impl Scale {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn new(requantise: &Requantise, panel: &Panels<'_>) -> Scale {
        let channels = panel.channels(0).len();
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let load = |numbers: &[i32], at: i32| {
            let there = _mm256_cmpgt_epi32(_mm256_set1_epi32(channels as i32 - at), lanes);
            // SAFETY: lanes beyond the channels are not read.
            unsafe { _mm256_maskload_epi32(numbers.as_ptr().wrapping_offset(at as isize), there) }
        };
        Scale {
            bias: [load(panel.bias, 0), load(panel.bias, 8)],
            mult: [load(panel.mult, 0), load(panel.mult, 8)],
            pre: _mm_cvtsi32_si128(i32::from(requantise.pre & 31)),
            round: _mm256_set1_epi64x((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm_set1_epi8(requantise.lo as i8),
            hi: _mm_set1_epi8(requantise.hi as i8),
            channels,
        }
    }

    /// `zero + ((sum + bias << pre) * mult + 2^31 >> 32)` for one half of the channels, not yet clamped.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn apply(&self, half: usize, sums: __m256i) -> __m256i {
        let sums = _mm256_sll_epi32(_mm256_add_epi32(sums, self.bias[half]), self.pre);
        let mult = self.mult[half];
        let even = _mm256_add_epi64(_mm256_mul_epi32(sums, mult), self.round);
        let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(sums), _mm256_srli_epi64::<32>(mult));
        _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), _mm256_add_epi64(odd, self.round))
    }

    /// Stores the codes of a pixel.
    ///
    /// # Safety
    /// `to` takes the panel's channels.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn store(&self, sums: [__m256i; 2], to: *mut u8) {
        // Both packs saturate, which is within any clamp to codes.
        let words = _mm256_packs_epi32(self.apply(0, sums[0]), self.apply(1, sums[1]));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let codes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let codes = _mm_min_epu8(_mm_max_epu8(codes, self.lo), self.hi);
        // SAFETY: the contract.
        unsafe {
            if self.channels == PANEL_CHANNELS {
                _mm_storeu_si128(to.cast(), codes);
            } else {
                store_some(&[codes], self.channels, &[to]);
            }
        }
    }
}

/// Turns packed codes into levels, 16 at a time.
struct Decoder {
    bits: usize,
    /// The low `bits` of every byte.
    mask: u64,
    table: __m128i,
    sign: __m128i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn new(group: &WeightGroup<'_>) -> Decoder {
        let bits = group.format.bits();
        let mut table = [0; 16];
        for (code, level) in (0..1u16 << bits).zip(&mut table) {
            *level = group.format.level(code as u8, group.codebook);
        }
        Decoder {
            bits: bits as usize,
            mask: (u64::MAX / 255).wrapping_mul((1 << bits) - 1),
            // SAFETY: 16 levels.
            table: unsafe { _mm_loadu_si128(table.as_ptr().cast()) },
            sign: _mm_set1_epi8((1u8 << (bits - 1)) as i8),
        }
    }

    /// The levels of the next 16 codes.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn next(&self, rest: &mut &[u8]) -> __m128i {
        let mut last = [0; 16];
        let packed = rest.first_chunk().unwrap_or_else(|| {
            last.iter_mut().zip(*rest).for_each(|(to, &from)| *to = from);
            &last
        });
        *rest = rest.get(2 * self.bits..).unwrap_or_default();
        if self.bits == 8 {
            // SAFETY: 16 bytes.
            return unsafe { _mm_loadu_si128(packed.as_ptr().cast()) };
        }
        // SAFETY: `bits < 8`, so both halves are within 16 bytes.
        let half = |at: usize| unsafe { packed.as_ptr().add(at).cast::<u64>().read_unaligned() };
        let spread = |packed: u64| _pdep_u64(packed, self.mask) as i64;
        let codes = _mm_set_epi64x(spread(half(self.bits)), spread(half(0)));
        if self.bits <= 4 {
            _mm_shuffle_epi8(self.table, codes)
        } else {
            _mm_sub_epi8(_mm_xor_si128(codes, self.sign), self.sign)
        }
    }
}
