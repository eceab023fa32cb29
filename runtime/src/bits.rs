//! Packed codes: where each weight lies in each layout, and how to read and write it there.
//!
//! The compiler packs and the reference kernels read through [`Conv::position`], so that a layout is
//! defined once. Fast kernels walk the same bytes in order instead.

use crate::format::{
    Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH, PANEL_STEP, PLANE_WORD, VECTOR_CHANNELS, VECTOR_CODES, WORD_CHANNELS,
    WORD_CODES, WeightFormat, WeightGroup,
};

/// Code `index` of a stream of `bits`-bit codes (1..=8); 0 beyond the end.
#[inline]
pub fn read_code(stream: &[u8], bits: u32, index: usize) -> u8 {
    let (byte, shift) = locate(bits, index);
    let at = |i: usize| u16::from(stream.get(i).copied().unwrap_or(0));
    // A code meets at most two bytes.
    ((at(byte) | at(byte.saturating_add(1)) << 8) >> shift & mask(bits)) as u8
}

/// Writes code `index` of a stream of `bits`-bit codes; what lies beyond the end is dropped.
pub fn write_code(stream: &mut [u8], bits: u32, index: usize, code: u8) {
    let (byte, shift) = locate(bits, index);
    let (clear, set) = (!(mask(bits) << shift), (u16::from(code) & mask(bits)) << shift);
    for (slot, part) in stream.iter_mut().skip(byte).zip([0, 8]) {
        *slot = *slot & (clear >> part) as u8 | (set >> part) as u8;
    }
}

/// Byte and bit at which a code starts.
#[inline]
fn locate(bits: u32, index: usize) -> (usize, u32) {
    let within = index % 8 * bits as usize;
    ((index / 8).saturating_mul(bits as usize).saturating_add(within / 8), within as u32 % 8)
}

#[inline]
fn mask(bits: u32) -> u16 {
    (1 << bits.min(8)) - 1
}

/// The code whose level is `level`: the inverse of [`WeightFormat::level`]. `None` when the format has no
/// such level; of equal codebook entries the first.
pub fn code_of(format: WeightFormat, level: i8, codebook: &[i8]) -> Option<u8> {
    // -2 can be decoded as a ternary level but must not be written.
    if format == WeightFormat::Ternary && level < -1 {
        return None;
    }
    let last = ((1u32 << format.bits().min(8)) - 1) as u8;
    (0..=last).find(|&code| format.level(code, codebook) == level)
}

/// Where a code lies: in the stream that starts at a byte of a group's codes, at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// First byte of the channel's row or panel.
    pub offset: usize,
    /// Code within that stream.
    pub index: usize,
    /// Bits of the code that are stored inverted.
    pub inverted: u8,
}

