//! AVX-512 with VBMI and VNNI: 64 multiplications an instruction, 16 channels by 4 codes.
//!
//! Codes of 1 to 7 bits become levels in three instructions whatever the format: bring the bytes of
//! 8 codes together (`vpermb`), shift each code to the bottom of its own byte (`vpmultishiftqb`), look
//! it up in a table that repeats with the code's period, so that the neighbour's bits above it do not
//! matter (`vpermb`, or `vpermt2b` for 7 bits).

use core::arch::x86_64::*;
use core::ops::Range;

use super::dense::{Block, Dense, MAX_PIXELS, Stream, Tile};
use super::depthwise::{Depthwise, InputRow, MAX_TAPS, OutputRow};
use super::store::store_some;
use super::window::{Frame, Panels, Segment, Walk};
use crate::format::{PANEL_CHANNELS, Requantise, WeightFormat, WeightGroup};

/// Bytes of 16 channels by 4 levels.
const STEP: usize = 64;

/// The leaves of this file.
pub(super) struct Avx512;

// SAFETY: two panels of one-byte levels take the 32 bytes that there are for a step of the depth; 12 pixels.
unsafe impl Dense for Avx512 {
    const PIXELS: usize = MAX_PIXELS;
    const PANELS: usize = 2;
    const LEVEL_BYTES: usize = 1;
    const STREAM_PANELS: usize = 4;

