//! The definition of the arithmetic: one obvious function an operator.
//!
//! Codes are u8, sums are i32 and wrap. `[h][w][c]` tensors; a window that reaches beyond an edge is
//! said operator by operator. Slices that are too short read as 0 and drop what is written beyond them:
//! nothing here panics on what [`Model::parse`](crate::Model::parse) has let through.

mod conv;
mod pointwise;
mod pool;
mod rearrange;

pub use conv::conv;
pub use pointwise::{add, lut, softmax, softmax_mult};
pub use pool::{avg_pool, max_pool};
pub use rearrange::{concat, depth_to_space, pad, resize_bilinear, resize_nearest, transpose};

use crate::format::Shape;

/// Element (y, x, c) of a tensor.
fn at(codes: &[u8], shape: Shape, [y, x, c]: [usize; 3]) -> u8 {
    codes.get((y * shape.w + x) * shape.c + c).copied().unwrap_or(0)
}

fn put(codes: &mut [u8], shape: Shape, [y, x, c]: [usize; 3], code: u8) {
    if let Some(slot) = codes.get_mut((y * shape.w + x) * shape.c + c) {
        *slot = code;
    }
}

/// Every (y, x, c) of a shape, c fastest.
fn elements(shape: Shape) -> impl Iterator<Item = [usize; 3]> {
    (0..shape.h).flat_map(move |y| (0..shape.w).flat_map(move |x| (0..shape.c).map(move |c| [y, x, c])))
}

/// Where tap `tap` of the window of output position `out` reads along an axis of `size`; `None` outside.
fn source(out: usize, stride: usize, tap: usize, dilation: usize, pad: usize, size: usize) -> Option<usize> {
    (out * stride + tap * dilation).checked_sub(pad).filter(|&at| at < size)
}
