//! A blob, checked once.

use core::num::NonZeroUsize;
use core::ops::Range;

use crate::error::{Detail, FormatError};
use crate::format::{
    Conv, HEADER_BYTES, Header, Layer, LayerOp, Layout, Reader, Record, STAGE_BYTES, Sections, Shape, TENSOR_BYTES,
    Tensor, VERSION, crc32, op,
};
use crate::kernels::{ConvKernel, Isa, KernelSet};
use crate::stage::Stage;
use crate::team::Shares;

/// A blob whose every offset has been checked; reading it cannot fail afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    blob: &'a [u8],
    header: Header,
    sections: Sections<'a>,
}

impl<'a> Model<'a> {
    /// Checks the header, the checksum, every tensor and every layer.
    ///
    /// # Errors
    /// The first thing found wrong. Work is bounded by the blob's size.
    pub fn parse(blob: &'a [u8]) -> Result<Model<'a>, FormatError> {
        let header = Header::read(blob).ok_or(FormatError::NotABlob)?;
        if header.version != VERSION {
            return Err(FormatError::Version(header.version));
        }
        if header.blob_bytes as usize != blob.len() {
            return Err(FormatError::Length { stated: header.blob_bytes, given: blob.len() });
        }
        if header.crc32 != crc32(blob.get(16..).unwrap_or(&[])) {
            return Err(FormatError::Checksum);
        }
        Layout::from_number(header.layout).ok_or(FormatError::Layout(header.layout))?;
        let section =
            |from: u32, to: u32, what| blob.get(from as usize..to as usize).ok_or(FormatError::Truncated(what));
        let weights = section(header.weights, header.blob_bytes, Detail::Weights)?;
        let channels = section(header.channels, header.weights, Detail::Channels)?;
        let aux = section(header.aux, header.channels, Detail::Tables)?;
        section(header.meta, header.meta.saturating_add(header.meta_bytes), Detail::Metadata)?;
        let tensors = Reader(blob).bytes(HEADER_BYTES, usize::from(header.n_tensors) * TENSOR_BYTES);
        let tensors = tensors.ok_or(FormatError::Truncated(Detail::TensorRecords))?;
        if [header.channels, header.weights].iter().any(|at| !at.is_multiple_of(4)) {
            return Err(FormatError::Section);
        }
        let channels = bytemuck::try_cast_slice(channels).map_err(|_| FormatError::Misaligned)?;
        let model = Model { blob, header, sections: Sections { tensors, aux, channels, weights } };
        model.check_tensors()?;
        model.check_layers()?;
        Ok(model)
    }

    /// The fields of the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole blob.
    pub fn bytes(&self) -> &'a [u8] {
        self.blob
    }

    /// Bytes of arena that a session needs.
    pub fn arena_bytes(&self) -> usize {
        self.header.arena_bytes as usize
    }

    /// Bytes of arena that a session with the kernels of one instruction set needs: more than
    /// [`arena_bytes`](Self::arena_bytes) only for a blob of a microcontroller on another processor.
    pub fn arena_bytes_with(&self, isa: Isa) -> usize {
        self.arena_bytes_with_threads(isa, NonZeroUsize::MIN)
    }

    /// Bytes of arena that a session needs whose layers up to so many threads share: more than
    /// [`arena_bytes_with`](Self::arena_bytes_with) the kernels, as each thread wants scratch of its own.
    pub fn arena_bytes_with_threads(&self, isa: Isa, threads: NonZeroUsize) -> usize {
        if !KernelSet::LINKED.has_portable() {
            return self.arena_bytes();
        }
        let shares = self.records().filter_map(|record| {
            Shares::of(&record.conv(&self.sections)?, isa, threads).map(|shares| shares.scratch_bytes())
        });
        let mut spare = shares.max().unwrap_or(0);
        self.each_conv(&mut |_, conv, _, _| {
            let kernel = ConvKernel::choose(isa, conv);
            if !kernel.is_planned(conv) {
                spare = kernel.scratch_bytes(conv).max(spare);
            }
        });
        self.arena_bytes().saturating_add(spare)
    }

