//! Stages of a model: layers that run together, a few rows at a time.

use core::ops::Range;

use crate::format::{Conv, Pace, Record, StageEnds, Tensor};
use crate::model::Records;

/// The layers of a stage: convolutions that each read what the one before writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'m, 'a> {
    pub(crate) records: Records<'m, 'a>,
    /// Rows of the first layer's output in a band.
    pub(crate) rows: usize,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct StageLayer<'a> {
    pub(crate) record: Record<'a>,
    pub(crate) conv: Conv<'a>,
    pub(crate) pace: Pace,
    /// Pace of its input, unless that is there from the start.
    source: Option<Pace>,
    /// Whether it is the last, whose output stays.
    is_last: bool,
}

/// What a layer computes in a band.
pub(crate) struct Piece<'a> {
    pub(crate) conv: Conv<'a>,
    /// Its rows of the input, in the arena.
    pub(crate) input: Range<usize>,
    /// Its rows of the output.
    pub(crate) output: Range<usize>,
    /// First byte of its scratch memory.
    pub(crate) scratch: usize,
    /// The last rows of the input, as many as the next band may read, and where it reads them.
    pub(crate) halo: Option<(Range<usize>, usize)>,
}

impl<'m, 'a> Stage<'m, 'a> {
    /// The layers in order; ends early where they do not fit together.
    pub(crate) fn layers(&self) -> StageLayers<'m, 'a> {
        StageLayers { records: self.records, before: None, rows: self.rows }
    }

    /// How many bands it takes.
    pub(crate) fn bands(&self) -> usize {
        self.layers().last().map_or(0, |last| last.pace.bands(last.conv.output.h))
    }

    /// Whether the layers fit together, and the memory of what they read and write.
    #[inline(never)]
    pub(crate) fn check(&self, arena: usize) -> Option<()> {
        let mut layers = self.layers();
        let first = layers.next()?;
        let (mut memory, mut last, mut count) = (first.input_memory()?, None, 1);
        for layer in layers {
            let input = layer.input_memory()?;
            // Only the last may add.
            let before = last.as_ref().unwrap_or(&first);
            if !apart(&memory, &input) || memory.end > arena || before.conv.residual.is_some() {
                return None;
            }
            (memory, last, count) = (input, Some(layer), count + 1);
        }
        let is_single = last.is_none();
        let last = last.as_ref().unwrap_or(&first);
        let distance = StageEnds { first: &first.conv, from: first.pace, last: &last.conv, to: last.pace, is_single };
        let (read, written) = (first.record.input.range(), last.record.output.range());
        let in_place = written.start.checked_add(distance.distance()).is_some_and(|end| end <= read.start);
        let sound = count == self.records.len()
            && memory.end <= arena
            && written.end <= arena
            && (apart(&read, &written) || in_place)
            && (is_single || apart(&memory, &written));
        sound.then_some(())
    }
}

/// Iterator over the layers of a [`Stage`].
pub(crate) struct StageLayers<'m, 'a> {
    records: Records<'m, 'a>,
    before: Option<(Tensor, Pace)>,
    rows: usize,
}

impl<'a> Iterator for StageLayers<'_, 'a> {
    type Item = StageLayer<'a>;

    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    fn next(&mut self) -> Option<StageLayer<'a>> {
        let record = self.records.next()?;
        let conv = record.conv(self.records.model().sections())?;
        let (pace, source) = match self.before {
            None => (Pace::first(self.rows), None),
            Some((tensor, pace)) => ((tensor == record.input).then_some(pace)?.of_reader(&conv)?, Some(pace)),
        };
        self.before = Some((record.output, pace));
        Some(StageLayer { record, conv, pace, source, is_last: self.records.len() == 0 })
    }
}

impl<'a> StageLayer<'a> {
    /// What it computes in a band.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn piece(&self, band: usize) -> Piece<'a> {
        let rows = self.pace.rows(band, self.conv.output.h);
        let part = self.conv.part(rows);
        let (from, to) = (self.record.input.offset, self.record.output.offset);
        let (output, at) = (part.output.len(), if self.is_last { part.output.start } else { 0 });
        let (mut begun, mut halo) = (0, None);
        if let Some(source) = self.source {
            let new = source.rows(band, self.conv.input.h);
            let (row, kept) = (row_bytes(&self.record.input), source.kept(&self.conv, self.pace));
            begun = new.start.saturating_mul(row);
            let end = from.saturating_add(new.len().saturating_mul(row));
            let kept = kept.saturating_mul(row);
            halo = (!new.is_empty() && kept > 0).then(|| (end.saturating_sub(kept)..end, from.saturating_sub(kept)));
        }
        // Rows ahead of the band's lie in front of it.
        let input = from.saturating_add(part.input.start).saturating_sub(begun);
        let output_at = to.saturating_add(at);
        Piece {
            conv: part.conv,
            input: some(input..input.saturating_add(part.input.len())),
            output: some(output_at..output_at.saturating_add(output)),
            scratch: self.record.scratch,
            halo,
        }
    }

    /// What the bands compute, each like none before it.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Conv<'a>> + '_ {
        let mut last = None;
        let pieces = (0..self.pace.bands(self.conv.output.h)).map(|band| self.piece(band).conv);
        pieces.filter(move |conv| {
            let kind = (conv.input.h, conv.output.h, conv.pad[0]);
            conv.output.h > 0 && last.replace(kind) != Some(kind)
        })
    }

    /// Where its input lies in the arena: all of it, or the rows of it that there are at a time.
    #[inline(never)]
    pub(crate) fn input_memory(&self) -> Option<Range<usize>> {
        let tensor = &self.record.input;
        let Some(source) = self.source else { return Some(tensor.range()) };
        let (before, after) = source.held(tensor.shape, source.kept(&self.conv, self.pace));
        Some(tensor.offset.checked_sub(before)?..tensor.offset.checked_add(after)?)
    }

    /// Where the rows lie that it computes.
    pub(crate) fn output_memory(&self) -> Range<usize> {
        let tensor = &self.record.output;
        let (_, bytes) = self.pace.held(tensor.shape, 0);
        if self.is_last { tensor.range() } else { tensor.offset..tensor.offset.saturating_add(bytes) }
    }
}

fn row_bytes(tensor: &Tensor) -> usize {
    tensor.shape.w.saturating_mul(tensor.shape.c)
}

fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.end <= b.start || b.end <= a.start
}

/// At 0 if it is empty, since an empty range inside another would count as an overlap.
fn some(range: Range<usize>) -> Range<usize> {
    if range.is_empty() { 0..0 } else { range }
}
