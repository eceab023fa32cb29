//! Layers of one pixel, whose packed weights are used once: they part in registers and never lie in memory as levels.
//!
//! Here weights count from their lowest level, which saves a subtraction a word; what that adds is a multiple of the
//! sum of the window, the same for all filters.

use core::array::from_fn;

use super::plan::Plan;
use super::strip;
use super::tile::FILTERS;
use super::words::{BLOCK, Numbers, Packing};
use crate::format::{Conv, WeightGroup};

/// Whether the only window lies in a row in its strip.
pub(super) fn takes(conv: &Conv<'_>) -> bool {
    conv.output.h == 1 && conv.output.w == 1 && conv.dilation[0] == 1
}

/// A weight group of such a convolution; `None` if the arguments do not fit together.
pub(super) fn run(
    conv: &Conv<'_>,
    group: &WeightGroup<'_>,
    plan: &Plan,
    packing: Packing,
    input: &[u8],
    strip: &mut [u32],
    output: &mut [u8],
) -> Option<()> {
    let numbers = Numbers::of(group.format);
    let bytes = conv.packed_bytes(1, group.format, group.layout);
    strip::each(conv, plan, packing, input, strip, |_, window| {
        let window = Window { words: window.as_chunks().0, packing, numbers, sum: packing.sum(window) };
        for first in (0..group.channels).step_by(FILTERS) {
            let count = FILTERS.min(group.channels - first);
            // Beyond the last filter stands the last again, for nothing.
            let codes: [&[u8]; FILTERS] = from_fn(|i| {
                let at = (first + i.min(count - 1)) * bytes;
                group.codes.get(at..at + bytes).unwrap_or_default()
            });
            let sums = window.sums(codes)?;
            let channel = group.first + first;
            let channels = channel..channel + count;
            let (bias, mult) = (conv.bias.get(channels.clone())?, conv.mult.get(channels.clone())?);
            for (((code, sum), &bias), &mult) in output.get_mut(channels)?.iter_mut().zip(sums).zip(bias).zip(mult) {
                *code = conv.requantise.apply(bias.wrapping_add(sum), mult);
            }
        }
        Some(())
    })
}

/// The activations of the only window.
struct Window<'a> {
    words: &'a [[u32; BLOCK]],
    packing: Packing,
    numbers: Numbers,
    /// Of its codes.
    sum: i32,
}

impl Window<'_> {
    /// The sums of products with filters of packed codes.
    fn sums(&self, codes: [&[u8]; FILTERS]) -> Option<[i32; FILTERS]> {
        let Numbers { scale, less, .. } = self.numbers;
        let mut words: [&[u32]; FILTERS] = [&[]; FILTERS];
        let whole = words.iter_mut().zip(codes).all(|(words, codes)| {
            *words = bytemuck::try_cast_slice(codes).unwrap_or_default();
            words.len() == self.words.len()
        });
        let sums = if whole {
            self.products(|block| from_fn(|i| words[i].get(block).copied().unwrap_or(0) ^ self.numbers.flip))
        } else {
            let bytes = codes[0].len() / self.words.len().max(1);
            let word = |codes: &[u8], block: usize| {
                let codes = codes.get(block * bytes..(block + 1) * bytes).unwrap_or_default();
                let word = codes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
                self.packing.spread(word ^ self.numbers.flip, self.numbers.bits)
            };
            self.products(|block| codes.map(|codes| word(codes, block)))
        };
        Some(sums.map(|sum| sum.wrapping_mul(scale as i32).wrapping_sub(self.sum.wrapping_mul(less as i32))))
    }

    /// Sums of products with numbers, those of a block of each filter from `blocks`, four to the fields of a word.
    #[inline(always)]
    fn products(&self, blocks: impl Fn(usize) -> [u32; FILTERS]) -> [i32; FILTERS] {
        let (bits, mask) = (self.numbers.bits, self.packing.every((1 << self.numbers.bits) - 1));
        let (shift, room) = (self.packing.shift(), self.packing.room / BLOCK);
        let mut sums = [0; FILTERS];
        let mut index = 0;
        for run in self.words.chunks(room.max(1)) {
            let mut products = [0u32; FILTERS];
            for block in run {
                let mut codes = blocks(index);
                index += 1;
                for &word in block {
                    for (product, codes) in products.iter_mut().zip(&mut codes) {
                        *product = product.wrapping_add(word.wrapping_mul(*codes & mask));
                        *codes >>= bits;
                    }
                }
            }
            sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += (product >> shift) as i32);
        }
        sums
    }
}
