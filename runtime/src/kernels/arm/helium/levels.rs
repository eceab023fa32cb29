//! From packed codes of few bits to levels.
//!
//! Codes that interleave are shifted and masked 16 at a time; those in sequence, which cross bytes, 8 at a time, each in
//! 16 bits gathered from the two bytes that it meets.

use core::arch::naked_asm;

use crate::format::{Conv, Layout, VECTOR_CHANNELS, VECTOR_CODES, WeightFormat, WeightGroup};

/// Fills `levels` with those of channels from `first` on, the first of a stream, counted from -128, in the order of
/// [`Layout::Vectors`]; 0 at padding. `None` if there are fewer.
pub(super) fn decode(conv: &Conv<'_>, group: &WeightGroup<'_>, first: usize, levels: &mut [u8]) -> Option<()> {
    let bytes = |channels| conv.packed_bytes(channels, group.format, Layout::Vectors);
    let stream = group.codes.get(bytes(first)..)?;
    let meaning = Meaning::new(group, 128);
    let together = group.format.interleaved();
    let quad = conv.depth().next_multiple_of(VECTOR_CODES) * VECTOR_CHANNELS;
    let spread = if together == 1 { 0 } else { quad / VECTOR_CODES / together * VECTOR_CODES };
    for (levels, stream) in levels.chunks_exact_mut(quad.max(1)).zip(stream.chunks(bytes(VECTOR_CHANNELS).max(1))) {
        let (interleaved, sequence) = stream.split_at_checked(spread)?;
        let (head, tail) = levels.split_at_mut_checked(spread * together)?;
        meaning.of_interleaved(interleaved, head)?;
        meaning.of_sequence(sequence, tail)?;
    }
    clear_padding(conv.depth(), levels);
    Some(())
}

/// Fills `levels` with those of a stream of codes in sequence. `None` if there are fewer.
pub(super) fn decode_sequence(group: &WeightGroup<'_>, stream: &[u8], levels: &mut [u8]) -> Option<()> {
    Meaning::new(group, 0).of_sequence(stream, levels)
}

/// What codes stand for: bytes, modulo 256.
struct Meaning {
    bits: usize,
    /// Levels are `((code ^ flip) << shift) + add`, unless there is a table of them.
    flip: u8,
    shift: usize,
    add: u8,
    /// Of a codebook.
    table: Option<[u8; 16]>,
}

impl Meaning {
    /// Counted from `-base`.
    fn new(group: &WeightGroup<'_>, base: u8) -> Meaning {
        let bits = group.format.bits() as usize;
        let sign = 1 << (bits - 1);
        let (flip, shift, less) = match group.format {
            WeightFormat::Linear(1) => (0, 1, 1),
            WeightFormat::Linear(2) => (0, 1, 3),
            WeightFormat::Linear(_) | WeightFormat::Ternary => (sign, 0, sign),
            WeightFormat::Codebook(_) => (0, 0, 0),
        };
        let table = matches!(group.format, WeightFormat::Codebook(_)).then(|| {
            let mut table = [base; 16];
            table.iter_mut().zip(group.codebook).for_each(|(entry, &level)| *entry = base.wrapping_add(level as u8));
            table
        });
        Meaning { bits, flip, shift, add: base.wrapping_sub(less), table }
    }

    /// The levels of codes that interleave.
    fn of_interleaved(&self, stream: &[u8], levels: &mut [u8]) -> Option<()> {
        let fields = u8::BITS as usize / self.bits.max(1);
        if stream.is_empty() {
            return Some(());
        }
        if levels.len() != stream.len() * fields || !stream.len().is_multiple_of(VECTOR_CODES) {
            return None;
        }
        let every = |code: u8| (0..fields).fold(0, |byte, _| byte << self.bits | code);
        let job = Fields {
            count: stream.len() / VECTOR_CODES,
            fields,
            shift: self.shift as i32,
            bits: self.bits as i32,
            mask: ((1 << self.bits) - 1) << self.shift,
            flip: every(self.flip).into(),
            add: self.add.into(),
            table: self.table.as_ref().map_or(core::ptr::null(), |table| table.as_ptr()),
        };
        let take_apart = if self.table.is_some() { fields_of_table } else { fields_of_line };
        // SAFETY: there is a vector of codes for as many fields of levels, one at least.
        unsafe { take_apart(stream.as_ptr(), levels.as_mut_ptr(), &job) };
        Some(())
    }

