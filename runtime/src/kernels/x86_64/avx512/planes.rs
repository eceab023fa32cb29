//! Bit-serial convolution of 1- and 2-bit weights; see [`crate::kernels::planes`].

use core::arch::x86_64::*;

use super::dense::{Product, Quad, even_split};
use super::lanes;
use super::requantise::{Scale, load_channels};
use crate::format::{Conv, Layout, PANEL_CHANNELS, PLANE_WORD, WeightFormat, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::Panels;
use crate::kernels::planes::{PLANE_PANELS, Planes};
use crate::kernels::scratch::{ALIGN, padded};
use crate::kernels::x86_64::detect;

/// Bytes of a word of each of 16 output channels.
const STEP: usize = PANEL_CHANNELS * PLANE_WORD / 8;

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
        strip.sum_windows(rows)?;
        for group in conv.weight_groups() {
            let mut panel = 0;
            while panel < group.channels.div_ceil(PANEL_CHANNELS) {
                let weights = Weights::new(conv, &planes, &group, panel, decoded)?;
                let output = output.get_mut(first * conv.output.w * conv.output.c..)?;
                Rows::new(&weights, &strip, rows, output)?.all();
                panel += weights.panels.len;
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
        self.surround();
        let line = conv.input.w * conv.input.c;
        let left = conv.pad[1].min(planes.columns);
        let inside = conv.input.w.min(planes.columns - left);
        // Pixels of whole bytes follow each other without a gap.
        let run = if conv.input.c.is_multiple_of(8) { inside * conv.input.c } else { conv.input.c };
        for row in 0..rows {
            let y = (output * conv.stride[0] + row).wrapping_sub(conv.pad[0]);
            if y < conv.input.h && inside > 0 {
                let codes = input.get(y * line..)?.get(..inside * conv.input.c)?;
                let at = row * planes.pitch() + left * planes.pixel;
                for (index, codes) in codes.chunks_exact(run).enumerate() {
                    self.pack(codes, at + index * planes.pixel)?;
                }
            }
        }
        self.sum_pixels(rows * planes.columns)
    }

    /// Zero points everywhere.
    fn surround(&mut self) {
        let (conv, planes) = (self.conv, self.planes);
        let last = ((1u16 << ((conv.input.c - 1) % 8 + 1)) - 1) as u8;
        for (plane, bits) in self.bits.chunks_exact_mut(planes.plane()).enumerate() {
            let set = conv.zero_in >> plane & 1 == 1;
            bits.fill(if set { u8::MAX } else { 0 });
            if set && last != u8::MAX {
                bits.iter_mut().skip(planes.pixel - 1).step_by(planes.pixel).for_each(|byte| *byte = last);
            }
        }
    }

    /// The bits of codes, to byte `at` of each plane and those that follow.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn pack(&mut self, codes: &[u8], at: usize) -> Option<()> {
        for (plane, bits) in self.bits.chunks_exact_mut(self.planes.plane()).enumerate() {
            let to = bits.get_mut(at..)?.get_mut(..codes.len().div_ceil(64) * 8)?.as_chunks_mut().0;
            for (codes, to) in codes.chunks(64).zip(to) {
                // Whole bytes: the padding behind them stays.
                let of_codes = lanes(codes.len().next_multiple_of(8));
                // SAFETY: lanes beyond the codes are not read.
                let codes = unsafe { _mm512_maskz_loadu_epi8(lanes(codes.len()), codes.as_ptr().cast()) };
                let bits = _mm512_test_epi8_mask(codes, _mm512_set1_epi8((1u8 << plane) as i8));
                *to = (u64::from_le_bytes(*to) & !of_codes | bits).to_le_bytes();
            }
        }
        Some(())
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
                        *sum = sum.wrapping_add((ones << plane) as i32);
                    }
                }
            }
        }
        Some(())
    }

    /// Makes of the sums of pixels those of the windows of `rows` rows: in place, as no window begins before its own
    /// place.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn sum_windows(&mut self, rows: usize) -> Option<()> {
        let (conv, columns) = (self.conv, self.planes.columns);
        let [kernel, stride, dilation] = [conv.kernel, conv.stride, conv.dilation];
        for y in 0..rows {
            let first = y * stride[0];
            let (row, below) = self.sums.get_mut(y * columns..)?.split_at_mut_checked(columns)?;
            // Rows below its own, but for the first.
            let taken = |ky: usize| (first + ky * dilation[0] - y).checked_sub(1).map(|rows| rows * columns);
            if let Some(at) = taken(0) {
                row.copy_from_slice(below.get(at..)?.get(..columns)?);
            }
            for ky in 1..kernel[0] {
                let more = below.get(taken(ky)?..)?.get(..columns)?;
                row.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
            }
            for x in 0..conv.output.w {
                let mut sum = 0i32;
                for kx in 0..kernel[1] {
                    sum = sum.wrapping_add(row[x * stride[1] + kx * dilation[1]]);
                }
                row[x] = sum;
            }
        }
        Some(())
    }
}

