//! AVX2 with BMI2, and the same with AVX-VNNI.
//!
//! A vector of 32 levels is 8 channels by a quad. AVX-VNNI multiplies it by a quad of codes and adds in one
//! instruction; [`products`] says what to do without.

mod dense;
mod depthwise;
mod levels;
mod products;
mod requantise;
mod stream;

use crate::format::{PANEL_CHANNELS, PANEL_DEPTH};

/// The leaves of this folder. A value is proof that the processor has the instructions: only
/// [`detected`](crate::kernels::panels::dense::Dense::detected) makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Those that differ with AVX-VNNI; a value is proof in the same way.
#[derive(Clone, Copy)]
pub(super) struct AvxVnni(());

/// Bytes of a vector: a step of a panel is two of them.
const VECTOR: usize = 32;

const _: () = assert!(PANEL_CHANNELS * PANEL_DEPTH == 2 * VECTOR);
