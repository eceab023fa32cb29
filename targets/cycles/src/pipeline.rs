//! What instructions cost on a core whose memory never waits.

use std::str::FromStr;

use crate::thumb::{Instruction, Work};

/// A core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// Cortex-M4: three stages, one instruction at a time. Cortex-M4 Technical Reference Manual, section 3.3.1.
    CortexM4,
    /// Cortex-M7: six stages, in order, two instructions at a time. Arm publishes no timings: the rules are those that
    /// measurements by others agree on, and coarse.
    CortexM7,
}

impl FromStr for Core {
    type Err = String;

    fn from_str(text: &str) -> Result<Core, String> {
        match text {
            "cortex-m4" => Ok(Core::CortexM4),
            "cortex-m7" => Ok(Core::CortexM7),
            _ => Err(format!("no timings are known of `{text}`: use cortex-m4 or cortex-m7")),
        }
    }
}

/// An instruction at its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Where it is.
    pub address: u32,
    /// Where the next one is, unless it jumps.
    pub next: u32,
    /// What it is.
    pub instruction: Instruction,
}

/// What has gone through a core so far.
#[derive(Debug)]
pub struct Pipeline {
    core: Core,
    last: Option<Placed>,
    /// Whether the last one began its cycle alone, so that another may join it.
    joinable: bool,
    /// Cycles from now until the result of a load can be used, and whose.
    pending: (u32, u16),
    /// For each branch, by its address: where it went last.
    predicted: std::collections::HashMap<u32, u32>,
}

/// Cycles until the pipeline of an M4 is full again after a jump: 1 to 3, by the alignment of its target.
const REFILL_M4: u32 = 2;
/// A quotient takes 2 to 12 cycles, by its operands.
const DIVIDE: u32 = 6;
/// Cycles lost to a jump that was not foreseen.
const MISPREDICTED_M7: u32 = 8;
/// Cycles after a load before its result can be used.
const LOAD_USE_M7: u32 = 1;

impl Pipeline {
    /// Nothing yet.
    pub fn new(core: Core) -> Pipeline {
        Pipeline { core, last: None, joinable: false, pending: (0, 0), predicted: Default::default() }
    }

    /// Cycles that go by from the one that an instruction begins in to the one that the next may begin in.
    pub fn cycles(&mut self, placed: Placed) -> u32 {
        let last = self.last.replace(placed);
        let jumped = last.is_some_and(|last| last.instruction.jumps && last.next != placed.address);
        match self.core {
            Core::CortexM4 => self.one_at_a_time(placed.instruction, last.map(|last| last.instruction), jumped),
            Core::CortexM7 => self.two_at_a_time(placed, last, jumped),
        }
    }

    fn one_at_a_time(&self, this: Instruction, last: Option<Instruction>, jumped: bool) -> u32 {
        let refill = if jumped { REFILL_M4 } else { 0 };
        // Neighbouring accesses overlap by a cycle.
        let overlaps = !jumped && matches!(last.map(|last| last.work), Some(Work::Load | Work::Store));
        refill
            + match this.work {
                Work::Load if overlaps => 1,
                Work::Load => 2,
                Work::Several(words) => 1 + words,
                Work::TableBranch => 2,
                Work::Divide => DIVIDE,
                Work::FloatMultiplyAdd => 3,
                Work::FloatDivide => 14,
                Work::Alu | Work::Multiply | Work::Store | Work::Branch | Work::Float => 1,
            }
    }

