//! Bit-serial convolution of 1- and 2-bit weights; see [`crate::kernels::planes`].

use core::arch::x86_64::*;

use super::dense::{even_split, store};
use super::lanes;
use super::requantise::{Scale, load_channels};
use crate::format::{Conv, Layout, PANEL_CHANNELS, PLANE_WORD, WeightFormat, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::Panels;
use crate::kernels::planes::{Planes, STEP};
use crate::kernels::scratch::{ALIGN, padded};
use crate::kernels::x86_64::detect;

/// Convolution of weights in [`Layout::Planes`](crate::format::Layout::Planes); leaves the output alone if the
/// arguments do not fit together.
pub(in crate::kernels::x86_64) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let fits = input.len() >= conv.input.len() && output.len() >= conv.output.len();
    if fits && detect(Isa::Avx512Vnni) {
        // SAFETY: the processor has the instructions, as was just asked. `None` would come of arguments that do not fit.
        let _ran = unsafe { strips(conv, input, output, scratch) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
fn strips(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let planes = Planes::of(conv)?;
    let skip = scratch.as_ptr().align_offset(ALIGN);
    let (sums, rest) = scratch.get_mut(skip..)?.split_at_mut_checked(planes.sums())?;
    let sums = bytemuck::try_cast_slice_mut(sums).ok()?;
    let (bits, decoded) = rest.split_at_mut_checked(planes.planes.checked_mul(planes.plane())?)?;
    let mut first = 0;
    while first < conv.output.h {
        let rows = planes.outputs.min(conv.output.h - first);
        let mut strip = Strip { conv, planes: &planes, bits, sums };
        strip.fill(input, first, padded(conv, 0, rows))?;
        strip.sum_windows(rows);
        for group in conv.weight_groups() {
            for index in 0..group.channels.div_ceil(PANEL_CHANNELS) {
                let panel = Panel::new(&strip, &group, index, decoded)?;
                panel.rows(first, rows, output)?;
            }
        }
        first += rows;
    }
    Some(())
}

/// Rows of the input, plane after plane.
struct Strip<'a> {
    conv: &'a Conv<'a>,
    planes: &'a Planes,
    bits: &'a mut [u8],
    /// Sums of codes: of pixels, then of windows.
    sums: &'a mut [i32],
}

impl Strip<'_> {
    /// The planes and sums of `rows` rows of input, as output row `output` and those below it read them.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn fill(&mut self, input: &[u8], output: usize, rows: usize) -> Option<()> {
        let (conv, planes) = (self.conv, self.planes);
        let line = conv.input.w * conv.input.c;
        // Pixels of whole bytes follow each other without a gap.
        let run = if conv.input.c.is_multiple_of(8) { line } else { conv.input.c };
        let left = conv.pad[1].min(planes.columns);
        let inside = conv.input.w.min(planes.columns - left);
        for row in 0..rows {
            let y = (output * conv.stride[0] + row).wrapping_sub(conv.pad[0]);
            let codes = if y < conv.input.h { input.get(y * line..(y + 1) * line)? } else { &[] };
            let at = row * planes.pitch();
            let inside = if codes.is_empty() { 0 } else { inside };
            self.surround(at, left)?;
            let codes = &codes[..inside * conv.input.c];
            for (index, run) in codes.chunks(run).enumerate() {
                self.pack(run, at + left * planes.pixel + index * planes.pixel)?;
            }
            self.surround(at + (left + inside) * planes.pixel, planes.columns - left - inside)?;
        }
        self.sum_pixels(rows * planes.columns)
    }

    /// The sums of codes of the first pixels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn sum_pixels(&mut self, pixels: usize) -> Option<()> {
        let planes = self.planes;
        let sums = self.sums.get_mut(..pixels)?;
        sums.fill(0);
        for plane in 0..planes.planes {
            let bits = self.bits.get(plane * planes.plane()..)?;
            match planes.pixel {
                2 => add_ones::<2>(bits, plane, sums),
                4 => add_ones::<4>(bits, plane, sums),
                8 => add_ones::<8>(bits, plane, sums),
                bytes => {
                    for (sum, pixel) in sums.iter_mut().zip(bits.chunks_exact(bytes)) {
                        let (words, rest) = pixel.as_chunks();
                        let ones: u32 = words.iter().map(|&word| u64::from_le_bytes(word).count_ones()).sum();
                        let ones = ones + rest.iter().map(|byte| byte.count_ones()).sum::<u32>();
                        *sum += (ones << plane) as i32;
                    }
                }
            }
        }
        Some(())
    }

    /// `pixels` zero points from byte `at` of each plane on.
    fn surround(&mut self, at: usize, pixels: usize) -> Option<()> {
        let (conv, planes) = (self.conv, self.planes);
        for plane in 0..planes.planes {
            let set = conv.zero_in >> plane & 1 == 1;
            let start = plane * planes.plane() + at;
            let bytes = self.bits.get_mut(start..start + pixels * planes.pixel)?;
            bytes.fill(if set { 0xff } else { 0 });
            let spare = conv.input.c % 8;
            if set && spare != 0 {
                bytes.iter_mut().skip(planes.pixel - 1).step_by(planes.pixel).for_each(|last| *last = (1 << spare) - 1);
            }
        }
        Some(())
    }

    /// The bits of codes, to byte `at` of each plane and those that follow.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn pack(&mut self, codes: &[u8], at: usize) -> Option<()> {
        for (index, codes) in codes.chunks(64).enumerate() {
            // SAFETY: lanes beyond the codes are not read.
            let codes = unsafe { _mm512_maskz_loadu_epi8(lanes(codes.len()), codes.as_ptr().cast()) };
            for plane in 0..self.planes.planes {
                let bits = _mm512_test_epi8_mask(codes, _mm512_set1_epi8((1u8 << plane) as i8));
                // Whole words: what follows in the plane comes later, and it ends in a spare one.
                let start = plane * self.planes.plane() + at + index * 8;
                *self.bits.get_mut(start..)?.first_chunk_mut()? = bits.to_le_bytes();
            }
        }
        Some(())
    }

    /// Makes of the sums of pixels those of the windows of `rows` rows: in place, as no window begins before its own
    /// place.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn sum_windows(&mut self, rows: usize) {
        let (conv, columns) = (self.conv, self.planes.columns);
        let [kernel, stride, dilation] = [conv.kernel, conv.stride, conv.dilation];
        for y in 0..rows {
            let first = y * stride[0];
            self.sums.copy_within(first * columns..(first + 1) * columns, y * columns);
            for ky in 1..kernel[0] {
                let (to, from) = self.sums.split_at_mut((first + ky * dilation[0]) * columns);
                let to = to[y * columns..].iter_mut();
                to.zip(&from[..columns]).for_each(|(sum, more)| *sum += more);
            }
            let row = &mut self.sums[y * columns..(y + 1) * columns];
            for x in 0..conv.output.w {
                row[x] = (0..kernel[1]).map(|kx| row[x * stride[1] + kx * dilation[1]]).sum();
            }
        }
    }
}

