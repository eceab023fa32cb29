//! How much scratch a convolution wants: pure arithmetic, the same on every host, since the compiler
//! plans the arena with it.

use super::portable;
use crate::format::{Conv, Layout};

/// The most that any kernel, of any instruction set that reads `layout`, wants for this convolution.
pub fn conv_scratch_bytes(conv: &Conv<'_>, layout: Layout) -> usize {
    match layout {
        Layout::Plain => portable::scratch_bytes(conv),
        Layout::X86 => portable::scratch_bytes(conv),
    }
}
