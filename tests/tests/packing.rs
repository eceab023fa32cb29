//! Codes, formats and layouts: what is packed is what is read.

use std::collections::BTreeSet;

use pare_runtime::bits::{code_of, read_code, write_code};
use pare_runtime::format::{Conv, Layout, WeightFormat, WeightGroup};
use pare_tests::problems::conv_problems;
use proptest::prelude::*;

#[test]
fn every_code_of_every_format_has_a_level_and_back() {
    let codebook: [i8; 16] = std::array::from_fn(|i| 11 * i as i8 - 90);
    for format in WeightFormat::ALL {
        assert_eq!(WeightFormat::from_byte(format.to_byte()), Some(format));
        for code in 0..=((1u32 << format.bits()) - 1) as u8 {
            let level = format.level(code, &codebook);
            let written = (format != WeightFormat::Ternary || level >= -1).then_some(code);
            assert_eq!(code_of(format, level, &codebook), written, "{format}: code {code}");
        }
    }
}

#[test]
fn levels_are_those_of_the_specification() {
    let levels = |format: WeightFormat| -> Vec<i8> {
        (0..1u16 << format.bits()).map(|code| format.level(code as u8, &[7, -7, 0, 100])).collect()
    };
    assert_eq!(levels(WeightFormat::Linear(1)), [-1, 1]);
    assert_eq!(levels(WeightFormat::Linear(2)), [-3, -1, 1, 3]);
    assert_eq!(levels(WeightFormat::Linear(3)), [0, 1, 2, 3, -4, -3, -2, -1]);
    assert_eq!(levels(WeightFormat::Ternary), [0, 1, -2, -1]);
    assert_eq!(levels(WeightFormat::Codebook(2)), [7, -7, 0, 100]);
    assert_eq!(code_of(WeightFormat::Linear(2), 0, &[]), None);
    assert_eq!(code_of(WeightFormat::Linear(8), -128, &[]), Some(128));
}

#[test]
fn the_largest_level_of_a_group_is_that_of_all_its_codes() {
    let codebook: [i8; 16] = std::array::from_fn(|i| if i == 9 { -128 } else { 5 * i as i8 });
    for format in WeightFormat::ALL {
        let group =
            WeightGroup { first: 0, channels: 1, format, layout: Layout::Plain, codebook: &codebook, codes: &[] };
        let codes = 0..=((1u32 << format.bits()) - 1) as u8;
        let largest = codes.map(|code| format.level(code, &codebook).unsigned_abs()).max();
        assert_eq!(Some(group.largest_level()), largest.map(u32::from), "{format}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_codes_are_read_and_disturb_no_other(
        bits in 1..=8u32,
        codes in proptest::collection::vec(any::<u8>(), 1..50),
        again in any::<proptest::sample::Index>(),
    ) {
        let mask = ((1u32 << bits) - 1) as u8;
        let mut stream = vec![0xa5; (codes.len() * bits as usize).div_ceil(8)];
        codes.iter().enumerate().for_each(|(i, &code)| write_code(&mut stream, bits, i, code));
        let again = again.index(codes.len());
        write_code(&mut stream, bits, again, codes[again]);
        for (i, &code) in codes.iter().enumerate() {
            prop_assert_eq!(read_code(&stream, bits, i), code & mask);
        }
    }

    #[test]
    fn every_weight_has_a_place_of_its_own_inside_the_group(problem in conv_problems()) {
        let conv: Conv<'_> = problem.conv();
        for group in conv.weight_groups().filter(|group| group.layout != Layout::Sparse) {
            let bits = group.format.bits() as usize;
            let mut taken = BTreeSet::new();
            for channel in 0..group.channels {
                for k in 0..conv.depth() {
                    let at = conv.position(group.layout, group.format, channel, k);
                    let bit = at.offset * 8 + at.index * bits;
                    prop_assert!(bit + bits <= group.codes.len() * 8);
                    prop_assert!(taken.insert(bit), "{:?}: channel {}, weight {}", group.layout, channel, k);
                }
            }
            if group.layout == Layout::Plain {
                prop_assert_eq!(group.codes.len(), group.channels * (conv.depth() * bits).div_ceil(8));
            }
        }
    }
}
