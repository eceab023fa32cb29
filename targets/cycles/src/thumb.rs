//! Thumb-2 instructions, as far as timing asks: what kind of work, which registers are read and written.
//!
//! Encodings: Armv7-M Architecture Reference Manual, chapter A5. What is rare in compiled code counts as [`Work::Alu`].

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Moves, logic, sums, shifts, fields, parallel sums.
    Alu,
    /// Products, with or without a sum.
    Multiply,
    /// Quotients.
    Divide,
    /// One word, half or byte from memory.
    Load,
    /// One to memory.
    Store,
    /// So many words from or to memory.
    Several(u32),
    /// Jumps, calls, returns; taken or not.
    Branch,
    /// Jumps by a table in memory.
    TableBranch,
    /// Floating-point sums, products, moves.
    Float,
    /// Floating-point products with sums.
    FloatMultiplyAdd,
    /// Floating-point quotients and roots.
    FloatDivide,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub work: Work,
    /// Whether it may go elsewhere: branches, and loads of the program counter.
    pub jumps: bool,
    /// Registers that it reads, bit by bit.
    pub reads: u16,
    /// Registers that it writes.
    pub writes: u16,
}

/// The instruction of which these are the half-words; the second counts only where the first says so.
pub fn decode(first: u16, second: u16) -> Instruction {
    let (first, second) = (u32::from(first), u32::from(second));
    if first >> 11 >= 0b11101 { wide(first, second) } else { narrow(first) }
}

const SP: u32 = 13;
const LR: u32 = 14;
const PC: u32 = 15;

fn one(register: u32) -> u16 {
    1 << (register & 15)
}

fn plain(work: Work, reads: u16, writes: u16) -> Instruction {
    Instruction { work, jumps: writes & one(PC) != 0, reads: reads & !one(PC), writes: writes & !one(PC) }
}

fn branch(reads: u16, writes: u16) -> Instruction {
    Instruction { work: Work::Branch, jumps: true, reads, writes }
}

fn narrow(h: u32) -> Instruction {
    let low = |shift: u32| h >> shift & 7;
    // Destination and operand whose number takes four bits.
    let (high_d, high_m) = (h & 7 | h >> 4 & 8, h >> 3 & 15);
    let load_or_store = |load: bool, reads: u16, target: u32| match load {
        true => plain(Work::Load, reads, one(target)),
        false => plain(Work::Store, reads | one(target), 0),
    };
    match h >> 12 {
        0b0000 => plain(Work::Alu, one(low(3)), one(low(0))),
        0b0001 => {
            let second = if h >> 10 == 0b000110 { one(low(6)) } else { 0 };
            plain(Work::Alu, one(low(3)) | second, one(low(0)))
        }
        // Move, compare, add, subtract a constant.
        0b0010 | 0b0011 => match h >> 11 & 3 {
            0 => plain(Work::Alu, 0, one(low(8))),
            1 => plain(Work::Alu, one(low(8)), 0),
            _ => plain(Work::Alu, one(low(8)), one(low(8))),
        },
        0b0100 => match h >> 10 & 3 {
            0 => {
                let both = one(low(0)) | one(low(3));
                match h >> 6 & 15 {
                    8 | 10 | 11 => plain(Work::Alu, both, 0),
                    13 => plain(Work::Multiply, both, one(low(0))),
                    _ => plain(Work::Alu, both, one(low(0))),
                }
            }
            1 => match h >> 8 & 3 {
                0 => plain(Work::Alu, one(high_d) | one(high_m), one(high_d)),
                1 => plain(Work::Alu, one(high_d) | one(high_m), 0),
                2 => plain(Work::Alu, one(high_m), one(high_d)),
                _ => branch(one(high_m), if h & 0x80 != 0 { one(LR) } else { 0 }),
            },
            _ => plain(Work::Load, 0, one(low(8))),
        },
        0b0101 => load_or_store(h >> 9 & 7 >= 3, one(low(3)) | one(low(6)), low(0)),
        0b0110..=0b1000 => load_or_store(h & 0x800 != 0, one(low(3)), low(0)),
        0b1001 => load_or_store(h & 0x800 != 0, one(SP), low(8)),
        0b1010 => plain(Work::Alu, if h & 0x800 != 0 { one(SP) } else { 0 }, one(low(8))),
        0b1011 => match h >> 8 & 15 {
            0b0100 | 0b0101 => {
                let list = (h & 0xff) as u16 | if h & 0x100 != 0 { one(LR) } else { 0 };
                plain(Work::Several(list.count_ones()), list | one(SP), one(SP))
            }
            0b1100 | 0b1101 => {
                let list = (h & 0xff) as u16 | if h & 0x100 != 0 { one(PC) } else { 0 };
                plain(Work::Several(list.count_ones()), one(SP), list | one(SP))
            }
            0b0001 | 0b0011 | 0b1001 | 0b1011 => branch(one(low(0)), 0),
            0b0000 => plain(Work::Alu, one(SP), one(SP)),
            0b0010 | 0b1010 => plain(Work::Alu, one(low(3)), one(low(0))),
            _ => plain(Work::Alu, 0, 0),
        },
        0b1100 => {
            let (list, base) = ((h & 0xff) as u16, one(low(8)));
            match h & 0x800 != 0 {
                true => plain(Work::Several(list.count_ones()), base, list | base),
                false => plain(Work::Several(list.count_ones()), list | base, base),
            }
        }
        0b1101 if h >> 8 & 15 < 14 => branch(0, 0),
        0b1110 => branch(0, 0),
        _ => plain(Work::Alu, 0, 0),
    }
}

