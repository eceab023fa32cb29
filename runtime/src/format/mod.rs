//! The blob, version 1: what the compiler writes and the runtime reads, to the byte.
//!
//! Goals, in order: safe to read from an untrusted source (every offset is checked once, by
//! [`Model::parse`](crate::Model::parse)); small (a layer costs about 60 bytes beside its weights,
//! biases and multipliers); usable in place from flash or a mapped file, at any 4-byte aligned address
//! (64-byte for full speed); the same bytes for the same network.
//!
//! All numbers are little-endian. Offsets count bytes from the start of the blob unless said otherwise.
//!
//! ```text
//! 0        header, 64 bytes
//! tensors  n_tensors records of 20 bytes
//! io       n_inputs + n_outputs tensor indices, u16 each, padded to 4
//! layers   n_layers records of varying length, each a multiple of 4, and one in front of each stage
//! names    a length byte and UTF-8 text for each layer; may be absent (offset 0)
//! meta     UTF-8 JSON for host tools (preprocessing, provenance); the runtime never reads it
//! aux      tables of the operators that need them (Lut, Resize)
//! channels i32 array, 4-byte aligned: biases, then multipliers, of each weighted layer
//! weights  packed codes, 64-byte aligned where there are 8-bit or sparse groups, else 4-byte aligned
//! ```
//!
//! # Header
//! ```text
//!  0 magic "PARE"       16 arena_bytes u32     32 io offset u32        48 channels offset u32
//!  4 version u16 (1)    20 n_tensors u16       36 layers offset u32    52 weights offset u32
//!  6 layout u16         22 n_layers u16        40 names offset u32     56 meta offset u32
//!  8 blob_bytes u32     24 n_inputs u16        44 aux offset u32       60 meta bytes u32
//! 12 crc32 u32          26 n_outputs u16       28 reserved u32 (0)
//! ```
//! `crc32` (IEEE, reflected) covers the bytes from 16 to the end. Tensors follow the header at 64.
//! `layout` is the widest [`Layout`] that a layer uses; a runtime that does not know it refuses the blob.
//!
//! # Tensor
//! ```text
//! 0 offset in the arena u32   8 c u32        16 bits u8        18 zero u8
//! 4 h u16    6 w u16         12 scale f32    17 storage u8     19 rank u8
//! ```
//! `real = scale * (code - zero)`, code in `0 ..= 2^bits - 1`, one byte a code (`storage` 8; narrower
//! storage is reserved). Elements are `[h][w][c]`, c innermost; a tensor of lower rank is aligned to
//! the right, so that `[features]` is (1, 1, features). No kernel reads `scale`.
//!
//! # Layer
//! ```text
//! 0 op u8   1 n_inputs u8   2 record bytes u16   4 scratch offset in the arena u32
//! 8 output tensor u16   10 input tensors u16 x n_inputs, padded to 4, then the operator's fields
//! ```
//! Layers run in the order of the records. A layer's output may lie on the very bytes of its first
//! input where the operator allows that (Add, Lut), and must lie on those of a Conv's second one;
//! otherwise inputs, output and scratch are disjoint.
//!
//! | op | fields |
//! |---|---|
//! | 1 Conv | kh u16, kw u16, stride rows u8, columns u8, dilation rows u8, columns u8, pad top u8, left u8, pre u8, lo u8, hi u8, n_groups u8, channel_groups u16, channels index u32, then n_groups weight groups, then a residual if there is a second operand |
//! | 2 Add | ma i32, mb i32, shift u8, lo u8, hi u8, 0 |
//! | 3 AvgPool | kh u16, kw u16, stride rows u8, columns u8, pad top u8, left u8, mult i32, pre u8, lo u8, hi u8, 0 |
//! | 4 MaxPool | kh u16, kw u16, stride rows u8, columns u8, pad top u8, left u8, lo u8, hi u8, 0, 0 |
//! | 5 Lut | table offset in aux u32 (2^bits of the input bytes) |
//! | 6 Softmax | mult u32 |
//! | 7 Concat | outer u32 |
//! | 8 Pad | top u16, left u16, front (channels before) u16, 0 u16 |
//! | 9 Transpose | perm u8 x 3, 0 |
//! | 10 ResizeNearest | rows offset in aux u32 (u16 a row), columns offset in aux u32 |
//! | 11 ResizeBilinear | rows offset in aux u32 ({low u16, high u16, frac u16} a row), columns offset u32 |
//! | 12 DepthToSpace | block u8, order u8, 0, 0 |
//!
//! # Stage
//! In front of the layers of a stage, and not one of the `n_layers` itself:
//! ```text
//! 0 13 u8   1 layers u8   2 record bytes u16 (8)   4 rows u32
//! ```
//! The layers that follow, so many, run together in *bands*, so that of the tensors between them no more than a few
//! rows are there at a time. All are Convs; each reads what the one before it writes, which nothing else does; only the
//! last may add.
//! A layer computes `step` rows of its output in a band, `delay` rows later than the first: in band `k` from row
//! `step * k - delay` up to `step * (k + 1) - delay`, both at least 0 and at most the rows there are. The first
//! layer has a step of `rows` and a delay of 0. A layer whose input comes with step `s` and delay `d` has, its stride being
//! `t` rows, its windows spanning `r` and its padding `p` above, a step of `s / t`, which must be whole, and a delay of
//! `max(0, d + r - t - p) / t`, rounded up; it reads at most `max(0, t * delay + p - d)` rows of its input that
//! came in earlier bands. Bands follow one another until the last layer's output is complete.
//!
//! A tensor between two layers of a stage holds the rows of a band from its offset on, and in front of it
//! those of the bands before that are still read. After a layer has run, such rows of its input are moved there.
//!
//! The output of a stage may overlap its input if nothing is written where rows lie that will be read: see
//! [`StageEnds::distance`]. Such a stage may have a single layer.
//!
//! A weight group is a run of output channels whose weights are coded alike:
//! ```text
//! 0 format u8   1 layout u8   2 output channels u16   4 data offset in weights u32
//! ```
//! `channels index` counts i32 entries in the channels section: `c_out` biases, then `c_out`
//! multipliers. A fully connected layer is a 1x1 Conv on (rows, 1, k).
//!
//! A Conv with a second operand adds to it what it computes, and its output lies on that operand's bytes:
//! ```text
//! 0 ma i32   4 mb i32   8 shift u8   9 lo u8   10 hi u8   11 zero u8
//! ```
//! What the weights give becomes a code with this zero point between the Conv's own `lo` and `hi`; it is
//! the second operand of an Add whose first is the Conv's second, `ma`, `mb`, `shift`, `lo` and `hi` being those
//! of the Add. So the result is to the bit that of a Conv and an Add, but no tensor lies between them.
//!
//! # Weight formats
//! A weight format is a decoder from a b-bit code to a small signed integer (a *level*):
//!
//! | byte | format | level of code q |
//! |---|---|---|
//! | 0x01 | binary | 2q - 1 |
//! | 0x02 | odd levels, 2 bits | 2q - 3 |
//! | 0x03..=0x08 | linear, b = low nibble | q as b-bit two's complement |
//! | 0x12 | ternary, 2 bits | q as 2-bit two's complement, -1..=1 (-2 decodes as -2) |
//! | 0x22..=0x24 | codebook, b = low nibble | entry q (i8) of the 16-byte table that precedes the codes |
//! | 0x3_ | nested | reserved |
//!
//! Codes are packed little-endian: code `i` of a stream takes the bits `i*b .. i*b+b`, lowest first.
//!
//! # Layouts
//! A layout orders the codes of a weight group. `K` weights of one output channel are `s` *segments* of
//! `l` codes that meet contiguous activations: for a dense convolution without column dilation a
//! segment is one kernel row (`s = kh, l = kw * c`), with column dilation one tap (`s = kh * kw, l = c`),
//! for 1x1 and fully connected everything (`s = 1, l = c`). `c` counts the channels of one channel group.
//!
//! * [`Layout::Plain`]: channel after channel, `s * l` codes each, every channel starting on a byte.
//!   The only layout of convolutions with `1 < channel_groups < c_in` and of depthwise multipliers.
//! * [`Layout::Panels`], dense: panels of 16 output channels; within a panel, segment after segment, each
//!   padded to a multiple of 4, `l4` being `l` rounded up. A panel is a sequence of `T = s * l4 / 4` *steps* of
//!   64 codes: the code of channel `o`, segment position `i` is code `j = o % 16 * 4 + i % 4` of step
//!   `t = (seg * l4 + i) / 4`. Where `b` is 1, 2 or 4, `f = 8 / b` successive steps *interleave* in 64 bytes: byte
//!   `j` holds code `j` of each of them, of the first in its lowest bits. So code `j` of step `t` is number
//!   `(t / f * 64 + j) * f + t % f` of the stream if `t < T / f * f`. The last `T % f` steps, and all steps
//!   at other widths, are in sequence: number `t * 64 + j`. One stream a panel.
//! * [`Layout::Panels`], depthwise (`channel_groups == c_in == c_out`): panels of 16 channels; code of
//!   channel `o`, tap `t` at `t * 16 + o % 16`. One stream a panel.
//! * [`Layout::Words`], dense: pairs of output channels. The `K` weights of a channel, padded to a multiple of 4,
//!   are taken four at a time, those of one channel of the pair after those of the other: the code of channel `o`,
//!   weight `k` is number `(k / 4 * 2 + o % 2) * 4 + k % 4`. One stream a pair. At 8 bits the channels of a pair lie
//!   side by side, number `k / 4 * 8 + k % 2 * 4 + k % 4 / 2 * 2 + o % 2`, and codes of the first have their highest bit
//!   inverted: as bytes without a sign they are levels that count from -128.
//! * [`Layout::Words`], depthwise: quads of 4 channels, two taps at a time: code of channel `o`, tap `t` at
//!   `t / 2 * 8 + o % 4 / 2 * 4 + t % 2 * 2 + o % 2`. One stream a quad, of an even number of taps.
//! * [`Layout::Planes`], dense, formats 0x01, 0x02 and 0x12: panels of 16 output channels; within a panel, segment
//!   after segment as in [`Layout::Panels`], but for each tap's channels, which are padded to a multiple of 8, and the
//!   segment's codes, to a multiple of 32: `w` *words* of 32 codes. The code of channel `o`, position `i` of segment
//!   `s`, where `t = s * w + i / 32`, is number `((t * b + i % b) * 16 + o % 16) * 32 / b + i % 32 / b` of the panel's
//!   stream: so 32 codes of 16 channels are 64 bytes, or of two bits 64 bytes of the even ones and 64 of the odd ones.
//!
//! * [`Layout::Vectors`], dense: quads of output channels, *vectors* of 16 codes of each of them in turn. The weights of
//!   a channel are in the order (kernel column, kernel row, input channel), padded to a multiple of 16; code `k` of
//!   channel `o` is code `k % 16` of vector `k / 16 * 4 + o % 4`. Where `b` is 1, 2 or 4, `f = 8 / b` successive vectors
//!   interleave in 16 bytes as the steps of a dense panel do in 64. Codes of 8 bits have their highest bit inverted:
//!   as bytes without a sign they are levels that count from -128. One stream a quad.
//! * [`Layout::Vectors`], depthwise: as [`Layout::Panels`], depthwise.
//!
//! * [`Layout::Sparse`], dense, formats with a level 0, `K` at most 2^16: panels of 16 output channels, of each the weights
//!   that are not 0. A *step* has 64 slots, slots `o % 16 * 4 .. + 4` being of channel `o`; a slot is a code and an
//!   index, and stands for weight `base + index` of its channel, `base` being the step's and weights in the order (kernel
//!   row, kernel column, input channel). A channel's weight is the sum of the levels of its slots, 0 if there is none;
//!   slots without a weight hold level 0. A panel is a sequence of steps, a multiple of 4. The data of a group:
//!   u32 a panel, a quarter of the number of steps up to its end; u16 a step, its base; zeros up to a multiple of 64,
//!   counted from the start of the group's data, the codebook included; 64 bytes a step, its indices; the codes of all
//!   steps, the stream of a panel after that of another, each as that of a dense panel in [`Layout::Panels`] of as many steps.
//!
//! Missing channels and padding positions hold code 0, which is level 0 in format 0x08: kernels multiply those
//! panels and pairs as they lie; in [`Layout::Vectors`], stored bits of 0, which as bytes without a sign are 0. In the other formats a kernel must not let them count. Panels of
//! any width are whole bytes (16 codes), and data of a group begins at a multiple of 64 when its format
//! is 0x08 or its layout [`Layout::Sparse`], and of 4 otherwise.
//!
//! # Limits
//! [`Model::parse`](crate::Model::parse) refuses what no compiler writes, so that kernels need not expect it:
//! * `lo <= hi`, both codes of the output; entries of a Lut codes of the output; an operator that moves codes
//!   (MaxPool apart, which clamps) to a tensor of fewer bits than it reads;
//! * windows that reach more than 255 positions beyond the far edge of the input; pools with a window that
//!   misses the input, or of more than 2^23 positions;
//! * padding of dense panels, pairs and quads of format 0x08 that is not 0; codes beyond a segment of bit planes that are
//!   not 0;
//! * bases of sparse weights beyond `K - 64` and not 0, indices of 64 or of `K` and more, panels that end before those in
//!   front of them;
//! * a stage whose layers do not follow from one another, or whose tensors meet in the arena;
//! * a weight group of a wider layout than the header's, channel counts that do not add up, records whose
//!   length is no multiple of 4.
//!
//! A blob can still ask for more work than its host likes: see [`Model::work`](crate::Model::work).
//!
//! # Arithmetic
//! Sums wrap in i32 (the compiler proves that they do not). See [`crate::requant`] for the rounding high
//! multiply, and [`crate::kernels::reference`] for each operator.

