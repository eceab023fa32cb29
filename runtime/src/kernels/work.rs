//! What kernels do, counted: the causes of their times, for whoever predicts those.
//!
//! The counts of kernels for panels come from the functions by which the kernels themselves divide their work, those
//! of others from shapes alone. What each costs in ticks is for measurements to say.

use super::Isa;
#[cfg(target_arch = "x86_64")]
use super::x86_64;
use crate::format::{Conv, PANEL_CHANNELS, PANEL_DEPTH, Pool, Shape, WeightFormat};

/// Things that a kernel does again and again, at most.
pub const CAUSES: usize = 10;

/// How often a kernel does each of them. Which those are differs from kernel to kernel: they compare within one
/// instruction set and operator.
pub type Work = [usize; CAUSES];

impl Isa {
    /// The work of a convolution whose weights are in panels, or as good as, and have one format; its weight groups
    /// are not looked at.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only x86-64 counts what it decodes"))]
    pub fn conv_work(self, conv: &Conv<'_>, format: WeightFormat) -> Work {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni => x86_64::conv_work(self, conv, format),
            _ => conv_by_shape(conv),
        }
    }

    /// The work of a mean over windows.
    pub fn avg_pool_work(self, pool: &Pool) -> Work {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => x86_64::avg_pool_work(self, pool),
            _ => super::portable::pool_work(pool),
        }
    }

    /// The work of a maximum over windows.
    pub fn max_pool_work(self, pool: &Pool) -> Work {
        super::portable::pool_work(pool)
    }

    /// The work of anything else, by its output.
    pub fn pointwise_work(self, output: Shape) -> Work {
        // Whole vectors of any width, and what is left of the last.
        let len = output.len();
        [len / 64, len % 64, output.h * output.w, output.h, 0, 0, 0, 0, 0, 0]
    }
}

/// Of a convolution by kernels that are not known here: panels of channels, rows, pixels, and steps of a window.
fn conv_by_shape(conv: &Conv<'_>) -> Work {
    let (segments, len) = conv.segments();
    let steps = if conv.is_depthwise() { conv.depth() } else { segments * len.div_ceil(PANEL_DEPTH) };
    let Shape { h: rows, w, c: channels } = conv.output;
    let (pixels, panels) = (rows * w, channels.div_ceil(PANEL_CHANNELS));
    [
        panels,
        rows,
        rows * panels,
        rows * panels * steps,
        pixels * conv.kernel[0],
        pixels * steps,
        pixels * panels,
        pixels * panels * steps,
        pixels * channels,
        pixels * channels * steps,
    ]
}