/// Adds what the bits of each pixel of `BYTES` bytes count for in a plane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
fn add_ones<const BYTES: usize>(bits: &[u8], plane: usize, sums: &mut [i32]) {
    for (sum, pixel) in sums.iter_mut().zip(bits.as_chunks::<BYTES>().0) {
        let mut word = [0; 8];
        word[..BYTES].copy_from_slice(pixel);
        *sum = sum.wrapping_add((u64::from_le_bytes(word).count_ones() << plane) as i32);
    }
}

/// The weights of a few panels.
struct Weights<'a> {
    conv: &'a Conv<'a>,
    planes: &'a Planes,
    panels: Panels<'a>,
    /// Planes of the weights.
    bits: usize,
    /// Words of the planes: of a panel, step after step, of each plane.
    words: &'a [u8],
    /// A level is `(u << shift) - offset`, where `u` is what its planes say.
    shift: u32,
    offset: i32,
}

impl<'a> Weights<'a> {
    /// Those from panel `index` of a group on, as many as are multiplied together: four, two or one.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn new(
        conv: &'a Conv<'a>,
        planes: &'a Planes,
        group: &WeightGroup<'a>,
        index: usize,
        decoded: &'a mut [u8],
    ) -> Option<Weights<'a>> {
        let bits = group.format.bits() as usize;
        let step = conv.packed_bytes(PANEL_CHANNELS, group.format, Layout::Planes);
        let at = index * PANEL_CHANNELS;
        let first = group.first + at;
        let left = (group.channels - at).div_ceil(PANEL_CHANNELS);
        let len = PLANE_PANELS.min(1 << left.ilog2());
        let numbers = first..first + (group.channels - at).min(len * PANEL_CHANNELS);
        let codes = group.codes.get(index * step..(index + len) * step)?;
        let (bias, mult) = (conv.bias.get(numbers.clone())?, conv.mult.get(numbers)?);
        let (shift, offset) = match group.format {
            WeightFormat::Linear(1) => (1, 1),
            WeightFormat::Linear(2) => (1, 3),
            // The top bit flipped.
            WeightFormat::Ternary => (0, 2),
            _ => return None,
        };
        let words = if bits == 1 { codes } else { decode(conv, group.format, codes, decoded)? };
        let panels = Panels { len, first, bias, mult, codes, step };
        Some(Weights { conv, planes, panels, bits, words, shift, offset })
    }
}

/// The planes of panels of weights of 2 bits, whose words are of even codes and of odd ones.
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
            let even = _mm512_loadu_si512(from.as_ptr().cast());
            let odds = _mm512_loadu_si512(from.as_ptr().add(STEP).cast());
            let low = _mm512_ternarylogic_epi32::<SELECT>(odd, _mm512_slli_epi32::<1>(odds), even);
            let high = _mm512_ternarylogic_epi32::<SELECT>(odd, odds, _mm512_srli_epi32::<1>(even));
            let high = _mm512_xor_si512(high, _mm512_set1_epi32((flip & counted) as i32));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), low);
            _mm512_storeu_si512(to.as_mut_ptr().add(STEP).cast(), high);
        }
    }
    Some(decoded)
}