use core::fmt;

mod crc;
mod layer;
mod pace;
mod part;
mod read;
mod records;
mod sparse;

pub use crc::crc32;
pub use layer::{
    Add, AvgPool, Conv, DepthToSpace, Layer, LayerOp, MaxPool, Pad, Pool, Requantise, Resize, WeightGroup, WeightGroups,
};
pub use pace::{Pace, StageEnds};
pub use part::Part;
pub use records::{Header, Shape, Tensor};
pub use sparse::{SPARSE_DEPTH, SPARSE_STEPS, SPARSE_WINDOW, Sparse, SparsePanel};

pub(crate) use layer::{Record, Sections};
pub(crate) use read::Reader;
pub(crate) use sparse::{indices_at, sparse_bytes};

/// First bytes of every blob.
pub const MAGIC: [u8; 4] = *b"PARE";
/// The version this runtime reads and the compiler writes.
pub const VERSION: u16 = 1;
/// Size of the header.
pub const HEADER_BYTES: usize = 64;
/// Size of a tensor record.
pub const TENSOR_BYTES: usize = 20;
/// Size of the record in front of a stage.
pub const STAGE_BYTES: usize = 8;
/// Alignment of the data of 8-bit and of sparse groups, within the weights section and of it.
pub const SECTION_ALIGN: usize = 64;
/// Bytes of the level table in front of the codes of a codebook group.
pub const CODEBOOK_BYTES: usize = 16;
/// Output channels of a panel of [`Layout::Panels`].
pub const PANEL_CHANNELS: usize = 16;
/// Consecutive codes of one channel in a dense panel of [`Layout::Panels`].
pub const PANEL_DEPTH: usize = 4;

