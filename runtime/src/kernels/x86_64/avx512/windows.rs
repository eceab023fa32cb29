//! Depthwise convolution of 3 by 3: windows of the input as it lies, all else in registers.
//!
//! A *block* is 16 lanes: as many channels of a pixel, or fewer channels of neighbouring pixels. A *strip* is two
//! blocks, of other channels or of rows further down. A step along the rows brings a column of four input rows to the
//! sums of two output rows, so that loads and products of several steps overlap; columns stay in registers while
//! windows slide over them.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::{Avx512, STEP};
use crate::format::{Conv, PANEL_CHANNELS, Requantise};
use crate::kernels::panels::is_supported;
use crate::kernels::scratch::{X86_MARGIN, X86_STRIP};
use crate::kernels::work::Work;
use crate::kernels::x86_64::depthwise::{self, QUAD, decode_channels, repeat};

/// Lanes of a block.
const BLOCK: usize = PANEL_CHANNELS;
/// Blocks of a strip.
const STRIP: usize = 2;
/// Kernel columns.
const COLUMNS: usize = 3;

/// Depthwise convolution; leaves the output alone if the arguments do not fit together.
pub(in crate::kernels::x86_64) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    if !suits(conv) {
        return depthwise::run::<Avx512>(conv, input, output, scratch);
    }
    let held = input.len() >= conv.input.len() && output.len() >= conv.output.len();
    let numbers = conv.bias.len() >= conv.output.c && conv.mult.len() >= conv.output.c;
    let channels = conv.input.c;
    let Some(padding) = scratch.get_mut(..conv.input.w * channels) else { return };
    if !(held && numbers && is_supported(conv)) {
        return;
    }
    padding.fill(conv.zero_in);
    let mut next = 0;
    while next < channels {
        // The last channels may have been computed before: better than a part of a strip.
        let first = next.min(channels.saturating_sub(STRIP * BLOCK));
        // SAFETY: this kernel was handed out since the processor has the instructions.
        unsafe { Strip::new(conv, first, input, output, padding).run() };
        next = first + STRIP * BLOCK;
    }
}

/// Whether blocks fit the convolution, whole vectors of channels being for the other kernel.
fn suits(conv: &Conv<'_>) -> bool {
    let channels = conv.input.c;
    let fits = match channels {
        1..BLOCK => BLOCK.is_multiple_of(channels) && conv.stride[1] == 1,
        BLOCK..STEP => true,
        _ => false,
    };
    fits && conv.is_depthwise() && conv.kernel == [3; 2] && conv.dilation == [1; 2]
}

/// The work of [`run`]: strips, rows of theirs, columns of those; or that of the other kernel.
pub(in crate::kernels::x86_64) fn work(conv: &Conv<'_>) -> Work {
    if !suits(conv) {
        return depthwise::work::<Avx512>(conv);
    }
    let channels = conv.input.c;
    let (blocks, pixels) = if channels <= BLOCK { (STRIP, BLOCK / channels) } else { (1, 1) };
    let strips = channels.div_ceil(STRIP * BLOCK);
    let mut rows = 0;
    let mut y = 0;
    while y < conv.output.h {
        y += blocks * together(conv, conv.output.h - y, blocks);
        rows += strips;
    }
    [strips, rows, rows * conv.output.w.div_ceil(pixels), 0, 0, 0, 0, 0, 0, 0]
}

/// Rows of output that a block computes at once, of `left`.
fn together(conv: &Conv<'_>, left: usize, blocks: usize) -> usize {
    if conv.stride[0] == 1 && left >= 2 * blocks { 2 } else { 1 }
}

