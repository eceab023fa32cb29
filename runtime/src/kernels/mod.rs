//! The arithmetic, once for every instruction set.
//!
//! [`mod@reference`] is the definition: obvious scalar code, one function an operator. [`portable`] is fast
//! without any special instruction. Every other module holds the kernels of one instruction set and
//! nothing else; a kernel is bit-exact to the reference, by property test, and has a bench.
//!
//! [`ConvKernel::choose`] takes the widest kernel that the instruction set has for a convolution, else
//! the portable one; the other operators are methods of [`Isa`], which choose in the same way.

use core::fmt;
use core::str::FromStr;

use crate::format::{Add, AvgPool, Conv, DepthToSpace, Layout, MaxPool, Pad, Resize, Shape, WeightFormat, op};

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub mod aarch64;
#[cfg(pare_dsp)]
pub mod arm;
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
mod panels;
mod planes;
mod polynomial;
pub mod portable;
pub mod reference;
mod residual;
pub mod scratch;
mod set;
pub mod work;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"), pare_dsp)))]
mod no_isa;

// The architecture's own kernels, the same few functions whatever it is.
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
use aarch64 as native;
#[cfg(pare_dsp)]
use arm as native;
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"), pare_dsp)))]
use no_isa as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

pub use set::KernelSet;

/// A family of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// The definition; slow.
    Reference,
    /// Plain Rust, blocked.
    Portable,
    /// x86-64 with AVX2 and BMI2.
    Avx2,
    /// x86-64 with those and AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 (F, BW, VL, VBMI, VPOPCNTDQ) and VNNI.
    Avx512Vnni,
    /// AArch64, whose every processor has NEON.
    Neon,
    /// AArch64 with the dot-product instructions (FEAT_DotProd).
    NeonDotprod,
    /// AArch64 with those and with 8-bit matrix multiplication (FEAT_I8MM).
    NeonI8mm,
    /// 32-bit Arm with the DSP extension: Cortex-M4, M7, M33; A-profile processors too.
    Dsp,
}

impl Isa {
    /// All of them, those of one architecture slowest first.
    pub const ALL: [Isa; 9] = [
        Isa::Reference,
        Isa::Portable,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Neon,
        Isa::NeonDotprod,
        Isa::NeonI8mm,
        Isa::Dsp,
    ];

    /// Whether this processor runs its kernels, and they are [linked](KernelSet::LINKED).
    pub fn is_available(self) -> bool {
        match self {
            _ if self != self.linked() => false,
            Isa::Reference | Isa::Portable => true,
            _ => native::detect(self),
        }
    }

    /// Those that this processor runs, slowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The fastest that this processor runs.
    pub fn best() -> Isa {
        match KernelSet::IS_PARTIAL {
            true => Isa::Portable.linked(),
            false => Isa::available().next_back().unwrap_or(Isa::Portable),
        }
    }

    /// The widest weight layout that its kernels read.
    pub const fn layout(self) -> Layout {
        match self {
            Isa::Reference | Isa::Portable => Layout::Plain,
            Isa::Avx2 | Isa::AvxVnni | Isa::Neon | Isa::NeonDotprod | Isa::NeonI8mm => Layout::Panels,
            Isa::Avx512Vnni => Layout::Planes,
            Isa::Dsp => Layout::Words,
        }
    }

    /// Its name, as [`FromStr`] reads it and kernel names begin.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Reference => "reference",
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "dotprod",
            Isa::NeonI8mm => "i8mm",
            Isa::Dsp => "dsp",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownIsa;

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown instruction set: use one of")?;
        Isa::ALL.iter().try_for_each(|isa| write!(f, " {isa}"))
    }
}

impl core::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == text).ok_or(UnknownIsa)
    }
}

