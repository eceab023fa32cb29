//! From packed codes to levels: a word of codes makes several words of levels.
//!
//! Codes are spread to the bytes of words by shifts and masks of all of them at once, and become levels by SSUB8. In
//! assembly, since a compiler knows neither that nor PKHBT, and unrolls such loops to kilobytes.

use core::arch::naked_asm;
use core::ops::Range;

use crate::format::WeightFormat::{Codebook, Linear, Ternary};
use crate::format::{Conv, Layout, WORD_CHANNELS, WORD_CODES, WeightFormat, WeightGroup};
use crate::kernels::KernelSet;
use crate::kernels::portable::Decoder;

/// Fills `levels` with those of channels from `first` on, the first of a stream, as codes of 8 bits lie in
/// [`Layout::Words`]; 0 at the padding of a dense convolution. `None` if `levels` are no whole words, or more than there are.
pub(super) fn decode(conv: &Conv<'_>, group: &WeightGroup<'_>, first: usize, levels: &mut [i8]) -> Option<()> {
    let stream = || group.codes.get(conv.packed_bytes(first, group.format, Layout::Words)..);
    if group.format == Linear(8) {
        levels.copy_from_slice(bytemuck::cast_slice(stream()?.get(..levels.len())?));
        return Some(());
    }
    match group.format {
        Linear(4) if const { linked(&[Linear(4)]) } && is_paired(conv) => {
            return expand(paired_fours, 8, [8 ^ FIRST, 8], stream()?, levels);
        }
        Linear(1) if const { linked(&[Linear(1)]) } => expand(ones, 0, [1; 2], stream()?, levels)?,
        Linear(2) if const { linked(&[Linear(2)]) } => expand(twos::<1>, 0, [3; 2], stream()?, levels)?,
        Linear(4) if const { linked(&[Linear(4)]) } => expand(fours, 8, [8; 2], stream()?, levels)?,
        Ternary if const { linked(&[Ternary]) } => expand(twos::<0>, 2, [2; 2], stream()?, levels)?,
        Codebook(2) if const { linked(&[Codebook(2)]) } => {
            expand(twos::<0>, 0, [0; 2], stream()?, levels)?;
            look_up(group.codebook, levels);
        }
        Codebook(4) if const { linked(&[Codebook(4)]) } => {
            expand(fours, 0, [0; 2], stream()?, levels)?;
            look_up(group.codebook, levels);
        }
        _ if const { linked(&[Linear(3), Linear(5), Linear(6), Linear(7), Codebook(3)]) } => {
            Decoder::new(conv, group).words(first, levels);
        }
        _ => return None,
    }
    if !conv.is_depthwise() {
        clear_padding(conv.depth(), levels);
        join(levels)?;
    }
    Some(())
}

/// Copies of the biases of some channels, and of their multipliers.
pub(super) fn numbers<'a>(conv: &Conv<'_>, channels: Range<usize>, to: &'a mut [u8]) -> Option<[&'a [i32]; 2]> {
    let to: &mut [i32] = bytemuck::try_cast_slice_mut(to).ok()?;
    let numbers = [conv.bias.get(channels.clone())?, conv.mult.get(channels)?];
    let (bias, rest) = to.split_at_mut_checked(numbers[0].len())?;
    let mult = rest.get_mut(..numbers[1].len())?;
    bias.copy_from_slice(numbers[0]);
    mult.copy_from_slice(numbers[1]);
    Some([bias, mult])
}

/// Whether any of these formats is linked.
const fn linked(formats: &[WeightFormat]) -> bool {
    KernelSet::LINKED.has_format(formats)
}

/// Makes `N` words of levels of each word of a stream; `flip` is of one code, `less` of a code at an even place and at an
/// odd one.
fn expand<const N: usize>(
    spread: Spread<N>,
    flip: u8,
    [even, odd]: [u8; 2],
    stream: &[u8],
    levels: &mut [i8],
) -> Option<()> {
    let bits = u8::BITS as usize / N;
    let stream = stream.get(..levels.len() / u8::BITS as usize * bits)?;
    let levels: &mut [u32] = bytemuck::try_cast_slice_mut(levels).ok()?;
    let flip = (0..u32::BITS as usize / bits).fold(0, |word, _| word << bits | u32::from(flip));
    let less = u32::from_ne_bytes([even, odd, even, odd]);
    let (words, last) = stream.as_chunks::<{ size_of::<u32>() }>();
    let (blocks, rest) = levels.as_chunks_mut::<N>();
    if blocks.len() != words.len() {
        return None;
    }
    if !words.is_empty() {
        // SAFETY: there is a block for each word, one at least.
        unsafe { spread(words.as_ptr(), blocks.as_mut_ptr(), words.len(), flip, less) };
    }
    if !rest.is_empty() {
        let (mut word, mut block) = ([0; size_of::<u32>()], [0; N]);
        word.iter_mut().zip(last).for_each(|(to, &of)| *to = of);
        // SAFETY: one of each.
        unsafe { spread(&raw const word, &raw mut block, 1, flip, less) };
        rest.iter_mut().zip(block).for_each(|(to, of)| *to = of);
    }
    Some(())
}