/// Adds what the bits of each pixel of `BYTES` bytes count for in a plane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
fn add_ones<const BYTES: usize>(bits: &[u8], plane: usize, sums: &mut [i32]) {
    for (sum, pixel) in sums.iter_mut().zip(bits.as_chunks::<BYTES>().0) {
        let mut word = [0; 8];
        word[..BYTES].copy_from_slice(pixel);
        *sum += (u64::from_le_bytes(word).count_ones() << plane) as i32;
    }
}

/// The weights of 16 output channels.
struct Panel<'a> {
    strip: &'a Strip<'a>,
    /// Planes of the weights.
    planes: usize,
    /// Words of the planes, step after step.
    words: &'a [u8],
    /// First output channel.
    first: usize,
    scale: [Scale; 1],
    bias: __m512i,
    /// A level is `(u << shift) - offset`, where `u` is what its planes say.
    shift: __m512i,
    offset: i32,
}

impl<'a> Panel<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn new(strip: &'a Strip<'a>, group: &WeightGroup<'a>, index: usize, decoded: &'a mut [u8]) -> Option<Panel<'a>> {
        let conv = strip.conv;
        let planes = group.format.bits() as usize;
        let step = conv.packed_bytes(PANEL_CHANNELS, group.format, Layout::Planes);
        let at = index * PANEL_CHANNELS;
        let first = group.first + at;
        let channels = first..first + (group.channels - at).min(PANEL_CHANNELS);
        let codes = group.codes.get(index * step..(index + 1) * step)?;
        let (bias, mult) = (conv.bias.get(channels.clone())?, conv.mult.get(channels)?);
        let panels = Panels { len: 1, first, bias, mult, codes, step };
        let (shift, offset) = match group.format {
            WeightFormat::Linear(1) => (1, 1),
            WeightFormat::Linear(2) => (1, 3),
            // The top bit flipped.
            WeightFormat::Ternary => (0, 2),
            _ => return None,
        };
        let words = if planes == 1 { codes } else { decode(conv, group.format, codes, decoded)? };
        Some(Panel {
            strip,
            planes,
            words,
            first,
            scale: [Scale::new(&conv.requantise, &panels, 0)],
            bias: load_channels(bias, panels.channels(0)),
            shift: _mm512_set1_epi32(shift),
            offset,
        })
    }

    /// All pixels of `rows` output rows from `first` on, whose windows are those of the strip.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn rows(&self, first: usize, rows: usize, output: &mut [u8]) -> Option<()> {
        let (conv, strip) = (self.strip.conv, self.strip);
        let (pitch, columns) = (strip.planes.pitch(), strip.planes.columns);
        // The windows end where the strip does, or in the word behind it.
        let planes = strip.planes.planes * strip.planes.plane();
        if padded(conv, 0, rows) > strip.planes.rows || strip.bits.len() < planes {
            return None;
        }
        let row_bytes = conv.output.w * conv.output.c;
        for (y, output) in (0..rows).zip(output.get_mut(first * row_bytes..)?.chunks_exact_mut(row_bytes)) {
            let row = Row {
                panel: self,
                windows: strip.bits.get(y * conv.stride[0] * pitch..)?,
                sums: strip.sums.get(y * columns..)?.get(..conv.output.w)?,
                output: output.get_mut(self.first..)?,
            };
            // SAFETY: the windows of a row of output lie in the strip, its pixels in the row.
            unsafe {
                match self.planes {
                    1 => row.all::<1>(),
                    _ => row.all::<2>(),
                }
            }
        }
        Some(())
    }
}

