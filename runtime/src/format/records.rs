//! The fixed-size records: header and tensors.

use super::{HEADER_BYTES, MAGIC, Reader, TENSOR_BYTES};

/// The first 64 bytes, field by field; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u16,
    /// Number of the widest layout used.
    pub layout: u16,
    /// Size of the whole blob.
    pub blob_bytes: u32,
    /// CRC-32 of everything from `arena_bytes` on.
    pub crc32: u32,
    /// Arena that a session needs.
    pub arena_bytes: u32,
    /// Tensor records.
    pub n_tensors: u16,
    /// Layer records.
    pub n_layers: u16,
    /// Graph inputs.
    pub n_inputs: u16,
    /// Graph outputs.
    pub n_outputs: u16,
    /// Offset of the input and output indices.
    pub io: u32,
    /// Offset of the layer records.
    pub layers: u32,
    /// Offset of the layer names; 0 when absent.
    pub names: u32,
    /// Offset of the operators' tables.
    pub aux: u32,
    /// Offset of biases and multipliers.
    pub channels: u32,
    /// Offset of the packed weights.
    pub weights: u32,
    /// Offset of the JSON for host tools.
    pub meta: u32,
    /// Its length.
    pub meta_bytes: u32,
}

impl Header {
    /// Reads the fields; `None` when the bytes are too few or the magic is another.
    pub fn read(blob: &[u8]) -> Option<Header> {
        let r = Reader(blob);
        let r = Reader(r.0.first_chunk::<HEADER_BYTES>()?);
        if r.u32(0)? != u32::from_le_bytes(MAGIC) {
            return None;
        }
        Some(Header {
            version: r.u16(4)?,
            layout: r.u16(6)?,
            blob_bytes: r.u32(8)?,
            crc32: r.u32(12)?,
            arena_bytes: r.u32(16)?,
            n_tensors: r.u16(20)?,
            n_layers: r.u16(22)?,
            n_inputs: r.u16(24)?,
            n_outputs: r.u16(26)?,
            io: r.u32(32)?,
            layers: r.u32(36)?,
            names: r.u32(40)?,
            aux: r.u32(44)?,
            channels: r.u32(48)?,
            weights: r.u32(52)?,
            meta: r.u32(56)?,
            meta_bytes: r.u32(60)?,
        })
    }

    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| {
            for (slot, &byte) in out.iter_mut().skip(at).zip(bytes) {
                *slot = byte;
            }
        };
        put(0, &MAGIC);
        put(4, &self.version.to_le_bytes());
        put(6, &self.layout.to_le_bytes());
        put(20, &self.n_tensors.to_le_bytes());
        put(22, &self.n_layers.to_le_bytes());
        put(24, &self.n_inputs.to_le_bytes());
        put(26, &self.n_outputs.to_le_bytes());
        let words = [
            (8, self.blob_bytes),
            (12, self.crc32),
            (16, self.arena_bytes),
            (32, self.io),
            (36, self.layers),
            (40, self.names),
            (44, self.aux),
            (48, self.channels),
            (52, self.weights),
            (56, self.meta),
            (60, self.meta_bytes),
        ];
        for (at, word) in words {
            put(at, &word.to_le_bytes());
        }
        out
    }
}

/// Rows, columns and channels of a tensor, channels innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// Elements; saturates, so that a hostile shape is merely too large.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn len(&self) -> usize {
        self.h.saturating_mul(self.w).saturating_mul(self.c)
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An activation in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor {
    /// First byte in the arena.
    pub offset: usize,
    /// Extents.
    pub shape: Shape,
    /// Real width of a step.
    pub scale: f32,
    /// Code width, 1..=8.
    pub bits: u8,
    /// Bits that a stored code takes: 8.
    pub storage: u8,
    /// Code of real 0.
    pub zero: u8,
    /// Dimensions it had in the model, the batch apart.
    pub rank: u8,
}

impl Tensor {
    #[inline]
    pub(crate) fn read(blob: &[u8], at: usize) -> Option<Tensor> {
        let r = Reader(blob.get(at..)?.first_chunk::<TENSOR_BYTES>()?);
        Some(Tensor {
            offset: r.u32(0)? as usize,
            shape: Shape { h: r.u16(4)?.into(), w: r.u16(6)?.into(), c: r.u32(8)? as usize },
            scale: r.f32(12)?,
            bits: r.u8(16)?,
            storage: r.u8(17)?,
            zero: r.u8(18)?,
            rank: r.u8(19)?,
        })
    }

    /// The bytes of the record; `None` when an extent does not fit its field.
    pub fn to_bytes(&self) -> Option<[u8; TENSOR_BYTES]> {
        let mut out = [0; TENSOR_BYTES];
        out[0..4].copy_from_slice(&u32::try_from(self.offset).ok()?.to_le_bytes());
        out[4..6].copy_from_slice(&u16::try_from(self.shape.h).ok()?.to_le_bytes());
        out[6..8].copy_from_slice(&u16::try_from(self.shape.w).ok()?.to_le_bytes());
        out[8..12].copy_from_slice(&u32::try_from(self.shape.c).ok()?.to_le_bytes());
        out[12..16].copy_from_slice(&self.scale.to_le_bytes());
        out[16..20].copy_from_slice(&[self.bits, self.storage, self.zero, self.rank]);
        Some(out)
    }

    /// Its bytes in the arena.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn range(&self) -> core::ops::Range<usize> {
        self.offset..self.offset.saturating_add(self.shape.len())
    }

    /// The highest code.
    pub const fn max_code(&self) -> u8 {
        match self.bits {
            0..=7 => (1 << self.bits) - 1,
            _ => 255,
        }
    }

    /// The nearest code to a real number, ties to even codes, clamped. For the host: no kernel calls it.
    #[allow(clippy::float_arithmetic, reason = "between codes and real numbers, outside a run")]
    pub fn encode(&self, real: f32) -> u8 {
        let code = real / self.scale + f32::from(self.zero);
        // `as` saturates and maps NaN to 0; adding and subtracting 2^23 rounds to the nearest integer.
        let rounded = (code.clamp(-1.0, 256.0) + 8_388_608.0) - 8_388_608.0;
        (rounded as u8).min(self.max_code())
    }

    /// The real number a code stands for. For the host: no kernel calls it.
    #[allow(clippy::float_arithmetic, reason = "between codes and real numbers, outside a run")]
    pub fn decode(&self, code: u8) -> f32 {
        self.scale * (f32::from(code) - f32::from(self.zero))
    }
}
