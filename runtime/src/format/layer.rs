//! A layer record as the kernels take it: shapes, numbers and borrowed tables.

use super::{
    CODEBOOK_BYTES, Layout, PANEL_CHANNELS, PANEL_DEPTH, PLANE_WORD, Reader, SPARSE_DEPTH, Shape, TENSOR_BYTES, Tensor,
    VECTOR_CHANNELS, VECTOR_CODES, WORD_CHANNELS, WORD_CODES, WeightFormat, op, sparse,
};
use crate::error::{Detail, FormatError};
use crate::kernels::KernelSet;

/// One step of a network.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// What it computes.
    pub op: LayerOp<'a>,
    /// Its first operand.
    pub input: Tensor,
    /// Its result.
    pub output: Tensor,
    /// First byte of its scratch memory in the arena.
    pub scratch: usize,
    /// Little-endian tensor indices of all operands.
    pub(crate) operands: &'a [u8],
}

/// The operators, with everything a kernel needs besides the activations.
#[derive(Clone, Copy, Debug)]
pub enum LayerOp<'a> {
    /// Convolution of any kind, perhaps with a sum; fully connected is 1x1 on (rows, 1, k).
    Conv(Conv<'a>),
    /// Sum of two tensors of one shape.
    Add(Add),
    /// Mean over windows.
    AvgPool(AvgPool),
    /// Maximum over windows.
    MaxPool(MaxPool),
    /// `output = table[input]`.
    Lut(&'a [u8]),
    /// Softmax over the channels; the number is [`softmax`](crate::kernels::reference::softmax)'s `mult`.
    Softmax(u32),
    /// Joins the operands: `outer` rounds of one run of bytes from each.
    Concat {
        /// Rounds.
        outer: usize,
    },
    /// Surrounds with zero points.
    Pad(Pad),
    /// Output extent `i` is input extent `perm[i]`, extents being (h, w, c).
    Transpose([u8; 3]),
    /// Picks pixels.
    ResizeNearest(Resize<'a>),
    /// Mixes pixels.
    ResizeBilinear(Resize<'a>),
    /// Channels into space.
    DepthToSpace(DepthToSpace),
}

/// How an accumulator becomes a code; see [`crate::requant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requantise {
    /// Left shift before the high multiply, 0..=31.
    pub pre: u8,
    /// Zero point of the output.
    pub zero: u8,
    /// Lowest code that may come out.
    pub lo: u8,
    /// Highest code that may come out.
    pub hi: u8,
}

/// A convolution.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// Extents of the input.
    pub input: Shape,
    /// Extents of the output.
    pub output: Shape,
    /// Kernel rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Rows above, columns to the left that read as `zero_in`; so do those beyond the other edges.
    pub pad: [usize; 2],
    /// Channel groups.
    pub groups: usize,
    /// Width of the input's codes: results rest on none having more bits, safety does not.
    pub bits_in: u8,
    /// Zero point of the input.
    pub zero_in: u8,
    /// One an output channel, zero points folded in.
    pub bias: &'a [i32],
    /// One an output channel.
    pub mult: &'a [i32],
    /// From accumulator to code.
    pub requantise: Requantise,
    /// What becomes of the code: it is the second operand of this sum. The first lies where the output will lie.
    pub residual: Option<Add>,
    /// Records of the weight groups.
    records: &'a [u8],
    /// The weights section.
    weights: &'a [u8],
}

/// A run of output channels coded alike.
#[derive(Clone, Copy, Debug)]
pub struct WeightGroup<'a> {
    /// First output channel.
    pub first: usize,
    /// Number of output channels.
    pub channels: usize,
    /// Coding.
    pub format: WeightFormat,
    /// Order of the codes.
    pub layout: Layout,
    /// Levels of a codebook format, 16 of them; empty otherwise.
    pub codebook: &'a [i8],
    /// The packed codes, exactly as many bytes as the layout takes.
    pub codes: &'a [u8],
}

/// Operand scaling of an addition; see [`crate::kernels::reference::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add {
    /// Multiplier of the first operand.
    pub ma: i32,
    /// Multiplier of the second operand.
    pub mb: i32,
    /// Zero point of the first operand.
    pub zero_a: u8,
    /// Zero point of the second operand.
    pub zero_b: u8,
    /// Zero point of the output.
    pub zero: u8,
    /// Right shift of the sum, 1..=31.
    pub shift: u8,
    /// Lowest code that may come out.
    pub lo: u8,
    /// Highest code that may come out.
    pub hi: u8,
}

/// The window of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Extents of the input.
    pub input: Shape,
    /// Extents of the output.
    pub output: Shape,
    /// Window rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows above, columns to the left.
    pub pad: [usize; 2],
}

/// Average pooling.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool {
    /// Extents.
    pub window: Pool,
    /// Zero point of the input.
    pub zero_in: u8,
    /// Multiplier of the sum over a full window.
    pub mult: i32,
    /// From sum to code.
    pub requantise: Requantise,
}

/// Maximum pooling; input and output share one code.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// Extents.
    pub window: Pool,
    /// Lowest code that may come out.
    pub lo: u8,
    /// Highest code that may come out.
    pub hi: u8,
}

/// Zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Extents of the input.
    pub input: Shape,
    /// Extents of the output.
    pub output: Shape,
    /// Rows above.
    pub top: usize,
    /// Columns before.
    pub left: usize,
    /// Channels before.
    pub front: usize,
    /// What the surroundings hold.
    pub value: u8,
}

/// Where each output row and column reads.
#[derive(Clone, Copy, Debug)]
pub struct Resize<'a> {
    /// Extents of the input.
    pub input: Shape,
    /// Extents of the output.
    pub output: Shape,
    /// A u16 (nearest) or three (bilinear) an output row.
    rows: &'a [u8],
    /// The same for the columns.
    columns: &'a [u8],
}

/// Depth to space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthToSpace {
    /// Extents of the input.
    pub input: Shape,
    /// Extents of the output.
    pub output: Shape,
    /// Edge of a block.
    pub block: usize,
    /// Whether channel `(k * b + dy) * b + dx` is read (CRD) rather than `(dy * b + dx) * c + k` (DCR).
    pub channel_first: bool,
}

impl<'a> Conv<'a> {
    /// A convolution with its weights elsewhere than in a blob, for tests and benches: `records` and
    /// `weights` as in the format. `None` when the groups do not add up to the output channels or a
    /// group lies outside `weights`.
    pub fn with_weights(self, records: &'a [u8], weights: &'a [u8]) -> Option<Conv<'a>> {
        let conv = Conv { records, weights, ..self };
        conv.check_groups().ok().map(|()| conv)
    }

    /// A 1x1 convolution of one channel without weights, for tests and benches to build others from.
    pub const EMPTY: Conv<'static> = Conv {
        input: Shape { h: 1, w: 1, c: 1 },
        output: Shape { h: 1, w: 1, c: 1 },
        kernel: [1; 2],
        stride: [1; 2],
        dilation: [1; 2],
        pad: [0; 2],
        groups: 1,
        bits_in: 8,
        zero_in: 0,
        bias: &[],
        mult: &[],
        requantise: Requantise { pre: 0, zero: 0, lo: 0, hi: 255 },
        residual: None,
        records: &[],
        weights: &[],
    };

    /// Whether every channel has its own filter.
    pub const fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.input.c && self.groups == self.output.c
    }

    /// Input channels that one output channel reads.
    pub const fn group_inputs(&self) -> usize {
        match self.groups {
            // Without the division that most convolutions have no need of.
            0 | 1 => self.input.c,
            groups => self.input.c / groups,
        }
    }

    /// Weights of one output channel.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn depth(&self) -> usize {
        self.kernel[0].saturating_mul(self.kernel[1]).saturating_mul(self.group_inputs())
    }

    /// Segments of contiguous activations that an output channel reads, and the length of each.
    pub const fn segments(&self) -> (usize, usize) {
        let [kh, kw] = self.kernel;
        let c = self.group_inputs();
        if self.groups == 1 && self.dilation[1] == 1 { (kh, kw.saturating_mul(c)) } else { (kh.saturating_mul(kw), c) }
    }

    /// Bits of a segment of a plane in [`Layout::Planes`]: a kernel row without column dilation, else a tap.
    pub const fn plane_segment(&self) -> usize {
        let taps = if self.dilation[1] == 1 { self.kernel[1] } else { 1 };
        taps.saturating_mul(self.group_inputs().div_ceil(8)).saturating_mul(8)
    }

    /// Segments of an output channel in [`Layout::Planes`], and words of 32 bits of each.
    pub const fn plane_segments(&self) -> (usize, usize) {
        let [kh, kw] = self.kernel;
        let segments = if self.dilation[1] == 1 { kh } else { kh.saturating_mul(kw) };
        (segments, self.plane_segment().div_ceil(PLANE_WORD))
    }

    /// Bytes that the codes of `channels` output channels take in a layout; 0 in [`Layout::Sparse`], where that depends on
    /// the weights: see [`Packing::bytes`](crate::sparse::Packing::bytes).
    #[inline]
    pub const fn packed_bytes(&self, channels: usize, format: WeightFormat, layout: Layout) -> usize {
        let bits = format.bits() as usize;
        match layout {
            Layout::Sparse => 0,
            Layout::Plain => channels.saturating_mul(self.depth().saturating_mul(bits).div_ceil(8)),
            Layout::Vectors if !self.is_depthwise() => {
                let vectors = self.depth().div_ceil(VECTOR_CODES).saturating_mul(VECTOR_CHANNELS);
                channels.div_ceil(VECTOR_CHANNELS).saturating_mul(vectors).saturating_mul(VECTOR_CODES / 8 * bits)
            }
            Layout::Panels | Layout::Vectors => {
                let (segments, len) = self.segments();
                let depth = if self.is_depthwise() {
                    self.depth()
                } else {
                    segments.saturating_mul(len.div_ceil(PANEL_DEPTH)).saturating_mul(PANEL_DEPTH)
                };
                channels.div_ceil(PANEL_CHANNELS).saturating_mul(depth).saturating_mul(PANEL_CHANNELS / 8 * bits)
            }
            Layout::Planes => {
                let (segments, words) = self.plane_segments();
                let steps = segments.saturating_mul(words).saturating_mul(PANEL_CHANNELS * PLANE_WORD / 8 * bits);
                channels.div_ceil(PANEL_CHANNELS).saturating_mul(steps)
            }
            Layout::Words => {
                let (together, codes) = if self.is_depthwise() {
                    (WORD_CODES, self.depth().div_ceil(2).saturating_mul(2 * WORD_CODES))
                } else {
                    (WORD_CHANNELS, self.depth().div_ceil(WORD_CODES).saturating_mul(WORD_CODES * WORD_CHANNELS))
                };
                channels.div_ceil(together).saturating_mul(codes / 8).saturating_mul(bits)
            }
        }
    }

    /// The layout that all weight groups share, if they do.
    #[inline]
    pub fn layout(&self) -> Option<Layout> {
        let (records, _) = self.records.as_chunks::<8>();
        let (first, rest) = records.split_first()?;
        let shared = rest.iter().all(|record| record[1] == first[1]);
        Layout::from_number(first[1].into()).filter(|_| shared)
    }

    /// The weight groups, in channel order.
    #[inline]
    pub fn weight_groups(&self) -> WeightGroups<'_, 'a> {
        WeightGroups { conv: self, at: 0, first: 0 }
    }

    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    fn group(&self, index: usize, first: usize) -> Result<Option<WeightGroup<'a>>, FormatError> {
        let Some(record) = self.records.get(index * 8..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Ok(None);
        };
        let r = Reader(record);
        let bad = FormatError::Layer(Detail::WeightGroup);
        let format = r.u8(0).and_then(WeightFormat::from_byte).ok_or(bad)?;
        let layout = r.u8(1).and_then(|l| Layout::from_number(l.into())).ok_or(bad)?;
        if !KernelSet::LINKED.has_layout(layout) {
            return Err(FormatError::NotLinked);
        }
        let channels = usize::from(r.u16(2).ok_or(bad)?);
        let mut at = r.u32(4).ok_or(bad)? as usize;
        let align = layout.alignment(format);
        let fits_layout = match layout {
            Layout::Plain => true,
            Layout::Panels | Layout::Words | Layout::Vectors => self.groups == 1 || self.is_depthwise(),
            Layout::Planes => self.groups == 1 && format.has_planes(),
            Layout::Sparse => self.groups == 1 && format.has_zero() && self.depth() <= SPARSE_DEPTH,
        };
        if channels == 0 || !at.is_multiple_of(align) || !fits_layout {
            return Err(bad);
        }
        let weights = Reader(self.weights);
        let mut codebook: &[i8] = &[];
        if let WeightFormat::Codebook(_) = format {
            codebook = bytemuck::cast_slice(weights.bytes(at, CODEBOOK_BYTES).ok_or(bad)?);
            at += CODEBOOK_BYTES;
        }
        let codes = match layout {
            Layout::Sparse => sparse::data(weights, at, format, channels),
            _ => weights.bytes(at, self.packed_bytes(channels, format, layout)),
        };
        let codes = codes.ok_or(bad)?;
        Ok(Some(WeightGroup { first, channels, format, layout, codebook, codes }))
    }

    /// Multiply-accumulates of one run.
    pub const fn macs(&self) -> u64 {
        (self.output.len() as u64).saturating_mul(self.depth() as u64)
    }

    fn check_groups(&self) -> Result<(), FormatError> {
        let (mut index, mut first) = (0, 0);
        while let Some(group) = self.group(index, first)? {
            if !KernelSet::LINKED.has_group(self, group.format, group.layout) {
                return Err(FormatError::NotLinked);
            }
            (index, first) = (index + 1, first + group.channels);
        }
        if first == self.output.c { Ok(()) } else { Err(FormatError::Layer(Detail::GroupChannels)) }
    }

    /// That a group has no wider layout than the header owns up to, and 0 in the padding that kernels multiply or count.
    fn check_group(&self, group: &WeightGroup<'_>, widest: u16) -> Result<(), FormatError> {
        if group.layout.number() > widest {
            return Err(FormatError::Layout(group.layout.number()));
        }
        if !self.is_dense_padding_clear(group) {
            return Err(FormatError::Layer(Detail::WeightPadding));
        }
        if !self.is_plane_padding_clear(group) {
            return Err(FormatError::Layer(Detail::PlanePadding));
        }
        if KernelSet::LINKED.has_dense(Layout::Sparse) { group.check_sparse(self.depth()) } else { Ok(()) }
    }

    /// Whether the padding of dense panels and pairs of 8 bits is of level 0, since kernels multiply it.
    fn is_dense_padding_clear(&self, group: &WeightGroup<'_>) -> bool {
        let linked = |layout| KernelSet::LINKED.has_dense(layout);
        // Runs of codes that are padded, to a multiple of what, and channels that are padded at once.
        let (len, codes, channels) = match group.layout {
            _ if self.is_depthwise() || group.format != WeightFormat::Linear(8) => return true,
            Layout::Panels if linked(Layout::Panels) => (self.segments().1, PANEL_DEPTH, PANEL_CHANNELS),
            // Four codes of two channels, in the order 0, 2, 1, 3.
            Layout::Words if linked(Layout::Words) => {
                let counted = self.depth() % WORD_CODES;
                let stream = self.packed_bytes(WORD_CHANNELS, group.format, group.layout);
                let is_clear = |step: &[u8; WORD_CODES * WORD_CHANNELS]| {
                    let codes = step.as_chunks::<WORD_CHANNELS>().0.iter().zip([0, 2, 1, 3]);
                    codes.into_iter().all(|(&pair, k)| k < counted || pair == [0x80, 0])
                };
                let mut streams = group.codes.chunks_exact(stream.max(1));
                return counted == 0 || streams.all(|stream| stream.last_chunk().is_some_and(is_clear));
            }
            Layout::Vectors if linked(Layout::Vectors) => (self.depth(), VECTOR_CODES, VECTOR_CHANNELS),
            _ => return true,
        };
        let (steps, counted, step) = (len.div_ceil(codes), len % codes, codes * channels);
        let is_clear = |run: &[u8]| {
            let last = run.get(run.len().saturating_sub(step)..).unwrap_or(&[]);
            last.iter().zip((0..codes).cycle()).all(|(&code, i)| i < counted || code == 0)
        };
        counted == 0 || group.codes.chunks_exact(step.saturating_mul(steps).max(1)).all(is_clear)
    }

    /// Whether kernels take its geometry: channels add up, and windows stay near the input.
    fn check_geometry(&self) -> Result<(), FormatError> {
        let stands = [self.kernel, self.stride, self.dilation].as_flattened().contains(&0) || self.records.is_empty();
        let (extents, outs) = ([self.input.h, self.input.w], [self.output.h, self.output.w]);
        #[allow(clippy::indexing_slicing, reason = "k is an axis, 0 or 1, of arrays of two")]
        let near = |k: usize| {
            let window = (self.kernel[k] - 1) * self.dilation[k] + 1;
            reaches(outs[k], self.stride[k], window, self.pad[k], extents[k])
        };
        if stands || !self.is_divisible() || !(near(0) && near(1)) {
            return Err(FormatError::Layer(Detail::ConvGeometry));
        }
        Ok(())
    }

    /// Whether the codes beyond each segment of bit planes are 0, since kernels count them.
    fn is_plane_padding_clear(&self, group: &WeightGroup<'_>) -> bool {
        if !KernelSet::LINKED.has_dense(Layout::Planes) || group.layout != Layout::Planes {
            return true;
        }
        let (_, words) = self.plane_segments();
        let counted = self.plane_segment() % PLANE_WORD;
        let bits = group.format.bits() as usize;
        let last = group.codes.chunks_exact(PANEL_CHANNELS * PLANE_WORD / 8).skip((words - 1) * bits);
        // Of two bits the words of even codes and those of odd ones take turns.
        let padded = |(index, step): (usize, &[u8])| {
            let used = counted.saturating_sub(index % bits).div_ceil(bits) * bits;
            let lanes = step.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word));
            index % (words * bits) >= bits
                || lanes.into_iter().all(|word| word.checked_shr(used as u32).unwrap_or(0) == 0)
        };
        counted == 0 || last.enumerate().all(padded)
    }

    /// Whether the channel groups are of one size.
    #[inline]
    fn is_divisible(&self) -> bool {
        match self.groups {
            0 => false,
            1 => true,
            groups => self.input.c.is_multiple_of(groups) && self.output.c.is_multiple_of(groups),
        }
    }

    /// Whether no extent of the kernel is 0 and the channels are whole: a bias and a multiplier each, and a
    /// weight group for every one. True of all that come out of a blob, but the fields are public.
    pub(crate) fn is_whole(&self) -> bool {
        let c_out = self.output.c;
        let steps = self.kernel.iter().chain(&self.stride).chain(&self.dilation).all(|&step| step > 0);
        steps
            && self.is_divisible()
            && self.bias.len() == c_out
            && self.mult.len() == c_out
            && self.check_groups().is_ok()
    }
}