    /// Every convolution that kernels run, those of a stage in pieces: index of the layer, where its scratch begins, and
    /// the memory of its input and output.
    pub(crate) fn each_conv(&self, visit: &mut dyn FnMut(u16, &Conv<'a>, usize, &[Range<usize>; 2])) {
        let mut records = self.records();
        while let Some(index) = self.header.n_layers.checked_sub(records.left).filter(|_| records.left > 0) {
            if let Some(stage) = records.take_stage() {
                for (index, layer) in (index..).zip(stage.layers()) {
                    let memory = [layer.input_memory().unwrap_or(0..0), layer.output_memory()];
                    layer.kinds().for_each(|conv| visit(index, &conv, layer.record.scratch, &memory));
                }
            } else if let Some(record) = records.next()
                && let Some(conv) = record.conv(&self.sections)
            {
                visit(index, &conv, record.scratch, &[record.input.range(), record.output.range()]);
            }
        }
    }

    /// The layers, in the order they run.
    pub fn layers(&self) -> Layers<'a> {
        Layers { model: *self, at: self.header.layers as usize, left: self.header.n_layers }
    }

    /// The layers of the stage that a layer is in: those that run together with it in bands of rows.
    pub fn stage_of(&self, layer: usize) -> Option<Range<usize>> {
        self.stages().map(|(layers, _)| layers).find(|layers| layers.contains(&layer))
    }

    /// Bytes in the arena of a layer's input and output: in a stage those of the rows that are there at a time.
    pub fn memory_of(&self, layer: usize) -> Option<[Range<usize>; 2]> {
        match self.stages().find(|(layers, _)| layers.contains(&layer)) {
            Some((layers, stage)) => {
                let member = stage.layers().nth(layer.checked_sub(layers.start)?)?;
                Some([member.input_memory()?, member.output_memory()])
            }
            None => self.layers().nth(layer).map(|layer| [layer.input.range(), layer.output.range()]),
        }
    }

    fn stages(&self) -> impl Iterator<Item = (Range<usize>, Stage<'_, 'a>)> {
        let (mut records, layers) = (self.records(), usize::from(self.header.n_layers));
        core::iter::from_fn(move || {
            while records.left > 0 {
                let first = layers - records.len();
                if let Some(stage) = records.take_stage() {
                    return Some((first..layers - records.len(), stage));
                }
                records.next();
            }
            None
        })
    }

    /// The records of the layers.
    pub(crate) fn records(&self) -> Records<'_, 'a> {
        Records { model: self, at: self.header.layers as usize, left: self.header.n_layers }
    }

