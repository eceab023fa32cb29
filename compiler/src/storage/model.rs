//! What is likely: bytes, numbers, weights.

use super::coder::{Bit, Coder};

/// Width of a 32-bit number's width.
const WIDTH_BITS: u32 = 6;
/// Highest bits of a number that are modelled, its first 1 apart.
const MODELLED: u32 = 2;
/// How fast the densities of columns and rows follow: by 2^-n of what is new.
const COLUMN_RATE: u16 = 4;
const ROW_RATE: u16 = 6;
/// Steps in which those are told apart.
const COLUMN_STEPS: usize = 8;
const ROW_STEPS: usize = 4;

/// Everything that was learned so far. Both sides learn the same.
pub(super) struct Model {
    bytes: Vec<Bit>,
    widths: Vec<Bit>,
    heads: Vec<Bit>,
    signs: Bit,
    /// Whether a word is that before it.
    repeats: [Bit; 2],
    /// Whether a weight is not 0, by the densities of its column and row and by the one before it.
    weights: Vec<Bit>,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            bytes: vec![Bit::NEW; 256 * 4],
            widths: vec![Bit::NEW; 1 << WIDTH_BITS],
            heads: vec![Bit::NEW; (1 << MODELLED) * 33],
            signs: Bit::NEW,
            repeats: [Bit::NEW; 2],
            weights: vec![Bit::NEW; COLUMN_STEPS * ROW_STEPS * 2],
        }
    }

    /// Bytes of any kind, told apart by what was before them: a zero, another number below 32, text, or anything else.
    pub(super) fn bytes<'b>(&mut self, coder: &mut impl Coder, bytes: impl Iterator<Item = &'b mut u8>) {
        let mut before = 0u8;
        for byte in bytes {
            let kind = match before {
                0 => 0,
                1..32 => 1,
                32..127 => 2,
                _ => 3,
            };
            *byte = coder.symbol(&mut self.bytes[256 * kind..][..256], 8, (*byte).into()) as u8;
            before = *byte;
        }
    }

    /// A number, likely a small one.
    pub(super) fn number(&mut self, coder: &mut impl Coder, number: u32) -> u32 {
        let width = coder.symbol(&mut self.widths, WIDTH_BITS, u32::BITS - number.leading_zeros()).min(u32::BITS);
        let Some(below) = width.checked_sub(1) else { return 0 };
        let modelled = below.min(MODELLED);
        let heads = &mut self.heads[(width as usize) << MODELLED..][..1 << MODELLED];
        let head = coder.symbol(heads, modelled, number >> (below - modelled) & ((1 << modelled) - 1));
        let rest = coder.raw(below - modelled, number & ((1 << (below - modelled)) - 1));
        1 << below | head << (below - modelled) | rest
    }

    /// Numbers with a sign, which may repeat.
    pub(super) fn words(&mut self, coder: &mut impl Coder, words: &mut [[u8; 4]]) {
        let (mut before, mut repeated) = ([0; 4], false);
        for word in words {
            repeated = coder.bit(&mut self.repeats[usize::from(repeated)], *word == before);
            if repeated {
                *word = before;
            } else {
                let value = i32::from_le_bytes(*word);
                let negative = coder.bit(&mut self.signs, value < 0);
                let magnitude = self.number(coder, value.unsigned_abs()) as i32;
                *word = if negative { magnitude.wrapping_neg() } else { magnitude }.to_le_bytes();
            }
            before = *word;
        }
    }

    /// The codes of a group, rows of `depth`, `zero` standing for no weight.
    pub(super) fn codes(
        &mut self,
        coder: &mut impl Coder,
        bits: u32,
        zero: Option<u8>,
        depth: usize,
        codes: &mut [u8],
    ) {
        let mut values = vec![Bit::NEW; 1 << bits];
        let mut columns = vec![u16::MAX / 4; depth];
        let mut row_density = u16::MAX / 4;
        for row in codes.chunks_mut(depth.max(1)) {
            let mut before = false;
            for (code, column) in row.iter_mut().zip(&mut columns) {
                if let Some(zero) = zero {
                    let context = step(*column, COLUMN_STEPS) * ROW_STEPS + step(row_density, ROW_STEPS);
                    let model = &mut self.weights[context * 2 + usize::from(before)];
                    before = coder.bit(model, *code != zero);
                    follow(column, before, COLUMN_RATE);
                    follow(&mut row_density, before, ROW_RATE);
                    if !before {
                        *code = zero;
                        continue;
                    }
                }
                *code = coder.symbol(&mut values, bits, (*code).into()) as u8;
            }
        }
    }
}

/// A density in steps of factors of two, the lowest one for all below.
fn step(density: u16, steps: usize) -> usize {
    (density.leading_zeros() as usize).min(steps - 1)
}

fn follow(density: &mut u16, present: bool, rate: u16) {
    if present {
        *density += (u16::MAX - *density) >> rate;
    } else {
        *density -= *density >> rate;
    }
}