impl Add {
    /// Whether it gives codes of `output`, by a shift that there is.
    fn is_sound(&self, output: &Tensor) -> bool {
        (1..=31).contains(&self.shift) && codes_of(output, self.lo, self.hi)
    }
}

impl WeightGroup<'_> {
    /// The largest magnitude of its levels, whichever of them it uses.
    pub fn largest_level(&self) -> u32 {
        match self.format {
            WeightFormat::Linear(1) => 1,
            WeightFormat::Linear(2) => 3,
            WeightFormat::Linear(bits) => 1 << (bits.wrapping_sub(1) & 7),
            WeightFormat::Ternary => 2,
            WeightFormat::Codebook(bits) => {
                let levels = self.codebook.iter().take(1 << (bits & 7));
                levels.map(|level| level.unsigned_abs().into()).max().unwrap_or(0)
            }
        }
    }
}

/// Iterator over the weight groups of a convolution.
#[derive(Clone, Debug)]
pub struct WeightGroups<'c, 'a> {
    conv: &'c Conv<'a>,
    at: usize,
    first: usize,
}

impl<'a> Iterator for WeightGroups<'_, 'a> {
    type Item = WeightGroup<'a>;

    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    fn next(&mut self) -> Option<WeightGroup<'a>> {
        let group = self.conv.group(self.at, self.first).ok()??;
        self.at += 1;
        self.first += group.channels;
        Some(group)
    }
}

