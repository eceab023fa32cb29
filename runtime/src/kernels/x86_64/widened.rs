//! Operators of plain loops: the portable code, compiled with leave to use the instructions.

use super::detect;
use crate::format::{Add, AvgPool, MaxPool};
use crate::kernels::{Isa, portable, reference};

/// Defines an operator that runs `$plain` compiled for the instruction set, if the processor has it.
macro_rules! widened {
    ($(#[$doc:meta])* $name:ident = $plain:path, ($($arg:ident: $type:ty),*)) => {
        $(#[$doc])*
        pub fn $name(isa: Isa, $($arg: $type),*) {
            #[target_feature(enable = "avx2,bmi2")]
            fn avx2($($arg: $type),*) {
                $plain($($arg),*)
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
            fn avx512($($arg: $type),*) {
                $plain($($arg),*)
            }
            match isa {
                // SAFETY: the processor has the instructions.
                Isa::Avx2 | Isa::AvxVnni if detect(isa) => unsafe { avx2($($arg),*) },
                // SAFETY: the processor has the instructions.
                Isa::Avx512Vnni if detect(isa) => unsafe { avx512($($arg),*) },
                _ => $plain($($arg),*),
            }
        }
    };
}

widened! {
    /// See [`reference::add`].
    add = reference::add, (p: &Add, a: &mut [u8], b: &[u8])
}
widened! {
    /// See [`reference::avg_pool`].
    avg_pool = portable::avg_pool, (p: &AvgPool, input: &[u8], output: &mut [u8])
}
widened! {
    /// See [`reference::max_pool`].
    max_pool = portable::max_pool, (p: &MaxPool, input: &[u8], output: &mut [u8])
}
