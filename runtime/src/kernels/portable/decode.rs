//! From packed codes to levels.

use crate::bits::read_code;
use crate::format::{Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH, WeightFormat, WeightGroup};

/// A weight group with its levels tabulated.
pub(super) struct Decoder<'a> {
    conv: &'a Conv<'a>,
    group: &'a WeightGroup<'a>,
    levels: [i8; 256],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(conv: &'a Conv<'a>, group: &'a WeightGroup<'a>) -> Decoder<'a> {
        let mut levels = [0; 256];
        for (code, level) in (0..=u8::MAX).zip(&mut levels).take(1 << group.format.bits()) {
            *level = group.format.level(code, group.codebook);
        }
        Decoder { conv, group, levels }
    }

    /// Fills `rows`, each `row_len` long, with the levels of as many channels from `first` (counted within
    /// the group) on; a row holds them in the order (kernel row, column, input channel), then zeros.
    ///
    /// `first` is a multiple of [`PANEL_DEPTH`] in [`Layout::X86`].
    pub(super) fn rows(&self, first: usize, row_len: usize, rows: &mut [i8]) {
        rows.fill(0);
        match self.group.layout {
            Layout::Plain => {
                for (channel, row) in (first..self.group.channels).zip(rows.chunks_exact_mut(row_len)) {
                    self.plain_row(channel, row);
                }
            }
            Layout::X86 => {
                for (four, rows) in rows.chunks_mut(PANEL_DEPTH * row_len).enumerate() {
                    self.panel_rows(first + four * PANEL_DEPTH, row_len, rows);
                }
            }
        }
    }

    fn plain_row(&self, channel: usize, row: &mut [i8]) {
        let depth = self.conv.depth();
        let bits = self.group.format.bits() as usize;
        let stream = self.stream(channel * (depth * bits).div_ceil(8));
        let row = row.get_mut(..depth).unwrap_or_default();
        if self.group.format == WeightFormat::Linear(8) {
            row.iter_mut().zip(stream).for_each(|(level, &code)| *level = code as i8);
            return;
        }
        for (levels, bytes) in row.chunks_mut(8).zip(stream.chunks(bits)) {
            levels.iter_mut().zip(self.eight(bytes)).for_each(|(level, of)| *level = of);
        }
    }

    /// Four channels of a panel: each of its steps holds 4 codes of each of them, one after the other.
    fn panel_rows(&self, first: usize, row_len: usize, rows: &mut [i8]) {
        let (segments, len) = self.conv.segments();
        let step = PANEL_CHANNELS / 8 * self.group.format.bits() as usize * PANEL_DEPTH;
        let panel = self.conv.packed_bytes(PANEL_CHANNELS, self.group.format, Layout::X86);
        let quarter = first % PANEL_CHANNELS / PANEL_DEPTH;
        let stream = self.stream(first / PANEL_CHANNELS * panel);
        let mut steps = stream.chunks_exact(step).filter_map(|bytes| bytes.get(quarter * step / 4..));
        for segment in 0..segments {
            for i in (0..len).step_by(PANEL_DEPTH) {
                let Some(bytes) = steps.next() else { return };
                let levels = self.sixteen(bytes);
                let count = PANEL_DEPTH.min(len - i);
                for (row, levels) in rows.chunks_exact_mut(row_len).zip(levels.chunks_exact(PANEL_DEPTH)) {
                    let row = row.iter_mut().skip(segment * len + i).take(count);
                    row.zip(levels).for_each(|(level, &of)| *level = of);
                }
            }
        }
    }

    /// Fills `taps` with the levels of 16 channels from `first`, a multiple of 16, tap after tap.
    pub(super) fn taps(&self, first: usize, taps: &mut [[i8; PANEL_CHANNELS]]) {
        let bits = self.group.format.bits();
        match self.group.layout {
            Layout::Plain => {
                let row = (self.conv.depth() * bits as usize).div_ceil(8);
                for lane in 0..PANEL_CHANNELS.min(self.group.channels - first) {
                    let stream = self.stream((first + lane) * row);
                    for (t, tap) in taps.iter_mut().enumerate() {
                        tap[lane] = self.level(read_code(stream, bits, t));
                    }
                }
            }
            Layout::X86 => {
                let panel = self.conv.packed_bytes(PANEL_CHANNELS, self.group.format, Layout::X86);
                let stream = self.stream(first / PANEL_CHANNELS * panel);
                for (tap, bytes) in taps.iter_mut().zip(stream.chunks_exact(2 * bits as usize)) {
                    *tap = self.sixteen(bytes);
                }
            }
        }
    }

    fn stream(&self, offset: usize) -> &'a [u8] {
        self.group.codes.get(offset..).unwrap_or(&[])
    }

    #[inline]
    fn level(&self, code: u8) -> i8 {
        self.levels[usize::from(code)]
    }

    fn sixteen(&self, bytes: &[u8]) -> [i8; 16] {
        let mut levels = [0; 16];
        for (levels, bytes) in levels.chunks_exact_mut(8).zip(bytes.chunks(self.group.format.bits() as usize)) {
            levels.copy_from_slice(&self.eight(bytes));
        }
        levels
    }

    /// The levels of the 8 codes at the start of `bytes`.
    #[inline]
    fn eight(&self, bytes: &[u8]) -> [i8; 8] {
        let mut word = [0; 8];
        word.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = byte);
        let (word, bits) = (u64::from_le_bytes(word), self.group.format.bits());
        let mask = (1u64 << bits) - 1;
        let mut at = 0;
        [(); 8].map(|()| {
            let level = self.level((word >> at & mask) as u8);
            at += bits;
            level
        })
    }
}