    /// What records refer to.
    pub(crate) fn sections(&self) -> &Sections<'a> {
        &self.sections
    }

    /// A layer's name; empty when the blob holds none.
    pub fn layer_name(&self, index: usize) -> &'a str {
        let mut at = self.header.names as usize;
        if at == 0 {
            return "";
        }
        let r = Reader(self.blob);
        for _ in 0..index {
            at = at.saturating_add(1 + usize::from(r.u8(at).unwrap_or(0)));
        }
        let len = r.u8(at).unwrap_or(0).into();
        r.bytes(at.saturating_add(1), len).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or("")
    }

    /// A tensor by its index.
    pub fn tensor(&self, index: u16) -> Option<Tensor> {
        self.sections.tensor(index)
    }

    /// The graph inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = Tensor> + '_ {
        (0..usize::from(self.header.n_inputs)).map(|i| self.io(i))
    }

    /// The graph outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Tensor> + '_ {
        let n_inputs = usize::from(self.header.n_inputs);
        (0..usize::from(self.header.n_outputs)).map(move |i| self.io(n_inputs + i))
    }

    /// JSON for host tools: preprocessing, provenance.
    pub fn metadata(&self) -> &'a [u8] {
        Reader(self.blob).bytes(self.header.meta as usize, self.header.meta_bytes as usize).unwrap_or(&[])
    }

    /// Bytes of packed weights, alignment included.
    pub fn weight_bytes(&self) -> usize {
        self.sections.weights.len()
    }

    /// All operands of a layer, in order.
    pub fn operands<'m>(&'m self, layer: &'m Layer<'a>) -> impl ExactSizeIterator<Item = Tensor> + 'm {
        (0..layer.operands.len() / 2).map(|i| self.operand(layer, i))
    }

    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn operand(&self, layer: &Layer<'a>, index: usize) -> Tensor {
        Reader(layer.operands).u16(2 * index).and_then(|tensor| self.tensor(tensor)).unwrap_or(layer.input)
    }

    /// An upper bound of the elements that one run touches, windows counted in full: what a host that runs
    /// the blobs of strangers may want to limit.
    pub fn work(&self) -> u64 {
        let turns =
            |(layers, stage): (Range<usize>, Stage<'_, '_>)| (stage.bands() as u64).saturating_mul(layers.len() as u64);
        self.layers().map(|layer| layer.work()).chain(self.stages().map(turns)).fold(0, u64::saturating_add)
    }

    pub(crate) fn input(&self, i: usize) -> Option<Tensor> {
        (i < self.header.n_inputs.into()).then(|| self.io(i))
    }

    pub(crate) fn output(&self, i: usize) -> Option<Tensor> {
        (i < self.header.n_outputs.into()).then(|| self.io(usize::from(self.header.n_inputs) + i))
    }

    fn io(&self, i: usize) -> Tensor {
        let index = Reader(self.blob).u16((self.header.io as usize).saturating_add(2 * i)).unwrap_or(0);
        self.tensor(index).unwrap_or(EMPTY_TENSOR)
    }

    fn check_tensors(&self) -> Result<(), FormatError> {
        for index in 0..self.header.n_tensors {
            let tensor = self.tensor(index).ok_or(FormatError::Truncated(Detail::TensorRecords))?;
            let sane = (1..=8).contains(&tensor.bits)
                && tensor.storage == 8
                && tensor.zero <= tensor.max_code()
                && !tensor.shape.is_empty();
            if !sane {
                return Err(FormatError::Tensor(index));
            }
        }
        let n_io = usize::from(self.header.n_inputs) + usize::from(self.header.n_outputs);
        for i in 0..n_io {
            let index = Reader(self.blob).u16((self.header.io as usize).saturating_add(2 * i));
            let index = index.ok_or(FormatError::Truncated(Detail::IoIndices))?;
            self.tensor(index).filter(|tensor| self.holds(tensor)).ok_or(FormatError::Tensor(index))?;
        }
        Ok(())
    }

    /// Whether a tensor lies inside the arena: one between the layers of a stage is never there as a whole.
    fn holds(&self, tensor: &Tensor) -> bool {
        tensor.range().end <= self.arena_bytes()
    }

    fn check_layers(&self) -> Result<(), FormatError> {
        let mut records = self.records();
        while records.left > 0 {
            let index = self.header.n_layers - records.left;
            let Some(stage) = records.take_stage() else {
                let layer = self.check_layer(&mut records)?;
                self.check_memory(&layer).ok_or(FormatError::Arena { layer: index })?;
                continue;
            };
            let mut layers = stage.records;
            while layers.left > 0 {
                let layer = self.check_layer(&mut layers)?;
                self.check_sum(&layer).ok_or(FormatError::Arena { layer: index })?;
            }
            stage.check(self.arena_bytes()).ok_or(FormatError::Stage { layer: index })?;
        }
        Ok(())
    }

    /// The next layer, except for where its tensors lie.
    fn check_layer(&self, records: &mut Records<'_, 'a>) -> Result<Layer<'a>, FormatError> {
        let layer = records.read()?.layer(&self.sections)?;
        layer.check(self.header.layout)?;
        Ok(layer)
    }

    /// The output meets no operand, except that an Add or Lut may overwrite its first operand exactly, and a Conv
    /// does so with its second. (How much scratch there is depends on the kernels: [`Session`](crate::Session)
    /// checks that.)
    fn check_memory(&self, layer: &Layer<'a>) -> Option<()> {
        let out = layer.output.range();
        if layer.scratch > self.arena_bytes() || !self.holds(&layer.output) {
            return None;
        }
        for (i, operand) in self.operands(layer).enumerate() {
            let range = operand.range();
            let sound = match (&layer.op, i) {
                (LayerOp::Conv(_), 1) => range == out,
                (LayerOp::Add(_) | LayerOp::Lut(_), 0) => range == out || !overlap(&range, &out),
                _ => !overlap(&range, &out),
            };
            if !sound || range.end > self.arena_bytes() {
                return None;
            }
        }
        Some(())
    }

    /// The same for a layer of a stage, whose input and output the stage as a whole is asked about.
    fn check_sum(&self, layer: &Layer<'a>) -> Option<()> {
        let onto_second = layer.operands.len() < 4 || self.operand(layer, 1).range() == layer.output.range();
        (layer.scratch <= self.arena_bytes() && onto_second).then_some(())
    }

    #[inline(always)]
    fn record(&self, at: usize) -> Result<(Record<'a>, usize), FormatError> {
        let records = self.blob.get(at..).ok_or(FormatError::Truncated(Detail::LayerRecords))?;
        Record::read(records, &self.sections)
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

const EMPTY_TENSOR: Tensor =
    Tensor { offset: 0, shape: Shape { h: 0, w: 0, c: 0 }, scale: 0.0, bits: 8, storage: 8, zero: 0, rank: 0 };

/// Iterator over the layers of a [`Model`].
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    model: Model<'a>,
    at: usize,
    left: u16,
}