fn wide(first: u32, second: u32) -> Instruction {
    let (n, t, d, m) = (first & 15, second >> 12, second >> 8 & 15, second & 15);
    let written = |d: u32| if d == PC { 0 } else { one(d) };
    match first >> 11 & 3 {
        1 if first & 0x0640 == 0 => {
            let (list, base) = (second as u16, one(n));
            match first & 0x10 != 0 {
                true => plain(Work::Several(list.count_ones()), base, list | base),
                false => plain(Work::Several(list.count_ones()), list | base, base),
            }
        }
        1 if first & 0x0640 == 0x0040 => match first & 0xfff0 == 0xe8d0 && second & 0xffe0 == 0xf000 {
            true => Instruction { work: Work::TableBranch, jumps: true, reads: one(n) | one(m), writes: 0 },
            // Pairs; exclusive accesses are like them.
            false if first & 0x10 != 0 => plain(Work::Several(2), one(n), one(t) | one(d)),
            false => plain(Work::Several(2), one(n) | one(t) | one(d), 0),
        },
        1 if first & 0x0600 == 0x0200 => plain(Work::Alu, one(n) | one(m), written(d)),
        1 | 3 if first & 0x0400 != 0 && first >> 10 & 3 == 3 => coprocessor(first, second),
        2 if second & 0x8000 == 0 => plain(Work::Alu, if n == PC { 0 } else { one(n) }, written(d)),
        2 if second & 0x5000 == 0 && first & 0x0380 == 0x0380 => plain(Work::Alu, 0, 0),
        2 => branch(0, if second & 0x5000 == 0x5000 { one(LR) } else { 0 }),
        _ => match first >> 4 & 0x7f {
            op if op & 0x71 == 0 => plain(Work::Store, one(n) | one(t) | index(second, m), based(second, n)),
            op if op & 0x61 == 1 => plain(Work::Load, one(n) | index(second, m), one(t) | based(second, n)),
            op if op & 0x70 == 0x20 => plain(Work::Alu, one(n) | one(m), written(d)),
            op if op & 0x78 == 0x30 => {
                plain(Work::Multiply, one(n) | one(m) | if t == PC { 0 } else { one(t) }, written(d))
            }
            op if op & 0x78 == 0x38 && matches!(op & 7, 1 | 3) => plain(Work::Divide, one(n) | one(m), written(d)),
            op if op & 0x78 == 0x38 => {
                let sum = if op & 7 >= 4 { one(t) | one(d) } else { 0 };
                plain(Work::Multiply, one(n) | one(m) | sum, one(t) | one(d))
            }
            _ => plain(Work::Alu, 0, 0),
        },
    }
}

/// The index register of an access that has one.
fn index(second: u32, m: u32) -> u16 {
    if second & 0x0fc0 == 0 { one(m) } else { 0 }
}

/// The base register of an access that moves it on.
fn based(second: u32, n: u32) -> u16 {
    if second & 0x0900 == 0x0900 { one(n) } else { 0 }
}

