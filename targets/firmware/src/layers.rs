//! Time, layer by layer.

use pare_runtime::format::{Layer, LayerOp};
use pare_runtime::kernels::ConvKernel;
use pare_runtime::{Isa, Probe};

use crate::counter::Counter;

/// Watches a session and tells each turn of a layer: its index, the family of its kernel, and the ticks it took.
#[derive(Debug)]
pub struct LayerTimes<F> {
    counter: Counter,
    isa: Isa,
    begin: u64,
    tell: F,
}

impl<F: FnMut(usize, Isa, u64)> LayerTimes<F> {
    /// For a session with the kernels of `isa`.
    pub fn new(counter: Counter, isa: Isa, tell: F) -> LayerTimes<F> {
        LayerTimes { counter, isa, begin: 0, tell }
    }
}

impl<F: FnMut(usize, Isa, u64)> Probe for LayerTimes<F> {
    fn before(&mut self, _index: usize, _layer: &Layer<'_>) {
        self.begin = self.counter.now();
    }

    fn after(&mut self, index: usize, layer: &Layer<'_>, _output: &[u8]) {
        let ticks = self.counter.since(self.begin);
        let isa = match &layer.op {
            LayerOp::Conv(conv) => ConvKernel::choose(self.isa, conv).isa,
            _ => self.isa,
        };
        (self.tell)(index, isa, ticks);
    }
}