/// The planes of a panel of weights of 2 bits, whose words are of even codes and of odd ones.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
fn decode<'a>(conv: &Conv<'_>, format: WeightFormat, codes: &[u8], decoded: &'a mut [u8]) -> Option<&'a [u8]> {
    let (_, words) = conv.plane_segments();
    let decoded = decoded.get_mut(..codes.len())?;
    let odd = _mm512_set1_epi8(0xaa_u8 as i8);
    // What is beyond a segment is 0, and stays so.
    let last = conv.plane_segment() % PLANE_WORD;
    let (whole, last) = (u32::MAX, if last == 0 { u32::MAX } else { (1 << last) - 1 });
    let flip = if format == WeightFormat::Ternary { u32::MAX } else { 0 };
    for (step, (from, to)) in codes.chunks_exact(2 * STEP).zip(decoded.chunks_exact_mut(2 * STEP)).enumerate() {
        let counted = if (step + 1).is_multiple_of(words) { last } else { whole };
        // SAFETY: two vectors each.
        unsafe {
            let [even, odds] = [0, STEP].map(|at| _mm512_loadu_si512(from.as_ptr().add(at).cast()));
            let select = |odds, even| _mm512_ternarylogic_epi32::<0b1100_1010>(odd, odds, even);
            let low = select(_mm512_slli_epi32::<1>(odds), even);
            let high = select(odds, _mm512_srli_epi32::<1>(even));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), low);
            let high = _mm512_xor_si512(high, _mm512_set1_epi32((flip & counted) as i32));
            _mm512_storeu_si512(to.as_mut_ptr().add(STEP).cast(), high);
        }
    }
    Some(decoded)
}

/// A row of output.
struct Row<'a> {
    panel: &'a Panel<'a>,
    /// Planes from the first window on.
    windows: &'a [u8],
    /// Sums of the windows' codes.
    sums: &'a [i32],
    /// From the panel's first channel of the first pixel on.
    output: &'a mut [u8],
}

