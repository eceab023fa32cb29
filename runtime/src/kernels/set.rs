//! Which kernels networks want, and which of them are linked.
//!
//! A program for a microcontroller has flash for the kernels of its own networks alone. The build of this crate reads
//! those networks where the environment variable `PARE_NETWORKS` names their blobs (paths, separated as in `PATH`), and
//! [`KernelSet::LINKED`] is what they want: a constant, so that branches to all other kernels are never compiled.
//! Dispatch asks it wherever kernels part; [`Model::parse`](crate::Model::parse) refuses layers that want more. Without
//! the variable, and on hosts in any case, everything is linked.
//!
//! (One constant of the build rather than a parameter of types: C takes part in the same way, and no parameter
//! runs through every kernel.)

use super::polynomial::{Fields, Form};
use super::{Isa, scalar};
use crate::format::{Conv, HEADER_BYTES, Layout, Shape, TENSOR_BYTES, WeightFormat, op};

/// Kernels: those that a network wants, or those that are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSet {
    /// A bit for each operator, by its code.
    operators: u16,
    /// A bit for each weight format, by its place in [`WeightFormat::ALL`].
    formats: u16,
    /// A bit for each layout of dense convolutions, by its number; grouped ones count as dense.
    dense: u16,
    /// The same of depthwise ones.
    depthwise: u16,
    /// A bit for each form, fields and weight width of packed multiplication.
    packed: u16,
    /// 1 for convolutions that add.
    residual: u8,
    /// 1 for dense convolutions that are left to the portable kernels, 2 for depthwise ones.
    portable: u8,
}

/// As `build.rs` has written it down: the blobs of the networks that are linked for; none if for all.
const NETWORKS: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/networks.rs"));

#[cfg_attr(not(pare_dsp), allow(dead_code, reason = "some kernels ask less"))]
impl KernelSet {
    /// No kernels.
    pub const NONE: KernelSet =
        KernelSet { operators: 0, formats: 0, dense: 0, depthwise: 0, packed: 0, residual: 0, portable: 0 };

    /// All kernels there are.
    pub const ALL: KernelSet = KernelSet {
        operators: u16::MAX,
        formats: u16::MAX,
        dense: u16::MAX,
        depthwise: u16::MAX,
        packed: u16::MAX,
        residual: u8::MAX,
        portable: u8::MAX,
    };

    /// What this build links.
    pub const LINKED: KernelSet = {
        let mut linked = if NETWORKS.is_empty() { KernelSet::ALL } else { KernelSet::NONE };
        let mut networks = NETWORKS;
        while let Some((network, rest)) = networks.split_first() {
            linked = linked.union(KernelSet::of(network));
            networks = rest;
        }
        linked
    };

    /// Whether this build links less than everything.
    pub const IS_PARTIAL: bool = !NETWORKS.is_empty();

    /// What the network in a blob wants, at compile time as well as at run time; of other bytes, something.
    pub const fn of(blob: &[u8]) -> KernelSet {
        let mut set = KernelSet::NONE;
        let mut at = word(blob, 36);
        let mut layers = half(blob, 22);
        while layers > 0 {
            set = set.union(KernelSet::of_layer(blob, at));
            let bytes = half(blob, at.saturating_add(2));
            // A stage stands in front of its layers and is none; damaged, it is, or this would never end.
            let is_stage = byte(blob, at) == op::STAGE && bytes > 0;
            at = at.saturating_add(bytes);
            layers -= if is_stage { 0 } else { 1 };
        }
        set
    }

    /// Whether all of `other` are among them.
    pub const fn contains(self, other: KernelSet) -> bool {
        let both = self.union(other);
        both.operators == self.operators
            && both.formats == self.formats
            && both.dense == self.dense
            && both.depthwise == self.depthwise
            && both.packed == self.packed
            && both.residual == self.residual
            && both.portable == self.portable
    }

    /// Those of either.
    pub const fn union(self, other: KernelSet) -> KernelSet {
        KernelSet {
            operators: self.operators | other.operators,
            formats: self.formats | other.formats,
            dense: self.dense | other.dense,
            depthwise: self.depthwise | other.depthwise,
            packed: self.packed | other.packed,
            residual: self.residual | other.residual,
            portable: self.portable | other.portable,
        }
    }

    /// Whether an operator is among them.
    #[inline(always)]
    pub(crate) const fn has_operator(self, code: u8) -> bool {
        self.operators >> (code & 15) & 1 == 1
    }

    /// Whether weights of any of these formats are.
    #[inline(always)]
    pub(super) const fn has_format(self, formats: &[WeightFormat]) -> bool {
        let mut rest = formats;
        while let Some((&format, others)) = rest.split_first() {
            if self.formats & format_bit(format) != 0 {
                return true;
            }
            rest = others;
        }
        false
    }

