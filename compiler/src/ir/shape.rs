//! Shape inference: the one place that knows how large an operator's result is.
//!
//! Importers use it to build graphs, the verifier to check them. Every attribute and every operand
//! shape may come from a hostile file, so the arithmetic is checked.

use super::{Conv2d, Op, Padding, Pool};

/// Elements that a value may have at most: far above any network for small devices, far below what
/// overflows a product.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Why operands and attributes do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Wrong number of operands.
    #[error("{op} takes {expected} operands, not {found}")]
    Arity {
        /// Operator name.
        op: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        found: usize,
    },
    /// Operand or attribute out of its domain.
    #[error("{op}: {problem}")]
    Mismatch {
        /// Operator name.
        op: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// A result above [`MAX_ELEMENTS`].
    #[error("{0}: the result is too large (more than 2^28 elements)")]
    TooLarge(&'static str),
}

/// The shape of the result of `op` on operands of the shapes `inputs`. [`Op::Reshape`] and
/// [`Op::Resize`] choose theirs freely and return `declared`, once it is checked.
pub fn infer(op: &Op, inputs: &[&[usize]], declared: &[usize]) -> Result<Vec<usize>, ShapeError> {
    let rule = Rule { op: op.name() };
    let shape = match op {
        Op::Conv2d(conv) => rule.conv2d(conv, inputs)?,
        Op::FullyConnected { .. } => rule.fully_connected(inputs)?,
        Op::Add { .. } => {
            let [a, b] = rule.operands(inputs, "two")?;
            if a == b { a.to_vec() } else { rule.per_channel(a, b)? }
        }
        Op::Mul => {
            let [a, b] = rule.operands(inputs, "two")?;
            rule.per_channel(a, b)?
        }
        Op::Unary(_) => rule.one(inputs)?.to_vec(),
        Op::Softmax => {
            let x = rule.one(inputs)?;
            rule.check(x.len() >= 2, || format!("needs a dimension after the batch, not {x:?}"))?;
            x.to_vec()
        }
        Op::Concat { axis } => rule.concat(*axis, inputs)?,
        Op::Pad { pads } => rule.pad(pads, rule.one(inputs)?)?,
        Op::AvgPool(pool) | Op::MaxPool(pool) => rule.pool(pool, rule.one(inputs)?)?,
        Op::Reshape => {
            let x = rule.one(inputs)?;
            let fits = checked_len(x).is_some() && checked_len(x) == checked_len(declared);
            rule.check(fits, || format!("{x:?} and {declared:?} hold different numbers of elements"))?;
            declared.to_vec()
        }
        Op::Transpose { perm } => rule.transpose(perm, rule.one(inputs)?)?,
        Op::Resize { .. } => {
            let [_, _, c] = rule.image(rule.one(inputs)?)?;
            let [_, _, declared_c] = rule.image(declared)?;
            rule.check(c == declared_c, || format!("keeps the {c} channels, but {declared:?} is declared"))?;
            declared.to_vec()
        }
        Op::DepthToSpace { block, .. } => rule.depth_to_space(*block, rule.one(inputs)?)?,
    };
    match checked_len(&shape) {
        Some(_) => Ok(shape),
        None => Err(ShapeError::TooLarge(rule.op)),
    }
}

/// The number of elements, if it is at most [`MAX_ELEMENTS`].
pub fn checked_len(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d).filter(|&p| p <= MAX_ELEMENTS))
}

/// Rows or columns of a window operator's result: how many windows of `kernel` taps, `dilation`
/// apart, fit at `stride` into `size` with `pads` around. `None` when not one does.
pub fn windows(size: usize, pads: [usize; 2], kernel: usize, stride: usize, dilation: usize) -> Option<usize> {
    let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    let padded = size.checked_add(pads[0])?.checked_add(pads[1])?;
    padded.checked_sub(extent)?.checked_div(stride)?.checked_add(1)
}

struct Rule {
    op: &'static str,
}

impl Rule {
    fn check(&self, holds: bool, problem: impl FnOnce() -> String) -> Result<(), ShapeError> {
        if holds { Ok(()) } else { Err(ShapeError::Mismatch { op: self.op, problem: problem() }) }
    }

    fn mismatch(&self, problem: String) -> ShapeError {
        ShapeError::Mismatch { op: self.op, problem }
    }

    fn operands<'a, const N: usize>(
        &self,
        inputs: &[&'a [usize]],
        expected: &'static str,
    ) -> Result<[&'a [usize]; N], ShapeError> {
        inputs.try_into().map_err(|_| ShapeError::Arity { op: self.op, expected, found: inputs.len() })
    }

