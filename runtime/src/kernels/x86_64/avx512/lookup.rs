//! Convolution of 1- and 2-bit weights and activations by table look-up; see [`crate::kernels::lookup`].

use core::arch::x86_64::*;

use super::lanes;
use super::levels::table64;
use super::requantise::{Scale, load_channels, store_pixel};
use crate::format::{Conv, PANEL_CHANNELS, SLAB_CHANNELS, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::lookup::{INDEX, Lookups, TABLES};
use crate::kernels::panels::Panels;
use crate::kernels::scratch::{ALIGN, padded};
use crate::kernels::x86_64::detect;

/// Panels of a slab.
const PANELS: usize = SLAB_CHANNELS / PANEL_CHANNELS;

/// Convolution of weights in [`Layout::Lookup`](crate::format::Layout::Lookup); leaves the output alone if the
/// arguments do not fit together.
pub(in crate::kernels::x86_64) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let fits = input.len() >= conv.input.len() && output.len() >= conv.output.len();
    if fits && detect(Isa::Avx512Vnni) {
        // SAFETY: the processor has the instructions, as was just asked. `None` would come of arguments that do not fit.
        let _ran = unsafe { groups(conv, input, output, scratch) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn groups(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let skip = scratch.as_ptr().align_offset(ALIGN);
    let scratch = scratch.get_mut(skip..)?;
    for group in conv.weight_groups() {
        let lookups = Lookups::of(conv, group.format)?;
        let (tables, indices) = scratch.split_at_mut_checked(lookups.tables())?;
        let tables = Tables::new(conv, &group, &lookups, tables)?;
        let indexer = Indexer::new(conv, &lookups);
        let mut first = 0;
        while first < conv.output.h {
            let rows = lookups.outputs.min(conv.output.h - first);
            indexer.strip(input, first, padded(conv, 0, rows), indices)?;
            for index in 0..group.channels.div_ceil(SLAB_CHANNELS) {
                let slab = Slab::new(conv, &group, &lookups, &tables, index)?;
                slab.rows(indices, first, rows, output)?;
            }
            first += rows;
        }
    }
    Some(())
}

/// The tables of all indices.
struct Tables<'a> {
    bytes: &'a [u8],
    /// What every look-up adds to keep sums above 0.
    offset: i32,
    /// Look-ups whose sum fits a byte.
    run: usize,
}

impl<'a> Tables<'a> {
    /// Makes them: byte `w` of table `a` of a part is the sum over its activations, `bits` of `a` each, times the
    /// levels in `w`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(conv: &Conv<'_>, group: &WeightGroup<'_>, lookups: &Lookups, tables: &'a mut [u8]) -> Option<Tables<'a>> {
        let (depth, code_bits) = (group.format.looked_up()?, group.format.bits() as usize);
        let (mut lowest, mut highest) = (0, 0);
        for code in 0..1u8 << code_bits {
            let level = i32::from(group.format.level(code, group.codebook));
            (lowest, highest) = (level.min(lowest), level.max(highest));
        }
        let most = depth as i32 * ((1 << conv.bits_in) - 1);
        let offset = -lowest * most;
        let levels = table64(group);
        for (part, tables) in tables.as_chunks_mut::<TABLES>().0.iter_mut().enumerate() {
            let tables = tables.as_mut_ptr().cast::<__m512i>();
            let start = _mm512_set1_epi8(if part == 0 { offset as i8 } else { 0 });
            // SAFETY: 64 tables of 64 bytes: those with bits below `bit` are there when they are read.
            unsafe {
                _mm512_storeu_si512(tables, start);
                for bit in 0..6 {
                    let weight = part * 6 / lookups.bits + bit / lookups.bits;
                    let codes = _mm512_srlv_epi16(count(), _mm512_set1_epi16((weight * code_bits) as i16));
                    // Whatever is above the code, the table repeats.
                    let level = _mm512_permutexvar_epi8(codes, levels);
                    let level = if bit % lookups.bits == 0 { level } else { _mm512_add_epi8(level, level) };
                    for table in 0..1 << bit {
                        let sum = _mm512_add_epi8(_mm512_loadu_si512(tables.add(table)), level);
                        _mm512_storeu_si512(tables.add(table + (1 << bit)), sum);
                    }
                }
            }
        }
        Some(Tables { bytes: tables, offset, run: (255 / (most * (highest - lowest)).max(1)) as usize })
    }
}

/// The bytes 0 to 63.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn count() -> __m512i {
    steps(0, 1)
}