impl Resize<'_> {
    /// Every source is inside the input, and a weight at most 256; entries hold 1 number or 3.
    fn check(&self, numbers: usize) -> Result<(), FormatError> {
        let inside = |table: &[u8], size: usize| {
            let mut entries = table.chunks_exact(2 * numbers).map(Reader);
            let below = |v: Option<u16>, bound: usize| v.is_some_and(|v| usize::from(v) < bound);
            entries.all(|e| below(e.u16(0), size) && (numbers == 1 || (below(e.u16(2), size) && below(e.u16(4), 257))))
        };
        if inside(self.rows, self.input.h) && inside(self.columns, self.input.w) {
            Ok(())
        } else {
            Err(FormatError::Layer(Detail::ResizeTable))
        }
    }

    /// Nearest: the input row of output row `y`.
    pub fn row(&self, y: usize) -> usize {
        Reader(self.rows).u16(2 * y).unwrap_or(0).into()
    }

    /// Nearest: the input column of output column `x`.
    pub fn column(&self, x: usize) -> usize {
        Reader(self.columns).u16(2 * x).unwrap_or(0).into()
    }

    /// Bilinear: the two input rows of output row `y`, and the weight of the second in 1/256.
    pub fn row_mix(&self, y: usize) -> (usize, usize, i32) {
        mix(self.rows, y)
    }

    /// Bilinear: the two input columns of output column `x`, and the weight of the second in 1/256.
    pub fn column_mix(&self, x: usize) -> (usize, usize, i32) {
        mix(self.columns, x)
    }
}

