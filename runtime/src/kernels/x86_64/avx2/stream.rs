//! Fully connected layers: every weight is read once and multiplied once, a few panels at a time, which share the
//! window. Codes become levels in registers.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::levels::{Decoder, load};
use super::products::Products;
use super::requantise::{Scale, load_channels};
use crate::format::{PANEL_CHANNELS, PANEL_DEPTH, PANEL_STEP, WeightGroup};
use crate::kernels::panels::dense::Stream;

/// Panels that share a window.
const PANELS: usize = 4;

/// Multiplies the panels of a group with their window.
///
/// # Safety
/// The processor has the instructions; as many steps as interleave can be added up at once.
#[inline(always)]
pub(super) unsafe fn stream<P: Products>(products: P, group: &WeightGroup<'_>, stream: &Stream<'_>) {
    // SAFETY: the contract.
    unsafe {
        let decoder = Decoder::new(group);
        match group.format.interleaved() {
            1 => panels::<1, P>(products, &decoder, stream),
            2 => panels::<2, P>(products, &decoder, stream),
            4 => panels::<4, P>(products, &decoder, stream),
            _ => panels::<8, P>(products, &decoder, stream),
        }
    }
}

/// All panels, `F` steps of which interleave.
///
/// # Safety
/// As [`stream`].
#[inline(always)]
unsafe fn panels<const F: usize, P: Products>(products: P, decoder: &Decoder, stream: &Stream<'_>) {
    let all = stream.panels().len;
    let mut first = 0;
    // SAFETY: the panels are there.
    unsafe {
        while first + PANELS <= all {
            block::<F, PANELS, P>(products, decoder, stream, first);
            first += PANELS;
        }
        while first < all {
            block::<F, 1, P>(products, decoder, stream, first);
            first += 1;
        }
    }
}

/// `N` panels from `first` on.
///
/// # Safety
/// As [`stream`]; there are those panels, `F` steps of which interleave.
#[inline(always)]
unsafe fn block<const F: usize, const N: usize, P: Products>(
    products: P,
    decoder: &Decoder,
    stream: &Stream<'_>,
    first: usize,
) {
    let (panels, quads) = (stream.panels(), stream.quads());
    let mut room = [MaybeUninit::uninit(); 1];
    // SAFETY: quads below `quads` of window and panels; the panels' channels lie in the output.
    unsafe {
        let codes = panels.codes.as_ptr().add(first * panels.step);
        let mut totals = [[_mm256_setzero_si256(); 2]; N];
        for n in 0..N {
            totals[n] = load_channels(panels.bias, panels.channels(first + n));
        }
        let together = quads / F * F;
        let mut quad = 0;
        while quad < quads {
            let run = products.run() / F * F;
            let now = if quad < together { run.min(together - quad) } else { quads - quad };
            let (window, _) = products.prepare(&mut room, stream.window().add(quad * PANEL_DEPTH), 0, now);
            let mut sums = [[[_mm256_setzero_si256(); 2]; 1]; N];
            let mut index = 0;
            while index < now {
                if F > 1 && quad < together {
                    for n in 0..N {
                        let packed = load(codes.add(n * panels.step + (quad + index) / F * PANEL_STEP));
                        for i in 0..F {
                            let levels = decoder.interleaved(packed, i * 8 / F);
                            for pass in 0..P::PASSES {
                                products.add(pass, &mut sums[n], window.add((index + i) * P::QUAD), 0, levels);
                            }
                        }
                    }
                    index += F;
                } else {
                    for n in 0..N {
                        let levels = decoder.in_sequence(codes.add(n * panels.step + (quad + index) * decoder.bytes()));
                        for pass in 0..P::PASSES {
                            products.add(pass, &mut sums[n], window.add(index * P::QUAD), 0, levels);
                        }
                    }
                    index += 1;
                }
            }
            for n in 0..N {
                for half in 0..2 {
                    totals[n][half] = products.widen(totals[n][half], sums[n][0][half]);
                }
            }
            quad += now;
        }
        for n in 0..N {
            let scale = Scale::new(stream.requantise(), panels, first + n);
            scale.store(&[totals[n]], stream.output().add((first + n) * PANEL_CHANNELS), 0);
        }
    }
}
