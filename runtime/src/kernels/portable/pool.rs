//! Pools: channels innermost, blocks of them at a time.

use core::num::NonZero;
use core::ops::Range;

use super::lanes::{LANES, load};
use crate::format::{AvgPool, MaxPool, Pool};
use crate::kernels::work::Work;

/// Channels of a block while there are as many, and of the rest: as many as registers hold, of vectors or without any.
const WIDE: usize = if cfg!(target_pointer_width = "64") { 4 * LANES } else { NARROW };
const NARROW: usize = if cfg!(target_pointer_width = "64") { LANES } else { 4 };

/// Codes that surely add up within 16 bits.
const PARTIAL: usize = 257;

/// The part of a window that lies inside the input, and the first of a block of channels.
pub(in crate::kernels) struct Block<'a> {
    pub(in crate::kernels) pool: &'a Pool,
    pub(in crate::kernels) input: &'a [u8],
    pub(in crate::kernels) rows: Range<usize>,
    pub(in crate::kernels) columns: Range<usize>,
    pub(in crate::kernels) channel: usize,
}

/// See [`reference::avg_pool`](crate::kernels::reference::avg_pool).
#[inline(always)]
pub fn avg_pool(p: &AvgPool, input: &[u8], output: &mut [u8]) {
    pool(&Mean::of(p), &p.window, input, output);
}

/// See [`reference::max_pool`](crate::kernels::reference::max_pool).
#[inline(always)]
pub fn max_pool(p: &MaxPool, input: &[u8], output: &mut [u8]) {
    pool(&Highest(p), &p.window, input, output);
}

/// The work of both: wide blocks of channels and their pixels, narrow blocks and theirs, both kinds of blocks where a part
/// of the window is outside.
pub fn pool_work(pool: &Pool) -> Work {
    let [rows, columns] = pool.kernel;
    let whole = |axis: usize, outputs: usize, taps: usize, size: usize| {
        let [stride, pad] = [pool.stride[axis], pool.pad[axis]];
        (0..outputs).filter(|&out| inside(out, stride, taps, pad, size).len() == taps).count()
    };
    let windows = pool.output.h * pool.output.w;
    let outside =
        windows - whole(0, pool.output.h, rows, pool.input.h) * whole(1, pool.output.w, columns, pool.input.w);
    let [wide, narrow] = [pool.output.c / WIDE, (pool.output.c % WIDE).div_ceil(NARROW)];
    let (blocks, pixels) = ([wide, narrow].map(|blocks| blocks * windows), rows * columns);
    [blocks[0], blocks[0] * pixels, blocks[1], blocks[1] * pixels, outside * wide, outside * narrow, 0, 0, 0, 0]
}

/// What becomes of a window. No closure: its code would be compiled without the instructions of whoever calls it.
pub(in crate::kernels) trait Fold {
    /// The codes of `N` channels.
    fn fold<const N: usize>(&self, block: &Block<'_>) -> [u8; N];
}

pub(in crate::kernels) struct Mean<'a> {
    pool: &'a AvgPool,
    /// Rows and columns of which the codes add up within 16 bits.
    pub(in crate::kernels) part: [usize; 2],
}

struct Highest<'a>(&'a MaxPool);

impl<'a> Mean<'a> {
    #[inline(always)]
    pub(in crate::kernels) fn of(pool: &'a AvgPool) -> Mean<'a> {
        let columns = pool.window.kernel[1].clamp(1, PARTIAL);
        Mean { pool, part: [NonZero::new(columns).map_or(1, |columns| PARTIAL / columns), columns] }
    }

    /// What the sums of a block come to.
    #[inline(always)]
    pub(in crate::kernels) fn codes<const N: usize>(&self, block: &Block<'_>, mut sums: [i32; N]) -> [u8; N] {
        let p = self.pool;
        let [full, count] = [p.window.kernel[0] * p.window.kernel[1], block.rows.len() * block.columns.len()];
        let offset = (count as i32).wrapping_mul(p.zero_in.into());
        sums.iter_mut().for_each(|sum| *sum = sum.wrapping_sub(offset));
        if count != full {
            sums.iter_mut().for_each(|sum| *sum = whole(*sum, full as u32, count as u32));
        }
        sums.map(|sum| p.requantise.apply(sum, p.mult))
    }
}

impl Fold for Mean<'_> {
    #[inline(always)]
    fn fold<const N: usize>(&self, block: &Block<'_>) -> [u8; N] {
        let mut sums = [0i32; N];
        if cfg!(target_pointer_width = "64") {
            block.in_parts(self.part, |part| {
                let mut partial = [0u16; N];
                part.for_each(|pixel: [u8; N]| {
                    partial.iter_mut().zip(pixel).for_each(|(sum, code)| *sum = sum.wrapping_add(code.into()));
                });
                sums.iter_mut().zip(partial).for_each(|(sum, part)| *sum = sum.wrapping_add(part.into()));
            });
        } else {
            // Without vectors, 16 bits are no faster.
            block.for_each(|pixel: [u8; N]| {
                sums.iter_mut().zip(pixel).for_each(|(sum, code)| *sum = sum.wrapping_add(code.into()));
            });
        }
        self.codes(block, sums)
    }
}