/// For every bit: the second operand where the first is set, else the third.
const SELECT: i32 = 0b1100_1010;

/// Rows of output whose windows are in a strip.
struct Rows<'a> {
    weights: &'a Weights<'a>,
    /// Planes from the first window on.
    windows: *const u8,
    /// Sums of the windows' codes, a row of windows after another.
    sums: &'a [i32],
    /// The first channel of the first pixel.
    output: *mut u8,
    rows: usize,
}

impl<'a> Rows<'a> {
    /// `rows` of them; `output` begins with the first pixel.
    fn new(weights: &'a Weights<'a>, strip: &'a Strip<'a>, rows: usize, output: &'a mut [u8]) -> Option<Rows<'a>> {
        let (conv, planes) = (weights.conv, weights.planes);
        let pixels = output.get_mut(..rows.checked_mul(conv.output.w)?.checked_mul(conv.output.c)?)?;
        let channels = weights.panels.first..weights.panels.first + weights.panels.bias.len();
        let whole = rows <= planes.outputs && strip.bits.len() >= planes.planes.checked_mul(planes.plane())?;
        if !whole || channels.end > conv.output.c {
            return None;
        }
        let output = pixels.get_mut(channels.start..)?.as_mut_ptr();
        let sums = strip.sums.get(..rows.checked_mul(planes.columns)?)?;
        Some(Rows { weights, windows: strip.bits.as_ptr(), sums, output, rows })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    fn all(&self) {
        let columns = self.weights.conv.output.w;
        // SAFETY: no more panels and pixels than there are.
        unsafe {
            match (self.weights.panels.len, even_split(columns, 8), even_split(columns, 4)) {
                (4.., _, 1) => self.tiles::<4, 1>(),
                (4.., _, 2) => self.tiles::<4, 2>(),
                (4.., _, 3) => self.tiles::<4, 3>(),
                (4.., _, _) => self.tiles::<4, 4>(),
                (2.., 1, _) => self.tiles::<2, 1>(),
                (2.., 2, _) => self.tiles::<2, 2>(),
                (2.., 3, _) => self.tiles::<2, 3>(),
                (2.., 4 | 5, _) => self.tiles::<2, 4>(),
                (2.., 6 | 7, _) => self.tiles::<2, 6>(),
                (2.., _, _) => self.tiles::<2, 8>(),
                (_, 1, _) => self.tiles::<1, 1>(),
                (_, 2, _) => self.tiles::<1, 2>(),
                (_, 3, _) => self.tiles::<1, 3>(),
                (_, 4 | 5, _) => self.tiles::<1, 4>(),
                (_, 6 | 7, _) => self.tiles::<1, 6>(),
                _ => self.tiles::<1, 8>(),
            }
        }
    }

    /// `P` panels by `N` pixels at a time; the last tile of a row covers again what it needs to be whole.
    ///
    /// # Safety
    /// The processor has the instructions; there are `P` panels, and a row has `N` pixels at least.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    unsafe fn tiles<const P: usize, const N: usize>(&self) {
        let (conv, planes, panels) = (self.weights.conv, self.weights.planes, &self.weights.panels);
        let mut biases = [_mm512_setzero_si512(); P];
        let mut scales = [Scale::new(&conv.requantise, panels, 0); P];
        for p in 0..P {
            biases[p] = load_channels(panels.bias, panels.channels(p));
            scales[p] = Scale::new(&conv.requantise, panels, p);
        }
        let shift = _mm512_set1_epi32(self.weights.shift as i32);
        let step = conv.stride[1] * planes.pixel;
        for y in 0..self.rows {
            let mut x = 0;
            while x < conv.output.w {
                let first = x.min(conv.output.w - N);
                // SAFETY: the windows lie in the strip, the pixels in the output: that was checked.
                unsafe {
                    let window = self.windows.add(y * conv.stride[0] * planes.pitch() + first * step);
                    let mut sums = self.counts::<P, N>(window, step);
                    for n in 0..N {
                        let codes = self.sums.as_ptr().add(y * planes.columns + first + n).read();
                        let offset = _mm512_set1_epi32(codes.wrapping_mul(self.weights.offset));
                        for p in 0..P {
                            let products = _mm512_sub_epi32(_mm512_sllv_epi32(sums[n][p], shift), offset);
                            sums[n][p] = _mm512_add_epi32(biases[p], products);
                        }
                    }
                    let pixel = y * conv.output.w + first;
                    let to = self.output.add(pixel * conv.output.c);
                    // Not `store`: with a second caller, compilers no longer make it part of the first one's loop.
                    Quad::store_any(&scales, &mut sums, to, conv.output.c);
                }
                x += N;
            }
        }
    }

    /// The sums of codes by what the planes of the weights say, for windows that are `step` bytes apart: the pairs of
    /// planes that count most come first, and their sums are doubled where the next count half.
    ///
    /// # Safety
    /// The same; the windows are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    unsafe fn counts<const P: usize, const N: usize>(&self, windows: *const u8, step: usize) -> [[__m512i; P]; N] {
        let Weights { planes, bits, .. } = *self.weights;
        let mut sums = [[_mm512_setzero_si512(); P]; N];
        for exponent in (0..planes.planes + bits - 1).rev() {
            for n in 0..N {
                for p in 0..P {
                    sums[n][p] = _mm512_add_epi32(sums[n][p], sums[n][p]);
                }
            }
            let of_codes = exponent.saturating_sub(bits - 1)..(exponent + 1).min(planes.planes);
            for plane in of_codes {
                // SAFETY: planes that are there: the contract.
                unsafe {
                    let weights = self.weights.words.as_ptr().add((exponent - plane) * STEP);
                    self.count(&mut sums, windows.add(plane * planes.plane()), step, weights);
                }
            }
        }
        sums
    }

