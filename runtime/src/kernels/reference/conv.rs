//! Convolution of every geometry, grouping, format and layout.

use super::{add, at, put, source};
use crate::format::{Conv, Layout, WeightGroup};

/// `out[y][x][o] = requantise(bias[o] + sum over ky, kx, i of in[iy][ix][g + i] * w[o][ky][kx][i], mult[o])`,
/// with `iy = y * stride + ky * dilation - pad` and `ix` alike, `in` being `zero_in` outside the input,
/// `i` running over the inputs of the channel group of `o`, of which `g` is the first, and
/// [`requantise`](crate::requant). The zero point needs no term: the bias holds `-zero_in * sum(w)`.
///
/// If the convolution has a residual, the code is the second operand of [`add`]; the first is what `output` holds.
pub fn conv(p: &Conv<'_>, input: &[u8], output: &mut [u8]) {
    for group in p.weight_groups() {
        for channel in 0..group.channels {
            let o = group.first + channel;
            let bias = p.bias.get(o).copied().unwrap_or(0);
            let mult = p.mult.get(o).copied().unwrap_or(0);
            for y in 0..p.output.h {
                for x in 0..p.output.w {
                    let acc = bias.wrapping_add(dot(p, &group, channel, input, [y, x]));
                    let mut code = p.requantise.apply(acc, mult);
                    if let Some(sum) = &p.residual {
                        let mut first = [at(output, p.output, [y, x, o])];
                        add(sum, &mut first, &[code]);
                        [code] = first;
                    }
                    put(output, p.output, [y, x, o], code);
                }
            }
        }
    }
}

fn dot(p: &Conv<'_>, group: &WeightGroup<'_>, channel: usize, input: &[u8], [y, x]: [usize; 2]) -> i32 {
    let inputs = p.group_inputs();
    let first_input = (group.first + channel) / (p.output.c / p.groups.max(1)).max(1) * inputs;
    let mut sum = 0i32;
    if group.layout == Layout::Sparse {
        for (k, level) in group.sparse_weights(channel) {
            let (tap, i) = (k / inputs.max(1), k % inputs.max(1));
            let iy = source(y, p.stride[0], tap / p.kernel[1].max(1), p.dilation[0], p.pad[0], p.input.h);
            let ix = source(x, p.stride[1], tap % p.kernel[1].max(1), p.dilation[1], p.pad[1], p.input.w);
            sum = sum.wrapping_add(i32::from(code(p, input, [iy, ix], i)) * i32::from(level));
        }
        return sum;
    }
    for ky in 0..p.kernel[0] {
        let iy = source(y, p.stride[0], ky, p.dilation[0], p.pad[0], p.input.h);
        for kx in 0..p.kernel[1] {
            let ix = source(x, p.stride[1], kx, p.dilation[1], p.pad[1], p.input.w);
            for i in 0..inputs {
                let level = group.level(p, channel, (ky * p.kernel[1] + kx) * inputs + i);
                sum = sum.wrapping_add(i32::from(code(p, input, [iy, ix], first_input + i)) * i32::from(level));
            }
        }
    }
    sum
}

/// Channel `i` of a pixel of the input, one of padding if a coordinate is outside.
fn code(p: &Conv<'_>, input: &[u8], pixel: [Option<usize>; 2], i: usize) -> u8 {
    match pixel {
        [Some(iy), Some(ix)] => at(input, p.input, [iy, ix, i]),
        _ => p.zero_in,
    }
}
