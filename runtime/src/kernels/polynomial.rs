//! The geometry of convolution by packed multiplication.
//!
//! Codes of few bits leave most of a 32 x 32 -> 64 bit multiplication idle. So several activations of a row of
//! pixels share one word, a *field* each, and several weights another: one multiply-accumulate (UMLAL) then does
//! all their products, and sums of products gather in the fields of the 64-bit result until the largest that there
//! may be would leave its field. The words are polynomials in 2^field; their product is
//!
//! * [`Form::Taps`]: a convolution, where the weights are taps of one filter along a row. The fields of neighbouring
//!   words overlap in the output and are added up there.
//! * [`Form::Filters`]: an outer product, where the weights are those of two filters at a distance beyond the last
//!   activation: for strides, 1x1 and dilation.
//!
//! Weights count from their lowest level, so that no field is ever negative: what that adds to an output is a
//! multiple of the sum of its window, the same for all filters. (Sub-byte operands in one multiplication: ULPPACK, Won et
//! al. 2022; SIMD within a register for convolution: MCU-MixQ, Gong et al. 2024.)

use super::scratch::{ALIGN, padded};
use crate::format::{Conv, Shape, WeightFormat};

/// Steps of the innermost loop that are written out, a block: runs are whole blocks.
pub(super) const UNROLLED: usize = 8;
/// Taps in a word of weights of [`Form::Taps`].
pub(super) const TAPS: usize = 3;
/// Words of activations, and of weights, that a tile multiplies: each by each.
pub(super) const TILE: usize = 2;
/// Steps, and windows, below which it takes more to pack and to empty words of [`Form::Filters`] than they save.
const FEWEST: usize = 32;
/// Bytes that input, output and a strip of packed activations take together, unless a strip takes `STRIP_BYTES`: layers
/// with small tensors have memory to spare, which those with large ones want.
const LAYER_BYTES: usize = 32768;
/// What they may take besides for each further word of a row of weights: pixels of a word are packed anew for each.
const WORD_BYTES: usize = 4096;
/// Bytes that a strip may take in any case, unless one row of windows takes more.
const STRIP_BYTES: usize = 8192;

/// What the weights of a word have to do with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Neighbouring taps of one filter.
    Taps,
    /// One tap of two filters.
    Filters,
}

impl Form {
    /// The one for a kernel of so many columns, and the stride and dilation of those.
    pub(super) const fn of(columns: usize, stride: usize, dilation: usize) -> Form {
        if columns > 1 && stride == 1 && dilation == 1 { Form::Taps } else { Form::Filters }
    }
}

/// Whether the kernel takes all weights of a convolution.
pub(super) fn takes(conv: &Conv<'_>) -> bool {
    conv.weight_groups().all(|group| Polynomial::of(conv, group.format).is_some())
}

/// How operands share a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fields {
    /// 10 bits: 4 activations by 3 taps, or 3 by 2 filters.
    Ten,
    /// 14 bits: 2 activations by 3 taps, or by 2 filters.
    Fourteen,
}

impl Fields {
    /// Bits of a field.
    pub(super) const fn bits(self) -> usize {
        match self {
            Fields::Ten => 10,
            Fields::Fourteen => 14,
        }
    }

    /// Activations in a word.
    pub(super) const fn activations(self, form: Form) -> usize {
        match (self, form) {
            (Fields::Ten, Form::Taps) => 4,
            (Fields::Ten, Form::Filters) => 3,
            (Fields::Fourteen, _) => 2,
        }
    }

    /// Whether fields have room for as many products as pay.
    pub(super) const fn suit(self, form: Form, format: WeightFormat, bits_in: u8) -> bool {
        let least = match self {
            Fields::Ten => 3 * UNROLLED,
            Fields::Fourteen => UNROLLED,
        };
        self.sure_steps(form, format, bits_in) >= least
    }

    /// What weights of codes may sum up to that meet in a field, each with an activation.
    const fn room(self, bits_in: u8) -> usize {
        let largest = (1 << if bits_in < 8 { bits_in } else { 8 }) - 1;
        match usize::checked_div((1 << self.bits()) - 1, largest) {
            Some(room) => room,
            None => 0,
        }
    }

    /// Steps that any weights have room for; 0 where the operands do not fit their words.
    const fn sure_steps(self, form: Form, format: WeightFormat, bits_in: u8) -> usize {
        let code_bits = match format {
            WeightFormat::Codebook(_) => return 0,
            _ => format.bits() as usize,
        };
        let bits_in_word = if bits_in < 8 { bits_in as usize } else { 8 };
        let (bits, activations) = (self.bits(), self.activations(form));
        let (weights, overlap) = match form {
            Form::Taps => ((TAPS - 1) * bits + code_bits, if activations < TAPS { activations } else { TAPS }),
            Form::Filters => (activations * bits + code_bits, 1),
        };
        if weights > 32 || (activations - 1) * bits + bits_in_word > 32 {
            return 0;
        }
        match self.room(bits_in).checked_div(overlap * ((1 << code_bits) - 1)) {
            Some(steps) => steps,
            None => 0,
        }
    }
}

