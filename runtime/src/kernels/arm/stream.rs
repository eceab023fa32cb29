//! Sums of products of one window by weights as they are coded.
//!
//! A layer of a pixel or two, as fully connected ones are, uses each weight once or twice: to decode it would cost more
//! than to multiply it. A mask leaves of a word of codes two of a channel, four apart, as the highest bits of its
//! halves: levels times a power of two, with their signs. SMLAD multiplies them by activations that are four apart too.

use core::arch::naked_asm;
use core::ptr;

use super::tile::Scale;
use crate::format::WeightFormat::{Linear, Ternary};
use crate::format::{Conv, Requantise, WORD_CHANNELS, WeightFormat, WeightGroup};
use crate::kernels::KernelSet;
use crate::kernels::scratch::STREAM_CODES;

/// Steps of a turn of the loops.
const TURN: usize = 4;

/// All channels of a group of one pixel; `halves` takes two bytes for each code of the window. `None` if the arguments
/// do not fit together or no loop reads the format.
pub(super) fn pixel(
    conv: &Conv<'_>,
    group: &WeightGroup<'_>,
    window: &[u8],
    halves: &mut [u8],
    output: &mut [u8],
) -> Option<()> {
    let codes = Codes::of(group.format)?;
    let (depth, channels) = (conv.depth(), group.channels);
    let halves: &mut [u32] = bytemuck::try_cast_slice_mut(halves.get_mut(..2 * depth)?).ok()?;
    let window = window.get(..depth)?;
    spread(window, halves);
    let numbers = group.first..group.first + channels;
    let (bias, mult) = (conv.bias.get(numbers.clone())?, conv.mult.get(numbers.clone())?);
    let output = output.get_mut(numbers)?;
    let pair_bytes = conv.packed_bytes(WORD_CHANNELS, group.format, group.layout);
    let streams = group.codes.get(..channels.div_ceil(WORD_CHANNELS) * pair_bytes)?;
    if !streams.as_ptr().cast::<u32>().is_aligned() || halves.is_empty() {
        return None;
    }
    let Requantise { pre, zero, .. } = conv.requantise;
    let mut job = Job {
        window: halves.as_ptr(),
        window_end: halves.as_ptr_range().end,
        codes: streams.as_ptr(),
        skipped: (depth / STREAM_CODES).wrapping_neg() % TURN * codes.step_bytes,
        flip: codes.flip,
        shift: codes.shift,
        offset: if codes.odd { window.iter().map(|&code| i32::from(code)).sum() } else { 0 },
        bias: bias.as_ptr(),
        mult: mult.as_ptr(),
        output: output.as_mut_ptr(),
        last: ptr::null_mut(),
        zero: zero.into(),
        pre: pre.into(),
        clamp: Scale::new(&conv.requantise).clamp,
    };
    let whole = channels / WORD_CHANNELS * WORD_CHANNELS;
    if whole > 0 {
        job.last = job.output.wrapping_add(whole);
        // SAFETY: there are codes, biases, multipliers and output for so many channels, and the window is whole steps.
        unsafe { (codes.leaf)(&mut job) };
    }
    if let (Some(&bias), Some(&mult), Some(code)) = (bias.get(whole), mult.get(whole), output.get_mut(whole)) {
        // With a neighbour that is not there.
        let (bias, mult, mut pair) = ([bias, 0], [mult, 0], [0; WORD_CHANNELS]);
        job.codes = streams.as_ptr().wrapping_add(whole / WORD_CHANNELS * pair_bytes);
        (job.bias, job.mult) = (bias.as_ptr(), mult.as_ptr());
        (job.output, job.last) = (pair.as_mut_ptr(), pair.as_mut_ptr_range().end);
        // SAFETY: there is a pair of each of them.
        unsafe { (codes.leaf)(&mut job) };
        *code = pair[0];
    }
    Some(())
}

/// Activations in pairs: of eight, those that are four apart.
fn spread(window: &[u8], halves: &mut [u32]) {
    for (&[a, b, c, d, e, f, g, h], to) in
        window.as_chunks::<STREAM_CODES>().0.iter().zip(halves.as_chunks_mut::<{ STREAM_CODES / 2 }>().0)
    {
        *to = [(a, e), (b, f), (c, g), (d, h)].map(|(low, high)| u32::from(low) | u32::from(high) << 16);
    }
}

/// How codes of a format are multiplied.
struct Codes {
    leaf: unsafe extern "C" fn(&mut Job),
    /// Of the instructions of a step: turns are begun at any of them.
    step_bytes: usize,
    /// What makes two's complement of a word of codes.
    flip: u32,
    /// By how many bits sums are too large.
    shift: u32,
    /// Whether levels are odd, one more than that.
    odd: bool,
}

impl Codes {
    fn of(format: WeightFormat) -> Option<Codes> {
        let linked = |formats: &[WeightFormat]| KernelSet::LINKED.has_format(formats);
        let of_twos = |flip, shift, odd| Codes { leaf: twos, step_bytes: 4 * 19, flip, shift, odd };
        match format {
            Linear(4) if linked(&[Linear(4)]) => {
                Some(Codes { leaf: fours, step_bytes: 4 * 20, flip: 0, shift: 12, odd: false })
            }
            Linear(2) if linked(&[Linear(2)]) => Some(of_twos(0xaaaa_aaaa, 13, true)),
            Ternary if linked(&[Ternary]) => Some(of_twos(0, 14, false)),
            _ => None,
        }
    }
}