fn mix(table: &[u8], i: usize) -> (usize, usize, i32) {
    let part = |k: usize| Reader(table).u16(6 * i + 2 * k).unwrap_or(0);
    (part(0).into(), part(1).into(), part(2).into())
}

/// What a record may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sections<'a> {
    /// The tensor records.
    pub(crate) tensors: &'a [u8],
    pub(crate) aux: &'a [u8],
    pub(crate) channels: &'a [i32],
    pub(crate) weights: &'a [u8],
}

impl Sections<'_> {
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn tensor(&self, index: u16) -> Option<Tensor> {
        Tensor::read(self.tensors, usize::from(index) * TENSOR_BYTES)
    }
}

impl Layer<'_> {
    /// What decoding leaves out, since it is done at every run: the geometry of convolutions, and what takes time in
    /// proportion to a table's length. `widest` is the number of the widest layout that there may be.
    pub(crate) fn check(&self, widest: u16) -> Result<(), FormatError> {
        match &self.op {
            LayerOp::Conv(p) => {
                p.check_geometry()?;
                p.check_groups()?;
                p.weight_groups().try_for_each(|group| p.check_group(&group, widest))
            }
            LayerOp::Lut(table) if linked(op::LUT) && table.iter().any(|&code| code > self.output.max_code()) => {
                Err(FormatError::Layer(Detail::LutCode))
            }
            LayerOp::ResizeNearest(p) if linked(op::RESIZE_NEAREST) => p.check(1),
            LayerOp::ResizeBilinear(p) if linked(op::RESIZE_BILINEAR) => p.check(3),
            _ => Ok(()),
        }
    }

    /// An upper bound of the elements that a run of this layer touches, each window counted in full.
    pub fn work(&self) -> u64 {
        let window = |p: &Pool| (p.kernel[0].min(p.input.h) as u64).saturating_mul(p.kernel[1].min(p.input.w) as u64);
        let each = match &self.op {
            LayerOp::Conv(p) => p.depth() as u64,
            LayerOp::AvgPool(p) => window(&p.window),
            LayerOp::MaxPool(p) => window(&p.window),
            _ => 1,
        };
        (self.output.shape.len() as u64).saturating_mul(each.max(1))
    }
}

