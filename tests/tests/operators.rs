//! The operators besides convolution: figures worked out by hand, and agreement of the instruction sets.

use pare_runtime::Isa;
use pare_runtime::format::{Add, AvgPool, DepthToSpace, MaxPool, Pad, Pool, Requantise, Shape};
use pare_runtime::kernels::reference;
use pare_tests::problems::Random;
use proptest::prelude::*;

const fn shape(h: usize, w: usize, c: usize) -> Shape {
    Shape { h, w, c }
}

#[test]
fn a_requantised_half_rounds_up() {
    let requantise = Requantise { pre: 0, zero: 10, lo: 0, hi: 255 };
    // mult / 2^32 = 1/4.
    let code = |acc| requantise.apply(acc, 1 << 30);
    assert_eq!([-10, -7, -6, -5, 0, 1, 2, 6].map(code), [8, 8, 9, 9, 10, 10, 11, 12]);
    assert_eq!([i32::MIN, i32::MAX].map(code), [0, 255]);
    assert_eq!(Requantise { pre: 2, ..requantise }.apply(3, 1 << 30), 13);
    assert_eq!(Requantise { lo: 9, hi: 11, ..requantise }.apply(1 << 20, 1 << 30), 11);
}

#[test]
fn a_sum_rounds_half_up_and_clamps() {
    let p = Add { ma: 3, mb: 1, zero_a: 10, zero_b: 20, zero: 5, shift: 1, lo: 2, hi: 30 };
    let mut a = [10, 11, 9, 0, 255];
    reference::add(&p, &mut a, &[20, 20, 20, 20, 20]);
    // 0, 3/2, -3/2, -15, 367.5, plus 5.
    assert_eq!(a, [5, 7, 4, 2, 30]);
}

#[test]
fn a_mean_at_the_border_counts_what_is_inside() {
    let window = Pool { input: shape(2, 2, 1), output: shape(3, 3, 1), kernel: [2; 2], stride: [1; 2], pad: [1; 2] };
    // mult / 2^32 = 1 / (2 * 2).
    let requantise = Requantise { pre: 0, zero: 100, lo: 0, hi: 255 };
    let p = AvgPool { window, zero_in: 100, mult: 1 << 30, requantise };
    let mut output = [0; 9];
    reference::avg_pool(&p, &[104, 108, 95, 100], &mut output);
    // Corners are the pixels; edges means of two: 106, 99.5 (100), 104, 97.5 (98); the middle 101.75 (102).
    assert_eq!(output, [104, 106, 108, 100, 102, 104, 95, 98, 100]);
    let mut highest = [0; 9];
    reference::max_pool(&MaxPool { window, lo: 96, hi: 105 }, &[104, 108, 95, 100], &mut highest);
    assert_eq!(highest, [104, 105, 105, 104, 105, 105, 96, 100, 100]);
}

