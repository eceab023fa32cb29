//! From sums to codes, 16 channels at a time.

use core::arch::aarch64::*;

use super::instructions::smull2;
use crate::format::{PANEL_CHANNELS, Requantise};
use crate::kernels::panels::Panels;

/// One number for each of 16 channels.
pub(super) type Sums = [int32x4_t; 4];

/// From sums to codes for the channels of a panel.
pub(super) struct Scale {
    mult: Sums,
    pre: int32x4_t,
    zero: int16x8_t,
    lo: uint8x16_t,
    hi: uint8x16_t,
    channels: usize,
}

impl Scale {
    /// For panel `index` of a run.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(requantise: &Requantise, panels: &Panels<'_>, index: usize) -> Scale {
        let channels = panels.channels(index);
        Scale {
            mult: load_channels(&panels.mult[channels.clone()]),
            pre: vdupq_n_s32(i32::from(requantise.pre & 31)),
            zero: vdupq_n_s16(i16::from(requantise.zero)),
            lo: vdupq_n_u8(requantise.lo),
            hi: vdupq_n_u8(requantise.hi),
            channels: channels.len(),
        }
    }

    /// The codes of a pixel.
    #[inline]
    #[target_feature(enable = "neon")]
    fn codes(&self, sums: Sums) -> uint8x16_t {
        let mut scaled = [vdup_n_s16(0); 4];
        for i in 0..4 {
            let sum = vshlq_s32(sums[i], self.pre);
            let low = vmull_s32(vget_low_s32(sum), vget_low_s32(self.mult[i]));
            let high = smull2(sum, self.mult[i]);
            let rounded = vrshrn_high_n_s64::<32>(vrshrn_n_s64::<32>(low), high);
            // This and what follows saturates, which is within any clamp to codes.
            scaled[i] = vqmovn_s32(rounded);
        }
        let [a, b, c, d] = scaled;
        let low = vqaddq_s16(vcombine_s16(a, b), self.zero);
        let high = vqaddq_s16(vcombine_s16(c, d), self.zero);
        let codes = vqmovun_high_s16(vqmovun_s16(low), high);
        vminq_u8(vmaxq_u8(codes, self.lo), self.hi)
    }

    /// Stores the codes of a pixel.
    ///
    /// # Safety
    /// `to` takes the panel's channels.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn store(&self, sums: Sums, to: *mut u8) {
        let codes = self.codes(sums);
        // SAFETY: the contract.
        unsafe {
            if self.channels == PANEL_CHANNELS {
                vst1q_u8(to, codes);
            } else {
                store_some(codes, self.channels, to);
            }
        }
    }
}

/// Stores the first `channels` of 16 codes. Not inlined: it would cost the registers of whole tiles.
///
/// # Safety
/// `to` takes `channels` bytes, 15 at most.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn store_some(codes: uint8x16_t, channels: usize, to: *mut u8) {
    let mut bytes = [0; PANEL_CHANNELS];
    // SAFETY: 16 bytes; the contract.
    unsafe {
        vst1q_u8(bytes.as_mut_ptr(), codes);
        to.copy_from_nonoverlapping(bytes.as_ptr(), channels.min(PANEL_CHANNELS));
    }
}

/// The numbers of 16 channels at most, 0 for those that are missing.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_channels(numbers: &[i32]) -> Sums {
    let mut some = [0; PANEL_CHANNELS];
    let all = numbers.first_chunk().unwrap_or_else(|| {
        some.iter_mut().zip(numbers).for_each(|(to, &from)| *to = from);
        &some
    });
    // SAFETY: 16 numbers.
    unsafe { [0, 4, 8, 12].map(|at| vld1q_s32(all.as_ptr().add(at))) }
}