/// The bytes `first`, `first + step` and so on, modulo 256.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn steps(first: usize, step: usize) -> __m512i {
    let mut bytes = [0u8; 64];
    for (lane, byte) in bytes.iter_mut().enumerate() {
        *byte = (first + lane * step) as u8;
    }
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Turns activations into indices.
struct Indexer<'a> {
    conv: &'a Conv<'a>,
    lookups: Lookups,
    /// Channels of an index, and indices that are made at once out of 128 channels.
    channels: usize,
    together: usize,
    /// Where the channels of successive indices are: the first, the second, ...
    orders: [__m512i; 6],
    /// Added to the indices: the tables of the other part.
    parts: __m512i,
}

impl<'a> Indexer<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(conv: &'a Conv<'a>, lookups: &Lookups) -> Indexer<'a> {
        let channels = 6 / lookups.bits;
        let mut orders = [_mm512_setzero_si512(); 6];
        for k in 0..channels {
            orders[k] = steps(k, channels);
        }
        let parts = _mm512_set1_epi32(if lookups.parts == 2 { (TABLES << 16) as i32 } else { 0 });
        Indexer { conv, lookups: *lookups, channels, together: (128 / channels).min(32), orders, parts }
    }

    /// The indices of `rows` rows of input, as output row `output` and those below it read them.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn strip(&self, input: &[u8], output: usize, rows: usize, indices: &mut [u8]) -> Option<()> {
        let conv = self.conv;
        let pixel = self.lookups.pixel();
        // What is stored at once may reach beyond the last index.
        let bytes = rows.checked_mul(self.lookups.columns)?.checked_mul(pixel)?.checked_add(64)?;
        let mut to = indices.get_mut(..bytes)?.as_mut_ptr();
        for row in 0..rows {
            let y = (output * conv.stride[0] + row).wrapping_sub(conv.pad[0]);
            for column in 0..self.lookups.columns {
                let x = column.wrapping_sub(conv.pad[1]);
                let inside = y < conv.input.h && x < conv.input.w;
                let at = if inside { (y * conv.input.w + x) * conv.input.c } else { 0 };
                let codes = if inside { Some(input.get(at..at + conv.input.c)?) } else { None };
                // SAFETY: there are that many pixels of `pixel` bytes, and 64.
                unsafe {
                    self.pixel(codes, to);
                    to = to.add(pixel);
                }
            }
        }
        Some(())
    }

    /// The indices of a pixel, or of zeros.
    ///
    /// # Safety
    /// The processor has the instructions; `to` takes the indices of a pixel and 64 bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn pixel(&self, codes: Option<&[u8]>, to: *mut u8) {
        let c = self.conv.input.c;
        let zero = _mm512_set1_epi8(self.conv.zero_in as i8);
        let mask = _mm512_set1_epi8((1 << self.conv.bits_in) - 1);
        let count = self.lookups.of_tap * self.lookups.parts;
        let mut index = 0;
        while index < count {
            let half = |skip: usize| {
                let at = index * self.channels + skip;
                let there = lanes(c.saturating_sub(at));
                let codes = match codes {
                    // SAFETY: lanes beyond the codes are not read.
                    Some(codes) => unsafe { _mm512_maskz_loadu_epi8(there, codes.as_ptr().wrapping_add(at).cast()) },
                    None => _mm512_maskz_mov_epi8(there, zero),
                };
                _mm512_and_si512(codes, mask)
            };
            let (low, high) = (half(0), half(64));
            let mut indices = _mm512_permutex2var_epi8(low, self.orders[0], high);
            for k in 1..self.channels {
                let codes = _mm512_permutex2var_epi8(low, self.orders[k], high);
                let shift = _mm512_set1_epi16((k * self.lookups.bits) as i16);
                indices = _mm512_or_si512(indices, _mm512_sllv_epi16(codes, shift));
            }
            // A table has 64 bytes.
            let indices = _mm512_slli_epi16::<6>(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(indices)));
            // SAFETY: 32 indices, of which all beyond the pixel's fall on the 64 bytes behind them.
            unsafe { _mm512_storeu_si512(to.add(index * INDEX).cast(), _mm512_add_epi16(indices, self.parts)) };
            index += self.together;
        }
    }
}