impl Row<'_> {
    /// # Safety
    /// The processor has the instructions; the windows and the output of every pixel are there.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    unsafe fn all<const W: usize>(self) {
        // SAFETY: the contract; no more pixels than there are.
        unsafe {
            match even_split(self.panel.strip.conv.output.w, 8) {
                1 => self.tiles::<W, 1>(),
                2 => self.tiles::<W, 2>(),
                3 => self.tiles::<W, 3>(),
                4 => self.tiles::<W, 4>(),
                5 => self.tiles::<W, 5>(),
                6 => self.tiles::<W, 6>(),
                7 => self.tiles::<W, 7>(),
                _ => self.tiles::<W, 8>(),
            }
        }
    }

    /// `N` pixels at a time; the last tile covers again what it needs to be whole.
    ///
    /// # Safety
    /// The same; the row has `N` pixels at least.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    unsafe fn tiles<const W: usize, const N: usize>(self) {
        let panel = self.panel;
        let conv = panel.strip.conv;
        let step = conv.stride[1] * panel.strip.planes.pixel;
        let output = self.output.as_mut_ptr();
        let mut x = 0;
        while x < conv.output.w {
            let first = x.min(conv.output.w - N);
            // SAFETY: the contract.
            unsafe {
                let counts = panel.counts::<W, N>(self.windows.as_ptr().add(first * step), step);
                let mut sums = [[panel.bias]; N];
                for n in 0..N {
                    let offset = _mm512_set1_epi32(self.sums[first + n].wrapping_mul(panel.offset));
                    let products = _mm512_sub_epi32(_mm512_sllv_epi32(counts[n], panel.shift), offset);
                    sums[n][0] = _mm512_add_epi32(panel.bias, products);
                }
                store(&panel.scale, sums, output.add(first * conv.output.c), conv.output.c);
            }
            x += N;
        }
    }
}

impl Panel<'_> {
    /// The sums of codes by what the planes of the weights say, for `N` pixels whose windows are `step` bytes apart.
    ///
    /// # Safety
    /// The processor has the instructions; the windows are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    unsafe fn counts<const W: usize, const N: usize>(&self, windows: *const u8, step: usize) -> [__m512i; N] {
        let (conv, planes) = (self.strip.conv, self.strip.planes);
        let (segments, words) = conv.plane_segments();
        let [rows, _] = conv.kernel;
        let taps = segments / rows;
        let (row_step, tap_step) = (conv.dilation[0] * planes.pitch(), conv.dilation[1] * planes.pixel);
        let mut counts = [[_mm512_setzero_si512(); W]; N];
        // SAFETY: the contract; weights for all of it.
        unsafe {
            for plane in (0..planes.planes).rev() {
                for n in 0..N {
                    for w in 0..W {
                        counts[n][w] = _mm512_add_epi32(counts[n][w], counts[n][w]);
                    }
                }
                let plane = windows.add(plane * planes.plane());
                let mut weights = self.words.as_ptr();
                for ky in 0..rows {
                    for kx in 0..taps {
                        let mut at = plane.add(ky * row_step + kx * tap_step);
                        for _ in 0..words {
                            let mut bits = [_mm512_setzero_si512(); W];
                            for w in 0..W {
                                bits[w] = _mm512_loadu_si512(weights.add(w * STEP).cast());
                            }
                            for n in 0..N {
                                let codes = _mm512_set1_epi32(at.add(n * step).cast::<i32>().read_unaligned());
                                for w in 0..W {
                                    let both = _mm512_popcnt_epi32(_mm512_and_si512(bits[w], codes));
                                    counts[n][w] = _mm512_add_epi32(counts[n][w], both);
                                }
                            }
                            at = at.add(PLANE_WORD / 8);
                            weights = weights.add(W * STEP);
                        }
                    }
                }
            }
        }
        let mut sums = [_mm512_setzero_si512(); N];
        for n in 0..N {
            for w in (0..W).rev() {
                sums[n] = _mm512_add_epi32(_mm512_add_epi32(sums[n], sums[n]), counts[n][w]);
            }
        }
        sums
    }
}