    /// Whether weights of less than 8 bits are.
    #[inline(always)]
    pub(super) const fn has_narrow_formats(self) -> bool {
        self.formats & !format_bit(WeightFormat::Linear(8)) != 0
    }

    /// Whether convolutions of a layout are.
    #[inline(always)]
    pub(crate) const fn has_layout(self, layout: Layout) -> bool {
        let layouts = self.dense | self.depthwise;
        // Layout by layout, so that compilers know those that are left.
        match layout {
            Layout::Plain => layouts & (1 << Layout::Plain.number()) != 0,
            Layout::Panels => layouts & (1 << Layout::Panels.number()) != 0,
            Layout::Words => layouts & (1 << Layout::Words.number()) != 0,
            Layout::Planes => layouts & (1 << Layout::Planes.number()) != 0,
            Layout::Vectors => layouts & (1 << Layout::Vectors.number()) != 0,
            Layout::Sparse => layouts & (1 << Layout::Sparse.number()) != 0,
        }
    }

    /// Whether dense convolutions of a layout are.
    #[inline(always)]
    pub(crate) const fn has_dense(self, layout: Layout) -> bool {
        self.dense >> layout.number() & 1 == 1
    }

    /// Whether depthwise convolutions of a layout are.
    #[inline(always)]
    pub(crate) const fn has_depthwise(self, layout: Layout) -> bool {
        self.depthwise >> layout.number() & 1 == 1
    }

    /// Whether packed multiplication of a form and fields is, by weights of so many bits.
    #[inline(always)]
    pub(super) const fn has_packed(self, form: Form, fields: Fields, bits: u32) -> bool {
        self.packed & packed_bit(form, fields, bits) != 0
    }

    /// Whether packed multiplication of a form and fields is at all.
    #[inline(always)]
    pub(super) const fn has_form(self, form: Form, fields: Fields) -> bool {
        self.packed & (15 * packed_bit(form, fields, 1)) != 0
    }

    /// Whether the kernels of a weight group are; of weights that could be packed, but are not by any, the others.
    pub(crate) const fn has_group(self, conv: &Conv<'_>, format: WeightFormat, layout: Layout) -> bool {
        let wanted = KernelSet::of_group(conv, format, layout);
        let packed = if self.has_packing() { wanted.packed } else { 0 };
        self.contains(KernelSet { packed, ..wanted })
    }

    /// What a weight group wants.
    const fn of_group(conv: &Conv<'_>, format: WeightFormat, layout: Layout) -> KernelSet {
        let (own, bit) = (has_own_kernel(conv, layout), 1 << layout.number());
        let formats = format_bit(format);
        if conv.is_depthwise() {
            let portable = if own { 0 } else { PORTABLE_DEPTHWISE };
            return KernelSet { formats, depthwise: bit, portable, ..KernelSet::NONE };
        }
        let packed = match layout {
            Layout::Words => packed(Form::of(conv.kernel[1], conv.stride[1], conv.dilation[1]), format, conv.bits_in),
            _ => 0,
        };
        let portable = if own { 0 } else { PORTABLE_DENSE };
        KernelSet { formats, dense: bit, packed, portable, ..KernelSet::NONE }
    }

    /// Whether any packed multiplication is.
    #[inline(always)]
    pub(super) const fn has_packing(self) -> bool {
        self.packed != 0
    }

    /// Whether convolutions that add are.
    #[inline(always)]
    pub(crate) const fn has_residual(self) -> bool {
        self.residual != 0
    }

    /// Whether dense convolutions are that the portable kernels compute.
    #[inline(always)]
    pub(super) const fn has_portable_dense(self) -> bool {
        self.portable & PORTABLE_DENSE != 0
    }

    /// Whether any convolutions are that the portable kernels compute.
    #[inline(always)]
    pub(crate) const fn has_portable(self) -> bool {
        self.has_portable_dense() || self.has_portable_depthwise()
    }

    /// Whether depthwise convolutions are that the portable kernels compute.
    #[inline(always)]
    pub(super) const fn has_portable_depthwise(self) -> bool {
        self.portable & PORTABLE_DEPTHWISE != 0
    }

