//! Operators that move codes; the resizes also mix them.

use super::{at, elements, put};
use crate::format::{DepthToSpace, Pad, Resize, Shape};

/// Copies one operand into its place: with output and operand cut into `outer` runs of equal length, run
/// `i` of the operand goes to byte `start` of run `i` of the output.
pub fn concat(outer: usize, start: usize, operand: &[u8], output: &mut [u8]) {
    let run = |len: usize| (len / outer.max(1)).max(1);
    let (from, to) = (run(operand.len()), run(output.len()));
    for (source, target) in operand.chunks_exact(from).zip(output.chunks_exact_mut(to)) {
        for (slot, &code) in target.iter_mut().skip(start).zip(source) {
            *slot = code;
        }
    }
}

/// `out[y + top][x + left][c + front] = in[y][x][c]`, `value` elsewhere.
pub fn pad(p: &Pad, input: &[u8], output: &mut [u8]) {
    output.fill(p.value);
    for [y, x, c] in elements(p.input) {
        put(output, p.output, [y + p.top, x + p.left, c + p.front], at(input, p.input, [y, x, c]));
    }
}

/// Output index `i` is input index `perm[i]`: `out[e[perm[0]]][e[perm[1]]][e[perm[2]]] = in[e[0]][e[1]][e[2]]`.
pub fn transpose(perm: [u8; 3], shape: Shape, input: &[u8], output: &mut [u8]) {
    let moved = |of: [usize; 3]| perm.map(|axis| of.get(usize::from(axis)).copied().unwrap_or(0));
    let [h, w, c] = moved([shape.h, shape.w, shape.c]);
    for element in elements(shape) {
        put(output, Shape { h, w, c }, moved(element), at(input, shape, element));
    }
}

/// `out[y][x][c] = in[row(y)][column(x)][c]`.
pub fn resize_nearest(p: &Resize<'_>, input: &[u8], output: &mut [u8]) {
    for [y, x, c] in elements(p.output) {
        put(output, p.output, [y, x, c], at(input, p.input, [p.row(y), p.column(x), c]));
    }
}

/// With rows `y0`, `y1` and weight `fy` of the second in 1/256, and columns alike:
///
/// ```text
/// upper = in[y0][x0] * (256 - fx) + in[y0][x1] * fx
/// lower = in[y1][x0] * (256 - fx) + in[y1][x1] * fx
/// out   = (upper * (256 - fy) + lower * fy + 2^15) >> 16
/// ```
pub fn resize_bilinear(p: &Resize<'_>, input: &[u8], output: &mut [u8]) {
    for [y, x, c] in elements(p.output) {
        let ((y0, y1, fy), (x0, x1, fx)) = (p.row_mix(y), p.column_mix(x));
        let code = |y, x| i32::from(at(input, p.input, [y, x, c]));
        let row = |y| code(y, x0) * (256 - fx) + code(y, x1) * fx;
        let mixed = row(y0) * (256 - fy) + row(y1) * fy;
        put(output, p.output, [y, x, c], ((mixed + (1 << 15)) >> 16) as u8);
    }
}

/// `out[y * b + dy][x * b + dx][k] = in[y][x][(dy * b + dx) * c + k]`, or `[(k * b + dy) * b + dx]` where the
/// channel comes first; `c` counts the output's channels.
pub fn depth_to_space(p: &DepthToSpace, input: &[u8], output: &mut [u8]) {
    let b = p.block.max(1);
    for [y, x, k] in elements(p.output) {
        let (dy, dx) = (y % b, x % b);
        let channel = if p.channel_first { (k * b + dy) * b + dx } else { (dy * b + dx) * p.output.c + k };
        put(output, p.output, [y, x, k], at(input, p.input, [y / b, x / b, channel]));
    }
}
