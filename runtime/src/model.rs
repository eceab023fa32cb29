//! A blob, checked once.

use core::ops::Range;

use crate::error::FormatError;
use crate::format::{
    Header, Layer, LayerOp, Layout, Reader, TENSOR_BYTES, Tensor, VERSION, crc32, decode_layer,
};

/// A blob whose every offset has been checked; reading it cannot fail afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    blob: &'a [u8],
    header: Header,
    aux: &'a [u8],
    channels: &'a [i32],
    weights: &'a [u8],
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
        let section = |from: u32, to: usize, what| blob.get(from as usize..to).ok_or(FormatError::Truncated(what));
        let weights = section(header.weights, blob.len(), "the weights")?;
        let channels = section(header.channels, header.weights as usize, "the biases and multipliers")?;
        let aux = section(header.aux, header.channels as usize, "the tables")?;
        section(header.meta, header.meta as usize + header.meta_bytes as usize, "the metadata")?;
        let whole = channels.get(..channels.len() / 4 * 4).unwrap_or(&[]);
        let channels = bytemuck::try_cast_slice(whole).map_err(|_| FormatError::Misaligned)?;
        let model = Model { blob, header, aux, channels, weights };
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

    /// The layers, in the order they run.
    pub fn layers(&self) -> Layers<'a> {
        Layers { model: *self, at: self.header.layers as usize, left: self.header.n_layers }
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
        if index >= self.header.n_tensors {
            return None;
        }
        Tensor::read(self.blob, crate::format::HEADER_BYTES + usize::from(index) * TENSOR_BYTES)
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
        self.weights.len()
    }

    /// All operands of a layer, in order.
    pub fn operands(&self, layer: &Layer<'a>) -> impl ExactSizeIterator<Item = Tensor> + '_ {
        let (operands, first) = (Reader(layer.operands), layer.input);
        (0..layer.operands.len() / 2).map(move |i| operands.u16(2 * i).and_then(|t| self.tensor(t)).unwrap_or(first))
    }

    fn io(&self, i: usize) -> Tensor {
        let index = Reader(self.blob).u16(self.header.io as usize + 2 * i).unwrap_or(0);
        self.tensor(index).unwrap_or(EMPTY_TENSOR)
    }

    fn check_tensors(&self) -> Result<(), FormatError> {
        for index in 0..self.header.n_tensors {
            let tensor = self.tensor(index).ok_or(FormatError::Truncated("the tensor records"))?;
            let sane = (1..=8).contains(&tensor.bits)
                && tensor.storage == 8
                && tensor.zero <= tensor.max_code()
                && !tensor.shape.is_empty()
                && tensor.range().end <= self.arena_bytes();
            if !sane {
                return Err(FormatError::Tensor(index));
            }
        }
        let n_io = usize::from(self.header.n_inputs) + usize::from(self.header.n_outputs);
        for i in 0..n_io {
            let index = Reader(self.blob).u16(self.header.io as usize + 2 * i);
            let index = index.ok_or(FormatError::Truncated("the input and output indices"))?;
            self.tensor(index).ok_or(FormatError::Tensor(index))?;
        }
        Ok(())
    }

    fn check_layers(&self) -> Result<(), FormatError> {
        let mut at = self.header.layers as usize;
        for index in 0..self.header.n_layers {
            let (layer, bytes) = self.decode(at)?;
            self.check_memory(&layer).ok_or(FormatError::Arena { layer: index })?;
            at += bytes;
        }
        Ok(())
    }

    /// Operands, output and scratch lie in the arena; the output meets neither operands nor scratch,
    /// except that an Add or Lut may overwrite its first operand exactly.
    fn check_memory(&self, layer: &Layer<'a>) -> Option<()> {
        let out = layer.output.range();
        let in_place = matches!(layer.op, LayerOp::Add(_) | LayerOp::Lut(_));
        let scratch = layer.scratch..layer.scratch;
        if scratch.end > self.arena_bytes() {
            return None;
        }
        for (i, operand) in self.operands(layer).enumerate() {
            let range = operand.range();
            if overlap(&range, &out) && !(in_place && i == 0 && range == out) {
                return None;
            }
        }
        Some(())
    }

    fn decode(&self, at: usize) -> Result<(Layer<'a>, usize), FormatError> {
        let records = self.blob.get(at..).ok_or(FormatError::Truncated("the layer records"))?;
        decode_layer(records, &|index| self.tensor(index), self.aux, self.channels, self.weights)
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

const EMPTY_TENSOR: Tensor = Tensor {
    offset: 0,
    shape: crate::format::Shape { h: 0, w: 0, c: 0 },
    scale: 0.0,
    bits: 8,
    storage: 8,
    zero: 0,
    rank: 0,
};

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
        self.left = self.left.checked_sub(1)?;
        let (layer, bytes) = self.model.decode(self.at).ok()?;
        self.at += bytes;
        Some(layer)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Layers<'_> {}
