//! Small blobs made to order, byte by byte from the specification and not by the compiler's emitter: two
//! writers that agree on one reader.

use pare_runtime::format::{
    Add, HEADER_BYTES, Header, Layout, SECTION_ALIGN, STAGE_BYTES, Shape, Tensor, VERSION, WeightFormat, crc32, op,
};
use pare_runtime::kernels::scratch::conv_scratch_bytes;

use crate::problems::{ConvProblem, ConvSpec, Numbers};

/// A blob in the making.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// Graph inputs, by tensor index.
    pub inputs: Vec<u16>,
    /// Graph outputs, by tensor index.
    pub outputs: Vec<u16>,
    /// Tables of the operators.
    pub aux: Vec<u8>,
    tensors: Vec<Tensor>,
    layers: Vec<Vec<u8>>,
    /// What stands in front of the next layer.
    stage: Vec<u8>,
    channels: Vec<i32>,
    weights: Vec<u8>,
    widest: u16,
    arena: usize,
}

impl Builder {
    /// An 8-bit tensor behind all memory used so far.
    pub fn tensor(&mut self, shape: Shape, zero: u8) -> u16 {
        let offset = self.reserve(shape.len());
        self.tensor_at(offset, shape, zero)
    }

    /// An 8-bit tensor on the memory of another.
    pub fn tensor_on(&mut self, other: u16, shape: Shape, zero: u8) -> u16 {
        self.tensor_at(self.tensors[usize::from(other)].offset, shape, zero)
    }

    /// An 8-bit tensor so many bytes below another.
    pub fn tensor_below(&mut self, other: u16, distance: usize, shape: Shape, zero: u8) -> u16 {
        self.tensor_at(self.tensors[usize::from(other)].offset - distance, shape, zero)
    }