impl Fold for Highest<'_> {
    #[inline(always)]
    fn fold<const N: usize>(&self, block: &Block<'_>) -> [u8; N] {
        let p = self.0;
        let mut highest = [0; N];
        block.for_each(|pixel: [u8; N]| highest.iter_mut().zip(pixel).for_each(|(most, code)| *most = code.max(*most)));
        highest.map(|most: u8| most.min(p.hi).max(p.lo))
    }
}

impl Block<'_> {
    /// Shows the block in parts of at most so many rows and columns.
    #[inline(always)]
    pub(in crate::kernels) fn in_parts(&self, [rows, columns]: [usize; 2], mut visit: impl FnMut(Block<'_>)) {
        let mut y = self.rows.start;
        while y < self.rows.end {
            let below = self.rows.end.min(y + rows);
            let mut x = self.columns.start;
            while x < self.columns.end {
                let right = self.columns.end.min(x + columns);
                visit(Block { rows: y..below, columns: x..right, ..*self });
                x = right;
            }
            y = below;
        }
    }

    /// Shows the channels of every pixel.
    #[inline(always)]
    pub(in crate::kernels) fn for_each<const N: usize>(&self, mut visit: impl FnMut([u8; N])) {
        let Pool { input: shape, .. } = self.pool;
        for y in self.rows.clone() {
            for x in self.columns.clone() {
                visit(load(self.input, (y * shape.w + x) * shape.c + self.channel));
            }
        }
    }
}

/// What a sum over `count` positions comes to over the full window: `floor((2 * sum * full + count) / (2 * count))`.
/// A byte of the quotient at a time, since counts are at most 2^23, and a 64-bit division takes a kilobyte of code.
#[inline(never)]
fn whole(sum: i32, full: u32, count: u32) -> i32 {
    // What makes the dividend positive adds 2^31 to the quotient, which wrapping takes away again.
    let divisor = NonZero::new(2 * count).unwrap_or(NonZero::<u32>::MIN);
    let dividend = 2 * i64::from(sum) * i64::from(full) + i64::from(count) + (i64::from(divisor.get()) << 31);
    let step = |(quotient, rest): (u32, u32), byte: u8| {
        let part = (rest << 8) | u32::from(byte);
        ((quotient << 8) | (part / divisor), part % divisor)
    };
    let (quotient, _) = dividend.to_be_bytes().into_iter().fold((0, 0), step);
    quotient.wrapping_sub(1 << 31) as i32
}

/// Every pixel of the output, block by block.
#[inline(always)]
pub(in crate::kernels) fn pool(fold: &impl Fold, pool: &Pool, input: &[u8], output: &mut [u8]) {
    let mut pixels = output.chunks_exact_mut(pool.output.c.max(1));
    for y in 0..pool.output.h {
        let rows = inside(y, pool.stride[0], pool.kernel[0], pool.pad[0], pool.input.h);
        for x in 0..pool.output.w {
            let columns = inside(x, pool.stride[1], pool.kernel[1], pool.pad[1], pool.input.w);
            let Some(pixel) = pixels.next() else { return };
            let block = |channel| Block { pool, input, rows: rows.clone(), columns: columns.clone(), channel };
            let wide = if WIDE > NARROW { pixel.len() / WIDE * WIDE } else { 0 };
            let (of_wide, rest) = pixel.split_at_mut(wide);
            for (i, codes) in of_wide.chunks_exact_mut(WIDE).enumerate() {
                codes.copy_from_slice(&fold.fold::<WIDE>(&block(i * WIDE)));
            }
            for (i, codes) in rest.chunks_mut(NARROW).enumerate() {
                let folded = fold.fold::<NARROW>(&block(wide + i * NARROW));
                codes.iter_mut().zip(folded).for_each(|(code, folded)| *code = folded);
            }
        }
    }
}

/// The positions of a window inside an axis of `size`.
fn inside(out: usize, stride: usize, taps: usize, pad: usize, size: usize) -> Range<usize> {
    let start = out * stride;
    start.saturating_sub(pad)..(start + taps).saturating_sub(pad).min(size)
}
