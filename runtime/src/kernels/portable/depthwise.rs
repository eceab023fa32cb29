//! Depthwise convolutions: channels innermost.

use super::decode::Decoder;
use super::lanes::{LANES, Lanes, load};
use crate::format::Conv;

/// The decoded taps of 16 channels.
pub(super) fn scratch_bytes(p: &Conv<'_>) -> usize {
    p.depth().saturating_mul(LANES)
}

/// See [`reference::conv`](crate::kernels::reference::conv).
pub(super) fn conv(p: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let levels: &mut [i8] = bytemuck::cast_slice_mut(scratch);
    let taps = levels.as_chunks_mut::<LANES>().0;
    let taps = taps.get_mut(..p.depth()).unwrap_or_default();
    for group in p.weight_groups() {
        let decoder = Decoder::new(p, &group);
        for first in (0..group.channels).step_by(LANES) {
            decoder.taps(first, taps);
            let channels = LANES.min(group.channels - first);
            block(p, group.first + first, channels, taps, input, output);
        }
    }
}

/// All pixels of up to 16 channels.
fn block(p: &Conv<'_>, first: usize, channels: usize, taps: &[Lanes<i8>], input: &[u8], output: &mut [u8]) {
    let (bias, mult): (Lanes<i32>, Lanes<i32>) = (load(p.bias, first), load(p.mult, first));
    for y in 0..p.output.h {
        for x in 0..p.output.w {
            let mut sums = bias;
            for (ky, taps) in taps.chunks_exact(p.kernel[1]).enumerate() {
                let iy = (y * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
                for (kx, tap) in taps.iter().enumerate() {
                    let ix = (x * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pad[1]);
                    let codes = if iy < p.input.h && ix < p.input.w {
                        load(input, (iy * p.input.w + ix) * p.input.c + first)
                    } else {
                        [p.zero_in; LANES]
                    };
                    for ((sum, code), &level) in sums.iter_mut().zip(codes).zip(tap) {
                        *sum = sum.wrapping_add(i32::from(code) * i32::from(level));
                    }
                }
            }
            let codes = output.get_mut((y * p.output.w + x) * p.output.c + first..).unwrap_or_default();
            for ((code, sum), mult) in codes.iter_mut().take(channels).zip(sums).zip(mult) {
                *code = p.requantise.apply(sum, mult);
            }
        }
    }
}