    /// Memory that belongs to no tensor.
    pub fn gap(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    /// So many layers, from the next one on, as a stage.
    pub fn stage(&mut self, layers: u8, rows: u32) {
        self.stage = [&[op::STAGE, layers, STAGE_BYTES as u8, 0][..], &rows.to_le_bytes()].concat();
    }

    fn tensor_at(&mut self, offset: usize, shape: Shape, zero: u8) -> u16 {
        self.tensors.push(Tensor { offset, shape, scale: 0.5, bits: 8, storage: 8, zero, rank: 3 });
        (self.tensors.len() - 1) as u16
    }

    fn reserve(&mut self, bytes: usize) -> usize {
        self.arena += bytes;
        self.arena - bytes
    }

    /// A layer with its operator's fields.
    pub fn layer(&mut self, op: u8, inputs: &[u16], output: u16, fields: &[u8]) {
        self.layer_with_scratch(op, inputs, output, 0, fields);
    }

    fn layer_with_scratch(&mut self, op: u8, inputs: &[u16], output: u16, scratch: usize, fields: &[u8]) {
        let mut record = vec![op, inputs.len() as u8, 0, 0];
        record.extend((scratch as u32).to_le_bytes());
        record.extend(output.to_le_bytes());
        inputs.iter().for_each(|input| record.extend(input.to_le_bytes()));
        record.resize(record.len().next_multiple_of(4), 0);
        record.extend(fields);
        record.resize(record.len().next_multiple_of(4), 0);
        let len = (record.len() as u16).to_le_bytes();
        record[2..4].copy_from_slice(&len);
        let stage = std::mem::take(&mut self.stage);
        self.layers.push([stage, record].concat());
    }

    /// Another graph input: that of a problem.
    pub fn input(&mut self, problem: &ConvProblem) -> u16 {
        let ConvSpec { input: shape, zero_in, bits_in, .. } = problem.spec;
        let input = self.tensor(shape, zero_in);
        self.tensors[usize::from(input)].bits = bits_in;
        self.inputs.push(input);
        input
    }

    /// A convolution of `input`, whose shape is the problem's; returns its output.
    pub fn conv(&mut self, input: u16, problem: &ConvProblem) -> u16 {
        let conv = problem.conv();
        let output = self.tensor(conv.output, conv.requantise.zero);
        self.conv_into(output, &[input], problem);
        output
    }

    /// A convolution that adds to `residual`, on which its output comes to lie; returns it.
    pub fn conv_add(&mut self, input: u16, residual: u16, problem: &ConvProblem) -> u16 {
        let conv = problem.conv();
        let output = self.tensor_on(residual, conv.output, conv.residual.expect("a problem that adds").zero);
        self.conv_into(output, &[input, residual], problem);
        output
    }

    /// The same into a tensor that is there, whatever the operands.
    pub fn conv_into(&mut self, output: u16, inputs: &[u16], problem: &ConvProblem) {
        let conv = problem.conv();
        let layouts = problem.spec.weights.iter().map(|(_, layout, _)| layout.number());
        self.widest = layouts.fold(self.widest, u16::max);
        let most = conv.weight_groups().map(|group| conv_scratch_bytes(&conv, group.layout, group.format)).max();
        let scratch = self.reserve(most.unwrap_or(0));
        self.weights.resize(self.weights.len().next_multiple_of(SECTION_ALIGN), 0);
        let base = self.weights.len() as u32;
        self.weights.extend(&problem.weights);
        let mut fields = vec![];
        conv.kernel.iter().for_each(|&k| fields.extend((k as u16).to_le_bytes()));
        fields.extend([conv.stride, conv.dilation, conv.pad].iter().flatten().map(|&v| v as u8));
        fields.extend([conv.requantise.pre, conv.requantise.lo, conv.requantise.hi, problem.spec.weights.len() as u8]);
        fields.extend((conv.groups as u16).to_le_bytes());
        fields.extend((self.channels.len() as u32).to_le_bytes());
        for record in problem.records.chunks_exact(8) {
            let at = u32::from_le_bytes([record[4], record[5], record[6], record[7]]) + base;
            fields.extend(&record[..4]);
            fields.extend(at.to_le_bytes());
        }
        if let Some(add) = conv.residual {
            fields.extend([add.ma, add.mb].iter().flat_map(|m| m.to_le_bytes()));
            fields.extend([add.shift, add.lo, add.hi, conv.requantise.zero]);
        }
        self.channels.extend(problem.bias.iter().chain(&problem.mult));
        self.layer_with_scratch(op::CONV, inputs, output, scratch, &fields);
    }

    /// The bytes of the blob.
    pub fn finish(&self) -> Vec<u8> {
        let mut blob = vec![0; HEADER_BYTES];
        let align = |blob: &mut Vec<u8>, to: usize| blob.resize(blob.len().next_multiple_of(to), 0);
        self.tensors.iter().for_each(|t| blob.extend(t.to_bytes().expect("test tensors are small")));
        let io = blob.len() as u32;
        self.inputs.iter().chain(&self.outputs).for_each(|index| blob.extend(index.to_le_bytes()));
        align(&mut blob, 4);
        let layers = blob.len() as u32;
        blob.extend(self.layers.concat());
        let names = blob.len() as u32;
        (0..self.layers.len()).for_each(|i| blob.extend([2, b'L', b'a' + (i % 26) as u8]));
        let meta = blob.len() as u32;
        blob.extend(b"{}");
        let aux = blob.len() as u32;
        blob.extend(&self.aux);
        align(&mut blob, SECTION_ALIGN);
        let channels = blob.len() as u32;
        blob.extend(self.channels.iter().flat_map(|v| v.to_le_bytes()));
        align(&mut blob, SECTION_ALIGN);
        let weights = blob.len() as u32;
        blob.extend(&self.weights);
        let header = Header {
            version: VERSION,
            layout: self.widest,
            blob_bytes: blob.len() as u32,
            crc32: 0,
            arena_bytes: self.arena as u32,
            n_tensors: self.tensors.len() as u16,
            n_layers: self.layers.len() as u16,
            n_inputs: self.inputs.len() as u16,
            n_outputs: self.outputs.len() as u16,
            io,
            layers,
            names,
            aux,
            channels,
            weights,
            meta,
            meta_bytes: 2,
        };
        blob[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        seal(&mut blob);
        blob
    }
}

/// Makes length and checksum right again, so that what was damaged meets the checks behind them.
pub fn seal(blob: &mut [u8]) {
    if blob.len() >= 16 {
        let (len, crc) = (blob.len() as u32, crc32(&blob[16..]));
        blob[8..12].copy_from_slice(&len.to_le_bytes());
        blob[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A dense, a depthwise and a pointwise convolution: each by itself, or as a stage in bands of so many rows, in tensors
/// that hold no more rows than it needs, the output on what was the input.
pub fn in_a_row(rows: Option<u32>) -> Vec<u8> {
    let shape = |h, w, c| Shape { h, w, c };
    let linear = WeightFormat::Linear(8);
    let dense = ConvProblem::new(ConvSpec::dense(shape(17, 5, 4), 8, 3, 1, linear, Layout::Plain));
    let depthwise = ConvProblem::new(ConvSpec::depthwise(shape(17, 5, 8), 3, 2, linear, Layout::Plain));
    let pointwise = ConvProblem::new(ConvSpec::dense(shape(9, 3, 8), 6, 1, 1, linear, Layout::Plain));
    let mut b = Builder::default();
    let distance = 64;
    b.gap(distance);
    let input = b.input(&dense);
    let Some(rows) = rows else {
        let dense = b.conv(input, &dense);
        let depthwise = b.conv(dense, &depthwise);
        b.outputs = vec![b.conv(depthwise, &pointwise)];
        return b.finish();
    };
    // The depthwise convolution reads two rows of earlier bands, or of a stride of 2 one.
    let row = 5 * 8;
    b.gap(2 * row);
    let wide = b.tensor_at(b.arena, shape(17, 5, 8), 9);
    b.gap(rows as usize * row);
    let narrow = b.tensor_at(b.arena, shape(9, 3, 8), 9);
    b.gap(rows as usize / 2 * 3 * 8);
    let output = b.tensor_below(input, distance, shape(9, 3, 6), 9);
    b.stage(3, rows);
    b.conv_into(wide, &[input], &dense);
    b.conv_into(narrow, &[wide], &depthwise);
    b.conv_into(output, &[narrow], &pointwise);
    b.outputs = vec![output];
    b.finish()
}

/// A network in which every operator occurs, some of them in place.
pub fn every_operator() -> Vec<u8> {
    let mut b = Builder::default();
    let shape = |h, w, c| Shape { h, w, c };
    let image = b.tensor(shape(6, 6, 4), 3);
    b.inputs = vec![image];

    let formats = vec![
        (WeightFormat::Linear(4), Layout::Plain, 3),
        (WeightFormat::Codebook(3), Layout::Panels, 3),
        (WeightFormat::Linear(8), Layout::Panels, 2),
    ];
    let dense = ConvSpec::dense(shape(6, 6, 4), 8, 3, 1, WeightFormat::Linear(8), Layout::Plain);
    let conv = b.conv(image, &ConvProblem::new(ConvSpec { weights: formats, ..dense }));
    let depthwise = ConvSpec::depthwise(shape(6, 6, 8), 3, 1, WeightFormat::Linear(2), Layout::Panels);
    let depthwise = b.conv(conv, &ConvProblem::new(depthwise));
    let formats = vec![(WeightFormat::Linear(1), Layout::Planes, 5), (WeightFormat::Ternary, Layout::Planes, 3)];
    let pointwise = ConvSpec::dense(shape(6, 6, 8), 8, 1, 1, WeightFormat::Linear(1), Layout::Planes);
    let pointwise = b.conv(depthwise, &ConvProblem::new(ConvSpec { weights: formats, ..pointwise }));

    let sum = b.tensor_on(conv, shape(6, 6, 8), 9);
    let add = [&70_000i32.to_le_bytes()[..], &50_000i32.to_le_bytes(), &[17, 0, 255]].concat();
    b.layer(op::ADD, &[conv, pointwise], sum, &add);
    b.aux.extend((0..=255u8).map(|code| code.max(9)));
    let bent = b.tensor_on(sum, shape(6, 6, 8), 9);
    b.layer(op::LUT, &[sum], bent, &0u32.to_le_bytes());

    let joining = ConvSpec::dense(shape(6, 6, 8), 8, 3, 1, WeightFormat::Linear(4), Layout::Panels);
    let add = Add { ma: 30_000, mb: 20_000, zero_a: 9, zero_b: 9, zero: 9, shift: 15, lo: 3, hi: 250 };
    let joining = ConvProblem::new(ConvSpec { residual: Some(add), ..joining });
    let bent = b.conv_add(pointwise, bent, &joining);

    let pool = |pad: u8| [2, 0, 2, 0, 2, 2, pad, pad];
    let mean = b.tensor(shape(4, 4, 8), 9);
    let mult = (1i32 << 30).to_le_bytes();
    b.layer(op::AVG_POOL, &[bent], mean, &[&pool(1)[..], &mult, &[0, 0, 255]].concat());
    let highest = b.tensor(shape(3, 3, 8), 9);
    b.layer(op::MAX_POOL, &[bent], highest, &[&pool(0)[..], &[0, 255]].concat());
    let padded = b.tensor(shape(4, 4, 8), 9);
    b.layer(op::PAD, &[highest], padded, &[1, 0, 1, 0, 0, 0, 0, 0]);
    let joined = b.tensor(shape(4, 4, 16), 9);
    b.layer(op::CONCAT, &[mean, padded], joined, &16u32.to_le_bytes());
    let spread = b.tensor(shape(8, 8, 4), 9);
    b.layer(op::DEPTH_TO_SPACE, &[joined], spread, &[2, 1]);
    let turned = b.tensor(shape(4, 8, 8), 9);
    b.layer(op::TRANSPOSE, &[spread], turned, &[2, 0, 1]);

    let sparse = ConvSpec::dense(shape(4, 8, 8), 8, 1, 1, WeightFormat::Codebook(4), Layout::Sparse);
    let turned = b.conv(turned, &ConvProblem::new(ConvSpec { numbers: Numbers::OneOf(3), ..sparse }));

    let table = |b: &mut Builder, entries: &[u16]| {
        let at = b.aux.len() as u32;
        b.aux.extend(entries.iter().flat_map(|v| v.to_le_bytes()));
        at.to_le_bytes()
    };
    let (rows, columns) = (table(&mut b, &[0, 2]), table(&mut b, &[1, 4, 7]));
    let picked = b.tensor(shape(2, 3, 8), 9);
    b.layer(op::RESIZE_NEAREST, &[turned], picked, &[rows, columns].concat());
    let rows = table(&mut b, &[0, 1, 0, 0, 1, 128, 1, 1, 256]);
    let columns = table(&mut b, &[0, 1, 64, 1, 2, 200]);
    let mixed = b.tensor(shape(3, 2, 8), 9);
    b.layer(op::RESIZE_BILINEAR, &[picked], mixed, &[rows, columns].concat());
    let probabilities = b.tensor(shape(3, 2, 8), 0);
    b.layer(op::SOFTMAX, &[mixed], probabilities, &(1u32 << 25).to_le_bytes());
    b.outputs = vec![probabilities, joined];
    b.finish()
}
