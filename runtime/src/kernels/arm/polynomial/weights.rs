//! Codes of weights as words.

use core::arch::naked_asm;
use core::num::NonZero;

use crate::bits::read_code;
use crate::format::{Conv, WORD_CHANNELS, WORD_CODES, WeightGroup};
use crate::kernels::KernelSet;
use crate::kernels::polynomial::{Fields, Form, Polynomial, TAPS, TILE};

/// Turns the codes of the filters from `channel` on into words of weights, step after step, 0 beyond the last step.
/// What is in the fields of filters beyond the last does not matter. `flip` makes numbers of the codes.
pub(super) fn expand(
    plan: &Polynomial,
    conv: &Conv<'_>,
    group: &WeightGroup<'_>,
    channel: usize,
    flip: u32,
    weights: &mut [u32],
) -> Option<()> {
    let (c, taps, bits) = (plan.input.c, conv.kernel[1], group.format.bits() as usize);
    let (weights, beyond) = weights.split_at_mut_checked(conv.kernel[0] * plan.row_steps() * TILE)?;
    beyond.fill(0);
    let bytes = conv.packed_bytes(WORD_CHANNELS, group.format, group.layout);
    let pair = |index: usize| {
        let at = (channel / WORD_CHANNELS + index) * bytes;
        group.codes.get(at..at + bytes)
    };
    let first = pair(0)?;
    let second = pair(1).unwrap_or(first);
    // Four codes of a filter lie together, and so do those of four channels then.
    let together = c.is_multiple_of(WORD_CODES);
    match plan.form {
        Form::Taps if together && taps == TAPS => {
            let leaf = taps_leaf(plan.fields, bits)?;
            let (tap_bytes, quads) = (c / WORD_CODES * bits, c / WORD_CODES);
            for (to, from) in
                weights.chunks_exact_mut((c * TILE).max(1)).zip(first.chunks_exact((TAPS * tap_bytes).max(1)))
            {
                // SAFETY: `from` holds the codes of three taps, `to` a step for each channel, one at least.
                unsafe { leaf(to.as_mut_ptr(), from.as_ptr(), tap_bytes, quads, flip) };
            }
        }
        Form::Filters if together => {
            let leaf = filters_leaf(plan.fields, bits)?;
            let quads = weights.len() / TILE / WORD_CODES;
            if quads == 0 || first.len() < quads * bits {
                return None;
            }
            // SAFETY: both pairs hold the codes of so many steps, one at least; they are equally long.
            unsafe { leaf(weights.as_mut_ptr(), first.as_ptr(), second.as_ptr(), quads, flip) };
        }
        Form::Taps => {
            let (steps, words) = (NonZero::new(plan.row_steps())?, NonZero::new(plan.words)?);
            let c = NonZero::new(c)?;
            for (index, to) in weights.chunks_exact_mut(TILE).enumerate() {
                let (row, word, channel) = (index / steps, index / c % words, index % c);
                for (filter, to) in to.iter_mut().enumerate() {
                    *to = (word * TAPS..).take(TAPS).fold(0, |word, tap| {
                        let code = || code_at(first, bits, filter, (row * taps + tap) * c.get() + channel, flip);
                        word << plan.fields.bits() | if tap < taps { code() } else { 0 }
                    });
                }
            }
        }
        Form::Filters => {
            let shift = plan.activations() * plan.fields.bits();
            for (k, to) in weights.chunks_exact_mut(TILE).enumerate() {
                for (pair, to) in [first, second].into_iter().zip(to) {
                    *to = code_at(pair, bits, 0, k, flip) | code_at(pair, bits, 1, k, flip) << shift;
                }
            }
        }
    }
    Some(())
}

/// Cuts the steps into runs, few if fields have room for these weights, and writes the bytes of each; returns those of
/// all runs.
pub(super) fn cut<'a>(plan: &Polynomial, weights: &[u32], runs: &'a mut [u32]) -> Option<&'a [u32]> {
    let (mut sums, mut bytes, mut count) = ([0; TILE], 0, 0);
    for steps in weights.chunks((plan.sure_steps * TILE).max(1)).take(plan.runs()) {
        if plan.runs() > 1 {
            let before = sums;
            // SAFETY: there are whole blocks of steps, one at least.
            unsafe { sum(&mut sums, steps.as_ptr(), steps.as_ptr_range().end) };
            if bytes > 0 && !sums.iter().all(|&sum| plan.has_room(sum)) {
                *runs.get_mut(count)? = bytes;
                (bytes, count) = (0, count + 1);
                sums.iter_mut().zip(before).for_each(|(sum, before)| *sum -= before);
            }
        }
        bytes += size_of_val(steps) as u32;
    }
    *runs.get_mut(count).filter(|_| bytes > 0)? = bytes;
    runs.get(..=count)
}