/// Floating point. Its registers are not followed.
fn coprocessor(first: u32, second: u32) -> Instruction {
    let work = match (first & 0x0200 == 0, first & 0x0120 == 0x0100) {
        (true, true) if first & 0x10 != 0 => Work::Load,
        (true, true) => Work::Store,
        (true, false) => Work::Several((second & 0xff).max(1)),
        _ if second & 0x10 != 0 => Work::Float,
        _ => match first >> 4 & 0xb {
            0x8 => Work::FloatDivide,
            0x0 | 0x1 | 0x9 | 0xa => Work::FloatMultiplyAdd,
            _ => Work::Float,
        },
    };
    plain(work, if first & 0x0200 == 0 { one(first & 15) } else { 0 }, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(registers: &[u32]) -> u16 {
        registers.iter().fold(0, |bits, &register| bits | one(register))
    }

    /// Half-words as `arm-none-eabi-as -mcpu=cortex-m4` writes them.
    #[test]
    fn what_kernels_are_made_of_is_known() {
        let cases: &[(&str, u16, u16, Work, bool, &[u32], &[u32])] = &[
            ("adds r0, r1, r2", 0x1888, 0, Work::Alu, false, &[1, 2], &[0]),
            ("adds r0, #1", 0x3001, 0, Work::Alu, false, &[0], &[0]),
            ("cmp r3, #4", 0x2b04, 0, Work::Alu, false, &[3], &[]),
            ("mov r8, r1", 0x4688, 0, Work::Alu, false, &[1], &[8]),
            ("muls r2, r3", 0x435a, 0, Work::Multiply, false, &[2, 3], &[2]),
            ("ldr r4, [r5, #8]", 0x68ac, 0, Work::Load, false, &[5], &[4]),
            ("strb r4, [r5, r6]", 0x55ac, 0, Work::Store, false, &[4, 5, 6], &[]),
            ("push {r4, lr}", 0xb510, 0, Work::Several(2), false, &[4, 13, 14], &[13]),
            ("pop {r4, pc}", 0xbd10, 0, Work::Several(2), true, &[13], &[4, 13]),
            ("bne .", 0xd1fe, 0, Work::Branch, true, &[], &[]),
            ("cbz r1, .", 0xb101, 0, Work::Branch, true, &[1], &[]),
            ("bx lr", 0x4770, 0, Work::Branch, true, &[14], &[]),
            ("smlad r0, r1, r2, r3", 0xfb21, 0x3002, Work::Multiply, false, &[1, 2, 3], &[0]),
            ("smmulr r0, r1, r2", 0xfb51, 0xf012, Work::Multiply, false, &[1, 2], &[0]),
            ("umlal r0, r1, r2, r3", 0xfbe2, 0x0103, Work::Multiply, false, &[0, 1, 2, 3], &[0, 1]),
            ("umull r0, r1, r2, r3", 0xfba2, 0x0103, Work::Multiply, false, &[2, 3], &[0, 1]),
            ("udiv r0, r1, r2", 0xfbb1, 0xf0f2, Work::Divide, false, &[1, 2], &[0]),
            ("sxtb16 r0, r1, ror #8", 0xfa2f, 0xf091, Work::Alu, false, &[1], &[0]),
            ("pkhbt r0, r1, r2, lsl #16", 0xeac1, 0x4002, Work::Alu, false, &[1, 2], &[0]),
            ("ldr.w r0, [r1], #4", 0xf851, 0x0b04, Work::Load, false, &[1], &[0, 1]),
            ("ldrb.w r0, [r1, r2]", 0xf811, 0x0002, Work::Load, false, &[1, 2], &[0]),
            ("ldrh.w r0, [r1, #300]", 0xf8b1, 0x012c, Work::Load, false, &[1], &[0]),
            ("str.w r0, [r1, #4]!", 0xf841, 0x0f04, Work::Store, false, &[0, 1], &[1]),
            ("ldrd r0, r1, [r2, #8]", 0xe9d2, 0x0102, Work::Several(2), false, &[2], &[0, 1]),
            ("ldm.w r0!, {r4-r7}", 0xe8b0, 0x00f0, Work::Several(4), false, &[0], &[0, 4, 5, 6, 7]),
            ("ubfx r0, r1, #4, #4", 0xf3c1, 0x1003, Work::Alu, false, &[1], &[0]),
            ("movw r0, #1000", 0xf240, 0x30e8, Work::Alu, false, &[0], &[0]),
            ("bl .", 0xf7ff, 0xfffe, Work::Branch, true, &[], &[14]),
            ("tbb [pc, r0]", 0xe8df, 0xf000, Work::TableBranch, true, &[0], &[]),
        ];
        for &(text, first, second, work, jumps, reads, writes) in cases {
            let found = decode(first, second);
            assert_eq!((found.work, found.jumps, found.writes), (work, jumps, bits(writes)), "{text}");
            // `movw` has bits of its constant where others have a register: it reads too much.
            assert_eq!(found.reads & bits(reads), bits(reads), "{text}");
        }
    }
}