/// `{isa}_{operator}_{format}`, for instance `avx512vnni_conv_w4`: the key that joins latency tables and
/// benches. A convolution whose weight groups differ in format is `mixed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelName {
    /// Whose kernel it is.
    pub isa: Isa,
    /// What it computes: `conv`, `depthwise`, `planes`: a convolution of bit planes, or `packed`: one by packed
    /// multiplication; ending in `_add` if it adds.
    pub operator: &'static str,
    /// How its weights are coded; `None` when mixed.
    pub format: Option<WeightFormat>,
}

impl KernelName {
    /// The name of an instruction set's kernel for a convolution.
    pub fn of(isa: Isa, conv: &Conv<'_>) -> KernelName {
        let mut formats = conv.weight_groups().map(|group| group.format);
        let first = formats.next();
        let format = first.filter(|&first| formats.all(|format| format == first));
        let operators = match conv.layout() {
            _ if conv.is_depthwise() => ["depthwise", "depthwise_add"],
            Some(Layout::Planes) if isa == Isa::Avx512Vnni => ["planes", "planes_add"],
            _ if isa == Isa::Dsp && polynomial::takes(conv) => ["packed", "packed_add"],
            _ => ["conv", "conv_add"],
        };
        let operator = operators[usize::from(conv.residual.is_some())];
        KernelName { isa, operator, format }
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_", self.isa, self.operator)?;
        match self.format {
            Some(format) => write!(f, "{format}"),
            None => f.write_str("mixed"),
        }
    }
}

/// A kernel chosen for one convolution. A value exists only if the processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub struct ConvKernel {
    /// Whose kernel it is: less than what was asked for where the wider set has none.
    pub isa: Isa,
    run: RunConv,
    scratch: fn(&Conv<'_>) -> usize,
    /// Whether `run` adds where the convolution does.
    adds: bool,
}