/// Codes of a step of a dense panel of [`Layout::Panels`].
pub const PANEL_STEP: usize = PANEL_CHANNELS * PANEL_DEPTH;

/// Consecutive codes of one channel in a panel of [`Layout::Planes`].
pub const PLANE_WORD: usize = 32;

/// Codes of one channel, or of one tap, that follow one another in [`Layout::Words`].
pub const WORD_CODES: usize = 4;
/// Output channels of a dense stream of [`Layout::Words`].
pub const WORD_CHANNELS: usize = 2;

/// Consecutive codes of one channel in a dense stream of [`Layout::Vectors`].
pub const VECTOR_CODES: usize = 16;
/// Output channels of a dense stream of [`Layout::Vectors`].
pub const VECTOR_CHANNELS: usize = 4;

/// Operator codes.
pub mod op {
    #![allow(missing_docs, reason = "the names are those of the table in the module above")]
    pub const CONV: u8 = 1;
    pub const ADD: u8 = 2;
    pub const AVG_POOL: u8 = 3;
    pub const MAX_POOL: u8 = 4;
    pub const LUT: u8 = 5;
    pub const SOFTMAX: u8 = 6;
    pub const CONCAT: u8 = 7;
    pub const PAD: u8 = 8;
    pub const TRANSPOSE: u8 = 9;
    pub const RESIZE_NEAREST: u8 = 10;
    pub const RESIZE_BILINEAR: u8 = 11;
    pub const DEPTH_TO_SPACE: u8 = 12;
    pub const STAGE: u8 = 13;
}