/// A layer's record: what all layers have, and where the fields of its operator are.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    code: u8,
    pub(crate) input: Tensor,
    pub(crate) output: Tensor,
    pub(crate) scratch: usize,
    operands: &'a [u8],
    fields: Reader<'a>,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, and its length.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn read(bytes: &'a [u8], sections: &Sections<'a>) -> Result<(Record<'a>, usize), FormatError> {
        let cut = FormatError::Truncated(Detail::LayerRecords);
        // What every record has: up to its first operand.
        let r = Reader(bytes.first_chunk::<12>().ok_or(cut)?);
        let (code, n_inputs) = (r.u8(0).ok_or(cut)?, usize::from(r.u8(1).ok_or(cut)?));
        let (record_bytes, scratch) = (usize::from(r.u16(2).ok_or(cut)?), r.u32(4).ok_or(cut)? as usize);
        let (output, input) = (r.u16(8).ok_or(cut)?, r.u16(10).ok_or(cut)?);
        let record = Reader(bytes.get(..record_bytes).ok_or(cut)?);
        let operands = record.bytes(10, 2 * n_inputs).ok_or(cut)?;
        let fields = Reader(record.0.get((10 + 2 * n_inputs).next_multiple_of(4)..).ok_or(cut)?);
        let missing = FormatError::Layer(Detail::TensorIndex);
        let (output, input) = (sections.tensor(output).ok_or(missing)?, sections.tensor(input).ok_or(missing)?);
        let operands_fit = match code {
            op::CONV => matches!(n_inputs, 1 | 2),
            op::ADD => n_inputs == 2,
            op::CONCAT => n_inputs > 0,
            _ => n_inputs == 1,
        };
        if !operands_fit || !record_bytes.is_multiple_of(4) {
            return Err(FormatError::Layer(Detail::Operands));
        }
        Ok((Record { code, input, output, scratch, operands, fields }, record_bytes))
    }

    /// The convolution that it is, if it is one: apart, since most layers are, and they are decoded at every run.
    #[inline(always)]
    pub(crate) fn conv(&self, sections: &Sections<'a>) -> Option<Conv<'a>> {
        match self.code {
            op::CONV => self.decode_conv(sections).ok(),
            _ => None,
        }
    }

    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[cfg_attr(target_os = "none", inline(never))]
    fn decode_conv(&self, sections: &Sections<'a>) -> Result<Conv<'a>, FormatError> {
        let residual = match Reader(self.operands).u16(2) {
            None => None,
            Some(index) => Some(sections.tensor(index).ok_or(FormatError::Layer(Detail::TensorIndex))?),
        };
        decode_conv(self.fields, &self.input, residual.as_ref(), &self.output, sections)
    }

    /// The layer. What takes next to no time is checked; with [`Layer::check`], that is everything a kernel relies
    /// on, except where tensors lie in the arena.
    pub(crate) fn layer(&self, sections: &Sections<'a>) -> Result<Layer<'a>, FormatError> {
        let Record { code, input, output, scratch, operands, fields } = *self;
        let op = match code {
            op::CONV => LayerOp::Conv(self.decode_conv(sections)?),
            _ => decode_op(code, fields, &input, &output, operands, sections)?,
        };
        Ok(Layer { op, input, output, scratch, operands })
    }
}

/// Any operator but convolution.
fn decode_op<'a>(
    code: u8,
    f: Reader<'a>,
    input: &Tensor,
    output: &Tensor,
    operands: &[u8],
    sections: &Sections<'a>,
) -> Result<LayerOp<'a>, FormatError> {
    match code {
        op::ADD if linked(op::ADD) => {
            let second = Reader(operands).u16(2).and_then(|t| sections.tensor(t)).ok_or(CUT)?;
            let add = Add {
                ma: f.i32(0).ok_or(CUT)?,
                mb: f.i32(4).ok_or(CUT)?,
                zero_a: input.zero,
                zero_b: second.zero,
                zero: output.zero,
                shift: f.u8(8).ok_or(CUT)?,
                lo: f.u8(9).ok_or(CUT)?,
                hi: f.u8(10).ok_or(CUT)?,
            };
            let shaped = second.shape == input.shape && output.shape == input.shape;
            if !shaped || !add.is_sound(output) {
                return Err(FormatError::Layer(Detail::Add));
            }
            Ok(LayerOp::Add(add))
        }
        op::AVG_POOL if linked(op::AVG_POOL) => Ok(LayerOp::AvgPool(AvgPool {
            window: decode_pool(f, input, output)?,
            zero_in: input.zero,
            mult: f.i32(8).ok_or(CUT)?,
            requantise: requantise(f, 12, output)?,
        })),
        op::MAX_POOL if linked(op::MAX_POOL) => {
            let (lo, hi) = (f.u8(8).ok_or(CUT)?, f.u8(9).ok_or(CUT)?);
            if !codes_of(output, lo, hi) {
                return Err(FormatError::Layer(Detail::MaxPoolRange));
            }
            Ok(LayerOp::MaxPool(MaxPool { window: decode_pool(f, input, output)?, lo, hi }))
        }
        op::LUT if linked(op::LUT) => {
            let table = Reader(sections.aux).bytes(f.u32(0).ok_or(CUT)? as usize, usize::from(input.max_code()) + 1);
            let table = table.ok_or(FormatError::Layer(Detail::LutTable))?;
            if output.shape.len() != input.shape.len() {
                return Err(FormatError::Layer(Detail::LutShapes));
            }
            Ok(LayerOp::Lut(table))
        }
        op::SOFTMAX if linked(op::SOFTMAX) => {
            if output.shape != input.shape || output.bits != 8 {
                return Err(FormatError::Layer(Detail::SoftmaxShapes));
            }
            Ok(LayerOp::Softmax(f.u32(0).ok_or(CUT)?))
        }
        op::CONCAT if linked(op::CONCAT) => decode_concat(f, output, operands, sections),
        op::PAD if linked(op::PAD) => {
            let [top, left, front] = [f.u16(0), f.u16(2), f.u16(4)].map(|v| v.map(usize::from));
            let (top, left, front) = (top.ok_or(CUT)?, left.ok_or(CUT)?, front.ok_or(CUT)?);
            let (i, o) = (input.shape, output.shape);
            let fits = top + i.h <= o.h && left + i.w <= o.w && front.saturating_add(i.c) <= o.c;
            if !fits || !carries(input, output) {
                return Err(FormatError::Layer(Detail::Pad));
            }
            Ok(LayerOp::Pad(Pad { input: i, output: o, top, left, front, value: input.zero }))
        }
        op::TRANSPOSE if linked(op::TRANSPOSE) => {
            let perm: [u8; 3] = f.0.first_chunk().copied().ok_or(CUT)?;
            let (i, o) = (input.shape, output.shape);
            let (from, to) = ([i.h, i.w, i.c], [o.h, o.w, o.c]);
            let mut sorted = perm;
            sorted.sort_unstable();
            let moved = |k: usize| perm.get(k).and_then(|&p| from.get(usize::from(p)));
            if sorted != [0, 1, 2] || (0..3).any(|k| moved(k) != to.get(k)) || !carries(input, output) {
                return Err(FormatError::Layer(Detail::Transpose));
            }
            Ok(LayerOp::Transpose(perm))
        }
        op::RESIZE_NEAREST if linked(op::RESIZE_NEAREST) => {
            decode_resize(f, input, output, sections, 1).map(LayerOp::ResizeNearest)
        }
        op::RESIZE_BILINEAR if linked(op::RESIZE_BILINEAR) => {
            decode_resize(f, input, output, sections, 3).map(LayerOp::ResizeBilinear)
        }
        op::DEPTH_TO_SPACE if linked(op::DEPTH_TO_SPACE) => {
            let block = usize::from(f.u8(0).ok_or(CUT)?);
            let order = f.u8(1).ok_or(CUT)?;
            let (i, o) = (input.shape, output.shape);
            let deep = o.c.checked_mul(block * block) == Some(i.c);
            let wide = o.h == i.h * block && o.w == i.w * block;
            if block == 0 || order > 1 || !deep || !wide || !carries(input, output) {
                return Err(FormatError::Layer(Detail::DepthToSpace));
            }
            Ok(LayerOp::DepthToSpace(DepthToSpace { input: i, output: o, block, channel_first: order == 1 }))
        }
        op::CONV..=op::DEPTH_TO_SPACE => Err(FormatError::NotLinked),
        op::STAGE if !KernelSet::LINKED.has_operator(op::STAGE) => Err(FormatError::NotLinked),
        _ => Err(FormatError::UnknownOp(code)),
    }
}