/// Two blocks of every row. Invariants:
///
/// * the convolution suits, input and output have the lengths of its shapes, all extents being at least 1 and below 2^24;
/// * the channels of the blocks, from `first` and from `first + second` on, exist.
struct Strip<'a> {
    conv: &'a Conv<'a>,
    /// First channel of the first block.
    first: usize,
    /// Channels from the first block to the second; with 0, the second is of rows further down.
    second: usize,
    input: *const u8,
    output: *mut u8,
    /// A row of padding.
    padding: *const u8,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Strip<'a> {
    fn new(conv: &'a Conv<'a>, first: usize, input: &'a [u8], output: &'a mut [u8], padding: &'a [u8]) -> Strip<'a> {
        let second = (conv.input.c - first).min(STRIP * BLOCK).saturating_sub(BLOCK);
        let (input, output, padding) = (input.as_ptr(), output.as_mut_ptr(), padding.as_ptr());
        Strip { conv, first, second, input, output, padding, memory: PhantomData }
    }

    /// # Safety
    /// The processor has the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn run(self) {
        let conv = self.conv;
        // SAFETY: the processor has the instructions.
        unsafe {
            let levels = self.levels();
            let [bias, mult] = [self.numbers(conv.bias), self.numbers(conv.mult)];
            match Doubled::new(&conv.requantise, mult) {
                Some(scale) => self.rows(&levels, bias, &scale),
                None => self.rows(&levels, bias, &Whole::new(&conv.requantise, mult)),
            }
        }
    }

    /// # Safety
    /// The processor has the instructions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn rows<S: Scale>(&self, levels: &Levels, bias: [__m512i; STRIP], scale: &S) {
        let blocks = if self.second == 0 { STRIP } else { 1 };
        let height = self.conv.output.h;
        let mut y = 0;
        while y < height {
            let rows = together(self.conv, height - y, blocks);
            // SAFETY: there are that many rows of output.
            unsafe {
                match (rows == 2, self.second == BLOCK) {
                    (true, true) => slide::<Adjacent, S, 2>(&self.row::<2>(y), levels, bias, scale),
                    (true, false) => slide::<Apart, S, 2>(&self.row::<2>(y), levels, bias, scale),
                    (false, true) => slide::<Adjacent, S, 1>(&self.row::<1>(y), levels, bias, scale),
                    (false, false) => slide::<Apart, S, 1>(&self.row::<1>(y), levels, bias, scale),
                }
            }
            y += rows * blocks;
        }
    }

    /// Row `y` of output, and those that follow, `R` of each block.
    #[inline(always)]
    fn row<const R: usize>(&self, y: usize) -> Row<'a, R> {
        let conv = self.conv;
        let (from, to) = (conv.input, conv.output);
        let mut row = Row { conv, from: [[self.padding; STRIP]; QUAD], to: [[self.output; STRIP]; R] };
        for block in 0..STRIP {
            // Beyond the last row, the second block does the work of the first again.
            let y = if self.second == 0 { (y + block * R).min(to.h - R) } else { y };
            let channel = self.first + block * self.second;
            for i in 0..R {
                row.to[i][block] = self.output.wrapping_add((y + i) * to.w * to.c + channel);
            }
            for i in 0..QUAD {
                let y = (y * conv.stride[0] + i).wrapping_sub(conv.pad[0]);
                if y < from.h {
                    row.from[i][block] = self.input.wrapping_add(y * from.w * from.c + channel);
                }
            }
        }
        row
    }

    /// Numbers of the channels, for each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn numbers(&self, numbers: &[i32]) -> [__m512i; STRIP] {
        let (numbers, channels) = (&numbers[self.first..], self.conv.input.c);
        let mut repeated = [0; BLOCK];
        let numbers = if numbers.len() < BLOCK {
            for lanes in repeated.chunks_exact_mut(channels) {
                lanes.iter_mut().zip(numbers).for_each(|(lane, &number)| *lane = number);
            }
            &repeated
        } else {
            numbers
        };
        // SAFETY: 16 numbers.
        [0, self.second].map(|first| unsafe { _mm512_loadu_si512(numbers[first..][..BLOCK].as_ptr().cast()) })
    }

    /// Decodes the weights of the channels.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn levels(&self) -> Levels {
        let mut taps = [0u8; COLUMNS * COLUMNS * TAP_BYTES];
        let at = taps.as_mut_ptr().wrapping_add(X86_MARGIN);
        let channels = self.conv.input.c.min(self.second + BLOCK);
        let mut levels = [[[_mm512_setzero_si512(); STRIP]; COLUMNS]; 2];
        // SAFETY: the channels exist; a tap has a strip and margins.
        unsafe {
            decode_channels::<Avx512>(self.conv, self.first..self.first + channels, at, TAP_BYTES);
            for tap in 0..COLUMNS * COLUMNS {
                if channels < BLOCK {
                    repeat(at.wrapping_add(tap * TAP_BYTES), channels, BLOCK);
                }
            }
            for column in 0..COLUMNS {
                for block in 0..STRIP {
                    let tap = |row: usize| {
                        let tap = at.wrapping_add((row * COLUMNS + column) * TAP_BYTES + block * self.second);
                        _mm512_cvtepu8_epi32(_mm_loadu_si128(tap.cast()))
                    };
                    let (a, b, c) = (tap(0), _mm512_slli_epi32::<8>(tap(1)), _mm512_slli_epi32::<16>(tap(2)));
                    let quad = _mm512_or_si512(_mm512_or_si512(a, b), c);
                    // The kernel of the second row begins a row further down.
                    levels[0][column][block] = quad;
                    levels[1][column][block] = _mm512_slli_epi32::<8>(quad);
                }
            }
        }
        levels
    }
}

