//! From packed codes to levels.

use crate::format::{
    Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH, PANEL_STEP, WORD_CHANNELS, WORD_CODES, WeightFormat, WeightGroup,
};

/// A weight group, ready to be decoded 8 codes at a time.
pub(in crate::kernels) struct Decoder<'a> {
    conv: &'a Conv<'a>,
    group: &'a WeightGroup<'a>,
    spread: Spread,
    levels: Levels<'a>,
}

impl<'a> Decoder<'a> {
    pub(in crate::kernels) fn new(conv: &'a Conv<'a>, group: &'a WeightGroup<'a>) -> Decoder<'a> {
        Decoder { conv, group, spread: Spread::new(group.format.bits()), levels: Levels::new(group) }
    }

    /// Fills `rows`, each `row_len` long, with the levels of as many channels from `first` (counted within
    /// the group) on; a row holds them in the order (kernel row, column, input channel), then zeros.
    ///
    /// `first` is a multiple of [`PANEL_DEPTH`].
    pub(super) fn rows(&self, first: usize, row_len: usize, rows: &mut [i8]) {
        rows.fill(0);
        match self.group.layout {
            Layout::Plain => {
                for (channel, row) in (first..self.group.channels).zip(rows.chunks_exact_mut(row_len)) {
                    self.plain_row(channel, row);
                }
            }
            Layout::Panels => {
                for (four, rows) in rows.chunks_mut(PANEL_DEPTH * row_len).enumerate() {
                    self.panel_rows(first + four * PANEL_DEPTH, row_len, rows);
                }
            }
            Layout::Words if self.group.format != WeightFormat::Linear(8) => {
                for (pair, rows) in rows.chunks_mut(WORD_CHANNELS * row_len).enumerate() {
                    self.word_rows(first + pair * WORD_CHANNELS, row_len, rows);
                }
            }
            Layout::Planes | Layout::Vectors | Layout::Words | Layout::Sparse => {
                for (channel, row) in (first..self.group.channels).zip(rows.chunks_exact_mut(row_len)) {
                    for (k, level) in row.iter_mut().take(self.conv.depth()).enumerate() {
                        *level = self.group.level(self.conv, channel, k);
                    }
                }
            }
        }
    }

    /// Fills `row` with the levels of a channel of the group, in [`Layout::Plain`].
    pub(in crate::kernels) fn plain_row(&self, channel: usize, row: &mut [i8]) {
        let depth = self.conv.depth();
        let bits = self.group.format.bits() as usize;
        let stream = self.stream(channel * (depth * bits).div_ceil(8));
        let row = row.get_mut(..depth).unwrap_or_default();
        if self.group.format == WeightFormat::Linear(8) {
            row.iter_mut().zip(stream).for_each(|(level, &code)| *level = code as i8);
            return;
        }
        let (eights, rest) = row.as_chunks_mut();
        for (i, levels) in eights.iter_mut().enumerate() {
            *levels = self.eight(stream, i * bits);
        }
        let last = self.eight(stream, eights.len() * bits);
        rest.iter_mut().zip(last).for_each(|(level, of)| *level = of);
    }

    /// Four channels of a panel: each of its steps holds 4 codes of each of them, one after the other.
    fn panel_rows(&self, first: usize, row_len: usize, rows: &mut [i8]) {
        let (segments, len) = self.conv.segments();
        let panel = self.conv.packed_bytes(PANEL_CHANNELS, self.group.format, Layout::Panels);
        let stream = self.stream(first / PANEL_CHANNELS * panel);
        let quarter = first % PANEL_CHANNELS / PANEL_DEPTH;
        let quads = len.div_ceil(PANEL_DEPTH);
        for segment in 0..segments {
            for quad in 0..quads {
                let levels = self.quarter_step(stream, segments * quads, segment * quads + quad, quarter);
                let start = segment * len + quad * PANEL_DEPTH;
                for (row, levels) in rows.chunks_exact_mut(row_len).zip(levels.as_chunks::<PANEL_DEPTH>().0) {
                    let row = row.get_mut(start..segment * len + len).unwrap_or_default();
                    match row.first_chunk_mut() {
                        Some(four) => *four = *levels,
                        None => row.iter_mut().zip(levels).for_each(|(level, &of)| *level = of),
                    }
                }
            }
        }
    }

    /// Two channels, four codes of each in turn.
    fn word_rows(&self, first: usize, row_len: usize, rows: &mut [i8]) {
        let depth = self.conv.depth();
        let pair = self.conv.packed_bytes(WORD_CHANNELS, self.group.format, Layout::Words);
        let stream = self.stream(first / WORD_CHANNELS * pair);
        for word in 0..depth.div_ceil(WORD_CODES) {
            let levels = self.eight(stream, word * self.group.format.bits() as usize);
            for (row, levels) in rows.chunks_exact_mut(row_len).zip(levels.as_chunks::<WORD_CODES>().0) {
                let row = row.get_mut(word * WORD_CODES..depth).unwrap_or_default();
                row.iter_mut().zip(levels).for_each(|(level, &of)| *level = of);
            }
        }
    }

    /// Fills `levels` with those of channels from `first` on, the first of a stream, in the order of
    /// [`Layout::Words`], padding and all.
    #[cfg(pare_dsp)]
    pub(in crate::kernels) fn words(&self, first: usize, levels: &mut [i8]) {
        let bits = self.group.format.bits() as usize;
        let stream = self.stream(self.conv.packed_bytes(first, self.group.format, Layout::Words));
        let (steps, _) = levels.as_chunks_mut::<{ WORD_CHANNELS * WORD_CODES }>();
        steps.iter_mut().enumerate().for_each(|(i, levels)| *levels = self.eight(stream, i * bits));
    }

    /// A quarter of the 64 levels of step `step` out of `steps`.
    #[inline]
    pub(super) fn quarter_step(
        &self,
        stream: &[u8],
        steps: usize,
        step: usize,
        quarter: usize,
    ) -> [i8; PANEL_STEP / 4] {
        let bits = self.group.format.bits() as usize;
        let together = self.group.format.interleaved();
        if together == 1 || step >= steps / together * together {
            return self.sixteen(stream, (step * 4 + quarter) * 2 * bits);
        }
        let (at, shift) = ((step / together * 4 + quarter) * PANEL_STEP / 4, step % together * bits);
        let mask = u64::from_le_bytes([(1 << bits) - 1; 8]);
        both([0, 8].map(|skip| self.levels.of(load_u64(stream, at + skip) >> shift & mask)))
    }

    /// Fills `taps` with the levels of 16 channels from `first`, a multiple of 16, tap after tap.
    pub(super) fn taps(&self, first: usize, taps: &mut [[i8; PANEL_CHANNELS]]) {
        let bits = self.group.format.bits();
        match self.group.layout {
            Layout::Plain | Layout::Words | Layout::Planes | Layout::Sparse => {
                for lane in 0..PANEL_CHANNELS.min(self.group.channels - first) {
                    for (t, tap) in taps.iter_mut().enumerate() {
                        tap[lane] = self.group.level(self.conv, first + lane, t);
                    }
                }
            }
            Layout::Panels | Layout::Vectors => {
                let panel = self.conv.packed_bytes(PANEL_CHANNELS, self.group.format, Layout::Panels);
                let stream = self.stream(first / PANEL_CHANNELS * panel);
                for (t, tap) in taps.iter_mut().enumerate() {
                    *tap = self.sixteen(stream, t * 2 * bits as usize);
                }
            }
        }
    }

    fn stream(&self, offset: usize) -> &'a [u8] {
        self.group.codes.get(offset..).unwrap_or(&[])
    }

    /// The levels of the 16 codes from byte `at` on.
    #[inline]
    fn sixteen(&self, stream: &[u8], at: usize) -> [i8; 16] {
        both([0, self.group.format.bits() as usize].map(|skip| self.eight(stream, at + skip)))
    }

    /// The levels of the 8 codes from byte `at` on; rubbish beyond the end.
    #[inline(always)]
    fn eight(&self, stream: &[u8], at: usize) -> [i8; 8] {
        self.levels.of(self.spread.apply(load_u64(stream, at)))
    }
}