/// What the loops go through.
#[repr(C)]
struct Job {
    window: *const u32,
    window_end: *const u32,
    /// The loops move it on, and the pointers after it.
    codes: *const u8,
    bias: *const i32,
    mult: *const i32,
    output: *mut u8,
    /// Where `output` is when the last pair of channels is done.
    last: *mut u8,
    /// Bytes of code of the first turn that are left out, so that turns are whole.
    skipped: usize,
    /// What makes two's complement of a word of codes.
    flip: u32,
    /// By how many bits sums are too large.
    shift: u32,
    /// Of all sums after that.
    offset: i32,
    pre: u32,
    zero: i32,
    clamp: [u32; 3],
}

/// Two codes of a channel by two activations.
macro_rules! product {
    ($sum:literal, $codes:literal, $shift:literal, $activations:literal) => {
        concat!(
            "and r10, r11, ",
            $codes,
            ", lsl #",
            $shift,
            "\n smlad ",
            $sum,
            ", ",
            $activations,
            ", r10, ",
            $sum,
            "\n"
        )
    };
}

/// Eight codes of two channels, of 4 bits.
macro_rules! step_fours {
    () => {
        concat!(
            "ldm r12!, {{r4-r7}}\n ldrd r8, r9, [lr], #8\n",
            "pkhbt r2, r8, r9, lsl #16\n pkhtb r9, r9, r8, asr #16\n",
            product!("r0", "r2", 12, "r4"),
            product!("r0", "r2", 8, "r5"),
            product!("r0", "r2", 4, "r6"),
            product!("r0", "r2", 0, "r7"),
            product!("r1", "r9", 12, "r4"),
            product!("r1", "r9", 8, "r5"),
            product!("r1", "r9", 4, "r6"),
            product!("r1", "r9", 0, "r7"),
        )
    };
}

/// Eight codes of two channels, of 2 bits.
macro_rules! step_twos {
    () => {
        concat!(
            "ldm r12!, {{r4-r7}}\n ldr r8, [lr], #4\n eor r8, r8, r3\n",
            product!("r0", "r8", 14, "r4"),
            product!("r0", "r8", 12, "r5"),
            product!("r0", "r8", 10, "r6"),
            product!("r0", "r8", 8, "r7"),
            product!("r1", "r8", 6, "r4"),
            product!("r1", "r8", 4, "r5"),
            product!("r1", "r8", 2, "r6"),
            product!("r1", "r8", 0, "r7"),
        )
    };
}

/// A function for codes whose highest bits `$mask` leaves of half a word.
macro_rules! stream {
    ($name:ident, $step:ident, $mask:literal) => {
        /// Pairs of channels, one at least.
        ///
        /// # Safety
        /// The window is whole steps, one at least; there are codes, biases, multipliers and output for each pair.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(job: &mut Job) {
            naked_asm!(
                processor!(),
                "push {{r4-r11, lr}}",
                "ldm r0, {{r4, r5, lr}}",
                "ldr r3, [r0, #{flip}]",
                "ldr r6, [r0, #{skipped}]",
                "adr r2, 20f",
                "add r6, r6, r2",
                // 0: the job, 4: the window, 8: its end, 12: where the first turn begins.
                "push {{r0, r4, r5, r6}}",
                concat!("mov r11, #", $mask),
                "orr r11, r11, r11, lsl #16",
                "10:",
                "ldr r12, [sp, #4]",
                "ldr r4, [sp, #12]",
                "mov r0, #0",
                "mov r1, #0",
                "mov pc, r4",
                ".p2align 2",
                "20:",
                $step!(),
                $step!(),
                $step!(),
                $step!(),
                "ldr r4, [sp, #8]",
                "cmp r12, r4",
                "bne 20b",
                "ldr r12, [sp]",
                "ldr r4, [r12, #{bias}]",
                "ldrd r6, r7, [r4], #8",
                "str r4, [r12, #{bias}]",
                "ldr r4, [r12, #{mult}]",
                "ldrd r8, r9, [r4], #8",
                "str r4, [r12, #{mult}]",
                "ldrd r4, r5, [r12, #{shift}]",
                "add r6, r6, r5",
                "add r7, r7, r5",
                "asr r0, r0, r4",
                "asr r1, r1, r4",
                "add r0, r0, r6",
                "add r1, r1, r7",
                "ldrd r4, r5, [r12, #{pre}]",
                "lsl r0, r0, r4",
                "lsl r1, r1, r4",
                "smmlar r0, r0, r8, r5",
                "smmlar r1, r1, r9, r5",
                "usat r0, #8, r0",
                "usat r1, #8, r1",
                "orr r0, r0, r1, lsl #8",
                "add r4, r12, #{clamp}",
                "ldm r4, {{r5, r6, r7}}",
                "uqadd8 r0, r0, r5",
                "uqsub8 r0, r0, r6",
                "uqadd8 r0, r0, r7",
                "ldrd r4, r5, [r12, #{output}]",
                "strh r0, [r4], #2",
                "str r4, [r12, #{output}]",
                "cmp r4, r5",
                "bne 10b",
                "add sp, sp, #16",
                "pop {{r4-r11, pc}}",
                skipped = const core::mem::offset_of!(Job, skipped),
                flip = const core::mem::offset_of!(Job, flip),
                bias = const core::mem::offset_of!(Job, bias),
                mult = const core::mem::offset_of!(Job, mult),
                shift = const core::mem::offset_of!(Job, shift),
                pre = const core::mem::offset_of!(Job, pre),
                clamp = const core::mem::offset_of!(Job, clamp),
                output = const core::mem::offset_of!(Job, output),
            )
        }
    };
}

stream!(fours, step_fours, 0xf000);
stream!(twos, step_twos, 0xc000);