/// Bytes of a tap's decoded levels.
const TAP_BYTES: usize = X86_STRIP + 2 * X86_MARGIN;

/// For each of two rows that are computed together and each kernel column: four rows of levels, 16 lanes of each block.
type Levels = [[[__m512i; STRIP]; COLUMNS]; 2];

/// `R` rows of output of each block, and the four rows of input that they read. Invariants: the rows of input have the
/// pixels of the input, those of output the pixels of the output, for the lanes of a block.
struct Row<'a, const R: usize> {
    conv: &'a Conv<'a>,
    from: [[*const u8; STRIP]; QUAD],
    to: [[*mut u8; STRIP]; R],
}

/// How a row of input is read.
struct Reach {
    /// Pixels of the row, bytes from one to the next, pixels of a block.
    width: usize,
    pixel: usize,
    pixels: usize,
    /// The first pixel of which a block reaches beyond the row.
    inside: usize,
    padding: __m512i,
}

impl<const R: usize> Row<'_, R> {
    /// The column of pixels `x`: four rows of each lane, block after block.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn column<P: Pair>(&self, reach: &Reach, x: usize) -> [__m512i; STRIP] {
        let at = x.wrapping_mul(reach.pixel);
        let mut rows = [reach.padding; QUAD];
        if x < reach.inside {
            for i in 0..QUAD {
                let [first, second] = self.from[i];
                // SAFETY: pixels of the row.
                rows[i] = unsafe { P::load([first.wrapping_add(at), second.wrapping_add(at)]) };
            }
        } else if reach.pixels == 1 {
            return [reach.padding; STRIP];
        } else {
            let mut mask = 0;
            for i in 0..reach.pixels {
                if x.wrapping_add(i) < reach.width {
                    mask |= super::lanes(reach.pixel) << (i * reach.pixel);
                }
            }
            let padding = _mm512_castsi512_si256(reach.padding);
            for i in 0..QUAD {
                let [first, second] = self.from[i];
                let at = [first.wrapping_add(at), second.wrapping_add(at)];
                // SAFETY: the mask keeps to pixels of the row.
                rows[i] = unsafe { P::load_some(at, mask as __mmask16, padding) };
            }
        }
        let order = INTERLEAVED.load();
        let [a, b, c, d] = rows;
        let [ab, cd] = [_mm512_permutex2var_epi8(a, order, b), _mm512_permutex2var_epi8(c, order, d)];
        [_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd)]
    }
}