/// Eight levels and eight more.
#[inline(always)]
fn both([low, high]: [[i8; 8]; 2]) -> [i8; 16] {
    let mut levels = [0; 16];
    levels.iter_mut().zip(low.into_iter().chain(high)).for_each(|(level, of)| *level = of);
    levels
}

/// Moves 8 codes of `bits` bits each to the 8 bytes of a word: halves apart, then quarters, then codes.
struct Spread {
    bits: u32,
    /// Low half of the codes; low half of each half; low half of each quarter.
    masks: [u64; 3],
}

impl Spread {
    fn new(bits: u32) -> Spread {
        let low = |codes: u32| (1u64 << (codes * bits)) - 1;
        Spread { bits, masks: [low(4), low(2) * 0x1_0000_0001, low(1) * 0x1_0001_0001_0001] }
    }

    #[inline(always)]
    fn apply(&self, word: u64) -> u64 {
        self.masks.iter().zip([4, 2, 1]).fold(word, |word, (mask, codes)| {
            let step = codes * self.bits;
            word & mask | (word >> step & mask) << (8 * codes)
        })
    }
}

/// What codes stand for, 8 of them in the bytes of a word.
enum Levels<'a> {
    /// With `c = code ^ flip`: `c + (c & twice) - less`, byte by byte: two's complement or the odd levels.
    Linear { flip: u64, twice: u64, less: u64 },
    /// An entry of the table.
    Codebook(&'a [i8]),
}

impl<'a> Levels<'a> {
    fn new(group: &WeightGroup<'a>) -> Levels<'a> {
        let every = |byte: u8| u64::from_le_bytes([byte; 8]);
        match group.format {
            WeightFormat::Linear(1) => Levels::Linear { flip: 0, twice: every(0xff), less: every(1) },
            WeightFormat::Linear(2) => Levels::Linear { flip: 0, twice: every(0xff), less: every(3) },
            WeightFormat::Linear(_) | WeightFormat::Ternary => {
                let sign = every(1 << (group.format.bits() - 1));
                Levels::Linear { flip: sign, twice: 0, less: sign }
            }
            WeightFormat::Codebook(_) => Levels::Codebook(group.codebook),
        }
    }

    #[inline(always)]
    fn of(&self, codes: u64) -> [i8; 8] {
        match *self {
            Levels::Linear { flip, twice, less } => {
                let code = codes ^ flip;
                bytemuck::cast(subtract_bytes(code.wrapping_add(code & twice), less).to_le_bytes())
            }
            Levels::Codebook(table) => {
                codes.to_le_bytes().map(|code| table.get(usize::from(code)).copied().unwrap_or(0))
            }
        }
    }
}

/// `a - b` in each byte, nothing borrowed from the next.
#[inline(always)]
fn subtract_bytes(a: u64, b: u64) -> u64 {
    const TOP: u64 = 0x8080_8080_8080_8080;
    ((a | TOP) - (b & !TOP)) ^ ((a ^ !b) & TOP)
}

/// 8 bytes from `at`; zeros beyond the end.
#[inline(always)]
fn load_u64(stream: &[u8], at: usize) -> u64 {
    let rest = stream.get(at..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}
