//! The windows that a convolution looks through: rows of its im2col matrix.

use std::ops::Range;

use crate::ir::Conv2d;

/// Geometry of one convolution's windows over an image `[h, w, c]`.
#[derive(Clone, Debug)]
pub(crate) struct Patches {
    input: [usize; 3],
    kernel: [usize; 2],
    output: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Rows above, columns before.
    pad: [usize; 2],
}

impl Patches {
    /// `input` is `[1, h, w, c]`, `weights` `[c_out, kh, kw, _]`, `output` `[1, oh, ow, c_out]`.
    pub(crate) fn new(conv: &Conv2d, input: &[usize], weights: &[usize], output: &[usize]) -> Self {
        Patches {
            input: [input[1], input[2], input[3]],
            kernel: [weights[1], weights[2]],
            output: [output[1], output[2]],
            stride: conv.stride,
            dilation: conv.dilation,
            pad: [conv.pad.top, conv.pad.left],
        }
    }

    /// Windows of one image.
    pub(crate) fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Elements of a window for each channel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Channels of the image.
    pub(crate) fn channels(&self) -> usize {
        self.input[2]
    }

    /// Elements of the image.
    pub(crate) fn image_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Whether the windows are the image's pixels themselves, in order.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1, 1] && self.output == self.input[..2] && self.pad == [0, 0]
    }

    /// For each tap of the window at `position`: its place in the image, counted in pixels, if it
    /// is not in the padding.
    pub(crate) fn pixels(&self, position: usize) -> impl Iterator<Item = Option<usize>> + '_ {
        let [h, w, _] = self.input;
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        (0..self.kernel[0]).flat_map(move |ky| {
            let y = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
            (0..self.kernel[1]).map(move |kx| {
                let x = (ox * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pad[1]);
                (y < h && x < w).then_some(y * w + x)
            })
        })
    }

    /// Writes the window at `position`, `[kh, kw, channels]`, zeros for padding.
    pub(crate) fn copy(&self, image: &[f32], position: usize, channels: Range<usize>, out: &mut [f32]) {
        let width = channels.len();
        if width == self.input[2] && self.dilation[1] == 1 {
            return self.copy_runs(image, position, out);
        }
        for (tap, pixel) in out.chunks_exact_mut(width).zip(self.pixels(position)) {
            match pixel {
                Some(at) => tap.copy_from_slice(&image[at * self.input[2]..][channels.clone()]),
                None => tap.fill(0.0),
            }
        }
    }

    /// All channels of undilated columns: one run of memory a kernel row.
    fn copy_runs(&self, image: &[f32], position: usize, out: &mut [f32]) {
        let [h, w, c] = self.input;
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        let left = (ox * self.stride[1]) as isize - self.pad[1] as isize;
        let first = (-left).clamp(0, self.kernel[1] as isize) as usize;
        let end = (w as isize - left).clamp(first as isize, self.kernel[1] as isize) as usize;
        for (ky, row) in out.chunks_exact_mut(self.kernel[1] * c).enumerate() {
            let y = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
            if y >= h || first == end {
                row.fill(0.0);
                continue;
            }
            let from = (y * w) * c + (left + first as isize) as usize * c;
            row[..first * c].fill(0.0);
            row[first * c..end * c].copy_from_slice(&image[from..][..(end - first) * c]);
            row[end * c..].fill(0.0);
        }
    }
}
