//! Threads that share a layer.

use core::num::NonZeroUsize;
use core::ops::Range;

use crate::format::{Conv, Part};
use crate::kernels::{ConvKernel, Isa};

/// Threads that do two things at once: what [`Session::run_with`](crate::Session::run_with) shares layers among.
///
/// Layers are short, so that waking a thread for each would cost more than it saves: a pool's threads should stay
/// awake from one call to the next. Where there is an operating system, rayon's `join` does; this team only shows
/// what is meant:
///
/// ```
/// struct Scoped;
///
/// impl pare_runtime::Team for Scoped {
///     fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
///         std::thread::scope(|scope| {
///             scope.spawn(b);
///             a();
///         });
///     }
/// }
/// ```
pub trait Team: Sync {
    /// Runs both and returns when both have ended, on two threads if one is free. Either may call it again.
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send);
}

/// A convolution cut into runs of rows, one a thread.
pub(crate) struct Shares<'c, 'a> {
    conv: &'c Conv<'a>,
    isa: Isa,
    count: usize,
}

impl<'c, 'a> Shares<'c, 'a> {
    /// Multiply-accumulates of a share, at least. Measured with rayon's threads, awake, on AVX-512 kernels: dense layers
    /// of 2^19 take a tenth longer shared by two, those of 2^20 (2.7 us) a tenth less time and those of 2^21 a quarter
    /// less; depthwise ones of 2^19 a tenth longer, those of 2^20 (10 us) a third less.
    const LEAST_MACS: u64 = 1 << 19;

    /// As many shares as there are threads, or as the convolution is worth; `None` if that is one.
    #[inline]
    pub(crate) fn of(conv: &'c Conv<'a>, isa: Isa, threads: NonZeroUsize) -> Option<Shares<'c, 'a>> {
        let worth = usize::try_from(conv.macs() / Self::LEAST_MACS).unwrap_or(usize::MAX);
        let count = threads.get().min(conv.output.h).min(worth);
        (count > 1).then_some(Shares { conv, isa, count })
    }

    /// Bytes of scratch that all of them want together.
    pub(crate) fn scratch_bytes(&self) -> usize {
        let wanted = |index| {
            let part = self.part(index).conv;
            ConvKernel::choose(self.isa, &part).scratch_bytes(&part)
        };
        (0..self.count).map(wanted).max().unwrap_or(0).saturating_mul(self.count)
    }

    /// Computes the convolution; `scratch` of [`scratch_bytes`](Self::scratch_bytes) at least.
    pub(crate) fn run(&self, team: &impl Team, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
        self.run_some(0..self.count, team, input, output, scratch);
    }

    /// Computes some shares: `output` and `scratch` are theirs.
    fn run_some(&self, shares: Range<usize>, team: &impl Team, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
        if shares.len() == 1 {
            let Part { conv, input: rows, .. } = self.part(shares.start);
            if let Some(input) = input.get(rows) {
                ConvKernel::choose(self.isa, &conv).run_whole(&conv, input, output, scratch);
            }
            return;
        }
        let middle = shares.start + shares.len() / 2;
        let (first, second) = (shares.start..middle, middle..shares.end);
        let row = self.conv.output.w * self.conv.output.c;
        let rows = self.first_row(middle) - self.first_row(shares.start);
        let room = scratch.len() / shares.len() * first.len();
        let Some((above, below)) = output.split_at_mut_checked(rows * row) else { return };
        let Some((left, right)) = scratch.split_at_mut_checked(room) else { return };
        team.join(
            || self.run_some(first, team, input, above, left),
            || self.run_some(second, team, input, below, right),
        );
    }

    /// The share of this index.
    fn part(&self, index: usize) -> Part<'a> {
        self.conv.part(self.first_row(index)..self.first_row(index + 1))
    }

    /// Where the rows of a share begin.
    fn first_row(&self, index: usize) -> usize {
        self.conv.output.h * index / self.count
    }
}
