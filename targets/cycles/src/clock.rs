//! The clock: cycles of a core and of the waits for its flash, read at a mark.

use crate::flash::Flash;
use crate::pipeline::{Pipeline, Placed};

/// Counts what it is told of.
#[derive(Debug)]
pub struct Clock {
    pipeline: Pipeline,
    flash: Flash,
    /// The address of the instruction that reads the clock.
    mark: u32,
    cycles: u64,
    readings: Vec<u64>,
}

impl Clock {
    /// A clock at 0.
    pub fn new(pipeline: Pipeline, flash: Flash, mark: u32) -> Clock {
        Clock { pipeline, flash, mark, cycles: 0, readings: vec![] }
    }

    /// An instruction begins.
    pub fn execute(&mut self, placed: Placed) {
        self.cycles += u64::from(self.flash.fetch(placed.address, self.cycles));
        self.cycles += u64::from(self.pipeline.cycles(placed));
        if placed.address == self.mark {
            self.readings.push(self.cycles);
        }
    }

    /// It reads data.
    pub fn read(&mut self, address: u32) {
        self.cycles += u64::from(self.flash.read(address));
    }

    /// What the clock showed whenever the mark was reached.
    pub fn readings(&self) -> &[u64] {
        &self.readings
    }
}
