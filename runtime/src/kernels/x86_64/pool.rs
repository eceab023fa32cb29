//! Pools: the mean of a whole map by kernels of its own, other windows by the portable code.

use super::{avx2, avx512, detect, widened};
use crate::format::{AvgPool, Requantise};
use crate::kernels::Isa;

/// See [`reference::avg_pool`](crate::kernels::reference::avg_pool).
pub fn avg_pool(isa: Isa, p: &AvgPool, input: &[u8], output: &mut [u8]) {
    let (lanes, leaf): (usize, unsafe fn(&Map<'_>, usize, *mut u8)) = match isa {
        Isa::Avx512Vnni if detect(isa) => (64, avx512::avg_pool),
        Isa::Avx2 if detect(isa) => (32, avx2::avg_pool),
        _ => return widened::avg_pool(isa, p, input, output),
    };
    let Some(map) = Map::of(p, input).filter(|map| map.channels >= lanes && output.len() == map.channels) else {
        return widened::avg_pool(isa, p, input, output);
    };
    let mut next = 0;
    while next < map.channels {
        // The last channels may have been averaged before: better than a part of a vector.
        let first = next.min(map.channels - lanes);
        // SAFETY: the processor has the instructions; as many channels from there on, in the map and in the output.
        unsafe { leaf(&map, first, output.as_mut_ptr().add(first)) };
        next = first + lanes;
    }
}

/// The only window, of whole rows from the first on.
pub(super) struct Map<'a> {
    /// Whole pixels, of `channels` bytes each.
    pub(super) pixels: &'a [u8],
    pub(super) channels: usize,
    /// What the sums start from: the zero points.
    pub(super) start: i32,
    pub(super) mult: i32,
    pub(super) requantise: Requantise,
}

impl<'a> Map<'a> {
    /// `None` if the window is another, or so large that a sum may leave i32.
    fn of(p: &AvgPool, input: &'a [u8]) -> Option<Map<'a>> {
        const LIMIT: usize = 1 << 23;
        let (from, to) = (p.window.input, p.window.output);
        let [rows, columns] = p.window.kernel;
        let inside = p.window.pad == [0; 2] && rows <= from.h && columns == from.w;
        let count = rows.checked_mul(columns).filter(|&count| count <= LIMIT)?;
        let sane = inside && to.h == 1 && to.w == 1 && from.c > 0 && to.c == from.c;
        let pixels = input.get(..count.checked_mul(from.c)?)?;
        let start = -(count as i32 * i32::from(p.zero_in));
        sane.then_some(Map { pixels, channels: from.c, start, mult: p.mult, requantise: p.requantise })
    }
}