    /// What the layer whose record begins at `at` wants.
    const fn of_layer(blob: &[u8], at: usize) -> KernelSet {
        let code = byte(blob, at);
        let mut set = KernelSet { operators: 1 << (code & 15), ..KernelSet::NONE };
        if code != op::CONV {
            return set;
        }
        let operands = byte(blob, at.saturating_add(1)) as usize;
        set.residual = (operands > 1) as u8;
        let (output, input) = (tensor(blob, at.saturating_add(8)), tensor(blob, at.saturating_add(10)));
        let fields = at.saturating_add((10 + 2 * operands).next_multiple_of(4));
        let mut conv = Conv::EMPTY;
        (conv.input, conv.output) = (channels(blob, input), channels(blob, output));
        conv.kernel = [half(blob, fields), half(blob, fields.saturating_add(2))];
        conv.stride = bytes(blob, fields.saturating_add(4));
        conv.dilation = bytes(blob, fields.saturating_add(6));
        conv.groups = half(blob, fields.saturating_add(14));
        conv.bits_in = byte(blob, input + 16);
        let mut left = byte(blob, fields.saturating_add(13));
        let mut group = fields.saturating_add(20);
        while left > 0 {
            if let (Some(format), Some(layout)) = (
                WeightFormat::from_byte(byte(blob, group)),
                Layout::from_number(byte(blob, group.saturating_add(1)) as u16),
            ) {
                set = set.union(KernelSet::of_group(&conv, format, layout));
            }
            group = group.saturating_add(8);
            left -= 1;
        }
        set
    }
}

impl Isa {
    /// The one whose kernels are linked where that is not all of them, else this one.
    #[inline(always)]
    pub(super) const fn linked(self) -> Isa {
        match KernelSet::IS_PARTIAL {
            true if cfg!(pare_mve) => Isa::Helium,
            true if cfg!(pare_dsp) => Isa::Dsp,
            true if cfg!(target_pointer_width = "32") => Isa::Scalar,
            true => Isa::Portable,
            false => self,
        }
    }
}

/// Bits of [`KernelSet::portable`].
const PORTABLE_DENSE: u8 = 1;
const PORTABLE_DEPTHWISE: u8 = 2;

/// Whether the instruction set that is linked has a kernel of its own for a convolution; else it leaves it to the
/// portable ones.
const fn has_own_kernel(conv: &Conv<'_>, layout: Layout) -> bool {
    match layout {
        Layout::Plain => cfg!(not(pare_dsp)) && scalar::takes(conv),
        Layout::Words => cfg!(pare_dsp),
        Layout::Vectors => cfg!(pare_mve),
        Layout::Panels | Layout::Planes | Layout::Sparse => false,
    }
}

const fn format_bit(format: WeightFormat) -> u16 {
    match format {
        WeightFormat::Linear(bits) => 1 << (bits.wrapping_sub(1) & 7),
        WeightFormat::Ternary => 1 << 8,
        WeightFormat::Codebook(bits) => 1 << (7 + (bits & 7)),
    }
}

/// Of weights of 1 to 4 bits.
const fn packed_bit(form: Form, fields: Fields, bits: u32) -> u16 {
    let first = match (form, fields) {
        (Form::Taps, Fields::Ten) => 0,
        (Form::Taps, Fields::Fourteen) => 4,
        (Form::Filters, Fields::Ten) => 8,
        (Form::Filters, Fields::Fourteen) => 12,
    };
    1 << (first + (bits.wrapping_sub(1) & 3))
}

/// The bits of packed multiplication that may take such weights and codes; which fields it takes depends on extents too.
const fn packed(form: Form, format: WeightFormat, bits_in: u8) -> u16 {
    let (ten, fourteen) = (Fields::Ten, Fields::Fourteen);
    let ten = if ten.suit(form, format, bits_in) { packed_bit(form, ten, format.bits()) } else { 0 };
    ten | if fourteen.suit(form, format, bits_in) { packed_bit(form, fourteen, format.bits()) } else { 0 }
}

/// Where the record is of the tensor whose index is at `at`.
const fn tensor(blob: &[u8], at: usize) -> usize {
    HEADER_BYTES + TENSOR_BYTES * half(blob, at)
}

/// The channels of a tensor, by its record.
const fn channels(blob: &[u8], record: usize) -> Shape {
    Shape { h: 1, w: 1, c: word(blob, record + 8) }
}

const fn bytes(blob: &[u8], at: usize) -> [usize; 2] {
    [byte(blob, at) as usize, byte(blob, at.saturating_add(1)) as usize]
}

const fn word(blob: &[u8], at: usize) -> usize {
    half(blob, at) | half(blob, at.saturating_add(2)) << 16
}

const fn half(blob: &[u8], at: usize) -> usize {
    byte(blob, at) as usize | (byte(blob, at.saturating_add(1)) as usize) << 8
}

/// 0 beyond the end.
const fn byte(blob: &[u8], at: usize) -> u8 {
    if at < blob.len() { blob[at] } else { 0 }
}