    fn one<'a>(&self, inputs: &[&'a [usize]]) -> Result<&'a [usize], ShapeError> {
        self.operands::<1>(inputs, "one").map(|[x]| x)
    }

    /// Height, width and channels of `[1, h, w, c]`.
    fn image(&self, shape: &[usize]) -> Result<[usize; 3], ShapeError> {
        match *shape {
            [1, h, w, c] => Ok([h, w, c]),
            _ => Err(self.mismatch(format!("needs an image [1, height, width, channels], not {shape:?}"))),
        }
    }

    /// Weights, and the bias where there is one.
    fn weights<'a>(&self, inputs: &[&'a [usize]]) -> Result<(&'a [usize], &'a [usize]), ShapeError> {
        let (x, weights, bias) = match *inputs {
            [x, weights] => (x, weights, None),
            [x, weights, bias] => (x, weights, Some(bias)),
            _ => return Err(ShapeError::Arity { op: self.op, expected: "two or three", found: inputs.len() }),
        };
        if let Some(bias) = bias {
            let fits = bias.len() == 1 && bias.first() == weights.first();
            self.check(fits, || format!("bias {bias:?} does not fit weights {weights:?}"))?;
        }
        Ok((x, weights))
    }

    fn conv2d(&self, conv: &Conv2d, inputs: &[&[usize]]) -> Result<Vec<usize>, ShapeError> {
        let (x, weights) = self.weights(inputs)?;
        let [h, w, c] = self.image(x)?;
        let &[n, kh, kw, k] = weights else {
            return Err(self.mismatch(format!("needs weights [out, height, width, in / groups], not {weights:?}")));
        };
        let groups = conv.groups;
        let grouped = groups > 0 && c % groups == 0 && n % groups == 0 && k.checked_mul(groups) == Some(c);
        self.check(grouped, || format!("weights {weights:?} in {groups} groups do not fit input {x:?}"))?;
        let [oh, ow] = self.window(conv.pad, [h, w], [kh, kw], conv.stride, conv.dilation)?;
        Ok(vec![1, oh, ow, n])
    }

    fn pool(&self, pool: &Pool, x: &[usize]) -> Result<Vec<usize>, ShapeError> {
        let [h, w, c] = self.image(x)?;
        let Padding { top, bottom, left, right } = pool.pad;
        let [kh, kw] = pool.kernel;
        // A window without a single real pixel would have no mean and no maximum.
        let covers = top.max(bottom) < kh && left.max(right) < kw;
        self.check(covers, || format!("padding {:?} is not smaller than the window [{kh}, {kw}]", pool.pad))?;
        let [oh, ow] = self.window(pool.pad, [h, w], pool.kernel, pool.stride, [1, 1])?;
        Ok(vec![1, oh, ow, c])
    }

    fn window(
        &self,
        pad: Padding,
        size: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<[usize; 2], ShapeError> {
        let positive = stride.iter().chain(&dilation).chain(&kernel).all(|&n| n > 0);
        self.check(positive, || "kernel, stride and dilation must be at least 1".to_owned())?;
        let rows = windows(size[0], [pad.top, pad.bottom], kernel[0], stride[0], dilation[0]);
        let columns = windows(size[1], [pad.left, pad.right], kernel[1], stride[1], dilation[1]);
        match (rows, columns) {
            (Some(rows), Some(columns)) => Ok([rows, columns]),
            _ => Err(self.mismatch(format!("a {kernel:?} window does not fit into {size:?} with its padding"))),
        }
    }

    fn fully_connected(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, ShapeError> {
        let (x, weights) = self.weights(inputs)?;
        match (x, weights) {
            ([leading @ .., last], &[n, k]) if !leading.is_empty() && *last == k => {
                Ok(leading.iter().copied().chain([n]).collect())
            }
            _ => Err(self.mismatch(format!("weights {weights:?} do not fit input {x:?}"))),
        }
    }

    /// `b` is a scalar or has one number a channel of `a`.
    fn per_channel(&self, a: &[usize], b: &[usize]) -> Result<Vec<usize>, ShapeError> {
        let fits = matches!(b, [] | [1]) || (b.len() == 1 && a.len() >= 2 && a.last() == b.first());
        self.check(fits, || format!("{b:?} is neither a scalar nor one number a channel of {a:?}"))?;
        Ok(a.to_vec())
    }

    fn concat(&self, axis: usize, inputs: &[&[usize]]) -> Result<Vec<usize>, ShapeError> {
        let [first, _, ..] = *inputs else {
            return Err(ShapeError::Arity { op: self.op, expected: "two or more", found: inputs.len() });
        };
        self.check(axis > 0 && axis < first.len(), || format!("axis {axis} is not among the axes of {first:?}"))?;
        let mut shape = first.to_vec();
        let mut total = 0usize;
        for x in inputs {
            let alike = x.len() == first.len() && (0..x.len()).all(|i| i == axis || x.get(i) == first.get(i));
            self.check(alike, || format!("{x:?} and {first:?} differ in more than axis {axis}"))?;
            total = x.get(axis).and_then(|d| total.checked_add(*d)).ok_or(ShapeError::TooLarge(self.op))?;
        }
        if let Some(d) = shape.get_mut(axis) {
            *d = total;
        }
        Ok(shape)
    }

    fn pad(&self, pads: &[(usize, usize)], x: &[usize]) -> Result<Vec<usize>, ShapeError> {
        let fits = pads.len() == x.len() && pads.first() == Some(&(0, 0));
        self.check(fits, || format!("needs one pair a dimension of {x:?}, (0, 0) for the batch, not {pads:?}"))?;
        let padded = x.iter().zip(pads).map(|(d, (before, after))| d.checked_add(*before)?.checked_add(*after));
        padded.collect::<Option<_>>().ok_or(ShapeError::TooLarge(self.op))
    }

    fn transpose(&self, perm: &[usize], x: &[usize]) -> Result<Vec<usize>, ShapeError> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        let fits = sorted.iter().copied().eq(0..x.len()) && perm.first() == Some(&0);
        self.check(fits, || format!("{perm:?} is no permutation of the axes of {x:?} that keeps the batch first"))?;
        Ok(perm.iter().filter_map(|&axis| x.get(axis).copied()).collect())
    }

    fn depth_to_space(&self, block: usize, x: &[usize]) -> Result<Vec<usize>, ShapeError> {
        let [h, w, c] = self.image(x)?;
        let area = block.checked_mul(block).filter(|&area| area > 0 && c % area == 0);
        let area = area.ok_or_else(|| self.mismatch(format!("{c} channels are no multiple of {block} x {block}")))?;
        let scaled = h.checked_mul(block).zip(w.checked_mul(block));
        let (h, w) = scaled.ok_or(ShapeError::TooLarge(self.op))?;
        Ok(vec![1, h, w, c / area])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Clamp, Conv2d};

    fn conv(stride: usize, dilation: usize, groups: usize) -> Op {
        let pad = Padding { top: 1, bottom: 1, left: 1, right: 1 };
        Op::Conv2d(Conv2d { stride: [stride; 2], pad, dilation: [dilation; 2], groups, clamp: Clamp::NONE })
    }

    #[test]
    fn conv_counts_windows() {
        let shape = |op, weights: &[usize]| infer(&op, &[&[1, 32, 30, 8], weights], &[]);
        assert_eq!(shape(conv(1, 1, 1), &[16, 3, 3, 8]), Ok(vec![1, 32, 30, 16]));
        assert_eq!(shape(conv(2, 1, 8), &[8, 3, 3, 1]), Ok(vec![1, 16, 15, 8]));
        assert_eq!(shape(conv(1, 2, 1), &[16, 3, 3, 8]), Ok(vec![1, 30, 28, 16]));
        assert!(shape(conv(1, 1, 3), &[16, 3, 3, 8]).is_err());
        assert!(shape(conv(0, 1, 1), &[16, 3, 3, 8]).is_err());
        assert!(shape(conv(1, usize::MAX, 1), &[16, 3, 3, 8]).is_err());
    }

    #[test]
    fn overflow_is_an_error() {
        let pads = vec![(0, 0), (usize::MAX, 1)];
        assert_eq!(infer(&Op::Pad { pads }, &[&[1, 4]], &[]), Err(ShapeError::TooLarge("pad")));
        let pads = vec![(0, 0), (1 << 20, 0), (1 << 20, 0)];
        assert_eq!(infer(&Op::Pad { pads }, &[&[1, 4, 4]], &[]), Err(ShapeError::TooLarge("pad")));
    }

    #[test]
    fn a_channel_constant_fits_the_last_dimension_only() {
        let op = Op::Mul;
        assert!(infer(&op, &[&[1, 4, 6], &[6]], &[]).is_ok());
        assert!(infer(&op, &[&[1, 4, 6], &[]], &[]).is_ok());
        assert!(infer(&op, &[&[1, 4, 6], &[4]], &[]).is_err());
        assert!(infer(&op, &[&[1, 4, 6], &[1, 4, 6]], &[]).is_err());
    }
}
