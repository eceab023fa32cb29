//! The arithmetic, once for every instruction set.
//!
//! [`reference`] is the definition: obvious scalar code, one function an operator. [`portable`] is fast
//! without any special instruction. Every other module holds the kernels of one instruction set and
//! nothing else; a kernel is bit-exact to the reference, by property test, and has a bench.
//!
//! [`run_layer`] chooses: the widest kernel that the instruction set has for the layer, then the
//! portable one, then the reference.

use core::fmt;
use core::str::FromStr;

use crate::format::{Conv, Layer};

pub mod portable;
pub mod reference;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

/// A family of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// The definition; slow.
    Reference,
    /// Plain Rust, blocked.
    Portable,
    /// x86-64 with AVX2 and BMI2.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL, VBMI) and VNNI.
    Avx512Vnni,
}