    /// The levels of codes in sequence.
    fn of_sequence(&self, stream: &[u8], levels: &mut [u8]) -> Option<()> {
        const EIGHT: usize = 8;
        if levels.is_empty() {
            return Some(());
        }
        if stream.len() < levels.len() / EIGHT * self.bits || !levels.len().is_multiple_of(EIGHT) {
            return None;
        }
        let at = |code: usize| code * self.bits;
        let lanes = [0, 1, 2, 3, 4, 5, 6, 7];
        let job = Sequence {
            low: lanes.map(|code| (at(code) / EIGHT) as u16),
            // The last code meets one byte.
            high: lanes.map(|code| (at(code) / EIGHT + 1).min(self.bits - 1) as u16),
            shift: lanes.map(|code| -((at(code) % EIGHT) as i16)),
            mask: [(1 << self.bits) - 1; EIGHT],
            flip: [self.flip.into(); EIGHT],
            scale: [1 << self.shift; EIGHT],
            add: self.add.into(),
            table: self.table.as_ref().map_or(core::ptr::null(), |table| table.as_ptr()),
        };
        let take_apart = if self.table.is_some() { sequence_of_table } else { sequence_of_line };
        // SAFETY: there are as many bytes of codes as have bits, for each 8 levels, one at least.
        unsafe { take_apart(stream.as_ptr(), levels.as_mut_ptr(), &job, levels.len() / EIGHT, self.bits) };
        Some(())
    }
}

/// How codes that interleave are taken apart: from each vector so many.
#[repr(C)]
struct Fields {
    count: usize,
    fields: usize,
    /// Bits that the first is shifted to the left, and those that follow less than the one before.
    shift: i32,
    bits: i32,
    mask: u32,
    flip: u32,
    add: u32,
    table: *const u8,
}

macro_rules! fields {
    ($name:ident, $open:literal, $map:literal) => {
        /// Makes vectors of levels.
        ///
        /// # Safety
        /// Codes can be read, levels be written, as far as the job says.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(codes: *const u8, levels: *mut u8, job: &Fields) {
            naked_asm!(
                helium!(),
                "push {{r4-r9, lr}}",
                "ldm r2, {{r2, r3, r4, r5, r6, r7, r8, r9}}",
                "vdup.8 q2, r6",
                "vdup.8 q3, r7",
                "10:",
                "vldrb.u8 q0, [r0], #16",
                $open,
                "mov r6, r4",
                "dls lr, r3",
                "20:",
                "vmov q1, q0",
                "vshl.u8 q1, r6",
                "vand q1, q1, q2",
                "sub r6, r6, r5",
                $map,
                "le lr, 20b",
                "subs r2, r2, #1",
                "bne 10b",
                "pop {{r4-r9, pc}}",
            )
        }
    };
}

fields!(fields_of_line, "veor q0, q0, q3", "vadd.i8 q1, q1, r8\nvstrb.8 q1, [r1], #16");
fields!(fields_of_table, "", "vldrb.u8 q3, [r9, q1]\nvstrb.8 q3, [r1], #16");

/// How codes in sequence are taken apart, 8 at a time.
#[repr(C)]
struct Sequence {
    /// Bytes that each meets.
    low: [u16; 8],
    high: [u16; 8],
    /// Bits that each is shifted to the left.
    shift: [i16; 8],
    mask: [u16; 8],
    flip: [u16; 8],
    scale: [u16; 8],
    add: u32,
    table: *const u8,
}

macro_rules! sequence {
    ($name:ident, $map:literal) => {
        /// Makes so many times 8 levels, each from so many bytes.
        ///
        /// # Safety
        /// As many codes can be read, and levels be written.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(codes: *const u8, levels: *mut u8, job: &Sequence, count: usize, bytes: usize) {
            naked_asm!(
                helium!(),
                "ldr r12, [sp]",
                "push {{r4, r5, r6, lr}}",
                "vpush {{d8-d15}}",
                "vldrh.u16 q2, [r2], #16",
                "vldrh.u16 q3, [r2], #16",
                "vldrh.u16 q4, [r2], #16",
                "vldrh.u16 q5, [r2], #16",
                "vldrh.u16 q6, [r2], #16",
                "vldrh.u16 q7, [r2], #16",
                "ldrd r4, r5, [r2]",
                "dls lr, r3",
                "10:",
                "vldrb.u16 q0, [r0, q2]",
                "vldrb.u16 q1, [r0, q3]",
                "vsli.16 q0, q1, #8",
                "vshl.u16 q0, q0, q4",
                "vand q0, q0, q5",
                $map,
                "add r0, r0, r12",
                "le lr, 10b",
                "vpop {{d8-d15}}",
                "pop {{r4, r5, r6, pc}}",
            )
        }
    };
}

sequence!(sequence_of_line, "veor q0, q0, q6\nvmlas.i16 q0, q7, r4\nvstrb.16 q0, [r1], #8");
sequence!(sequence_of_table, "vldrb.u16 q1, [r5, q0]\nvstrb.16 q1, [r1], #8");

/// Makes the levels beyond the depth of each channel 0.
fn clear_padding(depth: usize, levels: &mut [u8]) {
    let counted = depth % VECTOR_CODES;
    if counted == 0 {
        return;
    }
    for quad in levels.chunks_exact_mut((depth.next_multiple_of(VECTOR_CODES) * VECTOR_CHANNELS).max(1)) {
        let last = quad.rchunks_exact_mut(VECTOR_CODES).take(VECTOR_CHANNELS);
        last.flat_map(|vector| vector.iter_mut().skip(counted)).for_each(|level| *level = 0);
    }
}