/// Makes blocks of levels of as many words of codes, one at least: `codes ^ flip`, spread to bytes and for linear codes
/// of 1 and 2 bits doubled, `- less`. Codes may be read and levels written.
type Spread<const N: usize> = unsafe extern "C" fn(*const [u8; 4], *mut [u32; N], usize, u32, u32);

/// A function for words of eight codes of 4 bits; `$spread` makes r6 and r7 of the codes at even places and at odd ones,
/// four in r5 and four in r4, by a mask in lr.
macro_rules! fours {
    ($(#[$about:meta])* $name:ident, [$($spread:literal),*]) => {
        $(#[$about])*
        ///
        /// # Safety
        /// As [`Spread`] says.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(codes: *const [u8; 4], levels: *mut [u32; 2], words: usize, flip: u32, less: u32) {
            naked_asm!(
                processor!(),
                "ldr r12, [sp]",
                "push {{r4-r7, lr}}",
                "mov lr, #0x0f",
                "orr lr, lr, lr, lsl #8",
                "orr lr, lr, lr, lsl #16",
                "20:",
                "ldr r4, [r0], #4",
                "eor r4, r4, r3",
                "uxtb16 r5, r4",
                "uxtb16 r4, r4, ror #8",
                "pkhbt r6, r5, r4, lsl #16",
                "pkhtb r7, r4, r5, asr #16",
                $($spread,)*
                "ssub8 r6, r6, r12",
                "ssub8 r7, r7, r12",
                "subs r2, r2, #1",
                "strd r6, r7, [r1], #8",
                "bne 20b",
                "pop {{r4-r7, pc}}",
            )
        }
    };
}

fours!(
    /// Codes of 4 bits, in the order that they are in.
    fours,
    ["orr r6, r6, r6, lsl #4", "orr r7, r7, r7, lsl #4", "and r6, r6, lr", "and r7, r7, lr"]
);
fours!(
    /// Codes of 4 bits, four of each channel of a pair in turn, in the order of [`join`].
    paired_fours,
    ["orr r6, r6, r7, lsl #8", "and r7, lr, r6, lsr #4", "and r6, r6, lr"]
);

/// Codes of 2 bits, times `1 << SHIFT`.
///
/// # Safety
/// As [`Spread`] says.
#[unsafe(naked)]
unsafe extern "C" fn twos<const SHIFT: u32>(
    codes: *const [u8; 4],
    levels: *mut [u32; 4],
    words: usize,
    flip: u32,
    less: u32,
) {
    naked_asm!(
        processor!(),
        "ldr r12, [sp]",
        "push {{r4-r7, lr}}",
        "mov lr, #3 << {shift}",
        "orr lr, lr, lr, lsl #8",
        "orr lr, lr, lr, lsl #16",
        "20:",
        "ldr r7, [r0], #4",
        "eor r7, r7, r3",
        "uxtb r4, r7",
        "ubfx r5, r7, #8, #8",
        "ubfx r6, r7, #16, #8",
        "lsr r7, r7, #24",
        "orr r4, r4, r4, lsl #6",
        "orr r5, r5, r5, lsl #6",
        "orr r6, r6, r6, lsl #6",
        "orr r7, r7, r7, lsl #6",
        "orr r4, r4, r4, lsl #12",
        "orr r5, r5, r5, lsl #12",
        "orr r6, r6, r6, lsl #12",
        "orr r7, r7, r7, lsl #12",
        "and r4, lr, r4, lsl #{shift}",
        "and r5, lr, r5, lsl #{shift}",
        "and r6, lr, r6, lsl #{shift}",
        "and r7, lr, r7, lsl #{shift}",
        "ssub8 r4, r4, r12",
        "ssub8 r5, r5, r12",
        "ssub8 r6, r6, r12",
        "ssub8 r7, r7, r12",
        "stm r1!, {{r4-r7}}",
        "subs r2, r2, #1",
        "bne 20b",
        "pop {{r4-r7, pc}}",
        shift = const SHIFT,
    )
}

/// Codes of 1 bit, doubled.
///
/// # Safety
/// As [`Spread`] says.
#[unsafe(naked)]
unsafe extern "C" fn ones(codes: *const [u8; 4], levels: *mut [u32; 8], words: usize, flip: u32, less: u32) {
    naked_asm!(
        processor!(),
        "ldr r12, [sp]",
        "push {{r4-r9, lr}}",
        "mov lr, #2",
        "orr lr, lr, lr, lsl #8",
        "orr lr, lr, lr, lsl #16",
        // Four copies that have no bit in common.
        "movw r9, #0x8102",
        "movt r9, #0x0040",
        // Half a word a turn.
        "lsl r2, r2, #1",
        "20:",
        "ldrh r7, [r0], #2",
        "eor r7, r7, r3",
        "and r4, r7, #15",
        "ubfx r5, r7, #4, #4",
        "ubfx r6, r7, #8, #4",
        "ubfx r7, r7, #12, #4",
        "mul r4, r4, r9",
        "mul r5, r5, r9",
        "mul r6, r6, r9",
        "mul r7, r7, r9",
        "and r4, r4, lr",
        "and r5, r5, lr",
        "and r6, r6, lr",
        "and r7, r7, lr",
        "ssub8 r4, r4, r12",
        "ssub8 r5, r5, r12",
        "ssub8 r6, r6, r12",
        "ssub8 r7, r7, r12",
        "stm r1!, {{r4-r7}}",
        "subs r2, r2, #1",
        "bne 20b",
        "pop {{r4-r9, pc}}",
    )
}

/// Makes codes of up to 4 bits entries of a table.
fn look_up(codebook: &[i8], levels: &mut [i8]) {
    let mut table = [0; 16];
    table.iter_mut().zip(codebook).for_each(|(entry, &level)| *entry = level);
    levels.iter_mut().for_each(|level| *level = table[usize::from(*level as u8 & 0xf)]);
}

/// Makes the levels beyond the depth of each channel 0.
fn clear_padding(depth: usize, levels: &mut [i8]) {
    let counted = depth % WORD_CODES;
    if counted == 0 {
        return;
    }
    for pair in levels.chunks_exact_mut((depth.next_multiple_of(WORD_CODES) * WORD_CHANNELS).max(1)) {
        let last = pair.rchunks_exact_mut(WORD_CODES).take(WORD_CHANNELS);
        last.flat_map(|word| word.iter_mut().skip(counted)).for_each(|level| *level = 0);
    }
}

/// What tells levels of the first channel of a pair from those without a sign that lie in words.
const FIRST: u8 = 0x80;

/// Whether codes are levels of whole pairs at once: nothing of a word is padding.
fn is_paired(conv: &Conv<'_>) -> bool {
    !conv.is_depthwise() && conv.depth().is_multiple_of(WORD_CODES)
}

/// Brings the levels of pairs of channels, four of each in turn, into halves of words.
fn join(levels: &mut [i8]) -> Option<()> {
    const EVEN: u32 = 0x00ff_00ff;
    let words: &mut [u32] = bytemuck::try_cast_slice_mut(levels).ok()?;
    for [a, b] in words.as_chunks_mut::<WORD_CHANNELS>().0 {
        let (first, second) = (*a ^ u32::from_ne_bytes([FIRST; 4]), *b);
        (*a, *b) = (first & EVEN | (second & EVEN) << 8, first >> 8 & EVEN | second & !EVEN);
    }
    Some(())
}

/// Makes 16 bits each of the levels in the second half of `bytes`: of four, the even ones first. `None` if they are no
/// whole words.
pub(super) fn widen(bytes: &mut [u8]) -> Option<&[i16]> {
    let words: &mut [u32] = bytemuck::try_cast_slice_mut(bytes).ok()?;
    let half = words.len() / 2;
    for i in 0..half {
        let [a, b, c, d] = words.get(half + i)?.to_ne_bytes().map(|level| u32::from(level as i8 as u16));
        words.get_mut(2 * i..)?.first_chunk_mut().map(|pair| *pair = [a | c << 16, b | d << 16])?;
    }
    bytemuck::try_cast_slice(words).ok()
}