    fn two_at_a_time(&mut self, placed: Placed, last: Option<Placed>, jumped: bool) -> u32 {
        let this = placed.instruction;
        let surprise = match last {
            Some(last) if last.instruction.jumps => {
                let expected = self.predicted.insert(last.address, placed.address);
                if expected.unwrap_or(last.next) == placed.address { 0 } else { MISPREDICTED_M7 }
            }
            _ => 0,
        };
        let waits = if this.reads & self.pending.1 != 0 { self.pending.0 } else { 0 };
        let joins = self.joinable && waits == 0 && !jumped && last.is_some_and(|last| pair(last.instruction, this));
        let cycles = match this.work {
            Work::Several(words) => words.div_ceil(2),
            Work::TableBranch => 2,
            Work::Divide => DIVIDE,
            Work::FloatMultiplyAdd => 2,
            Work::FloatDivide => 14,
            Work::Alu | Work::Multiply | Work::Load | Work::Store | Work::Branch | Work::Float => 1,
        };
        let spent = surprise + waits + if joins { cycles - 1 } else { cycles };
        self.joinable = !joins && cycles == 1;
        self.pending = match this.work {
            Work::Load | Work::Several(_) => (LOAD_USE_M7, this.writes),
            _ => (self.pending.0.saturating_sub(spent), self.pending.1),
        };
        spent
    }
}

/// Whether two instructions may begin in the same cycle.
fn pair(first: Instruction, second: Instruction) -> bool {
    let accesses = |work| matches!(work, Work::Load | Work::Store);
    let unlike = match (first.work, second.work) {
        (Work::Load, Work::Load) => true,
        (a, b) if accesses(a) && accesses(b) => false,
        (Work::Multiply, Work::Multiply) | (Work::Branch, _) => false,
        (a, b) => {
            [a, b].iter().all(|work| accesses(*work) || matches!(work, Work::Alu | Work::Multiply | Work::Branch))
        }
    };
    unlike && first.writes & (second.reads | second.writes) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thumb::decode;

    /// Cycles of 16-bit instructions, one after another.
    fn cycles(core: Core, code: &[u16]) -> Vec<u32> {
        let mut pipeline = Pipeline::new(core);
        let placed = |(i, &half): (usize, &u16)| {
            let address = 2 * i as u32;
            Placed { address, next: address + 2, instruction: decode(half, 0) }
        };
        code.iter().enumerate().map(placed).map(|placed| pipeline.cycles(placed)).collect()
    }

    #[test]
    fn loads_of_an_m4_overlap() {
        // ldr r4, [r5, #8] twice, adds, ldr, muls.
        assert_eq!(cycles(Core::CortexM4, &[0x68ac, 0x68ac, 0x1888, 0x68ac, 0x435a]), [2, 1, 1, 2, 1]);
    }

    #[test]
    fn a_jump_of_an_m4_refills_its_pipeline() {
        let mut pipeline = Pipeline::new(Core::CortexM4);
        let mut at =
            |address, half| pipeline.cycles(Placed { address, next: address + 2, instruction: decode(half, 0) });
        assert_eq!([at(8, 0xd1fe), at(10, 0x1888), at(8, 0xd1fe), at(0, 0x1888)], [1, 1, 1, 1 + REFILL_M4]);
    }

    #[test]
    fn an_m7_pairs_what_is_independent() {
        // adds r0, r1, r2; adds r3, r4, r5; then one that reads r3.
        assert_eq!(cycles(Core::CortexM7, &[0x1888, 0x1963, 0x18d8]), [1, 0, 1]);
        // Products do not pair; a load and a sum do, and its result comes a cycle late.
        assert_eq!(cycles(Core::CortexM7, &[0x435a, 0x436c]), [1, 1]);
        assert_eq!(cycles(Core::CortexM7, &[0x68ac, 0x1888, 0x1924]), [1, 0, 2]);
    }

    #[test]
    fn an_m7_foresees_the_jump_of_a_loop() {
        let mut pipeline = Pipeline::new(Core::CortexM7);
        let mut at =
            |address, half| pipeline.cycles(Placed { address, next: address + 2, instruction: decode(half, 0) });
        let turns: Vec<u32> = (0..3).map(|_| at(0, 0x1888) + at(2, 0xd1fe)).collect();
        assert_eq!(turns[2], 1);
        assert!(turns[1] > MISPREDICTED_M7, "{turns:?}");
    }
}
