//! The checksum of the header.
#![allow(clippy::indexing_slicing, reason = "a byte into a table of 256, a nibble into one of 16")]

/// The polynomial of IEEE 802.3, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// CRC-32 (IEEE 802.3, reflected) as in the header.
pub fn crc32(bytes: &[u8]) -> u32 {
    // What a server core finishes sooner, a microcontroller has no flash for.
    if cfg!(target_pointer_width = "64") { sliced(bytes) } else { by_nibble(bytes) }
}

/// A table of 64 bytes.
fn by_nibble(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut i = 0;
        while i < 16 {
            table[i] = shifted(i as u32, 4);
            i += 1;
        }
        table
    };
    let step = |crc: u32, _| TABLE[crc as usize & 15] ^ crc >> 4;
    // A function of its own, lest the loop over the words be unrolled.
    #[inline(never)]
    fn after_word(crc: u32, step: impl Fn(u32, u32) -> u32) -> u32 {
        (0..8).fold(crc, step)
    }
    let (words, rest) = bytes.as_chunks::<4>();
    let crc = words.iter().fold(!0, |crc, &word| after_word(crc ^ u32::from_le_bytes(word), step));
    !rest.iter().fold(crc, |crc, &byte| (0..2).fold(crc ^ u32::from(byte), step))
}

/// Sixteen bytes a step, a table for each (Kounavis and Berry, "A systematic approach to building high
/// performance software-based CRC generators", 2005): 16 KiB of them.
fn sliced(bytes: &[u8]) -> u32 {
    /// `TABLES[n][byte]`: what `byte` comes to when `n` more bytes follow it.
    static TABLES: [[u32; 256]; 16] = {
        let mut tables = [[0; 256]; 16];
        let mut i = 0;
        while i < 256 {
            tables[0][i] = shifted(i as u32, 8);
            let mut n = 1;
            while n < 16 {
                let before = tables[n - 1][i];
                tables[n][i] = shifted(before & 255, 8) ^ before >> 8;
                n += 1;
            }
            i += 1;
        }
        tables
    };
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut crc = !0u32;
    for block in blocks {
        let whole = u128::from_le_bytes(*block) ^ u128::from(crc);
        crc =
            whole.to_le_bytes().iter().zip(TABLES.iter().rev()).fold(0, |crc, (&b, table)| crc ^ table[usize::from(b)]);
    }
    !rest.iter().fold(crc, |crc, &byte| TABLES[0][usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

/// The remainder of `crc` after `bits` zeros.
const fn shifted(mut crc: u32, bits: u32) -> u32 {
    let mut bit = 0;
    while bit < bits {
        crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
        bit += 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_with_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let bytes: [u8; 100] = core::array::from_fn(|i| (i * i + 7) as u8);
        for end in 0..bytes.len() {
            assert_eq!(sliced(&bytes[..end]), by_nibble(&bytes[..end]));
        }
    }
}
