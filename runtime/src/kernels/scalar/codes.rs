//! Bytes and words: what stands for codes in the innermost loop.

use super::tile::{self, FILTERS, Runs, Sums};
use super::words::Packing;
use crate::format::{Conv, WeightFormat, WeightGroup};
use crate::kernels::portable::Decoder;

/// What stands for codes in the innermost loop.
pub(super) trait Codes: Copy {
    /// For those of the input.
    type Activation: Copy;
    /// For those of the weights.
    type Level: Copy;

    /// Makes activations of the codes of whole pixels.
    fn pack(self, codes: &[u8], to: &mut [Self::Activation]);

    /// The activation of a code that stands for padding.
    fn padding(self, code: u8) -> Self::Activation;

    /// The input itself, where its codes are activations.
    fn in_place(self, input: &[u8]) -> Option<&[Self::Activation]>;

    /// The levels of all filters of a group, where its codes are levels.
    fn levels<'a>(self, group: &WeightGroup<'a>) -> Option<&'a [Self::Level]>;

    /// Makes levels of the codes of a filter.
    fn expand(self, conv: &Conv<'_>, group: &WeightGroup<'_>, filter: usize, to: &mut [Self::Level]);

    /// The innermost loop; see [`tile`].
    fn tile<const N: usize>(
        self,
        windows: [&[Self::Activation]; N],
        filters: [&[Self::Level]; FILTERS],
        runs: &Runs,
    ) -> Option<Sums<N>>;
}

/// Each is a byte.
#[derive(Clone, Copy)]
pub(super) struct Bytes;

impl Codes for Bytes {
    type Activation = u8;
    type Level = i8;

    fn pack(self, codes: &[u8], to: &mut [u8]) {
        to.iter_mut().zip(codes).for_each(|(to, &code)| *to = code);
    }

    fn padding(self, code: u8) -> u8 {
        code
    }

    fn in_place(self, input: &[u8]) -> Option<&[u8]> {
        Some(input)
    }

    fn levels<'a>(self, group: &WeightGroup<'a>) -> Option<&'a [i8]> {
        (group.format == WeightFormat::Linear(8)).then(|| bytemuck::cast_slice(group.codes))
    }

    fn expand(self, conv: &Conv<'_>, group: &WeightGroup<'_>, filter: usize, to: &mut [i8]) {
        Decoder::new(conv, group).plain_row(filter, to);
    }

    fn tile<const N: usize>(self, windows: [&[u8]; N], filters: [&[i8]; FILTERS], runs: &Runs) -> Option<Sums<N>> {
        tile::bytes(windows, filters, runs)
    }
}

/// Several share a word.
impl Codes for Packing {
    type Activation = u32;
    type Level = u32;

    fn pack(self, codes: &[u8], to: &mut [u32]) {
        self.pack_activations(codes, to);
    }

    fn padding(self, code: u8) -> u32 {
        self.every(code.into())
    }

    fn in_place(self, _input: &[u8]) -> Option<&[u32]> {
        None
    }

    fn levels<'a>(self, _group: &WeightGroup<'a>) -> Option<&'a [u32]> {
        None
    }

    fn expand(self, conv: &Conv<'_>, group: &WeightGroup<'_>, filter: usize, to: &mut [u32]) {
        let bytes = conv.packed_bytes(1, group.format, group.layout);
        self.expand_levels(group.format, group.codes.get(filter * bytes..).unwrap_or_default(), to);
    }

    fn tile<const N: usize>(self, windows: [&[u32]; N], filters: [&[u32]; FILTERS], runs: &Runs) -> Option<Sums<N>> {
        tile::words(windows, filters, runs, self)
    }
}