#[test]
fn codes_move_where_the_definition_says() {
    let input: Vec<u8> = (0..12).collect();
    let mut out = [0; 12];
    reference::transpose([2, 0, 1], shape(2, 3, 2), &input, &mut out);
    assert_eq!(out, [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]);

    let p = DepthToSpace { input: shape(1, 1, 8), output: shape(2, 2, 2), block: 2, channel_first: false };
    reference::depth_to_space(&p, &input, &mut out);
    assert_eq!(out[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    reference::depth_to_space(&DepthToSpace { channel_first: true, ..p }, &input, &mut out);
    assert_eq!(out[..8], [0, 4, 1, 5, 2, 6, 3, 7]);

    let p = Pad { input: shape(1, 2, 1), output: shape(2, 3, 2), top: 1, left: 1, front: 1, value: 9 };
    reference::pad(&p, &[1, 2], &mut out);
    assert_eq!(out, [9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 9, 2]);

    reference::concat(2, 0, &[1, 2], &mut out[..6]);
    reference::concat(2, 1, &[3, 4, 5, 6], &mut out[..6]);
    assert_eq!(out[..6], [1, 3, 4, 2, 5, 6]);
}

#[test]
fn a_softmax_of_equals_is_flat_and_of_one_winner_certain() {
    let mut out = [0; 4];
    reference::softmax(reference::softmax_mult(0.1), 4, &[7; 4], &mut out);
    assert_eq!(out, [64; 4]);
    reference::softmax(reference::softmax_mult(1.0), 4, &[0, 255, 3, 200], &mut out);
    assert_eq!(out, [0, 255, 0, 0]);
}

fn pools() -> impl Strategy<Value = (Pool, Vec<u8>)> {
    let pair = |from: usize, to: usize| (from..to, from..to).prop_map(|(a, b)| [a, b]);
    // Small windows, and large ones whose sums leave 16 bits.
    let extents = prop_oneof![9 => (pair(1, 9), pair(1, 6)), 1 => (pair(17, 20), pair(16, 20))];
    (extents, 1..150usize, pair(1, 4), pair(0, 5), any::<u64>()).prop_map(|(([h, w], kernel), c, stride, pad, seed)| {
        let pad = [pad[0].min(kernel[0] - 1), pad[1].min(kernel[1] - 1)];
        // As many windows as meet the input.
        let extent = |k: usize, size: usize| (size + pad[k] - 1) / stride[k] + 1;
        let (input, output) = (shape(h, w, c), shape(extent(0, h), extent(1, w), c));
        (Pool { input, output, kernel, stride, pad }, codes(input.len(), seed))
    })
}

/// One window of whole rows, some with sums beyond 16 bits, over channels that fill vectors and that do not.
fn maps() -> impl Strategy<Value = (Pool, Vec<u8>)> {
    let extents = prop_oneof![4 => (1..9usize, 1..9usize), 1 => (15..22usize, 15..22usize)];
    let channels = prop_oneof![1 => 1..64usize, 4 => 64..160usize];
    (extents, 0..4usize, channels, any::<u64>()).prop_map(|((h, w), below, c, seed)| {
        let (input, output) = (shape(h + below, w, c), shape(1, 1, c));
        (Pool { input, output, kernel: [h, w], stride: [1; 2], pad: [0; 2] }, codes(input.len(), seed))
    })
}

/// Any, or all near the highest.
fn codes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let lowest = if seed.is_multiple_of(4) { 250 } else { 0 };
    (0..len).map(|_| (random.next() as u8).max(lowest)).collect()
}

/// Multipliers and shift of an addition: anything, or what fits products of 16 bits.
fn scales() -> impl Strategy<Value = ((i32, i32), u8)> {
    let narrow = any::<(i16, i16)>().prop_map(|(ma, mb)| (i32::from(ma), i32::from(mb)));
    prop_oneof![(any::<(i32, i32)>(), 1..32u8), (narrow, 1..23u8)]
}

// Twice as many as there are to be for each kernel: a half goes to those that take anything.
proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pool_equals_the_reference(
        (window, input) in prop_oneof![1 => pools(), 2 => maps()],
        zero_in in any::<u8>(),
        mult in prop_oneof![any::<i32>(), 0..1 << 26],
        pre in prop_oneof![Just(0), 0..32u8],
        (lo, hi) in any::<(u8, u8)>(),
    ) {
        let (lo, hi) = (lo.min(hi), lo.max(hi));
        let mean = AvgPool { window, zero_in, mult, requantise: Requantise { pre, zero: zero_in, lo, hi } };
        let highest = MaxPool { window, lo, hi };
        let [mut expected, mut got] = [(); 2].map(|()| vec![0; window.output.len()]);
        for isa in Isa::available() {
            reference::avg_pool(&mean, &input, &mut expected);
            isa.avg_pool(&mean, &input, &mut got);
            prop_assert_eq!(&got, &expected, "{} mean", isa);
            reference::max_pool(&highest, &input, &mut expected);
            isa.max_pool(&highest, &input, &mut got);
            prop_assert_eq!(&got, &expected, "{} maximum", isa);
        }
    }

    #[test]
    fn every_sum_and_table_equals_the_reference(
        a in proptest::collection::vec(any::<(u8, u8)>(), 0..300),
        ((ma, mb), shift) in scales(),
        (zero_a, zero_b, zero) in any::<(u8, u8, u8)>(),
        (lo, hi) in any::<(u8, u8)>(),
        table in proptest::collection::vec(any::<u8>(), 1..=256),
    ) {
        let p = Add { ma, mb, zero_a, zero_b, zero, shift, lo: lo.min(hi), hi: lo.max(hi) };
        let (a, b): (Vec<u8>, Vec<u8>) = a.into_iter().unzip();
        for isa in Isa::available() {
            let (mut expected, mut got) = (a.clone(), a.clone());
            reference::add(&p, &mut expected, &b);
            isa.add(&p, &mut got, &b);
            prop_assert_eq!(&got, &expected, "{} add", isa);
            let (mut expected, mut got) = (a.clone(), a.clone());
            reference::lut(&table, &mut expected);
            isa.lut(&table, &mut got);
            prop_assert_eq!(&got, &expected, "{} lut", isa);
        }
    }

    #[test]
    fn every_rearrangement_equals_the_reference(
        (h, w, c) in (1..9usize, 1..9usize, 1..20usize),
        (top, left, front) in (0..3usize, 0..3usize, 0..3usize),
        (below, right, behind) in (0..3usize, 0..3usize, 0..3usize),
        block in 1..4usize,
        channel_first in any::<bool>(),
        perm in Just([0u8, 1, 2]).prop_shuffle(),
        mult in any::<u32>(),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let mut codes = |shape: Shape| -> Vec<u8> { (0..shape.len()).map(|_| random.next() as u8).collect() };
        let padded = shape(h + top + below, w + left + right, c + front + behind);
        let pad = Pad { input: shape(h, w, c), output: padded, top, left, front, value: 77 };
        let deep = shape(h, w, c * block * block);
        let spread = DepthToSpace { input: deep, output: shape(h * block, w * block, c), block, channel_first };
        let (small, large) = (codes(pad.input), codes(deep));
        for isa in Isa::available() {
            let check = |what, len: usize, run: &dyn Fn(Isa, &mut [u8])| {
                let [mut expected, mut got] = [(); 2].map(|()| vec![0xee; len]);
                run(Isa::Reference, &mut expected);
                run(isa, &mut got);
                assert_eq!(got, expected, "{isa} {what}");
            };
            check("pad", padded.len(), &|isa, out| isa.pad(&pad, &small, out));
            check("depth to space", deep.len(), &|isa, out| isa.depth_to_space(&spread, &large, out));
            check("transpose", small.len(), &|isa, out| isa.transpose(perm, pad.input, &small, out));
            check("softmax", small.len(), &|isa, out| isa.softmax(mult, c, &small, out));
            check("concat", padded.len(), &|isa, out| {
                isa.concat(h, 0, &small, out);
            });
        }
    }
}