/// How a stored code becomes a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// 1..=8 bits, see the table in the module's documentation.
    Linear(u8),
    /// {-1, 0, +1} in 2 bits.
    Ternary,
    /// 2..=4 bits into a table of levels.
    Codebook(u8),
}

impl WeightFormat {
    /// Every format there is.
    pub const ALL: [WeightFormat; 12] = [
        WeightFormat::Linear(1),
        WeightFormat::Linear(2),
        WeightFormat::Linear(3),
        WeightFormat::Linear(4),
        WeightFormat::Linear(5),
        WeightFormat::Linear(6),
        WeightFormat::Linear(7),
        WeightFormat::Linear(8),
        WeightFormat::Ternary,
        WeightFormat::Codebook(2),
        WeightFormat::Codebook(3),
        WeightFormat::Codebook(4),
    ];

    /// The format behind a byte of the blob.
    pub const fn from_byte(byte: u8) -> Option<WeightFormat> {
        match byte {
            0x01..=0x08 => Some(WeightFormat::Linear(byte)),
            0x12 => Some(WeightFormat::Ternary),
            0x22..=0x24 => Some(WeightFormat::Codebook(byte & 0x0f)),
            _ => None,
        }
    }

    /// The byte that stands for it in the blob.
    pub const fn to_byte(self) -> u8 {
        match self {
            WeightFormat::Linear(bits) => bits,
            WeightFormat::Ternary => 0x12,
            WeightFormat::Codebook(bits) => 0x20 | bits,
        }
    }

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        match self {
            WeightFormat::Linear(bits) | WeightFormat::Codebook(bits) => bits as u32,
            WeightFormat::Ternary => 2,
        }
    }

    /// Steps that interleave in a dense panel of [`Layout::Panels`], and vectors in [`Layout::Vectors`]: as many codes
    /// as fit a byte exactly, else 1.
    pub const fn interleaved(self) -> usize {
        match self.bits() {
            bits @ (1 | 2 | 4) => 8 / bits as usize,
            _ => 1,
        }
    }

    /// Whether [`Layout::Planes`] exists for it.
    pub const fn has_planes(self) -> bool {
        matches!(self, WeightFormat::Linear(1 | 2) | WeightFormat::Ternary)
    }

    /// Whether [`Layout::Sparse`] exists for it: whether a level can be 0.
    pub const fn has_zero(self) -> bool {
        !matches!(self, WeightFormat::Linear(1 | 2))
    }

    /// The level of `code` (its low [`bits`](Self::bits) count), `codebook` being the group's table.
    #[inline]
    pub fn level(self, code: u8, codebook: &[i8]) -> i8 {
        match self {
            WeightFormat::Linear(1) => 2 * (code & 1) as i8 - 1,
            WeightFormat::Linear(2) => 2 * (code & 3) as i8 - 3,
            WeightFormat::Linear(bits) => sign_extend(code, bits),
            WeightFormat::Ternary => sign_extend(code, 2),
            WeightFormat::Codebook(_) => codebook.get(usize::from(code)).copied().unwrap_or(0),
        }
    }
}

