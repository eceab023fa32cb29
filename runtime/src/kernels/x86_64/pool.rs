//! Pools: the mean of a whole map by kernels of its own, other windows by the portable code.

use super::{avx2, avx512, detect, widened};
use crate::format::{AvgPool, Pool, Requantise};
use crate::kernels::work::Work;
use crate::kernels::{Isa, portable};

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

/// The work of [`avg_pool`]: vectors of channels of a whole map and their pixels, or that of the portable code.
pub fn avg_pool_work(isa: Isa, pool: &Pool) -> Work {
    let lanes = if isa == Isa::Avx512Vnni { 64 } else { 32 };
    if pool.input.c < lanes || !Map::is_whole(pool) {
        return portable::pool_work(pool);
    }
    let vectors = pool.input.c.div_ceil(lanes);
    [0, 0, 0, 0, 0, 0, vectors, vectors * pool.kernel[0] * pool.kernel[1], 0, 0]
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
        let from = p.window.input;
        let [rows, columns] = p.window.kernel;
        let count = rows.checked_mul(columns).filter(|&count| count <= LIMIT)?;
        let pixels = input.get(..count.checked_mul(from.c)?)?;
        let start = -(count as i32 * i32::from(p.zero_in));
        Map::is_whole(&p.window).then_some(Map {
            pixels,
            channels: from.c,
            start,
            mult: p.mult,
            requantise: p.requantise,
        })
    }
    /// Whether a pool has one window, without padding.
    fn is_whole(pool: &Pool) -> bool {
        let (from, to, [rows, columns]) = (pool.input, pool.output, pool.kernel);
        let inside = pool.pad == [0; 2] && rows <= from.h && columns == from.w;
        inside && to.h == 1 && to.w == 1 && from.c > 0 && to.c == from.c
    }
}
