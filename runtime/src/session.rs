//! Running a model.

use core::num::NonZeroUsize;
use core::ops::Range;

use crate::error::SetupError;
use crate::format::{Conv, Layer, LayerOp, Record, Tensor, op};
use crate::kernels::{ConvKernel, Isa, KernelSet};
use crate::model::Model;
use crate::moving::move_down;
use crate::probe::Probe;
use crate::stage::{Piece, Stage};
use crate::team::{Shares, Team};

/// A model, its memory and the kernels to run it with.
///
/// Inputs share the arena with everything else: fill all of them before every run, and read the outputs
/// before filling the inputs again.
#[derive(Debug)]
pub struct Session<'a> {
    model: Model<'a>,
    arena: &'a mut [u8],
    isa: Isa,
    threads: NonZeroUsize,
}

impl<'a> Session<'a> {
    /// Takes the fastest kernels that this processor runs.
    ///
    /// # Errors
    /// The arena is smaller than [`Model::arena_bytes_with`] the kernels, or a layer's scratch than its kernel wants.
    pub fn new(model: Model<'a>, arena: &'a mut [u8]) -> Result<Session<'a>, SetupError> {
        Session::with_isa(model, arena, Isa::best())
    }

    /// Takes the kernels of one instruction set. The results are the same bytes with any.
    ///
    /// # Errors
    /// As [`Session::new`], and when this processor lacks the instruction set.
    pub fn with_isa(model: Model<'a>, arena: &'a mut [u8], isa: Isa) -> Result<Session<'a>, SetupError> {
        Session::with_threads(model, arena, isa, NonZeroUsize::MIN)
    }

    /// Makes room for so many threads to share a layer: [`run_with`](Self::run_with) a [`Team`] of them.
    ///
    /// # Errors
    /// As [`Session::with_isa`], but for the arena, which [`Model::arena_bytes_with_threads`] measures.
    pub fn with_threads(
        model: Model<'a>,
        arena: &'a mut [u8],
        isa: Isa,
        threads: NonZeroUsize,
    ) -> Result<Session<'a>, SetupError> {
        if !isa.is_available() {
            return Err(SetupError::Isa(isa));
        }
        let (need, have) = (model.arena_bytes_with_threads(isa, threads), arena.len());
        let arena = arena.get_mut(..need).ok_or(SetupError::Arena { need, have })?;
        let mut short = None;
        model.each_conv(&mut |layer, conv, scratch, memory| {
            if !has_scratch(conv, scratch, memory, isa, model.arena_bytes()..need) {
                short = short.or(Some(layer));
            }
        });
        if let Some(layer) = short {
            return Err(SetupError::Scratch { layer, isa });
        }
        let sharing = threads > NonZeroUsize::MIN && model.records().any(|record| gains(&model, &record, isa, threads));
        Ok(Session { model, arena, isa, threads: if sharing { threads } else { NonZeroUsize::MIN } })
    }

    /// The model.
    pub fn model(&self) -> &Model<'a> {
        &self.model
    }

    /// The instruction set whose kernels run.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many threads may share a layer: one where no layer gains by it.
    pub fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// Shape and scale of an input.
    pub fn input_tensor(&self, index: usize) -> Option<Tensor> {
        self.model.input(index)
    }

    /// Shape and scale of an output.
    pub fn output_tensor(&self, index: usize) -> Option<Tensor> {
        self.model.output(index)
    }

    /// The codes of an input, to fill; empty when there is no such input.
    pub fn input(&mut self, index: usize) -> &mut [u8] {
        let range = self.model.input(index).map_or(0..0, |tensor| tensor.range());
        self.arena.get_mut(range).unwrap_or_default()
    }

    /// The codes of an output; empty when there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        let range = self.model.output(index).map_or(0..0, |tensor| tensor.range());
        self.arena.get(range).unwrap_or_default()
    }

    /// Runs every layer.
    pub fn run(&mut self) {
        self.run_all(Session::run_record);
    }

    /// Runs every layer, the threads of a team sharing each that gains by it: convolutions of many multiplications and
    /// of several rows. The results are the same bytes.
    pub fn run_with(&mut self, team: &impl Team) {
        self.run_all(|session, record| session.run_shared(record, team));
    }

    /// Runs every layer, the probe watching.
    pub fn run_probed(&mut self, probe: &mut impl Probe) {
        self.watch(probe, Session::run_record);
    }

    /// Runs every layer with a team, the probe watching.
    pub fn run_probed_with(&mut self, team: &impl Team, probe: &mut impl Probe) {
        self.watch(probe, |session, record| session.run_shared(record, team));
    }

    /// Runs every layer, those that are in no stage by `run_record`.
    #[inline(always)]
    fn run_all(&mut self, run_record: impl Fn(&mut Session<'a>, &Record<'a>) -> Option<()>) {
        let model = self.model;
        let mut records = model.records();
        while records.len() > 0 {
            if let Some(stage) = records.take_stage() {
                self.run_stage(&stage, &mut |session, _, piece| session.run_piece(piece));
            } else if let Some(record) = records.next() {
                // `None` cannot come out of a parsed model; it would leave the output as it is.
                let _ran = run_record(self, &record);
            }
        }
    }

    #[inline]
    fn watch(&mut self, probe: &mut impl Probe, run_record: impl Fn(&mut Session<'a>, &Record<'a>) -> Option<()>) {
        let model = self.model;
        let mut records = model.records();
        while records.len() > 0 {
            let index = model.layers().len() - records.len();
            if let Some(stage) = records.take_stage() {
                self.run_stage(&stage, &mut |session, at, piece| {
                    let layer = model.layers().nth(index + at)?;
                    probe.before(index + at, &layer);
                    let ran = session.run_piece(piece);
                    probe.after(index + at, &layer, session.arena.get(piece.output.clone()).unwrap_or_default());
                    ran
                });
            } else if let Some(record) = records.next()
                && let Ok(layer) = record.layer(model.sections())
            {
                probe.before(index, &layer);
                let _ran = run_record(self, &record);
                probe.after(index, &layer, self.arena.get(layer.output.range()).unwrap_or_default());
            }
        }
    }

    /// Runs the layers of a stage in bands; `run` is told which of them it is.
    fn run_stage(&mut self, stage: &Stage<'_, 'a>, run: &mut dyn FnMut(&mut Self, usize, &Piece<'a>) -> Option<()>) {
        for band in 0..stage.bands() {
            for (at, layer) in stage.layers().enumerate() {
                // As for whole layers.
                let _ran = run(self, at, &layer.piece(band));
            }
        }
    }

    /// Computes some rows, and moves those of its input that will be read again to where they will be.
    fn run_piece(&mut self, piece: &Piece<'a>) -> Option<()> {
        if !piece.output.is_empty() {
            self.run_conv(&piece.conv, &piece.input, &piece.output, piece.scratch)?;
        }
        if let Some((rows, to)) = &piece.halo {
            let moved = self.arena.get_mut(*to..rows.end)?;
            move_down(moved, rows.start.checked_sub(*to)?);
        }
        Some(())
    }

    fn run_shared(&mut self, record: &Record<'a>, team: &impl Team) -> Option<()> {
        let conv = record.conv(self.model.sections());
        match conv.as_ref().and_then(|conv| Shares::of(conv, self.isa, self.threads)) {
            Some(shares) => {
                // The scratch that the blob plans is one thread's.
                let ranges = [record.input.range(), record.output.range(), self.model.arena_bytes()..self.arena.len()];
                let [input, output, scratch] = self.arena.get_disjoint_mut(ranges).ok()?;
                shares.run(team, input, output, scratch);
                Some(())
            }
            None => self.run_record(record),
        }
    }

    // Inlined, so that what the operator has no need of is never read.
    #[inline(always)]
    fn run_record(&mut self, record: &Record<'a>) -> Option<()> {
        let sections = self.model.sections();
        match record.conv(sections) {
            Some(conv) => self.run_conv(&conv, &record.input.range(), &record.output.range(), record.scratch),
            None => {
                // A copy to lend, so that the record itself can stay in registers.
                let record = *record;
                self.run_layer(&record.layer(sections).ok()?)
            }
        }
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn run_conv(&mut self, conv: &Conv<'a>, from: &Range<usize>, to: &Range<usize>, scratch: usize) -> Option<()> {
        let kernel = ConvKernel::choose(self.isa, conv);
        let spare = self.model.arena_bytes();
        let scratch = match kernel.is_planned(conv) {
            true => free_scratch(scratch, from, to, spare),
            false => spare..self.arena.len(),
        };
        let [input, output, scratch] = self.arena.get_disjoint_mut([from.clone(), to.clone(), scratch]).ok()?;
        kernel.run_whole(conv, input, output, scratch);
        Some(())
    }

    /// Any layer but a convolution.
    fn run_layer(&mut self, layer: &Layer<'a>) -> Option<()> {
        let isa = self.isa;
        let (from, to) = (layer.input.range(), layer.output.range());
        match &layer.op {
            LayerOp::Add(p) if KernelSet::LINKED.has_operator(op::ADD) => {
                let second = self.model.operand(layer, 1).range();
                self.carry_over(from, to.clone());
                let [second, sum] = self.arena.get_disjoint_mut([second, to]).ok()?;
                isa.add(p, sum, second);
            }
            LayerOp::Lut(table) if KernelSet::LINKED.has_operator(op::LUT) => {
                self.carry_over(from, to.clone());
                isa.lut(table, self.arena.get_mut(to)?);
            }
            LayerOp::Concat { outer } if KernelSet::LINKED.has_operator(op::CONCAT) => {
                let mut start = 0;
                for operand in self.model.operands(layer) {
                    let [part, whole] = self.arena.get_disjoint_mut([operand.range(), to.clone()]).ok()?;
                    isa.concat(*outer, start, part, whole);
                    start += part.len() / outer.max(&1);
                }
            }
            other => {
                let [input, output] = self.arena.get_disjoint_mut([from, to]).ok()?;
                match other {
                    LayerOp::AvgPool(p) => isa.avg_pool(p, input, output),
                    LayerOp::MaxPool(p) => isa.max_pool(p, input, output),
                    LayerOp::Softmax(mult) => isa.softmax(*mult, layer.input.shape.c, input, output),
                    LayerOp::Pad(p) => isa.pad(p, input, output),
                    LayerOp::Transpose(perm) => isa.transpose(*perm, layer.input.shape, input, output),
                    LayerOp::ResizeNearest(p) => isa.resize_nearest(p, input, output),
                    LayerOp::ResizeBilinear(p) => isa.resize_bilinear(p, input, output),
                    LayerOp::DepthToSpace(p) => isa.depth_to_space(p, input, output),
                    LayerOp::Conv(_) | LayerOp::Add(_) | LayerOp::Lut(_) | LayerOp::Concat { .. } => {}
                }
            }
        }
        Some(())
    }

    /// Copies an operand to where the operator works in place, unless it is there already.
    fn carry_over(&mut self, from: Range<usize>, to: Range<usize>) {
        if from != to
            && let Ok([source, target]) = self.arena.get_disjoint_mut([from, to])
        {
            for (slot, &code) in target.iter_mut().zip(source.iter()) {
                *slot = code;
            }
        }
    }
}

/// Whether there is as much scratch as the kernel of a convolution wants; `memory` is that of input and output, and
/// `spare` the end of the arena that is not planned.
fn has_scratch(conv: &Conv<'_>, scratch: usize, memory: &[Range<usize>; 2], isa: Isa, spare: Range<usize>) -> bool {
    let kernel = ConvKernel::choose(isa, conv);
    let [input, output] = memory;
    let planned = free_scratch(scratch, input, output, spare.start);
    kernel.scratch_bytes(conv) <= if kernel.is_planned(conv) { planned.len() } else { spare.len() }
}

/// Whether so many threads share a layer.
fn gains(model: &Model<'_>, layer: &Record<'_>, isa: Isa, threads: NonZeroUsize) -> bool {
    layer.conv(model.sections()).is_some_and(|conv| Shares::of(&conv, isa, threads).is_some())
}

/// The arena from a layer's scratch on, as far as it meets neither operand nor output: no less than the kernel
/// wants, which takes longer to tell. At 0 if it is empty, since an empty range inside an operand would count as
/// an overlap.
#[inline]
fn free_scratch(start: usize, input: &Range<usize>, output: &Range<usize>, arena_bytes: usize) -> Range<usize> {
    let ahead = |tensor: &Range<usize>| if start < tensor.end { tensor.start } else { arena_bytes };
    let end = ahead(input).min(ahead(output));
    if start < end { start..end } else { 0..0 }
}