impl<'a> Iterator for Layers<'a> {
    type Item = Layer<'a>;

    fn next(&mut self) -> Option<Layer<'a>> {
        let mut records = Records { model: &self.model, at: self.at, left: self.left };
        let record = records.next();
        (self.at, self.left) = (records.at, records.left);
        record?.layer(&self.model.sections).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Layers<'_> {}

/// Iterator over their records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records<'m, 'a> {
    model: &'m Model<'a>,
    at: usize,
    left: u16,
}

impl<'a> Iterator for Records<'_, 'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.left > 0 && self.at_stage() {
            self.at = self.at.saturating_add(STAGE_BYTES);
        }
        self.read().ok()
    }
}

impl<'m, 'a> Records<'m, 'a> {
    /// The next record, or what is wrong with it.
    // A record is large: hosts read it where it is used.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[cfg_attr(target_os = "none", inline(never))]
    fn read(&mut self) -> Result<Record<'a>, FormatError> {
        self.left = self.left.checked_sub(1).ok_or(FormatError::Truncated(Detail::LayerRecords))?;
        let (record, bytes) = self.model.record(self.at)?;
        self.at = self.at.saturating_add(bytes);
        Ok(record)
    }

    /// The stage that is next, if one is; this goes on behind it.
    #[inline(always)]
    pub(crate) fn take_stage(&mut self) -> Option<Stage<'m, 'a>> {
        if self.at_stage() { self.read_stage() } else { None }
    }

    #[inline(never)]
    fn read_stage(&mut self) -> Option<Stage<'m, 'a>> {
        let blob = Reader(self.model.blob);
        let marker = Reader(blob.bytes(self.at, STAGE_BYTES)?);
        let (layers, bytes, rows) = (marker.u8(1)?, marker.u16(2)?, marker.u32(4)? as usize);
        let records = Records { at: self.at.checked_add(STAGE_BYTES)?, left: layers.into(), ..*self };
        let left = self.left.checked_sub(records.left)?;
        let mut at = records.at;
        for _ in 0..layers {
            at = at.checked_add(blob.u16(at.checked_add(2)?)?.into())?;
        }
        if layers == 0 || usize::from(bytes) != STAGE_BYTES || rows == 0 {
            return None;
        }
        (self.at, self.left) = (at, left);
        Some(Stage { records, rows })
    }

    #[inline(always)]
    fn at_stage(&self) -> bool {
        KernelSet::LINKED.has_operator(op::STAGE) && Reader(self.model.blob).u8(self.at) == Some(op::STAGE)
    }

    pub(crate) fn model(&self) -> &'m Model<'a> {
        self.model
    }

    /// Layers that are left.
    pub(crate) fn len(&self) -> usize {
        self.left.into()
    }
}