const fn linked(code: u8) -> bool {
    KernelSet::LINKED.has_operator(code)
}

/// Bytes of a convolution's fields before the records of its weight groups.
const CONV_BYTES: usize = 20;

const CUT: FormatError = FormatError::Truncated(Detail::LayerRecord);

/// Whether `lo..=hi` is a range of codes of the tensor.
fn codes_of(tensor: &Tensor, lo: u8, hi: u8) -> bool {
    lo <= hi && hi <= tensor.max_code()
}

/// Whether every code of one tensor is a code of the other, for operators that move codes.
fn carries(from: &Tensor, to: &Tensor) -> bool {
    from.bits <= to.bits
}

/// Whether the windows along an axis reach at most 255 positions beyond the far edge, as they do beyond the
/// near one: no network needs more, and it bounds windows and outputs by the input.
fn reaches(out: usize, stride: usize, window: usize, pad: usize, size: usize) -> bool {
    let last = (out.max(1) - 1).saturating_mul(stride);
    last.saturating_add(window) <= size.saturating_add(pad).saturating_add(usize::from(u8::MAX))
}

#[inline(always)]
fn decode_conv<'a>(
    f: Reader<'a>,
    input: &Tensor,
    residual: Option<&Tensor>,
    output: &Tensor,
    sections: &Sections<'a>,
) -> Result<Conv<'a>, FormatError> {
    let (fixed, records) = f.0.split_first_chunk::<CONV_BYTES>().ok_or(CUT)?;
    // Of a length that is known, so that no read has to be checked.
    let f = Reader(fixed);
    let byte = |at: usize| f.u8(at).map(usize::from).ok_or(CUT);
    let kernel = [f.u16(0).ok_or(CUT)?.into(), f.u16(2).ok_or(CUT)?.into()];
    let n_groups = byte(13)?;
    let groups = usize::from(f.u16(14).ok_or(CUT)?);
    let index = f.u32(16).ok_or(CUT)? as usize;
    let c_out = output.shape.c;
    let per_channel = |from: usize| sections.channels.get(from..from.checked_add(c_out)?);
    let missing = FormatError::Layer(Detail::BiasIndex);
    let (requantise, residual) = match residual {
        None => (requantise(f, 10, output)?, None),
        Some(_) if !KernelSet::LINKED.has_residual() => return Err(FormatError::NotLinked),
        Some(operand) => {
            let (requantise, add) = decode_residual(f, records.get(8 * n_groups..).ok_or(CUT)?, operand, output)?;
            (requantise, Some(add))
        }
    };
    Ok(Conv {
        input: input.shape,
        output: output.shape,
        kernel,
        stride: [byte(4)?, byte(5)?],
        dilation: [byte(6)?, byte(7)?],
        pad: [byte(8)?, byte(9)?],
        groups,
        bits_in: input.bits,
        zero_in: input.zero,
        bias: per_channel(index).ok_or(missing)?,
        mult: index.checked_add(c_out).and_then(per_channel).ok_or(missing)?,
        requantise,
        residual,
        records: records.get(..8 * n_groups).ok_or(CUT)?,
        weights: sections.weights,
    })
}

