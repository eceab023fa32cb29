//! Several codes in a word: one multiplication of 32 bits does all their products.
//!
//! Activations and levels are the coefficients of polynomials, those of the levels in reverse: the coefficient of the
//! highest power that 32 bits have room for is a sum of products, those beyond are cut off, and those below are kept
//! from reaching it. Sums of such words add up until that coefficient could leave its bits. (Sub-byte operands in one
//! multiplication: ULPPACK, Won et al. 2022.)
//!
//! The codes that share a word are four apart, so that those of a byte or more of packed weights part by a shift and
//! a mask: a *block* of four words are four times as many consecutive codes as a word has.

use super::stream;
use crate::format::{Conv, WeightFormat};
use crate::kernels::scratch::decodes;

/// Words of a block.
pub(super) const BLOCK: usize = 4;

/// How codes share words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    /// Codes of a word.
    pub(super) codes: usize,
    /// Products of words that add up before the sum must be taken out: a multiple of [`BLOCK`].
    pub(super) room: usize,
}

impl Packing {
    /// The one of most codes a word for which there is room; `None` if there is none at all, or pixels are no whole
    /// blocks.
    pub(super) fn of(conv: &Conv<'_>, format: WeightFormat) -> Option<Packing> {
        if !decodes(format) || !matches!(format, WeightFormat::Linear(1..=4) | WeightFormat::Ternary) {
            return None;
        }
        let Numbers { bits, less, .. } = Numbers::of(format);
        // Of levels the lowest are furthest from 0; sums of them have a sign, for which a bit is kept.
        let (most, sign) = if stream::takes(conv) { ((1 << bits) - 1, 0) } else { (less, 1) };
        let highest = (1 << conv.bits_in.clamp(1, 8)) - 1;
        [4, 2].into_iter().find_map(|codes| {
            let largest = (codes * most as usize * highest).max(1);
            let room = ((1 << (32 / codes - sign)) - 1) / largest / BLOCK * BLOCK;
            // The codes of a block of weights are read as one word.
            let fits = codes * BLOCK * bits as usize <= 32 && conv.input.c.is_multiple_of(codes * BLOCK);
            (fits && room > 0).then_some(Packing { codes, room })
        })
    }

    /// Bits of a field.
    const fn bits(&self) -> u32 {
        if self.codes == 2 { 16 } else { 8 }
    }

    /// How far the sum of products lies from the lowest bit.
    pub(super) const fn shift(&self) -> u32 {
        32 - self.bits()
    }

    /// A word of the same code again and again.
    pub(super) fn every(&self, code: u32) -> u32 {
        (0..self.codes as u32).fold(0, |word, i| word | code << (i * self.bits()))
    }

    /// Makes words of activations of codes.
    pub(super) fn pack_activations(&self, codes: &[u8], words: &mut [u32]) {
        match self.codes {
            2 => pack::<2>(codes, words),
            _ => pack::<4>(codes, words),
        }
    }

    /// Makes words of levels of the packed weights of a filter, which begin on a byte.
    pub(super) fn expand_levels(&self, format: WeightFormat, codes: &[u8], words: &mut [u32]) {
        let Numbers { bits, flip, scale, less } = Numbers::of(format);
        let (mask, less) = (self.every((1 << bits) - 1), self.every(less));
        let bytes = self.codes * BLOCK * bits as usize / 8;
        for (block, codes) in words.as_chunks_mut::<BLOCK>().0.iter_mut().zip(codes.chunks_exact(bytes.max(1))) {
            let codes = match codes.first_chunk() {
                Some(word) => u32::from_le_bytes(*word),
                None => codes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)),
            };
            let mut spread = self.spread(codes ^ flip, bits);
            for word in block {
                *word = ((spread & mask) * scale).wrapping_sub(less);
                spread >>= bits;
            }
        }
    }

    /// The sum of the codes of words of activations.
    pub(super) fn sum(&self, words: &[u32]) -> i32 {
        let mask = (1 << self.bits()) - 1;
        let codes = |word: u32| (0..self.codes as u32).map(move |i| word >> (i * self.bits()) & mask);
        words.iter().flat_map(|&word| codes(word)).fold(0, u32::wrapping_add) as i32
    }

    /// Moves every four codes to the lowest bits of a field of their own.
    pub(super) fn spread(&self, codes: u32, bits: u32) -> u32 {
        let together = BLOCK as u32 * bits;
        if together == self.bits() {
            return codes;
        }
        let fields =
            (0..self.codes as u32).map(|i| (codes >> (i * together) & ((1 << together) - 1)) << (i * self.bits()));
        fields.fold(0, |word, field| word | field)
    }
}

/// How codes of weights become numbers from 0 on, and numbers levels: `level = scale * (code ^ flip) - less`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Of a code.
    pub(super) bits: u32,
    /// Of as many codes as 32 bits hold.
    pub(super) flip: u32,
    pub(super) scale: u32,
    pub(super) less: u32,
}

impl Numbers {
    /// Of a linear or ternary format.
    pub(super) fn of(format: WeightFormat) -> Numbers {
        let bits = format.bits();
        match format {
            WeightFormat::Linear(1) => Numbers { bits, flip: 0, scale: 2, less: 1 },
            WeightFormat::Linear(2) => Numbers { bits, flip: 0, scale: 2, less: 3 },
            _ => {
                let sign = 1 << (bits - 1);
                let flip = (0..32 / bits.max(1)).fold(0, |word, i| word | sign << (i * bits));
                Numbers { bits, flip, scale: 1, less: sign }
            }
        }
    }
}

/// With `CODES` codes a word, the first of them highest.
fn pack<const CODES: usize>(codes: &[u8], words: &mut [u32]) {
    let (fours, _) = codes.as_chunks::<BLOCK>();
    for (block, fours) in words.as_chunks_mut::<BLOCK>().0.iter_mut().zip(fours.as_chunks::<CODES>().0) {
        for (i, word) in block.iter_mut().enumerate() {
            *word = fours.iter().fold(0, |word, four| word << (32 / CODES) | u32::from(four[i]));
        }
    }
}