/// How a convolution becomes packed multiplications.
#[cfg_attr(not(pare_dsp), allow(dead_code, reason = "for the kernel; the plan takes the total"))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Polynomial {
    /// How operands share a word.
    pub(super) fields: Fields,
    /// What shares a word of weights.
    pub(super) form: Form,
    /// Extents of the input and output as the kernel sees them: of a 1x1 convolution, rows are cut to any length.
    pub(super) input: Shape,
    /// See `input`.
    pub(super) output: Shape,
    /// Words of weights of a kernel row and one input channel.
    pub(super) words: usize,
    /// Multiplications of a tile's word by a word, in whole blocks of [`UNROLLED`].
    pub(super) steps: usize,
    /// Steps for which fields have room whatever the weights, whole blocks too.
    pub(super) sure_steps: usize,
    /// What the weights of a run may sum up to that meet in a field.
    room: usize,
    /// First column of the padded input that is packed: columns that hold 0 need not be.
    pub(super) first: usize,
    /// Tiles of a row.
    pub(super) tiles: usize,
    /// Output rows of a strip.
    pub(super) outputs: usize,
    /// Input rows of a strip.
    pub(super) rows: usize,
}

#[cfg_attr(not(pare_dsp), allow(dead_code, reason = "for the kernel; the plan takes the total"))]
impl Polynomial {
    /// `None` where no kernel does it.
    pub(super) fn of(conv: &Conv<'_>, format: WeightFormat) -> Option<Polynomial> {
        let [kh, kw] = conv.kernel;
        let pixels = conv.output.h.checked_mul(conv.output.w)?;
        if conv.groups != 1 || conv.dilation[0] != 1 || pixels < 4 {
            return None;
        }
        let form = Form::of(kw, conv.stride[1], conv.dilation[1]);
        let words = if form == Form::Taps { kw.div_ceil(TAPS) } else { kw };
        let steps = kh.checked_mul(words)?.checked_mul(conv.input.c)?;
        if form == Form::Filters && steps.min(pixels) < FEWEST {
            return None;
        }
        let (mut input, mut output) = (conv.input, conv.output);
        if [conv.kernel, conv.stride] == [[1; 2]; 2] && conv.pad == [0; 2] && input.h == output.h && input.w == output.w
        {
            // Whole tiles of either width of fields.
            let w = pixels.min(2 * TILE * 6);
            let h = pixels.div_ceil(w);
            (input, output) = (Shape { h, w, ..input }, Shape { h, w, ..output });
        }
        // Columns of the padded input beyond the input hold nothing if they hold 0.
        let (first, columns) = match form {
            Form::Taps => {
                let all = output.w + kw.min(TAPS) - 1;
                if conv.zero_in == 0 && words == 1 {
                    let first = conv.pad[1].min(TAPS - 1);
                    (first, all.min(conv.pad[1].checked_add(input.w)?).saturating_sub(first))
                } else {
                    (0, all)
                }
            }
            Form::Filters => (0, output.w),
        };
        let tiles = |fields: Fields| columns.div_ceil(TILE * fields.activations(form));
        // More activations in a word are worth fields that fill sooner, if they save tiles.
        let ten = Fields::Ten.suit(form, format, conv.bits_in) && tiles(Fields::Ten) < tiles(Fields::Fourteen);
        let fields = if ten { Fields::Ten } else { Fields::Fourteen };
        let sure_steps = fields.sure_steps(form, format, conv.bits_in) / UNROLLED * UNROLLED;
        let tiles = tiles(fields);
        if sure_steps == 0 || steps == 0 {
            return None;
        }
        let row = tiles.checked_mul(words)?.checked_mul(input.c)?.checked_mul(TILE * 4)?;
        let layer = LAYER_BYTES.saturating_add(words.saturating_sub(1).saturating_mul(WORD_BYTES));
        let strip = layer.saturating_sub(conv.input.len().saturating_add(conv.output.len())).max(STRIP_BYTES);
        let fitting = (strip / row.max(1)).saturating_sub(kh) / conv.stride[0].max(1);
        // As many strips as there must be, of equal size.
        let outputs = output.h.div_ceil(output.h.div_ceil(fitting.saturating_add(1)).max(1));
        Some(Polynomial {
            fields,
            form,
            input,
            output,
            words,
            steps: steps.next_multiple_of(UNROLLED),
            sure_steps,
            room: fields.room(conv.bits_in),
            first,
            tiles,
            outputs,
            rows: padded(conv, 0, outputs),
        })
    }