/// Adds up the words of blocks of steps, one at least.
#[unsafe(naked)]
unsafe extern "C" fn sum(sums: &mut [u64; TILE], weights: *const u32, end: *const u32) {
    naked_asm!(
        processor!(),
        "push {{r4-r9}}",
        "ldm r0, {{r4-r7}}",
        "mov r12, #1",
        "2:",
        ".rept 8",
        "ldrd r8, r9, [r1], #8",
        "umlal r4, r5, r8, r12",
        "umlal r6, r7, r9, r12",
        ".endr",
        "cmp r1, r2",
        "bne 2b",
        "stm r0, {{r4-r7}}",
        "pop {{r4-r9}}",
        "bx lr",
    )
}

/// Weight `k` of a filter of a pair, as a number.
fn code_at(pair: &[u8], bits: usize, filter: usize, k: usize, flip: u32) -> u32 {
    let index = (k / WORD_CODES * WORD_CHANNELS + filter) * WORD_CODES + k % WORD_CODES;
    u32::from(read_code(pair, bits as u32, index)) ^ flip & ((1 << bits) - 1)
}

/// `to` words, `from` the codes of the first tap of a pair of filters, those of the other two `tap_bytes` after one
/// another, `quads` of four channels.
type TapsLeaf = unsafe extern "C" fn(to: *mut u32, from: *const u8, tap_bytes: usize, quads: usize, flip: u32);

/// `None` at widths whose products leave no room in the fields.
fn taps_leaf(fields: Fields, bits: usize) -> Option<TapsLeaf> {
    match (fields, bits) {
        (Fields::Ten, 1) if linked(Form::Taps, Fields::Ten, 1) => Some(taps_1_10),
        (Fields::Ten, 2) if linked(Form::Taps, Fields::Ten, 2) => Some(taps_2_10),
        (Fields::Ten, 3) if linked(Form::Taps, Fields::Ten, 3) => Some(taps_3_10),
        (Fields::Fourteen, 1) if linked(Form::Taps, Fields::Fourteen, 1) => Some(taps_1_14),
        (Fields::Fourteen, 2) if linked(Form::Taps, Fields::Fourteen, 2) => Some(taps_2_14),
        (Fields::Fourteen, 3) if linked(Form::Taps, Fields::Fourteen, 3) => Some(taps_3_14),
        (Fields::Fourteen, 4) if linked(Form::Taps, Fields::Fourteen, 4) => Some(taps_4_14),
        _ => None,
    }
}

/// `to` words, `first` and `second` the codes of two pairs of filters, `quads` of four steps.
type FiltersLeaf = unsafe extern "C" fn(to: *mut u32, first: *const u8, second: *const u8, quads: usize, flip: u32);

/// See [`taps_leaf`].
fn filters_leaf(fields: Fields, bits: usize) -> Option<FiltersLeaf> {
    match (fields, bits) {
        (Fields::Ten, 1) if linked(Form::Filters, Fields::Ten, 1) => Some(filters_1_10),
        (Fields::Ten, 2) if linked(Form::Filters, Fields::Ten, 2) => Some(filters_2_10),
        (Fields::Fourteen, 1) if linked(Form::Filters, Fields::Fourteen, 1) => Some(filters_1_14),
        (Fields::Fourteen, 2) if linked(Form::Filters, Fields::Fourteen, 2) => Some(filters_2_14),
        (Fields::Fourteen, 3) if linked(Form::Filters, Fields::Fourteen, 3) => Some(filters_3_14),
        (Fields::Fourteen, 4) if linked(Form::Filters, Fields::Fourteen, 4) => Some(filters_4_14),
        _ => None,
    }
}

/// Whether weights of so many bits are.
const fn linked(form: Form, fields: Fields, bits: u32) -> bool {
    KernelSet::LINKED.has_packed(form, fields, bits)
}

/// Loads eight codes of a width each: to r4 from r1, to r5 at r2 beyond, to r6 at r9 beyond; r1 moves on.
macro_rules! load_taps {
    (1) => {
        "ldrb r5, [r1, r2]\n ldrb r6, [r1, r9]\n ldrb r4, [r1], #1\n"
    };
    (2) => {
        "ldrh r5, [r1, r2]\n ldrh r6, [r1, r9]\n ldrh r4, [r1], #2\n"
    };
    (3) => {
        concat!(
            "ldrh r5, [r1, r2]\n ldrh r6, [r1, r9]\n ldrh r4, [r1], #2\n",
            "ldrb r8, [r1, r2]\n orr r5, r5, r8, lsl #16\n ldrb r8, [r1, r9]\n orr r6, r6, r8, lsl #16\n",
            "ldrb r8, [r1], #1\n orr r4, r4, r8, lsl #16\n"
        )
    };
    (4) => {
        "ldr r5, [r1, r2]\n ldr r6, [r1, r9]\n ldr r4, [r1], #4\n"
    };
}

