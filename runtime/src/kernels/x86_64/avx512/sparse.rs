//! Weights without their zeros: of each step's 64 positions, one `vpermb` brings the codes to the weights that meet them.

use core::arch::x86_64::*;

use super::Avx512;
use super::levels::{Bytes, Table64, Table128};
use super::stream::{InSequence, Looked, Steps, requantise};
use crate::format::{
    Conv, PANEL_CHANNELS, PANEL_STEP, SPARSE_STEPS, SPARSE_WINDOW, Sparse, SparsePanel, WeightFormat, WeightGroup,
};
use crate::kernels::panels::Panels;
use crate::kernels::panels::dense::Dense;
use crate::kernels::scratch::reads_inside;

/// Panels whose sums become codes together.
const TOGETHER: usize = 4;

/// Whether the kernel takes a convolution: of pixels of the input, whose channels lie in the order of the weights.
pub(in crate::kernels::x86_64) fn takes(conv: &Conv<'_>) -> bool {
    conv.kernel == [1; 2] && reads_inside(conv)
}

/// 1x1 convolution of weights in [`Layout::Sparse`](crate::format::Layout::Sparse); leaves (part of) the output alone if
/// the arguments do not fit together.
pub(in crate::kernels::x86_64) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    if Avx512::detected().is_some() && takes(conv) {
        // `None` would come of arguments that do not fit.
        let _ran = pixels(conv, input, output, scratch);
    }
}

fn pixels(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let depth = conv.input.c;
    let (width, [down, right]) = (conv.output.w.max(1), conv.stride);
    for (index, output) in output.chunks_exact_mut(conv.output.c.max(1)).enumerate() {
        let (y, x) = (index / width * down, index % width * right);
        let from = (y * conv.input.w + x) * depth;
        let mut window = input.get(from..from + depth)?;
        if depth < SPARSE_WINDOW {
            let copy = scratch.get_mut(..SPARSE_WINDOW)?;
            copy.get_mut(..depth)?.copy_from_slice(window);
            window = copy;
        }
        for group in conv.weight_groups() {
            let job = Job::new(conv, &group, window, output)?;
            // SAFETY: the processor has the instructions, or `run` would not have come here.
            unsafe { job.run(&group) };
        }
    }
    Some(())
}

/// The output channels of a group and a window. Invariants, kept by `new`: the window has [`SPARSE_WINDOW`] codes at least;
/// the channels of the panels lie in the output.
struct Job<'a> {
    conv: &'a Conv<'a>,
    weights: Sparse<'a>,
    panels: Panels<'a>,
    window: &'a [u8],
    output: &'a mut [u8],
}

impl<'a> Job<'a> {
    fn new(conv: &'a Conv<'a>, group: &WeightGroup<'a>, window: &'a [u8], output: &'a mut [u8]) -> Option<Job<'a>> {
        let channels = group.first..group.first + group.channels;
        let (bias, mult) = (conv.bias.get(channels.clone())?, conv.mult.get(channels.clone())?);
        let len = group.channels.div_ceil(PANEL_CHANNELS);
        let panels = Panels { len, first: group.first, bias, mult, codes: &[], step: 0 };
        let output = output.get_mut(channels)?;
        (window.len() >= SPARSE_WINDOW).then_some(Job { conv, weights: group.sparse()?, panels, window, output })
    }

    /// # Safety
    /// The processor has the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn run(self, group: &WeightGroup<'_>) {
        // SAFETY: as many steps are in sequence as the format has together.
        unsafe {
            match group.format {
                WeightFormat::Linear(8) => self.panels::<1, _>(&InSequence(Bytes)),
                format => match format.bits() {
                    2 => self.panels::<4, _>(&Looked::new(group)),
                    4 => self.panels::<2, _>(&Looked::new(group)),
                    7 => self.panels::<1, _>(&InSequence(Table128::new(group))),
                    _ => self.panels::<1, _>(&InSequence(Table64::new(group))),
                },
            }
        }
    }

    /// # Safety
    /// The processor has the instructions; `steps` reads codes of the group's format, `F` steps of which lie together.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn panels<const F: usize, S: Steps<F>>(self, steps: &S) {
        let Job { conv, weights, panels, window, output } = self;
        // SAFETY: the contract; the channels lie in the output, and the window is long enough.
        unsafe {
            let one = |index: usize| [sums(steps, &weights.panel(index), window)];
            let four = |first: usize| {
                let mut sums = [_mm512_setzero_si512(); TOGETHER];
                for p in 0..TOGETHER {
                    [sums[p]] = one(first + p);
                }
                sums
            };
            requantise(&conv.requantise, &panels, output.as_mut_ptr(), four, one);
        }
    }
}

/// The sums of a panel's channels.
///
/// # Safety
/// The processor has the instructions; `steps` reads codes of the panel's format, `F` steps of which lie together; the
/// window has [`SPARSE_WINDOW`] codes at least.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn sums<const F: usize, S: Steps<F>>(steps: &S, panel: &SparsePanel<'_>, window: &[u8]) -> __m512i {
    let last = window.len() - SPARSE_WINDOW;
    let mut sums = [_mm512_setzero_si512(); SPARSE_STEPS];
    let (bases, _) = panel.bases.as_chunks::<SPARSE_STEPS>();
    let (indices, _) = panel.indices.as_chunks::<SPARSE_STEPS>();
    let codes = panel.codes.chunks_exact((SPARSE_STEPS / F * steps.bytes()).max(1));
    for ((bases, indices), codes) in bases.iter().zip(indices).zip(codes) {
        for some in 0..SPARSE_STEPS / F {
            // SAFETY: so many bytes are in the chunk.
            let packed = unsafe { steps.load(codes.as_ptr().add(some * steps.bytes())) };
            for i in 0..F {
                let n = some * F + i;
                let base = usize::from(u16::from_le_bytes(bases[n])).min(last);
                let indices: &[u8; PANEL_STEP] = &indices[n];
                // SAFETY: 64 bytes each.
                unsafe {
                    let window = _mm512_loadu_si512(window.as_ptr().add(base).cast());
                    let window = _mm512_permutexvar_epi8(_mm512_loadu_si512(indices.as_ptr().cast()), window);
                    sums[n] = _mm512_dpbusd_epi32(sums[n], window, steps.step(packed, i));
                }
            }
        }
    }
    let [a, b, c, d] = sums;
    _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d))
}
