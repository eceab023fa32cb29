//! What a network takes of a microcontroller's memory, by the least program that runs it: compiled, linked with its
//! kernels alone, and read back section by section.

use object::{Object, ObjectSection, SectionKind};
use serde::{Deserialize, Serialize};

use super::firmware::{self, FirmwareError, Memory, Region};
use crate::target::Target;
use crate::units::Bytes;

/// Bytes that a linked program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Code, its constants, and the network.
    pub flash_bytes: Bytes,
    /// Code and constants.
    pub code_bytes: Bytes,
    /// The network: its weights above all.
    pub weights_bytes: Bytes,
    /// Arena, variables, and the stack as far as it was in use.
    pub ram_bytes: Bytes,
    /// The stack, as a run on the board measured it.
    pub stack_bytes: Bytes,
}

/// Why there is no linked program to measure.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The network is for this very machine, whose programs come with all kernels.
    #[error("only programs for microcontrollers are linked")]
    NotFirmware,
    /// It could not be built.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// The linker's file cannot be read.
    #[error("{path}: {reason}")]
    Elf {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl LinkError {
    /// Whether what would link it is just not here, so that memory can be told on paper only.
    pub fn is_absence(&self) -> bool {
        use FirmwareError::{NoSources, NoTarget};
        matches!(self, LinkError::NotFirmware | LinkError::Firmware(NoTarget(_) | NoSources(_)))
    }
}

/// More than any chip has, so that what is too large links, and is told by how much.
const PLENTY: u32 = 64 << 20;

/// Links the least program for a blob on a target, which takes `stack` at run time.
///
/// # Errors
/// [`LinkError`]; see [`LinkError::is_absence`].
pub fn link(target: &Target, blob: &[u8], stack: Bytes) -> Result<Linked, LinkError> {
    let (Some(core), Some([flash, ram])) = (target.core(), target.memory()) else { return Err(LinkError::NotFirmware) };
    let plenty = |region: Region| Region { bytes: PLENTY, ..region };
    let memory = Memory { flash: plenty(flash), ram: plenty(ram), job: Region { origin: 0, bytes: 0 } };
    let path = firmware::build_linked(&target.name, &core, &memory, blob)?;
    let unreadable = |reason: String| LinkError::Elf { path: path.display().to_string(), reason };
    let bytes = std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
    let file = object::File::parse(&*bytes).map_err(|error| unreadable(error.to_string()))?;
    let (mut in_flash, mut in_ram) = (0, 0);
    for section in file.sections() {
        let name = section.name().map_err(|error| unreadable(error.to_string()))?;
        match section.kind() {
            SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => in_flash += section.size(),
            // Variables begin as copies of what lies in flash.
            SectionKind::Data => {
                in_flash += section.size();
                in_ram += section.size();
            }
            // Of what is set aside for the stack, that counts which is used.
            SectionKind::UninitializedData if name != ".stack" => in_ram += section.size(),
            _ if name == ".ARM.exidx" => in_flash += section.size(),
            _ => {}
        }
    }
    let weights = blob.len() as u64;
    Ok(Linked {
        flash_bytes: Bytes(in_flash),
        code_bytes: Bytes(in_flash.saturating_sub(weights)),
        weights_bytes: Bytes(weights),
        ram_bytes: Bytes(in_ram + stack.0),
        stack_bytes: stack,
    })
}
