//! Weights without their zeros: what a group holds in [`Layout::Sparse`](super::Layout::Sparse).

use super::{CODEBOOK_BYTES, PANEL_CHANNELS, PANEL_DEPTH, PANEL_STEP, Reader, WeightFormat, WeightGroup};
use crate::error::{Detail, FormatError};

/// Positions that the weights of a step are chosen from: an index has 6 bits.
pub const SPARSE_WINDOW: usize = 64;
/// Steps that a panel has a multiple of.
pub const SPARSE_STEPS: usize = 4;
/// Weights of an output channel at most: a step's first position is a u16.
pub const SPARSE_DEPTH: usize = 1 << 16;
/// What indices begin at a multiple of, counted from the start of the group.
const ALIGN: usize = 64;

/// The parts of a group.
#[derive(Clone, Copy, Debug)]
pub struct Sparse<'a> {
    ends: &'a [[u8; 4]],
    bases: &'a [[u8; 2]],
    indices: &'a [[u8; PANEL_STEP]],
    codes: &'a [u8],
    format: WeightFormat,
}

/// The steps of a panel.
#[derive(Clone, Copy, Debug)]
pub struct SparsePanel<'a> {
    /// The first of the [`SPARSE_WINDOW`] positions of each step, little-endian.
    pub bases: &'a [[u8; 2]],
    /// Where in the window each weight of a step is, in the order of its codes.
    pub indices: &'a [[u8; PANEL_STEP]],
    /// The codes, a stream as of a dense panel of as many steps.
    pub codes: &'a [u8],
}

impl<'a> Sparse<'a> {
    /// The parts of the data that begin at the start of `bytes`, those of a group without its codebook, and how long they
    /// are; `None` when that is more than there are bytes.
    pub(super) fn read(bytes: &'a [u8], format: WeightFormat, channels: usize) -> Option<(Sparse<'a>, usize)> {
        let ends_bytes = size_of::<u32>() * channels.div_ceil(PANEL_CHANNELS);
        let (ends, _) = bytes.get(..ends_bytes)?.as_chunks();
        let steps = (u32::from_le_bytes(*ends.last()?) as usize).checked_mul(SPARSE_STEPS)?;
        let indices_at = indices_at(format, channels, steps)?;
        let codes_at = indices_at.checked_add(steps.checked_mul(PANEL_STEP)?)?;
        let end = codes_at.checked_add(code_bytes(format, steps)?)?;
        let (bases, _) = bytes.get(ends_bytes..ends_bytes + size_of::<u16>() * steps)?.as_chunks();
        let (indices, _) = bytes.get(indices_at..codes_at)?.as_chunks();
        Some((Sparse { ends, bases, indices, codes: bytes.get(codes_at..end)?, format }, end))
    }

    /// Panel `index`; without any steps if there is none.
    #[inline]
    pub fn panel(&self, index: usize) -> SparsePanel<'a> {
        let end = |index: usize| self.ends.get(index).map_or(0, |&end| u32::from_le_bytes(end) as usize * SPARSE_STEPS);
        let steps = index.checked_sub(1).map_or(0, end)..end(index);
        let bytes = |steps: usize| code_bytes(self.format, steps).unwrap_or(usize::MAX);
        let codes = self.codes.get(bytes(steps.start)..bytes(steps.end));
        match (self.bases.get(steps.clone()), self.indices.get(steps), codes) {
            (Some(bases), Some(indices), Some(codes)) => SparsePanel { bases, indices, codes },
            _ => SparsePanel { bases: &[], indices: &[], codes: &[] },
        }
    }

    /// Whether panels follow one another, and every weight is one of `depth`.
    fn is_sound(&self, depth: usize) -> bool {
        let last = depth.saturating_sub(SPARSE_WINDOW);
        let window = depth.min(SPARSE_WINDOW);
        self.ends.is_sorted_by_key(|&end| u32::from_le_bytes(end))
            && self.bases.iter().all(|&base| usize::from(u16::from_le_bytes(base)) <= last)
            && self.indices.as_flattened().iter().all(|&index| usize::from(index) < window)
    }
}

impl<'a> SparsePanel<'a> {
    /// The weights of a lane, one of the panel's channels: position and number of the code, padding and all.
    pub fn lane(&self, lane: usize) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let slots = lane * PANEL_DEPTH..(lane + 1) * PANEL_DEPTH;
        self.bases.iter().zip(self.indices).enumerate().flat_map(move |(step, (&base, indices))| {
            let base = usize::from(u16::from_le_bytes(base));
            let indices = indices.get(slots.clone()).unwrap_or(&[]).iter();
            indices.zip(slots.clone()).map(move |(&index, j)| (base + usize::from(index), step * PANEL_STEP + j))
        })
    }
}

impl<'a> WeightGroup<'a> {
    /// Its parts, if it is sparse.
    #[inline]
    pub fn sparse(&self) -> Option<Sparse<'a>> {
        match self.layout {
            super::Layout::Sparse => Sparse::read(self.codes, self.format, self.channels).map(|(sparse, _)| sparse),
            _ => None,
        }
    }

    /// That every weight of a sparse group is one of `depth`.
    pub(super) fn check_sparse(&self, depth: usize) -> Result<(), FormatError> {
        match self.sparse() {
            Some(sparse) if !sparse.is_sound(depth) => Err(FormatError::Layer(Detail::SparsePositions)),
            _ => Ok(()),
        }
    }
}

/// Bytes of the data of a group of so many channels and steps, without its codebook; `None` when there is no such number.
pub(crate) fn sparse_bytes(format: WeightFormat, channels: usize, steps: usize) -> Option<usize> {
    indices_at(format, channels, steps)?
        .checked_add(steps.checked_mul(PANEL_STEP)?)?
        .checked_add(code_bytes(format, steps)?)
}

/// Where indices begin, counted from the end of the codebook.
pub(crate) fn indices_at(format: WeightFormat, channels: usize, steps: usize) -> Option<usize> {
    let codebook = match format {
        WeightFormat::Codebook(_) => CODEBOOK_BYTES,
        _ => 0,
    };
    let ends = size_of::<u32>() * channels.div_ceil(PANEL_CHANNELS);
    let head = codebook.checked_add(ends)?.checked_add(steps.checked_mul(size_of::<u16>())?)?;
    head.checked_next_multiple_of(ALIGN)?.checked_sub(codebook)
}

fn code_bytes(format: WeightFormat, steps: usize) -> Option<usize> {
    steps.checked_mul(PANEL_STEP / 8 * format.bits() as usize)
}

/// The data at `at`, its length found in itself.
pub(super) fn data<'a>(weights: Reader<'a>, at: usize, format: WeightFormat, channels: usize) -> Option<&'a [u8]> {
    let rest = weights.0.get(at..)?;
    let (_, len) = Sparse::read(rest, format, channels)?;
    rest.get(..len)
}