/// A convolution, its input, its output, and scratch.
type RunConv = fn(&Conv<'_>, &[u8], &mut [u8], &mut [u8]);

impl ConvKernel {
    /// The kernel of `isa` for this convolution, else the portable one; the portable one too when the
    /// processor lacks the instruction set.
    #[inline]
    pub fn choose(isa: Isa, conv: &Conv<'_>) -> ConvKernel {
        match isa.linked() {
            Isa::Reference => ConvKernel {
                isa,
                run: |conv, input, output, _| reference::conv(conv, input, output),
                scratch: |_| 0,
                adds: true,
            },
            Isa::Portable => portable::conv_kernel(conv),
            isa => native::conv_kernel(isa, conv).unwrap_or_else(|| portable::conv_kernel(conv)),
        }
    }

    /// Bytes of scratch that a run wants for the convolution that this kernel was chosen for, at most
    /// [`conv_scratch_bytes`](scratch::conv_scratch_bytes) where [planned](Self::is_planned).
    pub fn scratch_bytes(&self, conv: &Conv<'_>) -> usize {
        match conv.residual {
            Some(_) if !self.adds && KernelSet::LINKED.has_residual() => {
                residual::scratch_bytes(conv, |strip| ConvKernel::choose(self.isa, strip).scratch_bytes(strip))
            }
            _ => (self.scratch)(conv),
        }
    }

    /// Whether the arena that a blob states has room for the scratch. It has not for portable kernels that stand in for
    /// those of a microcontroller: they need [more](crate::Model::arena_bytes_with).
    #[inline]
    pub fn is_planned(&self, conv: &Conv<'_>) -> bool {
        self.isa != Isa::Portable || conv.weight_groups().all(|group| scratch::plans_for_portable(group.layout))
    }

    /// Computes a convolution like the one that this kernel was chosen for: `input` and `output` of the
    /// lengths of its shapes, `scratch` of `scratch_bytes` at least. If the convolution adds, `output` holds the
    /// other summand before and the sum after. Does nothing when a length differs
    /// or the convolution lacks biases, multipliers or weight groups.
    pub fn run(&self, conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
        if !conv.is_whole() {
            return;
        }
        // Kernels rely on the scratch that they asked for, and this may be another convolution.
        let kernel = ConvKernel::choose(self.isa, conv);
        if scratch.len() >= kernel.scratch_bytes(conv) {
            kernel.run_whole(conv, input, output, scratch);
        }
    }

    /// The same for the very convolution that the kernel was chosen for, out of a parsed model, with no less
    /// scratch than it wants.
    #[inline]
    pub(crate) fn run_whole(&self, conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
        if input.len() != conv.input.len() || output.len() != conv.output.len() {
            return;
        }
        match &conv.residual {
            Some(add) if !self.adds && KernelSet::LINKED.has_residual() => {
                residual::run(self.isa, conv, add, input, output, scratch)
            }
            _ => (self.run)(conv, input, output, scratch),
        }
    }
}

/// The operators besides convolution; arguments as in [`mod@reference`]. One that is not linked does nothing.
impl Isa {
    /// See [`reference::add`].
    pub fn add(self, p: &Add, a: &mut [u8], b: &[u8]) {
        match self.linked() {
            _ if !linked(op::ADD) && !KernelSet::LINKED.has_residual() => {}
            Isa::Reference | Isa::Portable => reference::add(p, a, b),
            _ => native::add(self, p, a, b),
        }
    }

    /// See [`reference::lut`].
    pub fn lut(self, table: &[u8], codes: &mut [u8]) {
        if linked(op::LUT) {
            reference::lut(table, codes);
        }
    }

    /// See [`reference::avg_pool`].
    pub fn avg_pool(self, p: &AvgPool, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::AVG_POOL) => {}
            Isa::Reference => reference::avg_pool(p, input, output),
            Isa::Portable => portable::avg_pool(p, input, output),
            _ => native::avg_pool(self, p, input, output),
        }
    }

    /// See [`reference::max_pool`].
    pub fn max_pool(self, p: &MaxPool, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::MAX_POOL) => {}
            Isa::Reference => reference::max_pool(p, input, output),
            Isa::Portable => portable::max_pool(p, input, output),
            _ => native::max_pool(self, p, input, output),
        }
    }

    /// See [`reference::softmax`].
    pub fn softmax(self, mult: u32, channels: usize, input: &[u8], output: &mut [u8]) {
        if linked(op::SOFTMAX) {
            reference::softmax(mult, channels, input, output);
        }
    }

    /// See [`reference::concat`].
    pub fn concat(self, outer: usize, start: usize, operand: &[u8], output: &mut [u8]) {
        if linked(op::CONCAT) {
            reference::concat(outer, start, operand, output);
        }
    }

    /// See [`reference::pad`].
    pub fn pad(self, p: &Pad, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::PAD) => {}
            Isa::Reference => reference::pad(p, input, output),
            _ => portable::pad(p, input, output),
        }
    }

    /// See [`reference::transpose`].
    pub fn transpose(self, perm: [u8; 3], shape: Shape, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::TRANSPOSE) => {}
            Isa::Reference => reference::transpose(perm, shape, input, output),
            _ => portable::transpose(perm, shape, input, output),
        }
    }

    /// See [`reference::resize_nearest`].
    pub fn resize_nearest(self, p: &Resize<'_>, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::RESIZE_NEAREST) => {}
            Isa::Reference => reference::resize_nearest(p, input, output),
            _ => portable::resize_nearest(p, input, output),
        }
    }

    /// See [`reference::resize_bilinear`].
    pub fn resize_bilinear(self, p: &Resize<'_>, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::RESIZE_BILINEAR) => {}
            Isa::Reference => reference::resize_bilinear(p, input, output),
            _ => portable::resize_bilinear(p, input, output),
        }
    }

    /// See [`reference::depth_to_space`].
    pub fn depth_to_space(self, p: &DepthToSpace, input: &[u8], output: &mut [u8]) {
        match self.linked() {
            _ if !linked(op::DEPTH_TO_SPACE) => {}
            Isa::Reference => reference::depth_to_space(p, input, output),
            _ => portable::depth_to_space(p, input, output),
        }
    }
}

const fn linked(code: u8) -> bool {
    KernelSet::LINKED.has_operator(code)
}