impl Conv<'_> {
    /// Where weight `k` of output channel `channel` lies, the channel counted within its weight group
    /// and `k` in the order (kernel row, kernel column, input channel of the channel group). Of no meaning in
    /// [`Layout::Sparse`], where that depends on the weights: see [`Packing`](crate::sparse::Packing).
    pub fn position(&self, layout: Layout, format: WeightFormat, channel: usize, k: usize) -> Position {
        let bits = format.bits() as usize;
        match layout {
            Layout::Sparse => Position { offset: 0, index: 0, inverted: 0 },
            Layout::Plain => Position { offset: channel * (self.depth() * bits).div_ceil(8), index: k, inverted: 0 },
            Layout::Vectors if !self.is_depthwise() => {
                let (taps, c) = (self.kernel[0] * self.kernel[1], self.group_inputs());
                let (tap, i) = (k / c, k % c);
                let column_first = tap % self.kernel[1] * self.kernel[0] + tap / self.kernel[1];
                let k = column_first * c + i;
                let vectors = (taps * c).div_ceil(VECTOR_CODES) * VECTOR_CHANNELS;
                let vector = k / VECTOR_CODES * VECTOR_CHANNELS + channel % VECTOR_CHANNELS;
                let index = interleave::<VECTOR_CODES>(format, vectors, vector, k % VECTOR_CODES);
                let inverted = if format == WeightFormat::Linear(8) { 0x80 } else { 0 };
                Position {
                    offset: channel / VECTOR_CHANNELS * self.packed_bytes(VECTOR_CHANNELS, format, layout),
                    index,
                    inverted,
                }
            }
            Layout::Panels | Layout::Vectors => {
                let lane = channel % PANEL_CHANNELS;
                let index = if self.is_depthwise() {
                    k * PANEL_CHANNELS + lane
                } else {
                    let (segments, len) = self.segments();
                    let (segment, i) = (k / len, k % len);
                    let (quads, quad) = (len.div_ceil(PANEL_DEPTH), i / PANEL_DEPTH);
                    let (step, j) = (segment * quads + quad, lane * PANEL_DEPTH + i % PANEL_DEPTH);
                    interleave::<PANEL_STEP>(format, segments * quads, step, j)
                };
                let panel = self.packed_bytes(PANEL_CHANNELS, format, layout);
                Position { offset: channel / PANEL_CHANNELS * panel, index, inverted: 0 }
            }
            Layout::Planes => {
                let c = self.group_inputs();
                let (segments, words) = self.plane_segments();
                // Taps of a segment.
                let taps = self.kernel[0] * self.kernel[1] / segments;
                let (tap, i) = (k / c, k % c);
                let (segment, bit) = (tap / taps, tap % taps * c.next_multiple_of(8) + i);
                let step = segment * words + bit / PLANE_WORD;
                let lane = (step * bits + bit % bits) * PANEL_CHANNELS + channel % PANEL_CHANNELS;
                let panel = self.packed_bytes(PANEL_CHANNELS, format, layout);
                let index = lane * (PLANE_WORD / bits) + bit % PLANE_WORD / bits;
                Position { offset: channel / PANEL_CHANNELS * panel, index, inverted: 0 }
            }
            Layout::Words => {
                let (step, of_pair) = (k / WORD_CODES * WORD_CODES * WORD_CHANNELS, channel % WORD_CHANNELS);
                let (together, index, inverted) = if self.is_depthwise() {
                    (WORD_CODES, k / 2 * 8 + channel % 4 / 2 * 4 + k % 2 * 2 + channel % 2, 0)
                } else if format == WeightFormat::Linear(8) {
                    let index = step + k % 2 * WORD_CODES + k % WORD_CODES / 2 * WORD_CHANNELS + of_pair;
                    (WORD_CHANNELS, index, if of_pair == 0 { 0x80 } else { 0 })
                } else {
                    (WORD_CHANNELS, step + of_pair * WORD_CODES + k % WORD_CODES, 0)
                };
                Position { offset: channel / together * self.packed_bytes(together, format, layout), index, inverted }
            }
        }
    }

    /// Fills `codes`, the packed codes of some channels, with what is to be where no weight of theirs is.
    pub fn clear(&self, layout: Layout, format: WeightFormat, codes: &mut [u8]) {
        codes.fill(0);
        if layout == Layout::Words && format == WeightFormat::Linear(8) && !self.is_depthwise() {
            codes.iter_mut().step_by(WORD_CHANNELS).for_each(|code| *code = 0x80);
        }
    }
}

/// The number, in its panel's stream, of code `j` of step `step` out of `steps` of so many codes.
pub(crate) fn interleave<const CODES: usize>(format: WeightFormat, steps: usize, step: usize, j: usize) -> usize {
    let together = format.interleaved();
    if step < steps / together * together {
        (step / together * CODES + j) * together + step % together
    } else {
        step * CODES + j
    }
}

impl WeightGroup<'_> {
    /// The level of weight `k` of a channel of this group; arguments as in [`Conv::position`].
    pub fn level(&self, conv: &Conv<'_>, channel: usize, k: usize) -> i8 {
        if self.layout == Layout::Sparse {
            let weights = self.sparse_weights(channel).filter(|&(at, _)| at == k);
            return weights.fold(0, |sum, (_, level)| sum.wrapping_add(level));
        }
        let Position { offset, index, inverted } = conv.position(self.layout, self.format, channel, k);
        let stream = self.codes.get(offset..).unwrap_or(&[]);
        self.format.level(read_code(stream, self.format.bits(), index) ^ inverted, self.codebook)
    }

    /// Position and level of every slot of a channel, in [`Layout::Sparse`]; nothing in others.
    pub fn sparse_weights(&self, channel: usize) -> impl Iterator<Item = (usize, i8)> + '_ {
        let panel = self.sparse().map(|sparse| sparse.panel(channel / PANEL_CHANNELS));
        panel.into_iter().flat_map(move |panel| {
            panel.lane(channel % PANEL_CHANNELS).map(move |(position, number)| {
                let (step, j) = (number / PANEL_STEP, number % PANEL_STEP);
                let number = interleave::<PANEL_STEP>(self.format, panel.bases.len(), step, j);
                (position, self.format.level(read_code(panel.codes, self.format.bits(), number), self.codebook))
            })
        })
    }
}
