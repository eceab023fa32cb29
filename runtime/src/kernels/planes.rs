//! The geometry of bit-serial convolution.
//!
//! A sum of products of few bits is a sum over pairs of *bit planes*, one of the weights and one of the activations:
//! `sum w x = sum over (i, j) of 2^(i + j) * popcount(w_i & x_j)`. Three instructions stand for 512 products of a bit
//! by a bit: 32 input channels of 16 output channels. Planes count from 0, levels do not: what lies between is a
//! multiple of the window's sum of codes, the same for every output channel. (Bit-serial kernels on CPUs: Umuroglu
//! and Jahre, "Streamlined deployment for quantized neural networks", 2017; Cowan et al. 2020.)

use super::scratch::{ALIGN, padded};
use crate::format::{Conv, Layout, PANEL_CHANNELS, WeightFormat};

/// Bytes of a strip of planes, unless one row of windows takes more.
const STRIP_BYTES: usize = 8192;

/// Panels that are multiplied together, at most.
pub(super) const PLANE_PANELS: usize = 4;

/// What a bit-serial kernel keeps: rows of the input with what surrounds them, plane after plane.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for the loop nest; the plan takes the total"))]
pub(super) struct Planes {
    /// Planes of the activations.
    pub(super) planes: usize,
    /// Bytes of a pixel in a plane.
    pub(super) pixel: usize,
    /// Pixels in a row, padding included.
    pub(super) columns: usize,
    /// Rows of a strip.
    pub(super) rows: usize,
    /// Rows of output that a strip serves.
    pub(super) outputs: usize,
}

impl Planes {
    /// `None` where no kernel does it.
    pub(super) fn of(conv: &Conv<'_>) -> Option<Planes> {
        if conv.groups != 1 {
            return None;
        }
        let planes = usize::from(conv.bits_in);
        let pixel = conv.input.c.div_ceil(8);
        let columns = padded(conv, 1, conv.output.w);
        let pitch = columns.saturating_mul(pixel.saturating_mul(planes));
        let fitting = (STRIP_BYTES / pitch.max(1)).saturating_sub(padded(conv, 0, 1)) / conv.stride[0].max(1) + 1;
        // As many strips as there must be, of equal size.
        let outputs = conv.output.h.div_ceil(conv.output.h.div_ceil(fitting).max(1));
        Some(Planes { planes, pixel, columns, rows: padded(conv, 0, outputs), outputs })
    }

    /// Bytes of a row of a plane.
    pub(super) fn pitch(&self) -> usize {
        self.columns.saturating_mul(self.pixel)
    }

    /// Bytes of a plane, and of a word that is written or read where it ends.
    pub(super) fn plane(&self) -> usize {
        self.rows.saturating_mul(self.pitch()).saturating_add(size_of::<u64>())
    }

    /// Bytes of the sums of codes, of 32 bits each, of every pixel and later of every window.
    pub(super) fn sums(&self) -> usize {
        self.rows.saturating_mul(self.columns).saturating_mul(size_of::<i32>())
    }

    /// Bytes of the planes of a few panels of weights that do not lie ready: those of one bit do.
    fn weights(conv: &Conv<'_>, format: WeightFormat) -> usize {
        let channels = conv.output.c.min(PLANE_PANELS * PANEL_CHANNELS);
        if format.bits() == 1 { 0 } else { conv.packed_bytes(channels, format, Layout::Planes) }
    }

    /// Bytes of all of them, and what may be skipped before them.
    pub(super) fn scratch_bytes(&self, conv: &Conv<'_>, format: WeightFormat) -> usize {
        let strip = self.planes.saturating_mul(self.plane()).saturating_add(self.sums());
        strip.saturating_add(Planes::weights(conv, format)).saturating_add(ALIGN)
    }
}
