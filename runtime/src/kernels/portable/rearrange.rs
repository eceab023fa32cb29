//! Operators that move codes, a run of neighbours at a time.

use crate::format::{DepthToSpace, Pad, Resize, Shape};
use crate::kernels::reference;

/// See [`reference::pad`].
pub fn pad(p: &Pad, input: &[u8], output: &mut [u8]) {
    output.fill(p.value);
    // Whole rows are runs unless channels are padded too.
    let (runs, len) = if p.input.c == p.output.c { (1, p.input.w * p.input.c) } else { (p.input.w, p.input.c) };
    for y in 0..p.input.h {
        for run in 0..runs {
            let to = ((y + p.top) * p.output.w + p.left + run) * p.output.c + p.front;
            copy(input, (y * runs + run) * len, output, to, len);
        }
    }
}

/// See [`reference::transpose`].
pub fn transpose(perm: [u8; 3], shape: Shape, input: &[u8], output: &mut [u8]) {
    // Extent and distance in the input of the output's axes.
    let axes = [(shape.h, shape.w * shape.c), (shape.w, shape.c), (shape.c, 1)];
    let [rows, columns, channels] = perm.map(|axis| axes.get(usize::from(axis)).copied().unwrap_or((0, 0)));
    let mut pixels = output.chunks_exact_mut(channels.0.max(1));
    for y in 0..rows.0 {
        for x in 0..columns.0 {
            let Some(pixel) = pixels.next() else { return };
            let from = input.get(y * rows.1 + x * columns.1..).unwrap_or(&[]);
            pixel.iter_mut().zip(from.iter().step_by(channels.1.max(1))).for_each(|(slot, &code)| *slot = code);
        }
    }
}

/// See [`reference::resize_nearest`].
pub fn resize_nearest(p: &Resize<'_>, input: &[u8], output: &mut [u8]) {
    let c = p.output.c;
    for y in 0..p.output.h {
        for x in 0..p.output.w {
            copy(input, (p.row(y) * p.input.w + p.column(x)) * c, output, (y * p.output.w + x) * c, c);
        }
    }
}

/// See [`reference::resize_bilinear`].
pub fn resize_bilinear(p: &Resize<'_>, input: &[u8], output: &mut [u8]) {
    let mut pixels = output.chunks_exact_mut(p.output.c);
    for y in 0..p.output.h {
        let (y0, y1, fy) = p.row_mix(y);
        for x in 0..p.output.w {
            let (x0, x1, fx) = p.column_mix(x);
            let Some(pixel) = pixels.next() else { return };
            let corner = |y, x| input.get((y * p.input.w + x) * p.input.c..).unwrap_or(&[]);
            let upper = corner(y0, x0).iter().zip(corner(y0, x1));
            let lower = corner(y1, x0).iter().zip(corner(y1, x1));
            let mix = |(&a, &b): (&u8, &u8)| i32::from(a) * (256 - fx) + i32::from(b) * fx;
            for ((slot, upper), lower) in pixel.iter_mut().zip(upper).zip(lower) {
                *slot = ((mix(upper) * (256 - fy) + mix(lower) * fy + (1 << 15)) >> 16) as u8;
            }
        }
    }
}

/// See [`reference::depth_to_space`].
pub fn depth_to_space(p: &DepthToSpace, input: &[u8], output: &mut [u8]) {
    if p.channel_first {
        return reference::depth_to_space(p, input, output);
    }
    // The codes of one row of a block are neighbours on both sides.
    let len = p.block * p.output.c;
    for row in 0..p.output.h {
        for x in 0..p.input.w {
            let from = ((row / p.block * p.input.w + x) * p.block + row % p.block) * len;
            copy(input, from, output, (row * p.input.w + x) * len, len);
        }
    }
}

fn copy(input: &[u8], from: usize, output: &mut [u8], to: usize, len: usize) {
    let source = input.get(from..from + len).unwrap_or(&[]);
    output.iter_mut().skip(to).zip(source).for_each(|(slot, &code)| *slot = code);
}