    /// Filters of a tile.
    pub(super) const fn filters(&self) -> usize {
        match self.form {
            Form::Taps => TILE,
            Form::Filters => 2 * TILE,
        }
    }

    /// Activations in a word.
    pub(super) const fn activations(&self) -> usize {
        self.fields.activations(self.form)
    }

    /// Sums before that of the first output of a row.
    pub(super) const fn skipped_sums(&self) -> usize {
        match self.form {
            Form::Taps => (TAPS - 1 - self.first) * TILE,
            Form::Filters => 0,
        }
    }

    /// Bytes of the pixels of a tile's words of activations.
    pub(super) const fn edge_bytes(&self) -> usize {
        (TILE * self.activations()).saturating_mul(self.input.c).next_multiple_of(4)
    }

    /// Multiplications of a row of a window.
    pub(super) const fn row_steps(&self) -> usize {
        self.words.saturating_mul(self.input.c)
    }

    /// Words of the packed activations of a strip, and of those that the last block may read beyond.
    pub(super) const fn activation_words(&self) -> usize {
        let steps = self.tiles.saturating_mul(self.rows).saturating_mul(self.row_steps());
        steps.saturating_add(UNROLLED).saturating_mul(TILE)
    }

    /// Words of the weights of a tile.
    pub(super) const fn weight_words(&self) -> usize {
        self.steps.saturating_mul(TILE)
    }

    /// Runs, after which fields must be emptied: as many as the worst of weights need.
    pub(super) const fn runs(&self) -> usize {
        match self.sure_steps {
            0 => 0,
            steps => self.steps.div_ceil(steps),
        }
    }

    /// Whether the fields have room for steps of which a word of weights sums up to this.
    pub(super) fn has_room(&self, sum: u64) -> bool {
        let bits = self.fields.bits();
        let mask = |width: usize| (1u64 << width) - 1;
        let most = match self.form {
            Form::Taps => {
                let [last, middle, first] = [0, 1, 2].map(|tap| sum >> (tap * bits) & mask(bits));
                if self.activations() < TAPS { middle + last.max(first) } else { last + middle + first }
            }
            Form::Filters => {
                let shift = self.activations() * bits;
                (sum & mask(shift)).max(sum >> shift)
            }
        };
        most <= self.room as u64
    }

    /// Columns of the sums of a row.
    pub(super) const fn columns(&self) -> usize {
        let tiled = self.tiled_columns();
        let needed = self.output.w.saturating_add(TAPS - 1);
        if tiled > needed { tiled } else { needed }
    }

    /// Those that tiles contribute to.
    pub(super) const fn tiled_columns(&self) -> usize {
        let overlap = match self.form {
            Form::Taps => TAPS - 1,
            Form::Filters => 0,
        };
        self.tiles.saturating_mul(TILE * self.activations()).saturating_add(overlap)
    }

    /// Words of the sums of a row.
    pub(super) const fn sum_words(&self) -> usize {
        self.columns().saturating_mul(self.filters())
    }

    /// Sums of the windows of a strip.
    pub(super) const fn windows(&self) -> usize {
        self.outputs.saturating_mul(self.output.w)
    }

    /// Sums of the pixels of a strip.
    pub(super) const fn pixel_sums(&self, conv: &Conv<'_>) -> usize {
        self.rows.saturating_mul(padded(conv, 1, self.output.w))
    }

    /// Bytes of the codes of a strip, where they are to be added to others.
    pub(super) fn code_bytes(&self, conv: &Conv<'_>) -> usize {
        match conv.residual {
            Some(_) => self.windows().saturating_mul(conv.output.c).next_multiple_of(4),
            None => 0,
        }
    }

    /// Bytes of all of it, and of what may be skipped before it.
    pub(super) fn scratch_bytes(&self, conv: &Conv<'_>) -> usize {
        // Sums of columns are gone before weights and sums come.
        let of_filters = self.weight_words().saturating_add(self.runs()).saturating_add(self.sum_words());
        let passing = of_filters.max(padded(conv, 1, self.output.w));
        let sums = self.pixel_sums(conv).saturating_add(self.windows());
        let words = self.activation_words().saturating_add(sums).saturating_add(passing);
        let bytes = self.edge_bytes().saturating_add(self.code_bytes(conv));
        words.saturating_mul(4).saturating_add(bytes).saturating_add(ALIGN)
    }
}
