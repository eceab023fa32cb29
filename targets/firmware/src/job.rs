//! What the host asks of the firmware, in the board's job region: a header of 64 bytes, a blob, and input
//! codes at the next multiple of 64.
//!
//! The compiler has this very file as a module: one definition for both sides.

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Blob and inputs start at multiples of this.
pub const ALIGN: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"PJO1");

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Place of the kernel family in `Isa::ALL`.
    pub isa: u32,
    /// What time is read from.
    pub counter: CounterKind,
    /// Where its registers are; 0 for a counter that is part of the core.
    pub counter_address: u32,
    /// Length of the blob.
    pub blob_bytes: u32,
    /// Length of the inputs, samples back to back.
    pub input_bytes: u32,
}

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "none"), derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[repr(u32)]
pub enum CounterKind {
    /// A timer of Arm's Cortex-M System Design Kit: 32 bits, counting down.
    CmsdkTimer = 0,
    /// The system counter of Arm's SSE subsystems: 64 bits.
    SseCounter = 1,
    /// Cycles by the Data Watchpoint and Trace unit of Armv7-M and Armv8-M: 32 bits.
    Dwt = 2,
    /// The system tick of every Cortex-M.
    SysTick = 3,
    /// Instructions retired by a RISC-V core.
    Minstret = 4,
    /// Cycles of a RISC-V core.
    Mcycle = 5,
    /// Cycles of Espressif's RISC-V cores: 32 bits.
    EspCycles = 6,
}

impl CounterKind {
    const ALL: [CounterKind; 7] = [
        CounterKind::CmsdkTimer,
        CounterKind::SseCounter,
        CounterKind::Dwt,
        CounterKind::SysTick,
        CounterKind::Minstret,
        CounterKind::Mcycle,
        CounterKind::EspCycles,
    ];
}

impl Job {
    /// The header as it stands in memory, the rest of it 0.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let words = [MAGIC, self.isa, self.counter as u32, self.counter_address, self.blob_bytes, self.input_bytes];
        let mut bytes = [0; HEADER_BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Header, blob and inputs of a job; `None` where the bytes hold none.
    pub fn read(bytes: &[u8]) -> Option<(Job, &[u8], &[u8])> {
        let word = |index: usize| Some(u32::from_le_bytes(*bytes.get(4 * index..)?.first_chunk()?));
        if word(0)? != MAGIC {
            return None;
        }
        let counter = word(2)? as usize;
        let job = Job {
            isa: word(1)?,
            counter: *CounterKind::ALL.get(counter)?,
            counter_address: word(3)?,
            blob_bytes: word(4)?,
            input_bytes: word(5)?,
        };
        let [blob_bytes, input_bytes] = [job.blob_bytes as usize, job.input_bytes as usize];
        let (blob, rest) = bytes.get(HEADER_BYTES..)?.split_at_checked(blob_bytes)?;
        let inputs = rest.get(blob_bytes.next_multiple_of(ALIGN) - blob_bytes..)?.get(..input_bytes)?;
        Some((job, blob, inputs))
    }
}