/// The weights of 64 output channels.
struct Slab<'a> {
    conv: &'a Conv<'a>,
    lookups: &'a Lookups,
    tables: &'a Tables<'a>,
    codes: &'a [u8],
    first: usize,
    scales: [Scale; PANELS],
    biases: [__m512i; PANELS],
}

impl<'a> Slab<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(
        conv: &'a Conv<'a>,
        group: &WeightGroup<'a>,
        lookups: &'a Lookups,
        tables: &'a Tables<'a>,
        index: usize,
    ) -> Option<Slab<'a>> {
        let step = conv.lookups(group.format) * SLAB_CHANNELS;
        let at = index * SLAB_CHANNELS;
        let first = group.first + at;
        let channels = first..first + (group.channels - at).min(SLAB_CHANNELS);
        let codes = group.codes.get(index * step..(index + 1) * step)?;
        let (bias, mult) = (conv.bias.get(channels.clone())?, conv.mult.get(channels)?);
        let panels = Panels { len: PANELS, first, bias, mult, codes, step };
        // Every look-up adds the offset, those at padding too.
        let offsets = _mm512_set1_epi32(tables.offset.wrapping_mul(conv.lookups(group.format) as i32));
        let mut scales = [Scale::new(&conv.requantise, &panels, 0); PANELS];
        let mut biases = [_mm512_setzero_si512(); PANELS];
        for p in 0..PANELS {
            scales[p] = Scale::new(&conv.requantise, &panels, p);
            biases[p] = _mm512_sub_epi32(load_channels(bias, panels.channels(p)), offsets);
        }
        Some(Slab { conv, lookups, tables, codes, first, scales, biases })
    }

    /// All pixels of `rows` output rows from `first` on, whose indices are those of a strip.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn rows(&self, indices: &[u8], first: usize, rows: usize, output: &mut [u8]) -> Option<()> {
        let conv = self.conv;
        let pitch = self.lookups.columns * self.lookups.pixel();
        // The windows end where the strip does.
        if indices.len() < padded(conv, 0, rows).checked_mul(pitch)? {
            return None;
        }
        let row_bytes = conv.output.w * conv.output.c;
        for (y, output) in (0..rows).zip(output.get_mut(first * row_bytes..)?.chunks_exact_mut(row_bytes)) {
            let windows = indices.get(y * conv.stride[0] * pitch..)?;
            let row = Row { slab: self, windows, output: output.get_mut(self.first..)?, pitch };
            // SAFETY: the windows of a row of output lie in the strip, its pixels in the row.
            unsafe {
                match self.lookups.parts {
                    1 => row.all::<1>(),
                    _ => row.all::<2>(),
                }
            }
        }
        Some(())
    }
}

/// A row of output.
struct Row<'a> {
    slab: &'a Slab<'a>,
    /// Indices from the first window on.
    windows: &'a [u8],
    /// From the slab's first channel of the first pixel on.
    output: &'a mut [u8],
    /// Bytes of a row of indices.
    pitch: usize,
}