/// Computes `R` rows of each block.
///
/// # Safety
/// The processor has the instructions; the invariants of `row`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn slide<P: Pair, S: Scale, const R: usize>(
    row: &Row<'_, R>,
    levels: &Levels,
    bias: [__m512i; STRIP],
    scale: &S,
) {
    let (input, output, channels) = (row.conv.input, row.conv.output, row.conv.input.c);
    let pixels = (BLOCK / channels).max(1);
    let reach = Reach {
        width: input.w,
        pixel: channels,
        pixels,
        inside: (input.w + 1).saturating_sub(pixels),
        padding: _mm512_set1_epi8(row.conv.zero_in as i8),
    };
    // Pixels of the input from block to block of the output.
    let step = pixels * row.conv.stride[1];
    let mut x = row.conv.pad[1].wrapping_neg();
    let (mut at, end) = (0, output.w * channels);
    // SAFETY: the processor has the instructions; blocks of the output, or what is left of a row.
    unsafe {
        let mut a = row.column::<P>(&reach, x);
        let mut b = row.column::<P>(&reach, x.wrapping_add(1));
        while at < end {
            let c = row.column::<P>(&reach, x.wrapping_add(2));
            let mut sums = [bias; R];
            for r in 0..R {
                for block in 0..STRIP {
                    for (column, cells) in [a, b, c].iter().enumerate() {
                        sums[r][block] = _mm512_dpbusd_epi32(sums[r][block], cells[block], levels[r][column][block]);
                    }
                }
            }
            let codes = scale.codes(sums);
            for r in 0..R {
                let [first, second] = row.to[r];
                let to = [first.wrapping_add(at), second.wrapping_add(at)];
                if end - at >= BLOCK {
                    P::store(codes, r, to);
                } else {
                    P::store_some(codes, r, to, end - at);
                }
            }
            at += pixels * channels;
            x = x.wrapping_add(step);
            a = match step {
                1 => b,
                2 => c,
                _ => row.column::<P>(&reach, x),
            };
            b = match step {
                1 => c,
                _ => row.column::<P>(&reach, x.wrapping_add(1)),
            };
        }
    }
}

/// How the blocks of a strip lie.
trait Pair {
    /// # Safety
    /// The processor has the instructions; both blocks can be read.
    unsafe fn load(at: [*const u8; STRIP]) -> __m512i;

    /// The lanes of both blocks that `mask` names, others of `rest`.
    ///
    /// # Safety
    /// The processor has the instructions; those lanes can be read.
    unsafe fn load_some(at: [*const u8; STRIP], mask: __mmask16, rest: __m256i) -> __m512i;

    /// Half `half` of the codes.
    ///
    /// # Safety
    /// The processor has the instructions; both blocks can be written.
    unsafe fn store(codes: __m512i, half: usize, to: [*mut u8; STRIP]);

    /// Its first `lanes` of both blocks.
    ///
    /// # Safety
    /// The processor has the instructions; those lanes can be written.
    unsafe fn store_some(codes: __m512i, half: usize, to: [*mut u8; STRIP], lanes: usize);
}

/// One behind the other.
struct Adjacent;

/// Anywhere.
struct Apart;

