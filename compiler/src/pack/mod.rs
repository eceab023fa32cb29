//! Levels into bits, in the order the target's kernels read them.
//!
//! The bijection between (channel, weight) and bit position is the runtime's
//! ([`pare_runtime::bits`]): one definition serves packing, the reference kernels and the tests.

use pare_runtime::bits::{code_of, write_code};
use pare_runtime::format::{Conv, Layout, WeightFormat};
use pare_runtime::sparse::{NoCode, Packing};

use crate::lower::PlannedWeights;

/// A level that its format cannot express.
#[derive(Debug, thiserror::Error)]
#[error("level {level} of output channel {channel} has no {format:?} code")]
pub struct PackError {
    /// Which level.
    pub level: i8,
    /// Within the group.
    pub channel: usize,
    /// The format.
    pub format: WeightFormat,
}

/// The packed codes of a group: exactly [`Conv::packed_bytes`] of them, or the data of a sparse group.
///
/// # Errors
/// When a level is not among those of the format.
pub fn pack(geometry: &Conv<'_>, group: &PlannedWeights) -> Result<Vec<u8>, PackError> {
    let format = WeightFormat::from(group.format);
    let depth = geometry.depth();
    if group.layout == Layout::Sparse {
        let packing = Packing { levels: &group.levels, depth, format, codebook: &group.codebook };
        // More than there are bytes in a blob is for the emitter to refuse.
        let mut data = vec![0; packing.bytes().unwrap_or(0)];
        packing.write(&mut data).map_err(|NoCode { level, channel }| PackError { level, channel, format })?;
        return Ok(data);
    }
    let mut codes = vec![0; geometry.packed_bytes(group.channels, format, group.layout)];
    geometry.clear(group.layout, format, &mut codes);
    for (channel, levels) in group.levels.chunks(depth).enumerate() {
        for (k, &level) in levels.iter().enumerate() {
            let code = code_of(format, level, &group.codebook).ok_or(PackError { level, channel, format })?;
            let position = geometry.position(group.layout, format, channel, k);
            write_code(&mut codes[position.offset..], format.bits(), position.index, code ^ position.inverted);
        }
    }
    Ok(codes)
}
