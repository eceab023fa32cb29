//! Matrix products of `f32` on the calling thread: crate `gemm` behind bounds checks.
//!
//! Callers spread work over threads by sample or by channel, so a product itself never does; its
//! sums therefore have one order, whatever the number of threads.

use gemm::Parallelism;

/// A strided view: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows * columns` elements, row after row.
    pub(crate) fn row_major(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(rows * columns <= data.len(), "matrix reaches outside its data");
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `out += a * b`, where row `i` of `out` starts at `i * out_stride`.
pub(crate) fn multiply_add(a: Matrix, b: Matrix, out: &mut [f32], out_stride: usize) {
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= out_stride && (m - 1) * out_stride + n <= out.len(), "product reaches outside its output");
    // SAFETY: the constructors and the assertions above keep every strided access of the three
    // matrices inside their slices, and `out`, borrowed mutably, overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            a.columns,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            true,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
