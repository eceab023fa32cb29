//! Weights without their zeros: what is multiplied is what is stored.

use super::decode::Decoder;
use super::dense::Inputs;
use crate::format::{Conv, PANEL_CHANNELS, PANEL_DEPTH, SPARSE_WINDOW, SparsePanel, WeightGroup};

/// The output channels of a sparse group, `row` being room for a window of `row_len` codes.
pub(super) fn conv(inputs: &Inputs<'_>, group: &WeightGroup<'_>, row_len: usize, row: &mut [u8], output: &mut [u8]) {
    let p: &Conv<'_> = inputs.p;
    let Some(weights) = group.sparse() else { return };
    let decoder = Decoder::new(p, group);
    for (index, pixel) in output.chunks_exact_mut(p.output.c.max(1)).enumerate() {
        let [window] = inputs.gather::<1>(index, row_len, row);
        for first in (0..group.channels).step_by(PANEL_CHANNELS) {
            let sums = sums(&decoder, &weights.panel(first / PANEL_CHANNELS), window);
            let channels = group.first + first..group.first + group.channels.min(first + PANEL_CHANNELS);
            let numbers = p.bias.get(channels.clone()).unwrap_or(&[]).iter();
            let numbers = numbers.zip(p.mult.get(channels.clone()).unwrap_or(&[]));
            let codes = pixel.get_mut(channels).unwrap_or_default();
            for ((code, sum), (&bias, &mult)) in codes.iter_mut().zip(sums).zip(numbers) {
                *code = p.requantise.apply(bias.wrapping_add(sum), mult);
            }
        }
    }
}

/// The sums of a panel's channels over a window, whose codes are in the order of weights.
fn sums(decoder: &Decoder<'_>, panel: &SparsePanel<'_>, window: &[u8]) -> [i32; PANEL_CHANNELS] {
    let mut sums = [0i32; PANEL_CHANNELS];
    for (step, (&base, indices)) in panel.bases.iter().zip(panel.indices).enumerate() {
        let window = window.get(usize::from(u16::from_le_bytes(base))..).unwrap_or(&[]);
        let window = window.get(..SPARSE_WINDOW).unwrap_or(window);
        let (indices, _) = indices.as_chunks::<PANEL_DEPTH>();
        let quarters = indices.chunks_exact(4).zip(sums.chunks_exact_mut(4));
        for (quarter, (indices, sums)) in quarters.enumerate() {
            let levels = decoder.quarter_step(panel.codes, panel.bases.len(), step, quarter);
            let (levels, _) = levels.as_chunks::<PANEL_DEPTH>();
            for ((sum, indices), levels) in sums.iter_mut().zip(indices).zip(levels) {
                for (&index, &level) in indices.iter().zip(levels) {
                    let code = window.get(usize::from(index)).copied().unwrap_or(0);
                    *sum = sum.wrapping_add(i32::from(code) * i32::from(level));
                }
            }
        }
    }
    sums
}