    fn levels_in_place(frame: &Frame<'_>, group: &WeightGroup<'_>) -> bool {
        group.format == WeightFormat::Linear(8) && frame.len == frame.padded
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn decode(frame: &Frame<'_>, group: &WeightGroup<'_>, codes: &[u8], to: *mut u8) {
        // SAFETY: a panel has `64 * bits / 8` bytes for each step of the depth.
        unsafe {
            match group.format.bits() {
                8 => decode_segments(&Bytes, frame, codes, to),
                7 => decode_segments(&Table128::new(group), frame, codes, to),
                _ => decode_segments(&Table64::new(group), frame, codes, to),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn fetch(frame: &Frame<'_>, y: usize, x: usize, to: *mut u8) {
        let zero = _mm512_set1_epi8(frame.conv.zero_in as i8);
        for index in 0..frame.segments {
            let Segment { start, valid } = frame.segment(y, x, index);
            let mut at = 0;
            while at < frame.padded {
                let mask = lanes(valid.end.saturating_sub(at)) & !lanes(valid.start.saturating_sub(at));
                let zero = _mm512_maskz_mov_epi8(lanes(frame.len - at), zero);
                // SAFETY: lanes outside `valid`, which may lie outside the input, are not read. What is written
                // beyond a segment is overwritten by the next; 64 bytes follow the last.
                unsafe {
                    let from = frame.input.as_ptr().wrapping_offset(start).wrapping_add(at);
                    let codes = _mm512_mask_loadu_epi8(zero, mask, from.cast());
                    _mm512_storeu_si512(to.add(index * frame.padded + at).cast(), codes);
                }
                at += STEP;
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn tile(walk: &Walk, tile: &Tile, block: &Block<'_>) {
        // SAFETY: this function's contract is that of the callee; there are `len` pixels and panels at least,
        // and pixels beyond `len` repeat the first.
        unsafe {
            match (block.panels.len, tile.len) {
                (1, 1) => multiply::<1, 1>(walk, tile, block),
                (1, 2) => multiply::<1, 2>(walk, tile, block),
                (1, 3..=4) => multiply::<1, 4>(walk, tile, block),
                (1, 5..=6) => multiply::<1, 6>(walk, tile, block),
                (1, 7..=8) => multiply::<1, 8>(walk, tile, block),
                (1, 9..=10) => multiply::<1, 10>(walk, tile, block),
                (1, _) => multiply::<1, 12>(walk, tile, block),
                (_, 1) => multiply::<2, 1>(walk, tile, block),
                (_, 2) => multiply::<2, 2>(walk, tile, block),
                (_, 3..=4) => multiply::<2, 4>(walk, tile, block),
                (_, 5..=6) => multiply::<2, 6>(walk, tile, block),
                (_, 7..=8) => multiply::<2, 8>(walk, tile, block),
                (_, 9..=10) => multiply::<2, 10>(walk, tile, block),
                _ => multiply::<2, 12>(walk, tile, block),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn stream(group: &WeightGroup<'_>, window: &Stream<'_>) {
        // SAFETY: the contract.
        unsafe {
            match group.format.bits() {
                8 => stream(&Bytes, window),
                7 => stream(&Table128::new(group), window),
                _ => stream(&Table64::new(group), window),
            }
        }
    }
}

/// The lowest `n` of 64 lanes.
#[inline(always)]
fn lanes(n: usize) -> __mmask64 {
    if n >= 64 { !0 } else { (1 << n) - 1 }
}

/// `P` panels by `N` pixels, all sums in registers.
///
/// # Safety
/// As [`Dense::tile`], with `P` panels and `N` pixels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn multiply<const P: usize, const N: usize>(walk: &Walk, tile: &Tile, block: &Block<'_>) {
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the contract.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); N]; P];
        for p in 0..P {
            sums[p] = [load_channels(block.panels.bias, block.panels.channels(p)); N];
        }
        let mut windows = [core::ptr::null(); N];
        windows.copy_from_slice(&tile.windows[..N]);
        let mut levels = block.levels;
        for row in 0..walk.rows {
            for tap in 0..walk.taps {
                let mut at = row * walk.row_step + tap * walk.tap_step;
                for _ in 0..walk.quads {
                    let mut weights = [_mm512_setzero_si512(); P];
                    for p in 0..P {
                        weights[p] = _mm512_loadu_si512(levels.add(p * block.level_step).cast());
                    }
                    for n in 0..N {
                        let codes = _mm512_set1_epi32(windows[n].add(at).cast::<i32>().read_unaligned());
                        for p in 0..P {
                            sums[p][n] = _mm512_dpbusd_epi32(sums[p][n], codes, weights[p]);
                        }
                    }
                    at += 4;
                    levels = levels.add(STEP);
                }
            }
        }
        // A copy, so that `sums` is never indexed by a variable and stays in registers all through the loops above.
        let mut done = [[_mm512_setzero_si512(); N]; P];
        for p in 0..P {
            for n in 0..N {
                done[p][n] = sums[p][n];
            }
        }
        for p in 0..P {
            let scale = Scale::new(&block.requantise, &block.panels, p);
            let output = block.output.add(block.panels.first + p * PANEL_CHANNELS);
            let mut n = 0;
            while n < N {
                let some = [n, (n + 1).min(N - 1), (n + 2).min(N - 1), (n + 3).min(N - 1)];
                scale.store(some.map(|n| done[p][n]), some.map(|n| output.add(tile.outputs[n])));
                n += 4;
            }
        }
    }
}

/// The numbers of 16 channels at most, 0 for those that are missing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_channels(numbers: &[i32], channels: Range<usize>) -> __m512i {
    let numbers = &numbers[channels];
    // SAFETY: lanes beyond the slice are not read.
    unsafe { _mm512_maskz_loadu_epi32(lanes(numbers.len()) as __mmask16, numbers.as_ptr()) }
}

/// From sums to codes for the channels of a panel.
struct Scale {
    mult: __m512i,
    /// The multipliers of the odd channels, each in the place of the even one before it.
    mult_odd: __m512i,
    pre: __m512i,
    /// Half a unit, and the zero point above it.
    round: __m512i,
    lo: __m512i,
    hi: __m512i,
    channels: usize,
}

impl Scale {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(requantise: &Requantise, panels: &Panels<'_>, index: usize) -> Scale {
        let channels = panels.channels(index);
        let mult = load_channels(panels.mult, channels.clone());
        Scale {
            mult,
            mult_odd: _mm512_srli_epi64::<32>(mult),
            pre: _mm512_set1_epi32(i32::from(requantise.pre & 31)),
            round: _mm512_set1_epi64((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm512_set1_epi8(requantise.lo as i8),
            hi: _mm512_set1_epi8(requantise.hi as i8),
            channels: channels.len(),
        }
    }

    /// `zero + ((sum << pre) * mult + 2^31 >> 32)`, not yet clamped.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn apply(&self, sums: __m512i) -> __m512i {
        let sums = _mm512_sllv_epi32(sums, self.pre);
        let even = _mm512_mul_epi32(sums, self.mult);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(sums), self.mult_odd);
        let even = _mm512_srli_epi64::<32>(_mm512_add_epi64(even, self.round));
        _mm512_mask_blend_epi32(0xaaaa, even, _mm512_add_epi64(odd, self.round))
    }

    /// Stores the codes of four pixels.
    ///
    /// # Safety
    /// Each address takes the panel's channels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store(&self, sums: [__m512i; 4], to: [*mut u8; 4]) {
        let [a, b, c, d] = sums.map(
            #[inline(always)]
            |sums| self.apply(sums),
        );
        // Both packs saturate, which is within any clamp to codes.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi);
        // Quarter `i` holds channels 4i.. of a, b, c, d: transpose.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let codes = _mm512_permutexvar_epi32(order, codes);
        let quarters = [
            _mm512_castsi512_si128(codes),
            _mm512_extracti32x4_epi32::<1>(codes),
            _mm512_extracti32x4_epi32::<2>(codes),
            _mm512_extracti32x4_epi32::<3>(codes),
        ];
        // SAFETY: the contract.
        unsafe {
            if self.channels == PANEL_CHANNELS {
                for i in 0..4 {
                    _mm_storeu_si128(to[i].cast(), quarters[i]);
                }
            } else {
                store_some(&quarters, self.channels, &to);
            }
        }
    }
}

/// Turns packed codes into levels, 64 at a time.
///
/// # Safety
/// [`load`](Self::load) reads `BITS` times 8 bytes and no more.
unsafe trait Levels {
    /// Bytes of 64 codes.
    fn bytes(&self) -> usize;

    /// The levels of the 64 codes at an address.
    ///
    /// # Safety
    /// The processor has the instructions; the address has [`bytes`](Self::bytes) bytes to read.
    unsafe fn load(&self, at: *const u8) -> __m512i;

    /// The levels of step `step` out of the `steps` of a dense panel.
    ///
    /// # Safety
    /// The processor has the instructions; `step < steps`, and the panel can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, panel: *const u8, _steps: usize, step: usize) -> __m512i {
        // SAFETY: steps are in sequence.
        unsafe { self.load(panel.add(step * self.bytes())) }
    }
}

/// 8 bits: codes are levels.
struct Bytes;

// SAFETY: 64 bytes.
unsafe impl Levels for Bytes {
    #[inline(always)]
    fn bytes(&self) -> usize {
        STEP
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
}

/// Brings each of 64 codes to the bottom of its own byte.
struct Spread {
    bytes: usize,
    mask: __mmask64,
    gather: __m512i,
    shifts: __m512i,
}

impl Spread {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(bits: u32) -> Spread {
        let (mut gather, mut shifts) = ([0u8; 64], [0u8; 64]);
        for i in 0..64u8 {
            gather[usize::from(i)] = i / 8 * bits as u8 + i % 8;
            shifts[usize::from(i)] = i % 8 * bits as u8;
        }
        let bytes = 8 * bits as usize;
        // SAFETY: 64 bytes each.
        let [gather, shifts] = [&gather, &shifts].map(|table| unsafe { _mm512_loadu_si512(table.as_ptr().cast()) });
        Spread { bytes, mask: lanes(bytes), gather, shifts }
    }

    /// # Safety
    /// `bytes` can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the mask keeps the load to those.
        let packed = unsafe { _mm512_maskz_loadu_epi8(self.mask, at.cast()) };
        _mm512_multishift_epi64_epi8(self.shifts, _mm512_permutexvar_epi8(self.gather, packed))
    }
}

/// 1 to 6 bits: the low 6 bits of a byte are looked up, whatever is above the code.
struct Table64 {
    spread: Spread,
    /// Steps of a dense panel that interleave.
    together: usize,
    table: __m512i,
}

/// 7 bits.
struct Table128 {
    spread: Spread,
    table: [__m512i; 2],
}

/// The level of every 7-bit number, its low bits being the code.
fn levels_of(group: &WeightGroup<'_>) -> [i8; 128] {
    let mask = ((1u32 << group.format.bits()) - 1) as u8;
    let mut levels = [0; 128];
    for (low, level) in levels.iter_mut().enumerate() {
        *level = group.format.level(low as u8 & mask, group.codebook);
    }
    levels
}

impl Table64 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(group: &WeightGroup<'_>) -> Table64 {
        let levels = levels_of(group);
        // SAFETY: 128 levels.
        let table = unsafe { _mm512_loadu_si512(levels.as_ptr().cast()) };
        Table64 { spread: Spread::new(group.format.bits()), together: group.format.interleaved(), table }
    }
}

impl Table128 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(group: &WeightGroup<'_>) -> Table128 {
        let levels = levels_of(group);
        // SAFETY: 128 levels.
        let table = [0, 64].map(|at| unsafe { _mm512_loadu_si512(levels.as_ptr().wrapping_add(at).cast()) });
        Table128 { spread: Spread::new(group.format.bits()), table }
    }
}

