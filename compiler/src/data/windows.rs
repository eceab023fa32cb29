//! Slides a model with a short input over a long sample.
//!
//! A sample `[T, F]` for a model of `k * F` inputs gives the `T - k + 1` windows of k rows each (the
//! ToyCar autoencoder: `[200, 128]` and 640 inputs give 196). A sample of exactly the model's input
//! is its own one window.

/// The windows of every sample of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    count: usize,
    step: usize,
    len: usize,
}

impl Windows {
    /// Windows of `model_input_len` elements in samples of `sample_shape`; `None` when the model's
    /// input is neither the sample nor a number of its rows.
    pub fn of(sample_shape: &[usize], model_input_len: usize) -> Option<Self> {
        if sample_shape.iter().product::<usize>() == model_input_len {
            return Some(Windows { count: 1, step: model_input_len, len: model_input_len });
        }
        let &[rows, features] = sample_shape else { return None };
        let window_rows = model_input_len.checked_div(features)?;
        let fits = window_rows * features == model_input_len && (1..=rows).contains(&window_rows);
        fits.then(|| Windows { count: rows - window_rows + 1, step: features, len: model_input_len })
    }

    /// How many model inputs one sample gives.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Elements of a model input.
    pub(crate) fn window_len(&self) -> usize {
        self.len
    }

    /// The model inputs of one sample, in order, as parts of it.
    pub fn iter<'a>(&self, sample: &'a [f32]) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        let Windows { count, step, len } = *self;
        (0..count).map(move |i| &sample[i * step..i * step + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slides_row_by_row() {
        let windows = Windows::of(&[4, 2], 6).unwrap();
        let sample: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let inputs: Vec<&[f32]> = windows.iter(&sample).collect();
        assert_eq!(inputs, [&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]);
        assert_eq!(Windows::of(&[200, 128], 640).unwrap().count(), 196);
    }

    #[test]
    fn a_whole_sample_is_one_window() {
        assert_eq!(Windows::of(&[32, 32, 3], 3072).unwrap().count(), 1);
        assert_eq!(Windows::of(&[4, 2], 8).unwrap().count(), 1);
    }

    #[test]
    fn other_sizes_have_no_windows() {
        for (shape, len) in [(&[4, 2][..], 5), (&[4, 2], 10), (&[4, 2], 0), (&[4, 0], 2), (&[4, 2, 3], 6), (&[], 2)] {
            assert_eq!(Windows::of(shape, len), None, "{shape:?} {len}");
        }
    }
}
