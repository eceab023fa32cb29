//! How a convolution is cut up: pure arithmetic, the same on every host.

use super::stream;
use super::words::Packing;
use crate::format::{Conv, WeightFormat};
use crate::kernels::scratch::{padded, reads_inside};

/// Most filters of a tile, on any core.
const MOST_FILTERS: usize = 4;
/// Bytes that input, output and a strip take together, unless a strip takes `STRIP_BYTES`: layers with small tensors
/// have memory to spare, which those with large ones want.
const LAYER_BYTES: usize = 32768;
/// Bytes that a strip may take in any case, unless one row of windows takes more.
const STRIP_BYTES: usize = 4096;

/// What the kernel keeps, and where windows lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// How codes share words; `None` where each is a byte.
    pub(super) packing: Option<Packing>,
    /// Whether windows are read where they lie in the input: there is no strip then.
    pub(super) in_place: bool,
    /// Pixels of a row, padding included.
    pub(super) width: usize,
    /// Activations of a pixel: bytes or words.
    pub(super) unit: usize,
    /// Output rows of a strip.
    pub(super) outputs: usize,
    /// Input rows of a strip.
    pub(super) rows: usize,
}

impl Plan {
    /// For a weight group of this format.
    pub(super) fn of(conv: &Conv<'_>, format: WeightFormat) -> Plan {
        let packing = if conv.groups == 1 { Packing::of(conv, format) } else { None };
        let unit = conv.input.c / packing.map_or(1, |packing| packing.codes);
        let in_place = packing.is_none() && reads_inside(conv);
        if in_place {
            return Plan { packing, in_place, width: conv.input.w, unit, outputs: conv.output.h, rows: conv.input.h };
        }
        let width = padded(conv, 1, conv.output.w);
        let row = width.saturating_mul(unit).saturating_mul(if packing.is_some() { 4 } else { 1 });
        let strip = LAYER_BYTES.saturating_sub(conv.input.len().saturating_add(conv.output.len())).max(STRIP_BYTES);
        let beyond = padded(conv, 0, 1).saturating_sub(conv.stride[0]);
        let fitting = ((strip / row.max(1)).saturating_sub(beyond) / conv.stride[0].max(1)).max(1);
        // As many strips as there must be, of equal size.
        let outputs = conv.output.h.div_ceil(conv.output.h.div_ceil(fitting).max(1));
        Plan { packing, in_place, width, unit, outputs, rows: padded(conv, 0, outputs) }
    }

    /// Activations of a strip.
    pub(super) const fn strip(&self) -> usize {
        if self.in_place { 0 } else { self.rows.saturating_mul(self.width).saturating_mul(self.unit) }
    }

    /// Levels of a filter: bytes or words.
    pub(super) const fn filter(&self, conv: &Conv<'_>) -> usize {
        conv.kernel[0].saturating_mul(conv.kernel[1]).saturating_mul(self.unit)
    }
}

impl Plan {
    /// Bytes of the strip and of the levels of a few filters.
    pub(super) fn scratch_bytes(&self, conv: &Conv<'_>, format: WeightFormat) -> usize {
        let levels = if self.packing.is_some() && stream::takes(conv) {
            0
        } else {
            self.filter(conv).saturating_mul(MOST_FILTERS)
        };
        match self.packing {
            // As words they must be aligned.
            Some(_) => self.strip().saturating_add(levels).saturating_mul(4).saturating_add(3),
            None if format == WeightFormat::Linear(8) || conv.is_depthwise() => self.strip(),
            None => self.strip().saturating_add(levels),
        }
    }
}