/// The requantisation of a Conv that adds, whose code has no tensor, and the sum.
#[inline(never)]
fn decode_residual(
    conv: Reader<'_>,
    fields: &[u8],
    operand: &Tensor,
    output: &Tensor,
) -> Result<(Requantise, Add), FormatError> {
    let f = Reader(fields);
    let byte = |at: usize| f.u8(at).ok_or(CUT);
    let summand = Tensor { zero: byte(11)?, bits: 8, ..*output };
    let requantise = requantise(conv, 10, &summand)?;
    let add = Add {
        ma: f.i32(0).ok_or(CUT)?,
        mb: f.i32(4).ok_or(CUT)?,
        zero_a: operand.zero,
        zero_b: summand.zero,
        zero: output.zero,
        shift: byte(8)?,
        lo: byte(9)?,
        hi: byte(10)?,
    };
    if operand.shape != output.shape || !add.is_sound(output) {
        return Err(FormatError::Layer(Detail::Residual));
    }
    Ok((requantise, add))
}

#[cfg_attr(not(target_os = "none"), inline)]
#[cfg_attr(target_os = "none", inline(never))]
fn requantise(f: Reader<'_>, at: usize, output: &Tensor) -> Result<Requantise, FormatError> {
    let [pre, lo, hi] = [f.u8(at), f.u8(at + 1), f.u8(at + 2)];
    let requantise = Requantise { pre: pre.ok_or(CUT)?, zero: output.zero, lo: lo.ok_or(CUT)?, hi: hi.ok_or(CUT)? };
    if requantise.pre > 31 || !codes_of(output, requantise.lo, requantise.hi) {
        return Err(FormatError::Layer(Detail::Requantisation));
    }
    Ok(requantise)
}

fn decode_pool(f: Reader<'_>, input: &Tensor, output: &Tensor) -> Result<Pool, FormatError> {
    let byte = |at: usize| f.u8(at).map(usize::from).ok_or(CUT);
    let pool = Pool {
        input: input.shape,
        output: output.shape,
        kernel: [f.u16(0).ok_or(CUT)?.into(), f.u16(2).ok_or(CUT)?.into()],
        stride: [byte(4)?, byte(5)?],
        pad: [byte(6)?, byte(7)?],
    };
    let (extents, outs) = ([input.shape.h, input.shape.w], [output.shape.h, output.shape.w]);
    // Every window meets the input, so that a mean has a count and a maximum an element.
    #[allow(clippy::indexing_slicing, reason = "k is an axis, 0 or 1, of arrays of two")]
    let meets = |k: usize| {
        let (out, size) = (outs[k], extents[k]);
        let last = (out.max(1) - 1).saturating_mul(pool.stride[k]);
        let near = reaches(out, pool.stride[k], pool.kernel[k], pool.pad[k], size);
        near && pool.kernel[k] > pool.pad[k] && last < size.saturating_add(pool.pad[k])
    };
    // A sum over 2^23 codes is sure to fit in i32.
    let small = pool.kernel[0].saturating_mul(pool.kernel[1]) <= 1 << 23;
    let shaped = pool.input.c == pool.output.c && pool.stride.iter().all(|&s| s > 0);
    if small && shaped && meets(0) && meets(1) { Ok(pool) } else { Err(FormatError::Layer(Detail::PoolGeometry)) }
}

fn decode_concat<'a>(
    f: Reader<'a>,
    output: &Tensor,
    operands: &[u8],
    sections: &Sections<'a>,
) -> Result<LayerOp<'a>, FormatError> {
    let outer = f.u32(0).ok_or(CUT)? as usize;
    let bad = FormatError::Layer(Detail::Concat);
    let mut total = 0usize;
    for i in 0..operands.len() / 2 {
        let tensor = Reader(operands).u16(2 * i).and_then(|t| sections.tensor(t)).ok_or(bad)?;
        let len = tensor.shape.len();
        if outer == 0 || !len.is_multiple_of(outer) || !carries(&tensor, output) {
            return Err(bad);
        }
        total = total.saturating_add(len);
    }
    if total == output.shape.len() { Ok(LayerOp::Concat { outer }) } else { Err(bad) }
}

fn decode_resize<'a>(
    f: Reader<'a>,
    input: &Tensor,
    output: &Tensor,
    sections: &Sections<'a>,
    entries: usize,
) -> Result<Resize<'a>, FormatError> {
    let bad = FormatError::Layer(Detail::Resize);
    let table = |at: usize, extent: usize| {
        let offset = f.u32(at).ok_or(CUT)? as usize;
        Reader(sections.aux).bytes(offset, 2 * entries * extent).ok_or(bad)
    };
    let (i, o) = (input.shape, output.shape);
    let resize = Resize { input: i, output: o, rows: table(0, o.h)?, columns: table(4, o.w)? };
    if i.c == o.c && carries(input, output) { Ok(resize) } else { Err(bad) }
}