impl Pair for Adjacent {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load([at, _]: [*const u8; STRIP]) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_zextsi256_si512(_mm256_loadu_si256(at.cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load_some([at, _]: [*const u8; STRIP], mask: __mmask16, rest: __m256i) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_zextsi256_si512(_mm256_mask_loadu_epi8(rest, u32::from(mask) * 0x1_0001, at.cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store(codes: __m512i, half: usize, [to, _]: [*mut u8; STRIP]) {
        // SAFETY: the contract.
        unsafe { _mm256_storeu_si256(to.cast(), half_of(codes, half)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store_some(codes: __m512i, half: usize, [to, _]: [*mut u8; STRIP], lanes: usize) {
        let mask = super::lanes(lanes.min(BLOCK)) as u32 * 0x1_0001;
        // SAFETY: the contract.
        unsafe { _mm256_mask_storeu_epi8(to.cast(), mask, half_of(codes, half)) }
    }
}

impl Pair for Apart {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(at: [*const u8; STRIP]) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_zextsi256_si512(_mm256_loadu2_m128i(at[1].cast(), at[0].cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load_some(at: [*const u8; STRIP], mask: __mmask16, rest: __m256i) -> __m512i {
        let rest = _mm256_castsi256_si128(rest);
        // SAFETY: the contract.
        let [low, high] = at.map(|at| unsafe { _mm_mask_loadu_epi8(rest, mask, at.cast()) });
        _mm512_zextsi256_si512(_mm256_set_m128i(high, low))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store(codes: __m512i, half: usize, to: [*mut u8; STRIP]) {
        let codes = half_of(codes, half);
        // SAFETY: the contract.
        unsafe { _mm256_storeu2_m128i(to[1].cast(), to[0].cast(), codes) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store_some(codes: __m512i, half: usize, to: [*mut u8; STRIP], lanes: usize) {
        let codes = half_of(codes, half);
        let mask = super::lanes(lanes.min(BLOCK)) as __mmask16;
        // SAFETY: the contract.
        unsafe {
            _mm_mask_storeu_epi8(to[0].cast(), mask, _mm256_castsi256_si128(codes));
            _mm_mask_storeu_epi8(to[1].cast(), mask, _mm256_extracti128_si256::<1>(codes));
        }
    }
}

/// The low half or the high one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn half_of(codes: __m512i, half: usize) -> __m256i {
    if half == 0 { _mm512_castsi512_si256(codes) } else { _mm512_extracti64x4_epi64::<1>(codes) }
}

/// From the sums of a strip to its codes.
trait Scale {
    /// The codes of the rows' blocks, one after another; those of the last row twice if it is the first.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn codes<const R: usize>(&self, sums: [[__m512i; STRIP]; R]) -> __m512i;
}

/// The multipliers of a strip's lanes, the odd ones in the place of the even ones before them.
struct Multipliers {
    even: [__m512i; STRIP],
    odd: [__m512i; STRIP],
}

impl Multipliers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(even: [__m512i; STRIP]) -> Multipliers {
        Multipliers {
            even,
            odd: even.map(
                #[inline(always)]
                |mult| odd_lanes(mult),
            ),
        }
    }
}

/// The odd lanes in the place of the even ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn odd_lanes(lanes: __m512i) -> __m512i {
    _mm512_castps_si512(_mm512_movehdup_ps(_mm512_castsi512_ps(lanes)))
}

/// The high halves of 64-bit numbers: of every 4 lanes, the second and the third change places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn high_halves(even: __m512i, odd: __m512i) -> __m512i {
    let [even, odd] = [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)];
    _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(even, odd))
}

/// Bounds of the codes, and their order.
struct Bounds {
    lo: __m512i,
    hi: __m512i,
    order: __m512i,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(requantise: &Requantise) -> Bounds {
        Bounds {
            lo: _mm512_set1_epi8(requantise.lo as i8),
            hi: _mm512_set1_epi8(requantise.hi as i8),
            order: PACKED.load(),
        }
    }

    /// Packs and clamps the words of two strips.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn pack(&self, a: __m512i, b: __m512i) -> __m512i {
        let codes = _mm512_packus_epi16(a, b);
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi);
        _mm512_permutexvar_epi8(self.order, codes)
    }
}

/// Twice every multiplier fits 32 bits, and there is no shift before: then the product, a bit more precise than the
/// code, is rounded after it has been packed, two codes in the place of one.
struct Doubled {
    mult: Multipliers,
    round: __m512i,
    bounds: Bounds,
}

impl Doubled {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(requantise: &Requantise, mult: [__m512i; STRIP]) -> Option<Doubled> {
        let twice = mult.map(
            #[inline(always)]
            |mult| _mm512_slli_epi32::<1>(mult),
        );
        // The sign is lost where the top bits differ.
        let [first, second] = [0, 1].map(
            #[inline(always)]
            |block| _mm512_xor_si512(mult[block], twice[block]),
        );
        let lost = _mm512_cmplt_epi32_mask(_mm512_or_si512(first, second), _mm512_setzero_si512());
        let round = _mm512_set1_epi16(2 * i16::from(requantise.zero) + 1);
        let fits = requantise.pre == 0 && lost == 0;
        fits.then(|| Doubled { mult: Multipliers::new(twice), round, bounds: Bounds::new(requantise) })
    }
}

impl Scale for Doubled {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn codes<const R: usize>(&self, sums: [[__m512i; STRIP]; R]) -> __m512i {
        let mut words = [_mm512_setzero_si512(); R];
        for r in 0..R {
            let mut high = [_mm512_setzero_si512(); STRIP];
            for block in 0..STRIP {
                let even = _mm512_mul_epi32(sums[r][block], self.mult.even[block]);
                let odd = _mm512_mul_epi32(odd_lanes(sums[r][block]), self.mult.odd[block]);
                high[block] = high_halves(even, odd);
            }
            // Pack and sum saturate, far beyond any code.
            let twice = _mm512_adds_epi16(_mm512_packs_epi32(high[0], high[1]), self.round);
            words[r] = _mm512_srai_epi16::<1>(twice);
        }
        self.bounds.pack(words[0], words[R - 1])
    }
}

/// Any multipliers and shift.
struct Whole {
    mult: Multipliers,
    pre: __m512i,
    /// Half a unit, and the zero point above it.
    round: __m512i,
    bounds: Bounds,
}

impl Whole {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(requantise: &Requantise, mult: [__m512i; STRIP]) -> Whole {
        Whole {
            mult: Multipliers::new(mult),
            pre: _mm512_set1_epi32(i32::from(requantise.pre & 31)),
            round: _mm512_set1_epi64((i64::from(requantise.zero) << 32) + (1 << 31)),
            bounds: Bounds::new(requantise),
        }
    }
}

impl Scale for Whole {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn codes<const R: usize>(&self, sums: [[__m512i; STRIP]; R]) -> __m512i {
        let mut words = [_mm512_setzero_si512(); R];
        for r in 0..R {
            let mut high = [_mm512_setzero_si512(); STRIP];
            for block in 0..STRIP {
                let sums = _mm512_sllv_epi32(sums[r][block], self.pre);
                let even = _mm512_mul_epi32(sums, self.mult.even[block]);
                let odd = _mm512_mul_epi32(odd_lanes(sums), self.mult.odd[block]);
                high[block] = high_halves(_mm512_add_epi64(even, self.round), _mm512_add_epi64(odd, self.round));
            }
            // Both packs saturate, which is within any clamp to codes.
            words[r] = _mm512_packs_epi32(high[0], high[1]);
        }
        self.bounds.pack(words[0], words[R - 1])
    }
}

/// Numbers of 64 bytes.
struct Order([u8; STEP]);

impl Order {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn load(&self) -> __m512i {
        // SAFETY: 64 bytes.
        unsafe { _mm512_loadu_si512(self.0.as_ptr().cast()) }
    }
}

/// Of two rows of a strip, pairs of bytes: quarter `i` has lanes 4i.. of the first block, then those of the second.
const INTERLEAVED: Order = {
    let mut order = [0; STEP];
    let mut at = 0;
    while at < STEP {
        let (quarter, word) = (at / 16, at % 16 / 2);
        let lane = word / 4 * BLOCK + quarter * 4 + word % 4;
        order[at] = (at % 2 * STEP + lane) as u8;
        at += 1;
    }
    Order(order)
};

/// Brings codes in the order of the lanes: quarter `i` of the packed ones has lanes 4i.. of each block of each row, the
/// second and the third exchanged by [`high_halves`].
const PACKED: Order = {
    let mut order = [0; STEP];
    let mut at = 0;
    while at < STEP {
        let (block, lane) = (at / BLOCK, at % BLOCK);
        order[at] = (lane / 4 * 16 + block * 4 + [0, 2, 1, 3][lane % 4]) as u8;
        at += 1;
    }
    Order(order)
};

const _: () = assert!(BLOCK == 16);
