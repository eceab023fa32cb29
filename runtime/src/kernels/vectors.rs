//! What kernels that read [`Layout::Vectors`](crate::format::Layout::Vectors) keep in scratch: the compiler plans with
//! it, and the kernels divide it up.

use super::scratch::{decodes, padded, reads_inside};
use crate::format::{Conv, PANEL_CHANNELS, VECTOR_CHANNELS, VECTOR_CODES, WeightFormat};

/// What the scratch is aligned to.
pub(super) type Aligned = u32;

/// Bytes that the kernel wants.
pub(super) const fn scratch_bytes(conv: &Conv<'_>, format: WeightFormat) -> usize {
    let used = if conv.is_depthwise() { Depthwise::of(conv, format).bytes() } else { Dense::of(conv, format).bytes() };
    if used == 0 { 0 } else { used.saturating_add(align_of::<Aligned>() - 1) }
}

/// What a dense kernel keeps.
#[cfg_attr(not(pare_mve), allow(dead_code, reason = "for the kernel; the plan takes the total"))]
pub(super) struct Dense {
    /// Bytes of the windows of a row of output, or of the last windows of an input that is read in place.
    pub(super) windows: usize,
    /// Bytes of a pixel of padding.
    pub(super) edge: usize,
    /// Bytes of decoded levels.
    pub(super) levels: usize,
}

impl Dense {
    /// Bytes of levels that are decoded at once, unless a quad of channels takes more.
    const LEVELS: usize = 8192;

    pub(super) const fn of(conv: &Conv<'_>, format: WeightFormat) -> Dense {
        let depth = padded_depth(conv);
        let levels = if decodes(format) {
            let quad = depth.saturating_mul(VECTOR_CHANNELS);
            let fitting = Dense::LEVELS / most(quad, 1);
            quad.saturating_mul(least(most(fitting, 1), conv.output.c.div_ceil(VECTOR_CHANNELS)))
        } else {
            0
        };
        let (windows, edge) = match Columns::of(conv) {
            None if conv.depth().is_multiple_of(VECTOR_CODES) => (0, 0),
            None => (depth.saturating_mul(2), 0),
            Some(columns) => (columns.bytes(), conv.input.c),
        };
        Dense { windows, edge, levels }
    }

    const fn bytes(&self) -> usize {
        self.windows.saturating_add(self.edge).saturating_add(self.levels)
    }
}

/// Codes of a window with those that make them whole vectors.
pub(super) const fn padded_depth(conv: &Conv<'_>) -> usize {
    conv.depth().div_ceil(VECTOR_CODES).saturating_mul(VECTOR_CODES)
}

/// Columns of input, each of as many rows as a window has, for the windows of one row of output: those of a window
/// follow one another.
#[cfg_attr(not(pare_mve), allow(dead_code, reason = "for the kernel; the plan takes the total"))]
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// Bytes of a column.
    pub(super) column: usize,
    /// Columns from window to window: fewer than a window has where they share some.
    pub(super) step: usize,
    /// Columns that follow one another in the input as they do here, each so many columns of the input after the
    /// one before, and how many such series there are.
    pub(super) run: usize,
    /// See `run`.
    pub(super) stride: usize,
    /// See `run`.
    pub(super) runs: usize,
}

impl Columns {
    /// `None` where the windows of a row lie in the input, each in a row, all as far apart.
    pub(super) const fn of(conv: &Conv<'_>) -> Option<Columns> {
        let [kh, kw] = conv.kernel;
        if kh == 1 && kw == 1 && reads_inside(conv) {
            return None;
        }
        let column = kh.saturating_mul(conv.input.c);
        let [stride, windows] = [conv.stride[1], conv.output.w];
        Some(if conv.dilation[1] == 1 {
            Columns { column, step: stride, run: padded(conv, 1, windows), stride: 1, runs: 1 }
        } else {
            Columns { column, step: kw, run: windows, stride, runs: kw }
        })
    }

    /// All of them, and what is read beyond the last window.
    pub(super) const fn bytes(&self) -> usize {
        self.run.saturating_mul(self.runs).saturating_mul(self.column).saturating_add(VECTOR_CODES)
    }
}

/// Rows of a cell, columns of a block of cells.
pub(super) const CELL: usize = 4;
/// Bytes of a column of cells: [`CELL`] rows of [`PANEL_CHANNELS`] channels.
pub(super) const CELLS: usize = CELL * PANEL_CHANNELS;

/// What a depthwise kernel keeps of a panel of channels. Codes of four rows of a column are a *cell*; four cells of
/// a channel side by side are a vector that a window, or a block of one, is multiplied with.
#[cfg_attr(not(pare_mve), allow(dead_code, reason = "for the kernel; the plan takes the total"))]
pub(super) struct Depthwise {
    /// Rows of output that are computed from the same cells: 2 where a cell holds what both see.
    pub(super) together: usize,
    /// Blocks of a window, along rows and columns.
    pub(super) blocks: [usize; 2],
    /// Columns of cells.
    pub(super) width: usize,
    /// Sets of `together` rows of output whose cells there are at once.
    pub(super) sets: usize,
    /// Bytes of the levels of a panel.
    pub(super) levels: usize,
}

impl Depthwise {
    /// Bytes of cells, unless one set of rows takes more.
    const STRIP: usize = 6144;

    pub(super) const fn of(conv: &Conv<'_>, format: WeightFormat) -> Depthwise {
        let [[kh, kw], stride, dilation] = [conv.kernel, conv.stride, conv.dilation];
        let steps = stride[0].saturating_mul(stride[1]).saturating_mul(dilation[0]).saturating_mul(dilation[1]);
        let together = if steps == 1 && kh < CELL && kw <= CELL && conv.output.h > 1 { 2 } else { 1 };
        let blocks = [kh.div_ceil(CELL), kw.div_ceil(CELL)];
        let columns = CELL / together;
        let windows =
            conv.output.w.div_ceil(columns).saturating_mul(columns).saturating_sub(1).saturating_mul(stride[1]);
        let reach = blocks[1].saturating_mul(CELL).saturating_sub(1).saturating_mul(dilation[1]);
        let width = windows.saturating_add(reach).saturating_add(1);
        let fitting = Depthwise::STRIP / most(width.saturating_mul(CELLS), 1);
        let sets = if together == 1 { 1 } else { least(most(fitting, 1), conv.output.h / 2) };
        let levels = if decodes(format) { conv.depth().saturating_mul(PANEL_CHANNELS) } else { 0 };
        Depthwise { together, blocks, width, sets, levels }
    }

    /// Bytes of the cells of a set of rows.
    pub(super) const fn set(&self) -> usize {
        self.width.saturating_mul(self.blocks[0]).saturating_mul(CELLS)
    }

    /// Bytes of all cells.
    pub(super) const fn cells(&self) -> usize {
        self.set().saturating_mul(self.sets)
    }

    /// Bytes of the weights as cells, for each of the rows.
    pub(super) const fn weights(&self) -> usize {
        self.blocks[0].saturating_mul(self.blocks[1]).saturating_mul(self.together * CELL * CELLS)
    }

    /// Bytes of the table of where blocks lie.
    pub(super) const fn table(&self) -> usize {
        self.blocks[0].saturating_mul(self.blocks[1]).saturating_mul(size_of::<u32>())
    }

    const fn bytes(&self) -> usize {
        let cells = self.cells().saturating_add(self.weights());
        cells.saturating_add(self.table()).saturating_add(self.levels)
    }
}

const fn least(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn most(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