// SAFETY: the spread's mask.
unsafe impl Levels for Table64 {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.spread.bytes
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_permutexvar_epi8(self.spread.load(at), self.table) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, panel: *const u8, steps: usize, step: usize) -> __m512i {
        // SAFETY: `together` steps take 64 bytes, those left over are in sequence.
        unsafe {
            if self.together == 1 || step >= steps / self.together * self.together {
                return self.load(panel.add(step * self.spread.bytes));
            }
            let packed = _mm512_loadu_si512(panel.add(step / self.together * STEP).cast());
            // 8 bits are shared by `together` codes.
            let shift = _mm_cvtsi32_si128((step % self.together * 8 / self.together) as i32);
            _mm512_permutexvar_epi8(_mm512_srl_epi16(packed, shift), self.table)
        }
    }
}

// SAFETY: the spread's mask.
unsafe impl Levels for Table128 {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.spread.bytes
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_permutex2var_epi8(self.table[0], self.spread.load(at), self.table[1]) }
    }
}

/// Decodes a dense panel, 0 at padding.
///
/// # Safety
/// `codes` and `to` have room for the frame's depth.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn decode_segments<L: Levels>(levels: &L, frame: &Frame<'_>, codes: &[u8], to: *mut u8) {
    let counted = match frame.len % 4 {
        0 => !0,
        n => (1 << (8 * n)) - 1,
    };
    let counted = _mm512_set1_epi32(counted);
    let quads = frame.padded / 4;
    let steps = frame.segments * quads;
    for step in 0..steps {
        // SAFETY: the steps are the depth.
        unsafe {
            let mut here = levels.step(codes.as_ptr(), steps, step);
            if (step + 1).is_multiple_of(quads) {
                here = _mm512_and_si512(here, counted);
            }
            _mm512_storeu_si512(to.add(step * STEP).cast(), here);
        }
    }
}

