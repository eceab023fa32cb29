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
    let all = stream.panels().len;
    let mut first = 0;
    // SAFETY: the panels are there.
    unsafe {
        let decoder = Decoder::new(group);
        while first + PANELS <= all {
            block::<PANELS, P>(products, &decoder, stream, first);
            first += PANELS;
        }
        while first < all {
            block::<1, P>(products, &decoder, stream, first);
            first += 1;
        }
    }
}

/// `N` panels from `first` on.
///
/// # Safety
/// As [`stream`]; there are those panels.
#[inline(always)]
unsafe fn block<const N: usize, P: Products>(products: P, decoder: &Decoder, stream: &Stream<'_>, first: usize) {
    let (panels, quads, together) = (stream.panels(), stream.quads(), decoder.together());
    let mut room = [MaybeUninit::uninit(); 1];
    // SAFETY: quads below `quads` of window and panels; the panels' channels lie in the output.
    unsafe {
        let codes = panels.codes.as_ptr().add(first * panels.step);
        let mut totals = [[_mm256_setzero_si256(); 2]; N];
        for n in 0..N {
            totals[n] = load_channels(panels.bias, panels.channels(first + n));
        }
        let interleaved = if together == 1 { 0 } else { quads / together * together };
        let run = products.run() / together * together;
        let mut quad = 0;
        while quad < quads {
            let now = if quad < interleaved { run.min(interleaved - quad) } else { run.min(quads - quad) };
            let (mut window, _) = products.prepare(&mut room, stream.window().add(quad * PANEL_DEPTH), 0, now);
            let end = quad + now;
            let mut sums = [[[_mm256_setzero_si256(); 2]; 1]; N];
            while quad < end {
                if quad < interleaved {
                    let mut packed = [[_mm256_setzero_si256(); 2]; N];
                    for n in 0..N {
                        packed[n] = load(codes.add(n * panels.step + quad / together * PANEL_STEP));
                    }
                    for _ in 0..together {
                        for n in 0..N {
                            let levels = decoder.lowest(packed[n]);
                            packed[n] = decoder.next_step(packed[n]);
                            for pass in 0..P::PASSES {
                                products.add(pass, &mut sums[n], window, 0, levels);
                            }
                        }
                        window = window.add(P::QUAD);
                    }
                    quad += together;
                } else {
                    for n in 0..N {
                        let levels = decoder.in_sequence(codes.add(n * panels.step + quad * decoder.bytes()));
                        for pass in 0..P::PASSES {
                            products.add(pass, &mut sums[n], window, 0, levels);
                        }
                    }
                    window = window.add(P::QUAD);
                    quad += 1;
                }
            }
            for n in 0..N {
                for half in 0..2 {
                    totals[n][half] = products.widen(totals[n][half], sums[n][0][half]);
                }
            }
        }
        for n in 0..N {
            let scale = Scale::new(stream.requantise(), panels, first + n);
            scale.store(&[totals[n]], stream.output().add((first + n) * PANEL_CHANNELS), 0);
        }
    }
}