/// `w4`, `t`, `k3`: linear, ternary, codebook, as in policies and kernel names.
impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightFormat::Linear(bits) => write!(f, "w{bits}"),
            WeightFormat::Ternary => f.write_str("t"),
            WeightFormat::Codebook(bits) => write!(f, "k{bits}"),
        }
    }
}

#[inline]
const fn sign_extend(code: u8, bits: u8) -> i8 {
    let unused = 8u32.wrapping_sub(bits as u32) & 7;
    ((code << unused) as i8) >> unused
}

/// Order of the codes of a weight group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Layout {
    /// Channel after channel.
    Plain = 0,
    /// Panels of 16 channels, 4 codes deep.
    Panels = 1,
    /// Pairs of channels, a word of codes each at a time. (2 was another layout of few bits, which bit planes replaced.)
    Words = 3,
    /// Panels of 16 channels, 32 codes deep.
    Planes = 4,
    /// Quads of channels, 16 codes of each at a time. (5 is free: it is a flipped bit away from 4, which the checksum does
    /// not cover.)
    Vectors = 6,
    /// Panels of 16 channels, zeros left out. (Two flipped bits away from all others.)
    Sparse = 10,
}

impl Layout {
    /// The layout behind a number of the blob.
    pub const fn from_number(number: u16) -> Option<Layout> {
        match number {
            0 => Some(Layout::Plain),
            1 => Some(Layout::Panels),
            3 => Some(Layout::Words),
            4 => Some(Layout::Planes),
            6 => Some(Layout::Vectors),
            10 => Some(Layout::Sparse),
            _ => None,
        }
    }

    /// What the data of a group begins at a multiple of.
    pub const fn alignment(self, format: WeightFormat) -> usize {
        match (self, format) {
            (Layout::Sparse, _) | (_, WeightFormat::Linear(8)) => SECTION_ALIGN,
            _ => 4,
        }
    }

    /// The number that stands for it in the blob.
    pub const fn number(self) -> u16 {
        self as u16
    }
}