/// Streams the panels against their window.
///
/// # Safety
/// As [`Dense::stream`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn stream<L: Levels>(levels: &L, stream: &Stream<'_>) {
    // SAFETY: the contract.
    unsafe {
        match stream.panels.len {
            1 => stream_panels::<L, 1, 4>(levels, stream),
            2 => stream_panels::<L, 2, 4>(levels, stream),
            3 => stream_panels::<L, 3, 2>(levels, stream),
            _ => stream_panels::<L, 4, 2>(levels, stream),
        }
    }
}

/// `P` panels, each summed in `U` parts to keep the multipliers busy.
///
/// # Safety
/// As [`Dense::stream`], with `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn stream_panels<L: Levels, const P: usize, const U: usize>(levels: &L, stream: &Stream<'_>) {
    let mut sums = [[_mm512_setzero_si512(); U]; P];
    let panels = &stream.panels;
    // SAFETY: steps below `quads`; results lie in the output: the contract.
    unsafe {
        let step = |sums: &mut [[__m512i; U]; P], quad: usize, u: usize| {
            let window = _mm512_set1_epi32(stream.window.add(4 * quad).cast::<i32>().read_unaligned());
            for p in 0..P {
                let levels = levels.step(panels.codes.as_ptr().add(p * panels.step), stream.quads, quad);
                sums[p][u] = _mm512_dpbusd_epi32(sums[p][u], window, levels);
            }
        };
        let whole = stream.quads / U * U;
        let mut quad = 0;
        while quad < whole {
            for u in 0..U {
                step(&mut sums, quad + u, u);
            }
            quad += U;
        }
        while quad < stream.quads {
            step(&mut sums, quad, 0);
            quad += 1;
        }
        for p in 0..P {
            let mut sum = load_channels(panels.bias, panels.channels(p));
            for u in 0..U {
                sum = _mm512_add_epi32(sum, sums[p][u]);
            }
            let scale = Scale::new(&stream.requantise, panels, p);
            scale.store([sum; 4], [stream.output.add(panels.first + p * PANEL_CHANNELS); 4]);
        }
    }
}

