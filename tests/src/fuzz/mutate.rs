//! Random damage to files, without a fuzzer: what can be repeated on any toolchain.

use crate::problems::Random;

/// Sizes, counts and offsets at which arithmetic turns over.
const WORDS: [u32; 11] = [0, 1, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// A copy of `seed` with up to six injuries: mostly bytes and words overwritten, which leaves the rest to be read
/// in depth; seldom runs removed, repeated or taken from `other`, or the end cut off.
pub fn mutate(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.next() % 6 {
        injure(&mut bytes, other, random);
    }
    bytes
}

fn injure(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    // Numbers at the end of a file are mostly weights: most of the bytes and the least of the dangers.
    let reach = if random.next().is_multiple_of(4) { bytes.len() } else { bytes.len() / 2 };
    let at = below(reach, random);
    let run = at..bytes.len().min(at + 1 + below(32, random));
    let word = WORDS[below(WORDS.len(), random)].to_le_bytes();
    match random.next() % 64 {
        0..=23 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.next() as u8),
        24..=39 => bytes.iter_mut().skip(at).zip(&word[..2]).for_each(|(slot, &byte)| *slot = byte),
        40..=59 => bytes.iter_mut().skip(at / 4 * 4).zip(word).for_each(|(slot, byte)| *slot = byte),
        60 => drop(bytes.drain(run)),
        61 => {
            let copy = bytes[run].to_vec();
            let to = below(bytes.len() + 1, random);
            bytes.splice(to..to, copy);
        }
        62 => {
            let from = below(other.len(), random);
            let len = below(64, random).min(other.len() - from).min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&other[from..from + len]);
        }
        _ => bytes.truncate(below(bytes.len() + 1, random)),
    }
}

/// A number below `n`; 0 when there is none.
fn below(n: usize, random: &mut Random) -> usize {
    random.next() as usize % n.max(1)
}