impl Row<'_> {
    /// # Safety
    /// The processor has the instructions; the windows and the output of every pixel are there.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn all<const PARTS: usize>(self) {
        // SAFETY: the contract; no more pixels than there are.
        unsafe {
            match self.slab.conv.output.w {
                1 => self.tiles::<PARTS, 1>(),
                2 | 3 => self.tiles::<PARTS, 2>(),
                4..8 => self.tiles::<PARTS, 4>(),
                _ => self.tiles::<PARTS, 8>(),
            }
        }
    }

    /// `N` pixels at a time; the last tile covers again what it needs to be whole.
    ///
    /// # Safety
    /// The same; the row has `N` pixels at least.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn tiles<const PARTS: usize, const N: usize>(self) {
        let conv = self.slab.conv;
        let step = conv.stride[1] * self.slab.lookups.pixel();
        let output = self.output.as_mut_ptr();
        let mut x = 0;
        while x < conv.output.w {
            let first = x.min(conv.output.w - N);
            // SAFETY: the contract.
            unsafe {
                let sums = self.sums::<PARTS, N>(self.windows.as_ptr().add(first * step), step);
                for n in 0..N {
                    store_pixel(&self.slab.scales, sums[n], output.add((first + n) * conv.output.c));
                }
            }
            x += N;
        }
    }

    /// The sums of `N` pixels whose windows are `step` bytes apart.
    ///
    /// # Safety
    /// The same.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn sums<const PARTS: usize, const N: usize>(
        &self,
        windows: *const u8,
        step: usize,
    ) -> [[__m512i; PANELS]; N] {
        let (conv, slab) = (self.slab.conv, self.slab);
        let pixel = slab.lookups.pixel();
        // Without dilation the pixels of a kernel row are contiguous.
        let [rows, columns] = conv.kernel;
        let (taps, len) = if conv.dilation[1] == 1 { (1, columns) } else { (columns, 1) };
        let len = len * slab.lookups.of_tap;
        // Lanes of 16 bits: both bytes' sums, the higher one times 256, modulo 2^16; and the higher one's alone.
        let mut both = [_mm512_setzero_si512(); N];
        let mut high = [_mm512_setzero_si512(); N];
        let mut weights = slab.codes.as_ptr();
        // SAFETY: the window can be read, there are weights for all of it, and a table for every index: the contract.
        unsafe {
            for ky in 0..rows {
                for kx in 0..taps {
                    let mut at = windows.add(ky * conv.dilation[0] * self.pitch + kx * conv.dilation[1] * pixel);
                    let mut left = len;
                    while left > 0 {
                        let run = slab.tables.run.min(left);
                        left -= run;
                        let mut bytes = [_mm512_setzero_si512(); N];
                        for _ in 0..run {
                            let codes = _mm512_loadu_si512(weights.cast());
                            for n in 0..N {
                                let table = slab.tables.select::<PARTS>(at.add(n * step));
                                bytes[n] = _mm512_add_epi8(bytes[n], _mm512_permutexvar_epi8(codes, table));
                            }
                            at = at.add(PARTS * INDEX);
                            weights = weights.add(SLAB_CHANNELS);
                        }
                        for n in 0..N {
                            both[n] = _mm512_add_epi16(both[n], bytes[n]);
                            high[n] = _mm512_add_epi16(high[n], _mm512_srli_epi16::<8>(bytes[n]));
                        }
                    }
                }
            }
        }
        let mut sums = [slab.biases; N];
        for n in 0..N {
            let low = _mm512_sub_epi16(both[n], _mm512_slli_epi16::<8>(high[n]));
            // Channels 0 to 31 are the lower bytes of their lanes.
            let wide = [
                _mm512_castsi512_si256(low),
                _mm512_extracti64x4_epi64::<1>(low),
                _mm512_castsi512_si256(high[n]),
                _mm512_extracti64x4_epi64::<1>(high[n]),
            ];
            for p in 0..PANELS {
                sums[n][p] = _mm512_add_epi32(sums[n][p], _mm512_cvtepu16_epi32(wide[p]));
            }
        }
        sums
    }
}

impl Tables<'_> {
    /// The table of a look-up whose indices begin at an address.
    ///
    /// # Safety
    /// The processor has the instructions; there are `PARTS` indices, which an [`Indexer`] made.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn select<const PARTS: usize>(&self, at: *const u8) -> __m512i {
        // SAFETY: indices are offsets of tables: the contract.
        unsafe {
            let table = |part: usize| {
                let index = at.add(part * INDEX).cast::<u16>().read_unaligned();
                _mm512_loadu_si512(self.bytes.as_ptr().add(usize::from(index)).cast())
            };
            if PARTS == 1 { table(0) } else { _mm512_add_epi8(table(0), table(1)) }
        }
    }
}