    /// Counts where bits of one plane of the weights meet bits of one of the activations.
    ///
    /// # Safety
    /// The same; both planes are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq,popcnt")]
    unsafe fn count<const P: usize, const N: usize>(
        &self,
        sums: &mut [[__m512i; P]; N],
        windows: *const u8,
        step: usize,
        weights: *const u8,
    ) {
        let (conv, planes) = (self.weights.conv, self.weights.planes);
        let (segments, words) = conv.plane_segments();
        let rows = conv.kernel[0];
        let (row_step, tap_step) = (conv.dilation[0] * planes.pitch(), conv.dilation[1] * planes.pixel);
        let (panel, weight_step) = (self.weights.panels.step, self.weights.bits * STEP);
        let mut weights = weights;
        // SAFETY: the contract.
        unsafe {
            for ky in 0..rows {
                for kx in 0..segments / rows {
                    let mut at = windows.add(ky * row_step + kx * tap_step);
                    for _ in 0..words {
                        let mut bits = [_mm512_setzero_si512(); P];
                        for p in 0..P {
                            bits[p] = _mm512_loadu_si512(weights.add(p * panel).cast());
                        }
                        for n in 0..N {
                            let codes = _mm512_set1_epi32(at.add(n * step).cast::<i32>().read_unaligned());
                            for p in 0..P {
                                let both = _mm512_popcnt_epi32(_mm512_and_si512(bits[p], codes));
                                sums[n][p] = _mm512_add_epi32(sums[n][p], both);
                            }
                        }
                        at = at.add(PLANE_WORD / 8);
                        weights = weights.add(weight_step);
                    }
                }
            }
        }
    }
}