/// The same to r4 from r1 and to r5 from r2; both move on.
macro_rules! load_pairs {
    (1) => {
        "ldrb r4, [r1], #1\n ldrb r5, [r2], #1\n"
    };
    (2) => {
        "ldrh r4, [r1], #2\n ldrh r5, [r2], #2\n"
    };
    (3) => {
        concat!(
            "ldrh r4, [r1], #2\n ldrb r8, [r1], #1\n orr r4, r4, r8, lsl #16\n",
            "ldrh r5, [r2], #2\n ldrb r8, [r2], #1\n orr r5, r5, r8, lsl #16\n"
        )
    };
    (4) => {
        "ldr r4, [r1], #4\n ldr r5, [r2], #4\n"
    };
}

/// A function for codes of `$bits` bits; the first tap comes to the highest field.
macro_rules! taps {
    ($name:ident, $bits:tt, $field:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(to: *mut u32, from: *const u8, tap_bytes: usize, quads: usize, flip: u32) {
            naked_asm!(
                processor!(),
                "push {{r4-r11}}",
                "ldr r7, [sp, #32]",
                "lsl r9, r2, #1",
                "2:",
                load_taps!($bits),
                "eor r4, r4, r7",
                "eor r5, r5, r7",
                "eor r6, r6, r7",
                ".irp lane, 0, 1, 2, 3",
                "ubfx r10, r4, #(\\lane * {bits}), #{bits}",
                "ubfx r8, r5, #(\\lane * {bits}), #{bits}",
                "orr r10, r8, r10, lsl #{field}",
                "ubfx r8, r6, #(\\lane * {bits}), #{bits}",
                "orr r10, r8, r10, lsl #{field}",
                "ubfx r11, r4, #(\\lane * {bits} + 4 * {bits}), #{bits}",
                "ubfx r8, r5, #(\\lane * {bits} + 4 * {bits}), #{bits}",
                "orr r11, r8, r11, lsl #{field}",
                "ubfx r8, r6, #(\\lane * {bits} + 4 * {bits}), #{bits}",
                "orr r11, r8, r11, lsl #{field}",
                "strd r10, r11, [r0], #8",
                ".endr",
                "subs r3, r3, #1",
                "bne 2b",
                "pop {{r4-r11}}",
                "bx lr",
                bits = const $bits,
                field = const $field,
            )
        }
    };
}

taps!(taps_1_10, 1, 10);
taps!(taps_2_10, 2, 10);
taps!(taps_3_10, 3, 10);
taps!(taps_1_14, 1, 14);
taps!(taps_2_14, 2, 14);
taps!(taps_3_14, 3, 14);
taps!(taps_4_14, 4, 14);

/// A function for codes of `$bits` bits; the second filter of a pair comes `$shift` bits higher.
macro_rules! filters {
    ($name:ident, $bits:tt, $shift:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(to: *mut u32, first: *const u8, second: *const u8, quads: usize, flip: u32) {
            naked_asm!(
                processor!(),
                "push {{r4-r11}}",
                "ldr r7, [sp, #32]",
                "2:",
                load_pairs!($bits),
                "eor r4, r4, r7",
                "eor r5, r5, r7",
                ".irp lane, 0, 1, 2, 3",
                "ubfx r10, r4, #(\\lane * {bits}), #{bits}",
                "ubfx r8, r4, #(\\lane * {bits} + 4 * {bits}), #{bits}",
                "orr r10, r10, r8, lsl #{shift}",
                "ubfx r11, r5, #(\\lane * {bits}), #{bits}",
                "ubfx r8, r5, #(\\lane * {bits} + 4 * {bits}), #{bits}",
                "orr r11, r11, r8, lsl #{shift}",
                "strd r10, r11, [r0], #8",
                ".endr",
                "subs r3, r3, #1",
                "bne 2b",
                "pop {{r4-r11}}",
                "bx lr",
                bits = const $bits,
                shift = const $shift,
            )
        }
    };
}

filters!(filters_1_10, 1, 30);
filters!(filters_2_10, 2, 30);
filters!(filters_1_14, 1, 28);
filters!(filters_2_14, 2, 28);
filters!(filters_3_14, 3, 28);
filters!(filters_4_14, 4, 28);
