//! Binary arithmetic coding with probabilities that adapt: a range coder with carry, as in LZMA.
//!
//! [`Coder`] has two sides, so that a model is written once and both sides agree by construction: what the
//! [`Encoder`] is given it writes and gives back, the [`Decoder`] gives what it reads.

/// Bits of a probability in the coder.
const PRECISION: u32 = 15;
/// The range is widened below this.
const LEAST_RANGE: u32 = 1 << 24;
/// The slowest that a fast and a slow estimate adapt: a share of 2^-n of what is new.
const RATES: [u8; 2] = [4, 7];

/// An estimate of how likely a bit is 0: the mean of two that adapt at different rates, both fast at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bit {
    zero: [u16; 2],
    seen: u8,
}

impl Bit {
    pub(super) const NEW: Bit = Bit { zero: [1 << 15; 2], seen: 0 };

    fn probability(&self) -> u32 {
        let mean = (u32::from(self.zero[0]) + u32::from(self.zero[1])) >> (17 - PRECISION);
        mean.clamp(32, (1 << PRECISION) - 32)
    }

    fn learn(&mut self, bit: bool) {
        self.seen = self.seen.saturating_add(1);
        for (zero, slowest) in self.zero.iter_mut().zip(RATES) {
            let rate = slowest.min(self.seen);
            if bit {
                *zero -= *zero >> rate;
            } else {
                *zero += (u16::MAX - *zero) >> rate;
            }
        }
    }
}

/// One side of the coding.
pub(super) trait Coder {
    /// Codes a bit.
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool;

    /// Codes the lowest `bits` bits of a number, highest first, along the path in a tree of `2^bits` models.
    fn symbol(&mut self, models: &mut [Bit], bits: u32, symbol: u32) -> u32 {
        let mut node = 1usize;
        for i in (0..bits).rev() {
            let bit = self.bit(&mut models[node], symbol >> i & 1 == 1);
            node = node * 2 + usize::from(bit);
        }
        node as u32 - (1 << bits)
    }

    /// Codes bits as likely 0 as 1.
    fn raw(&mut self, bits: u32, value: u32) -> u32 {
        (0..bits).rev().fold(0, |read, i| {
            let mut even = Bit::NEW;
            read << 1 | u32::from(self.bit(&mut even, value >> i & 1 == 1))
        })
    }
}

/// Writes.
#[derive(Debug)]
pub(super) struct Encoder {
    low: u64,
    range: u32,
    /// The last byte that a carry may still change, and how many 0xff follow it.
    held: u8,
    run: usize,
    bytes: Vec<u8>,
}

impl Encoder {
    /// That appends to `bytes`.
    pub(super) fn new(bytes: Vec<u8>) -> Encoder {
        // The first byte held is a 0 that carries into nothing: it is not written.
        Encoder { low: 0, range: u32::MAX, held: 0, run: 0, bytes }
    }

    /// All bytes; zeros at the end are left out, as the decoder reads them beyond it.
    pub(super) fn finish(mut self, start: usize) -> Vec<u8> {
        (0..5).for_each(|_| self.shift());
        while self.bytes.len() > start && self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }

    fn shift(&mut self) {
        if self.low >> 32 != 0 || self.low < 0xff00_0000 {
            let carry = (self.low >> 32) as u8;
            self.bytes.push(self.held.wrapping_add(carry));
            self.bytes.extend(std::iter::repeat_n(0xffu8.wrapping_add(carry), self.run));
            self.run = 0;
            self.held = (self.low >> 24) as u8;
        } else {
            self.run += 1;
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }
}

impl Coder for Encoder {
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool {
        let bound = (self.range >> PRECISION) * model.probability();
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        while self.range < LEAST_RANGE {
            self.range <<= 8;
            self.shift();
        }
        model.learn(bit);
        bit
    }
}

/// Reads; beyond the end, zeros.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    code: u32,
    range: u32,
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        let mut decoder = Decoder { code: 0, range: u32::MAX, bytes: bytes.iter() };
        // The first is the one that was held when there was nothing yet.
        (0..5).for_each(|_| decoder.code = decoder.code << 8 | decoder.byte());
        decoder
    }

    fn byte(&mut self) -> u32 {
        self.bytes.next().copied().unwrap_or(0).into()
    }
}

impl Coder for Decoder<'_> {
    fn bit(&mut self, model: &mut Bit, _bit: bool) -> bool {
        let bound = (self.range >> PRECISION) * model.probability();
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        while self.range < LEAST_RANGE {
            self.range <<= 8;
            self.code = self.code << 8 | self.byte();
        }
        model.learn(bit);
        bit
    }
}
