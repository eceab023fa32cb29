//! The geometry of convolution by table look-up.
//!
//! Six bits of the weights of each of 64 output channels, a byte each, select from a table of 64 partial sums, which
//! six bits of activations select: one permutation of bytes stands for 64 sums of 3 (two bits a weight) or 6
//! products (one bit). The tables are few enough to lie ready, since they depend on the codes alone; what has to
//! be made for a pixel are its *indices*, six bits of its activations each. Sums of bytes are widened before
//! they overflow. (Tables over weight groups: T-MAC, Wei et al. 2024; over both operands: DeepGEMM, Ganji et al. 2023.)

use super::scratch::{ALIGN, padded};
use crate::format::{Conv, WeightFormat};

/// Bytes of the tables that one index selects from: 64 of 64.
pub(super) const TABLES: usize = 64 * 64;
/// Bytes of an index: where its table begins.
pub(super) const INDEX: usize = 2;
/// Bytes of a strip of indices, unless one row of windows takes more.
const STRIP_BYTES: usize = 8192;
/// The most look-ups of an output channel whose sums stay within 16 bits: one adds 54 at most (3 activations up to 3, levels -3 to 3).
pub const MOST_LOOKUPS: usize = u16::MAX as usize / 54;

/// How a convolution becomes look-ups.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for the loop nest; the plan takes the total"))]
pub(super) struct Lookups {
    /// Bits of an activation in an index: 1 or 2.
    pub(super) bits: usize,
    /// Indices whose tables are added up for a look-up: 1 or 2.
    pub(super) parts: usize,
    /// Look-ups of a tap of the kernel.
    pub(super) of_tap: usize,
    /// Pixels in a row of indices, padding included.
    pub(super) columns: usize,
    /// Rows of a strip of indices.
    pub(super) rows: usize,
    /// Rows of output that a strip serves.
    pub(super) outputs: usize,
}

impl Lookups {
    /// `None` where no kernel does it.
    pub(super) fn of(conv: &Conv<'_>, format: WeightFormat) -> Option<Lookups> {
        let depth = format.looked_up()?;
        if conv.groups != 1 || conv.bits_in > 2 || conv.lookups(format) > MOST_LOOKUPS {
            return None;
        }
        // An index never reaches over more channels than a look-up.
        let bits = usize::from(conv.bits_in).max(6 / depth);
        let parts = depth * bits / 6;
        let of_tap = conv.input.c.div_ceil(depth);
        let columns = padded(conv, 1, conv.output.w);
        let pitch = columns.saturating_mul(of_tap * parts * INDEX);
        let fitting = (STRIP_BYTES / pitch.max(1)).saturating_sub(padded(conv, 0, 1)) / conv.stride[0].max(1) + 1;
        // As many strips as there must be, of equal size.
        let outputs = conv.output.h.div_ceil(conv.output.h.div_ceil(fitting).max(1));
        Some(Lookups { bits, parts, of_tap, columns, rows: padded(conv, 0, outputs), outputs })
    }

    /// Bytes of the indices of a pixel.
    pub(super) fn pixel(&self) -> usize {
        self.of_tap * self.parts * INDEX
    }

    /// Bytes of the tables.
    pub(super) fn tables(&self) -> usize {
        self.parts * TABLES
    }

    /// Bytes of the tables, the indices, and what may be skipped before them and written beyond.
    pub(super) fn scratch_bytes(&self) -> usize {
        let indices = self.rows.saturating_mul(self.columns).saturating_mul(self.pixel());
        indices.saturating_add(self.tables() + 2 * ALIGN)
    }
}