// SAFETY: 4 taps.
unsafe impl Depthwise for Avx512 {
    const TAPS: usize = 4;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8) {
        // SAFETY: `codes` are whole taps, and `to` takes a byte for each.
        unsafe {
            match group.format.bits() {
                8 => decode_taps(&Bytes, codes, to),
                7 => decode_taps(&Table128::new(group), codes, to),
                _ => decode_taps(&Table64::new(group), codes, to),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn interleave_pixels(row: &InputRow, to: *mut u8) {
        let bytes = row.columns * STEP;
        // SAFETY: a row hands out addresses of 16 bytes, for columns inside all taps at once; the cells fit.
        unsafe {
            interleave_edge(row, 0..row.inside.start, to);
            for output in row.inside.clone() {
                let mut tap = row.first_tap(output);
                let mut to = to.add(output * bytes);
                for _ in 0..row.columns {
                    let next = |k: usize| tap.wrapping_add(k * row.tap_step);
                    interleave(&[tap, next(1), next(2), next(3)], to);
                    tap = next(4);
                    to = to.add(STEP);
                }
            }
            interleave_edge(row, row.inside.end..row.outputs, to);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn interleave_taps(taps: &[*const u8; MAX_TAPS], to: *mut u8) {
        // SAFETY: the contract.
        unsafe { interleave(taps, to) };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn row(row: &OutputRow<'_>) {
        let scale = Scale::new(&row.requantise, row.panel, 0);
        let mut first = 0;
        while first < row.pixels {
            // SAFETY: as many pixels as there are left.
            unsafe {
                match row.pixels - first {
                    1 => correlate::<1>(row, &scale, first),
                    2 => correlate::<2>(row, &scale, first),
                    3 => correlate::<3>(row, &scale, first),
                    4 => correlate::<4>(row, &scale, first),
                    5 => correlate::<5>(row, &scale, first),
                    6 => correlate::<6>(row, &scale, first),
                    7 => correlate::<7>(row, &scale, first),
                    _ => correlate::<8>(row, &scale, first),
                }
            }
            first += 8;
        }
    }
}

/// Pixels `first..first + N` of an output row.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn correlate<const N: usize>(row: &OutputRow<'_>, scale: &Scale, first: usize) {
    let mut sums = [load_channels(row.panel.bias, row.panel.channels(0)); N];
    let step = row.columns * STEP;
    let mut weights = row.weights;
    // SAFETY: cells and output are where the row's invariants say.
    unsafe {
        for k in 0..row.rows {
            let cells = row.ring_row(k).add(first * step);
            for column in 0..row.columns {
                let taps = _mm512_loadu_si512(weights.cast());
                weights = weights.add(STEP);
                for n in 0..N {
                    let codes = _mm512_loadu_si512(cells.add(n * step + column * STEP).cast());
                    sums[n] = _mm512_dpbusd_epi32(sums[n], codes, taps);
                }
            }
        }
        let output = row.output.add(first * row.output_step);
        let last = N - 1;
        let some = [0, 1.min(last), 2.min(last), 3.min(last)];
        scale.store(some.map(|n| sums[n]), some.map(|n| output.add(n * row.output_step)));
        if N > 4 {
            let some = [4.min(last), 5.min(last), 6.min(last), last];
            scale.store(some.map(|n| sums[n]), some.map(|n| output.add(n * row.output_step)));
        }
    }
}

/// Cells of output columns that read beyond the edge of the row, or near the end of the input.
///
/// # Safety
/// `to` takes the cells of the row.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn interleave_edge(row: &InputRow, outputs: Range<usize>, to: *mut u8) {
    for output in outputs {
        for column in 0..row.columns {
            // SAFETY: a row hands out addresses of 16 bytes; the cells fit.
            unsafe { interleave(&row.taps(output, 4 * column), to.add((output * row.columns + column) * STEP)) };
        }
    }
}

/// Byte `4c + j` becomes byte `c` at address `j`.
///
/// # Safety
/// 16 bytes can be read at each address; `to` takes 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn interleave(from: &[*const u8; 4], to: *mut u8) {
    const ORDER: [u8; 64] = {
        let mut order = [0; 64];
        let mut i = 0;
        while i < 64 {
            order[i] = (i % 4 * 16 + i / 4) as u8;
            i += 1;
        }
        order
    };
    // SAFETY: the contract.
    unsafe {
        let [a, b, c, d] = from.map(|at| _mm_loadu_si128(at.cast()));
        let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
        let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
        let all = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi8(order, all));
    }
}

/// Decodes a depthwise panel.
///
/// # Safety
/// `to` takes a byte for each code.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn decode_taps<L: Levels>(levels: &L, codes: &[u8], to: *mut u8) {
    let mut to = to;
    // A last piece of 1 to 3 taps is decoded aside.
    for from in codes.chunks(levels.bytes()) {
        let taps = from.len() * STEP / levels.bytes();
        let mut piece = [0; STEP];
        piece[..from.len()].copy_from_slice(from);
        // SAFETY: 64 bytes hold the codes of any width; 16 levels a tap fit.
        unsafe {
            let mask = lanes(taps);
            _mm512_mask_storeu_epi8(to.cast(), mask, levels.load(piece.as_ptr()));
            to = to.add(taps);
        }
    }
}

const _: () = assert!(PANEL_CHANNELS == 16);
