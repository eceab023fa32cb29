//! Operators that candle has no fast backward pass for: depthwise 3x3 convolution, and batch norm
//! with the clamp behind it. All tensors are `f32`, channels innermost.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Tensor};
use pare::ir::Clamp;

const KERNEL: usize = 3;
const EPSILON: f32 = 1e-5;

/// The 3x3 surroundings of every pixel of `[n, h, w, 1]`, zeros outside: `[n * h * w, 9]`.
pub(crate) fn patches(images: &Tensor) -> Result<Tensor> {
    let (n, h, w, _) = images.dims4()?;
    let pixels = images.flatten_all()?.to_vec1::<f32>()?;
    let geometry = Geometry { n, h, w, c: 1, stride: 1 };
    let mut patches = vec![0.0; n * h * w * KERNEL * KERNEL];
    geometry.for_each_tap(|input, tap, output| patches[output * KERNEL * KERNEL + tap] = pixels[input]);
    Tensor::from_vec(patches, (n * h * w, KERNEL * KERNEL), &Device::Cpu)
}

/// 3x3 convolution of each channel by itself, one pixel of zeros around: `[n, h, w, c]` and
/// weights `[9, c]` give `[n, h / stride, w / stride, c]`.
pub(crate) struct Depthwise {
    pub stride: usize,
}

struct Geometry {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    stride: usize,
}

impl Geometry {
    fn out_len(&self) -> usize {
        self.n * (self.h / self.stride) * (self.w / self.stride) * self.c
    }

    /// Calls with the offset of an input pixel, the tap it goes through, and the offset of the output pixel it adds to.
    fn for_each_tap(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (rows, columns) = (self.h / self.stride, self.w / self.stride);
        for image in 0..self.n {
            for row in 0..rows {
                for column in 0..columns {
                    let output = ((image * rows + row) * columns + column) * self.c;
                    for tap in 0..KERNEL * KERNEL {
                        let y = row * self.stride + tap / KERNEL;
                        let x = column * self.stride + tap % KERNEL;
                        if (1..=self.h).contains(&y) && (1..=self.w).contains(&x) {
                            visit(((image * self.h + y - 1) * self.w + x - 1) * self.c, tap, output);
                        }
                    }
                }
            }
        }
    }
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, weights: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weights) = (slice(x, lx)?, slice(weights, lw)?);
        let (n, h, w, c) = lx.shape().dims4()?;
        let geometry = Geometry { n, h, w, c, stride: self.stride };
        let mut y = vec![0.0; geometry.out_len()];
        geometry.for_each_tap(|input, tap, output| {
            let taps = &weights[tap * c..(tap + 1) * c];
            for ((y, x), w) in y[output..output + c].iter_mut().zip(&x[input..input + c]).zip(taps) {
                *y += x * w;
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((n, h / self.stride, w / self.stride, c))))
    }

    fn bwd(&self, x: &Tensor, weights: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, h, w, c) = x.dims4()?;
        let geometry = Geometry { n, h, w, c, stride: self.stride };
        let (xs, ws) = (x.flatten_all()?.to_vec1::<f32>()?, weights.flatten_all()?.to_vec1::<f32>()?);
        let dy = dy.flatten_all()?.to_vec1::<f32>()?;
        let (mut dx, mut dw) = (vec![0.0; xs.len()], vec![0.0; ws.len()]);
        geometry.for_each_tap(|input, tap, output| {
            let dy = &dy[output..output + c];
            let taps = tap * c..(tap + 1) * c;
            for ((dx, dy), w) in dx[input..input + c].iter_mut().zip(dy).zip(&ws[taps.clone()]) {
                *dx += dy * w;
            }
            for ((dw, dy), x) in dw[taps].iter_mut().zip(dy).zip(&xs[input..input + c]) {
                *dw += dy * x;
            }
        });
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), &Device::Cpu)?),
            Some(Tensor::from_vec(dw, weights.shape(), &Device::Cpu)?),
        ))
    }
}

