//! An accelerator by its roofline (Williams, Waterman & Patterson 2009): a model, made of data sheets. Blobs run on the host,
//! nothing was timed on any chip, and what comes out is as good as the description.
//!
//! A layer takes as long as its arithmetic or its traffic with memory, whichever is longer. Arithmetic is that of an array
//! that computes dot products, some output channels by some pixels at once; what a layer leaves idle there is lost, which
//! is why depthwise convolutions are slow on all of them. Weights are read once a batch, activations once a sample.

use pare_runtime::format::{Conv, Layer, LayerOp, Layout};
use pare_runtime::{Isa, Model};
use serde::{Deserialize, Serialize};

use super::host::Host;
use super::{Board, BoardError, FirstInference, Timing};
use crate::emit::ObjectArch;
use crate::units::TickUnit;

/// Its description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// Where the figures are from, and which of them are assumed.
    pub source: String,
    /// What multiplies.
    pub array: Array,
    /// Bytes that memory delivers in a cycle.
    pub bytes_per_cycle: f64,
    /// Samples that are computed together.
    pub batch: u32,
}

/// An array that computes dot products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Array {
    /// A bit of all weights by a bit of all activations in a cycle (BISMO, Umuroglu, Rasnayake & Själander 2018).
    BitSerial {
        /// Output channels at once.
        rows: u32,
        /// Pixels at once, of one sample or several.
        columns: u32,
        /// Products of a dot product at once.
        depth: u32,
    },
    /// Units of 16 multipliers of 2 by 2 bits, which join for wider operands (Bit Fusion, Sharma et al. 2018).
    Fused {
        /// Units along a dot product.
        rows: u32,
        /// Output channels at once.
        columns: u32,
    },
}

/// Multipliers of a fused unit.
const BRICKS: u64 = 16;

/// What a convolution asks of an array.
struct Work {
    /// Groups of channels, one after another.
    groups: u64,
    /// Output channels of a group.
    channels: u64,
    /// Output pixels.
    pixels: u64,
    /// Products of an output.
    depth: u64,
}

impl Array {
    /// Cycles of a sample for outputs whose weights have so many bits.
    fn cycles(self, work: &Work, weight_bits: u32, activation_bits: u32, batch: u32) -> f64 {
        let Work { groups, channels, pixels, depth } = *work;
        match self {
            Array::BitSerial { rows, columns, depth: word } => {
                let passes = channels.div_ceil(rows.into()) * (pixels * u64::from(batch)).div_ceil(columns.into());
                let steps = passes * depth.div_ceil(word.into()) * u64::from(weight_bits * activation_bits);
                (groups * steps) as f64 / f64::from(batch)
            }
            Array::Fused { rows, columns } => {
                let bricks = |bits: u32| u64::from(bits.next_power_of_two().max(2) / 2);
                let products = u64::from(rows) * BRICKS / (bricks(weight_bits) * bricks(activation_bits));
                (groups * pixels * channels.div_ceil(columns.into()) * depth.div_ceil(products)) as f64
            }
        }
    }
}

impl Accelerator {
    /// Cycles of a layer.
    fn cycles(&self, layer: &Layer<'_>) -> f64 {
        let bytes = |bits: u8, numbers: usize| f64::from(bits) * numbers as f64 / 8.0;
        let mut traffic = bytes(layer.input.bits, layer.input.shape.len());
        traffic += bytes(layer.output.bits, layer.output.shape.len());
        let LayerOp::Conv(conv) = &layer.op else { return traffic / self.bytes_per_cycle };
        let (mut arithmetic, mut weights) = (0.0, 0.0);
        for group in conv.weight_groups() {
            let work = work(conv, group.channels, layer);
            let bits = group.format.bits();
            weights += f64::from(bits) * (work.depth as usize * group.channels) as f64 / 8.0;
            arithmetic += self.array.cycles(&work, bits, layer.input.bits.into(), self.batch);
        }
        let traffic = (traffic + weights / f64::from(self.batch)) / self.bytes_per_cycle;
        arithmetic.max(traffic)
    }
}

