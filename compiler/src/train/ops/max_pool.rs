//! The largest number under a window.

use super::{Operator, Scratch, Wanted};
use crate::ir::Pool;

/// See the module.
pub(in crate::train) struct MaxPool {
    /// Windows; the clamp is left to the node's last step.
    pub(in crate::train) pool: Pool,
    /// `[h, w, c]`.
    pub(in crate::train) input: [usize; 3],
    /// Rows and columns of the output.
    pub(in crate::train) output: [usize; 2],
}

impl MaxPool {
    /// Calls with each output's place and that of the first of the largest numbers under its window.
    fn each(&self, image: &[f32], mut visit: impl FnMut(usize, usize)) {
        let [h, w, c] = self.input;
        for position in 0..self.output[0] * self.output[1] {
            let (oy, ox) = (position / self.output[1], position % self.output[1]);
            let rows = covered(oy * self.pool.stride[0], self.pool.pad.top, self.pool.kernel[0], h);
            let columns = covered(ox * self.pool.stride[1], self.pool.pad.left, self.pool.kernel[1], w);
            for channel in 0..c {
                let places = rows.clone().flat_map(|y| columns.clone().map(move |x| (y * w + x) * c + channel));
                let largest = places.reduce(|best, place| if image[place] > image[best] { place } else { best });
                if let Some(place) = largest {
                    visit(position * c + channel, place);
                }
            }
        }
    }

    fn lens(&self) -> (usize, usize) {
        (self.input.iter().product(), self.output[0] * self.output[1] * self.input[2])
    }
}

/// Rows (or columns) of the image under a window.
pub(super) fn covered(from: usize, pad: usize, kernel: usize, edge: usize) -> std::ops::Range<usize> {
    let start = from.saturating_sub(pad).min(edge);
    start..(from + kernel).saturating_sub(pad).clamp(start, edge)
}

impl Operator for MaxPool {
    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _: &mut Scratch) {
        let (image_len, out_len) = self.lens();
        for (image, out) in inputs[0].chunks_exact(image_len).zip(output.chunks_exact_mut(out_len)) {
            self.each(image, |to, from| out[to] = image[from]);
        }
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, _: &mut Scratch) {
        let Some(target) = &mut wanted.inputs[0] else { return };
        target.begin();
        let (image_len, out_len) = self.lens();
        let images = inputs[0].chunks_exact(image_len).zip(target.gradient.chunks_exact_mut(image_len));
        for ((image, dx), dy) in images.zip(gradient.chunks_exact(out_len)) {
            self.each(image, |to, from| dx[from] += dy[to]);
        }
    }
}
