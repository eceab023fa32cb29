//! What the paper's own storage would take: a figure to compare with, no format.
//!
//! Per layer, two streams: the values of weights that are left, and the zeros before each, 5 bits of them at most, a zero
//! standing in where there are more (Han et al. 2016, sections 2 and 4). Each has a canonical Huffman code, whose table is
//! a length of 4 bits for each symbol. Codebooks and biases are floats.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::quant::WeightCodes;

/// Zeros that a run counts, at most.
const LONGEST_RUN: u32 = 31;
/// Bits of the length of a code.
const LENGTH_BITS: u64 = 4;

/// Bytes of all layers.
pub(super) fn bytes<'a>(layers: impl Iterator<Item = &'a WeightCodes>) -> u64 {
    layers.map(|layer| layer_bits(layer).div_ceil(8) + 4 * layer.bias.len() as u64).sum()
}

fn layer_bits(layer: &WeightCodes) -> u64 {
    let (mut values, mut runs) = (BTreeMap::<i8, u64>::new(), BTreeMap::<u32, u64>::new());
    let mut run = 0;
    for &level in &layer.levels {
        if level == 0 && run < LONGEST_RUN {
            run += 1;
            continue;
        }
        *values.entry(level).or_default() += 1;
        *runs.entry(run).or_default() += 1;
        run = 0;
    }
    let table = LENGTH_BITS * (layer.codebook.len() as u64 + u64::from(LONGEST_RUN) + 1);
    let codebook = 32 * values.len() as u64;
    coded_bits(values.into_values()) + coded_bits(runs.into_values()) + table + codebook
}

/// Bits of all symbols by a Huffman code of these counts: the sum over all inner nodes of its tree.
fn coded_bits(counts: impl Iterator<Item = u64>) -> u64 {
    let mut heap: BinaryHeap<Reverse<u64>> = counts.map(Reverse).collect();
    if heap.len() == 1 {
        return heap.into_iter().map(|Reverse(count)| count).sum();
    }
    let mut bits = 0;
    while let (Some(Reverse(a)), Some(Reverse(b))) = (heap.pop(), heap.pop()) {
        bits += a + b;
        if heap.is_empty() {
            break;
        }
        heap.push(Reverse(a + b));
    }
    bits
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_as_short_as_prefixes_allow() {
        // Lengths 1, 2, 3, 3.
        assert_eq!(super::coded_bits([4, 2, 1, 1].into_iter()), 4 + 4 + 3 + 3);
        assert_eq!(super::coded_bits([5].into_iter()), 5);
        assert_eq!(super::coded_bits(std::iter::empty()), 0);
    }
}