/// What some output channels of a convolution ask for.
fn work(conv: &Conv<'_>, channels: usize, layer: &Layer<'_>) -> Work {
    let (input, output) = (layer.input.shape, layer.output.shape);
    // Groups that these channels are of.
    let of_all = (conv.groups * channels).div_ceil(output.c.max(1)).max(1);
    Work {
        groups: of_all as u64,
        channels: channels.div_ceil(of_all) as u64,
        pixels: (output.h * output.w) as u64,
        depth: (conv.kernel[0] * conv.kernel[1] * input.c / conv.groups.max(1)) as u64,
    }
}

/// One that runs blobs on the host and says what it would take.
pub(super) struct Modelled {
    pub(super) name: String,
    pub(super) accelerator: Accelerator,
}

impl Board for Modelled {
    fn processor(&self) -> String {
        format!("{}, a model: {}", self.name, self.accelerator.source)
    }

    fn isas(&self) -> Vec<Isa> {
        Host::default().isas()
    }

    fn unit(&self) -> TickUnit {
        TickUnit::Cycles
    }

    /// One layout: the order of codes makes no difference to the model.
    fn layout(&self, _isa: Isa) -> Layout {
        Host::default().layout(Isa::Portable)
    }

    fn object_arch(&self) -> ObjectArch {
        Host::default().object_arch()
    }

    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
        Host::default().run(blob, isa, codes)
    }

    fn time(&self, blob: &[u8], isa: Isa, _codes: &[u8], _runs: usize) -> Result<Timing, BoardError> {
        let model = Model::parse(blob)?;
        let cycles: Vec<f64> = model.layers().map(|layer| self.accelerator.cycles(&layer)).collect();
        let total = cycles.iter().sum();
        Ok(Timing {
            unit: TickUnit::Cycles,
            total: vec![total],
            isas: vec![isa; cycles.len()],
            layers: cycles.into_iter().map(|cycles| vec![cycles]).collect(),
            first: FirstInference { parse: 0.0, setup: 0.0, run: total },
            yardstick: 1.0,
            quiet: 1.0,
            stack: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENSE: Work = Work { groups: 1, channels: 64, pixels: 64, depth: 576 };
    const DEPTHWISE: Work = Work { groups: 64, channels: 1, pixels: 64, depth: 9 };

    #[test]
    fn bits_of_both_operands_count_on_a_serial_array() {
        let array = Array::BitSerial { rows: 8, columns: 8, depth: 256 };
        assert_eq!(array.cycles(&DENSE, 8, 8, 1), (8 * 8 * 3 * 64) as f64);
        assert_eq!(array.cycles(&DENSE, 3, 5, 1), (8 * 8 * 3 * 15) as f64);
        // One row of eight works, on nine of 256 products.
        assert_eq!(array.cycles(&DEPTHWISE, 8, 8, 1), (64 * 8 * 64) as f64);
        // Samples fill columns that pixels leave idle.
        let few = Work { pixels: 1, ..DENSE };
        assert_eq!(array.cycles(&few, 2, 2, 16), 8.0 * 2.0 * 3.0 * 4.0 / 16.0);
    }

    #[test]
    fn fused_multipliers_know_2_4_and_8_bits() {
        let array = Array::Fused { rows: 16, columns: 32 };
        let cycles = |w, a| array.cycles(&DENSE, w, a, 1);
        assert_eq!(cycles(8, 8), (64 * 2 * 36) as f64);
        assert_eq!((cycles(5, 7), cycles(3, 8), cycles(4, 8)), (cycles(8, 8), cycles(4, 8), cycles(8, 8) / 2.0));
        assert_eq!(cycles(2, 2), (64 * 2 * 3) as f64);
    }
}
