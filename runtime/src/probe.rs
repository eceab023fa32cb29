//! Watching a session, layer by layer.

use crate::format::Layer;

/// Called around every layer of [`Session::run_probed`](crate::Session::run_probed): of a stage once in each band, and
/// `output` holds the rows of the band.
pub trait Probe {
    /// The layer of this index is about to run.
    fn before(&mut self, index: usize, layer: &Layer<'_>);
    /// It has run; `output` holds its codes.
    fn after(&mut self, index: usize, layer: &Layer<'_>, output: &[u8]);
}