/// Statistics of each channel over all rows.
pub(crate) struct Moments {
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + 1e-5)`.
    pub inverse_deviation: Vec<f32>,
}

impl Moments {
    pub(crate) fn of(rows: &[f32], channels: usize) -> Self {
        let count = (rows.len() / channels) as f32;
        let mut mean = vec![0.0; channels];
        for row in rows.chunks_exact(channels) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut variance = vec![0.0; channels];
        for row in rows.chunks_exact(channels) {
            for ((sum, x), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (x - mean) * (x - mean);
            }
        }
        let inverse_deviation = variance.iter().map(|sum| 1.0 / (sum / count + EPSILON).sqrt()).collect();
        Moments { mean, inverse_deviation }
    }
}

/// Batch norm (Ioffe & Szegedy 2015) of `[rows, channels]` by the batch's own statistics, with
/// gamma and beta `[channels]`, and a clamp.
pub(crate) struct BatchNorm {
    pub clamp: Clamp,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gamma, beta) = (slice(x, lx)?, slice(gamma, lg)?, slice(beta, lb)?);
        let channels = gamma.len();
        let moments = Moments::of(x, channels);
        let factor: Vec<f32> = gamma.iter().zip(&moments.inverse_deviation).map(|(g, inverse)| g * inverse).collect();
        let shift: Vec<f32> = (0..channels).map(|c| beta[c] - moments.mean[c] * factor[c]).collect();
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks_exact(channels) {
            y.extend(row.iter().zip(&factor).zip(&shift).map(|((x, f), s)| self.clamp.apply(x * f + s)));
        }
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (count, channels) = x.dims2()?;
        let (xs, gammas) = (x.flatten_all()?.to_vec1::<f32>()?, gamma.to_vec1::<f32>()?);
        let (ys, mut dys) = (y.flatten_all()?.to_vec1::<f32>()?, dy.flatten_all()?.to_vec1::<f32>()?);
        for (dy, y) in dys.iter_mut().zip(&ys) {
            if *y <= self.clamp.min || *y >= self.clamp.max {
                *dy = 0.0;
            }
        }
        let Moments { mean, inverse_deviation } = Moments::of(&xs, channels);
        let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
        for (x, dy) in xs.chunks_exact(channels).zip(dys.chunks_exact(channels)) {
            for c in 0..channels {
                dgamma[c] += dy[c] * (x[c] - mean[c]) * inverse_deviation[c];
                dbeta[c] += dy[c];
            }
        }
        // dx = gamma * inv * (dy - mean(dy) - x_hat * mean(dy * x_hat)) = a * dy + b * x + offset
        let a: Vec<f32> = gammas.iter().zip(&inverse_deviation).map(|(g, inverse)| g * inverse).collect();
        let b: Vec<f32> = (0..channels).map(|c| -a[c] * inverse_deviation[c] * dgamma[c] / count as f32).collect();
        let offset: Vec<f32> = (0..channels).map(|c| -a[c] * dbeta[c] / count as f32 - b[c] * mean[c]).collect();
        let mut dx = Vec::with_capacity(xs.len());
        for (x, dy) in xs.chunks_exact(channels).zip(dys.chunks_exact(channels)) {
            dx.extend((0..channels).map(|c| a[c] * dy[c] + b[c] * x[c] + offset[c]));
        }
        Ok((
            Some(Tensor::from_vec(dx, (count, channels), &Device::Cpu)?),
            Some(Tensor::from_vec(dgamma, channels, &Device::Cpu)?),
            Some(Tensor::from_vec(dbeta, channels, &Device::Cpu)?),
        ))
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (CpuStorage::F32(elements), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
        return Err(Error::Msg("expects contiguous f32".to_owned()));
    };
    Ok(&elements[from..to])
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn var(shape: impl Into<Shape>, phase: f32) -> Var {
        let shape = shape.into();
        let numbers = (0..shape.elem_count()).map(|i| (i as f32 * 1.7 + phase).sin()).collect();
        Var::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    /// Compares the gradient of `loss` for each element of `var` with the slope between two points beside it.
    fn check_gradient(var: &Var, loss: impl Fn() -> Result<Tensor>) {
        const STEP: f32 = 1e-2;
        let gradient = loss().unwrap().backward().unwrap().get(var).unwrap().flatten_all().unwrap();
        let gradient = gradient.to_vec1::<f32>().unwrap();
        let start = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let loss_at = |i: usize, by: f32| {
            let mut moved = start.clone();
            moved[i] += by;
            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
            loss().unwrap().to_scalar::<f32>().unwrap()
        };
        for (i, exact) in gradient.iter().enumerate() {
            let slope = (loss_at(i, STEP) - loss_at(i, -STEP)) / (2.0 * STEP);
            assert!((slope - exact).abs() < 2e-2 * (1.0 + exact.abs()), "element {i}: {slope} {exact}");
        }
        loss_at(0, 0.0);
    }

    #[test]
    fn gradients_are_the_slopes() {
        let (x, w) = (var((2, 4, 4, 3), 0.3), var((9, 3), 1.1));
        for stride in [1, 2] {
            let loss = || x.apply_op2(&w, Depthwise { stride })?.powf(3.0)?.sum_all();
            check_gradient(&x, loss);
            check_gradient(&w, loss);
        }
        let (rows, gamma, beta) = (var((12, 3), 0.2), var(3, 0.9), var(3, 2.0));
        let clamp = Clamp { min: -5.0, max: 5.0 };
        let loss = || rows.apply_op3(&gamma, &beta, BatchNorm { clamp })?.powf(3.0)?.sum_all();
        check_gradient(&rows, loss);
        check_gradient(&gamma, loss);
        check_gradient(&beta, loss);
    }
}
