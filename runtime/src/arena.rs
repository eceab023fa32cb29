//! Memory for the activations, sized at compile time.

/// The arena that a blob states, at compile time as well as at run time; 0 when there is no header.
///
/// ```
/// # const MODEL: &[u8] = &[0; 64];
/// static mut ARENA: pare_runtime::Arena<{ pare_runtime::arena_bytes(MODEL) }> = pare_runtime::Arena::new();
/// # fn main() {}
/// ```
pub const fn arena_bytes(blob: &[u8]) -> usize {
    if blob.len() < crate::format::HEADER_BYTES {
        return 0;
    }
    u32::from_le_bytes([blob[16], blob[17], blob[18], blob[19]]) as usize
}

/// `N` bytes at an address that suits every kernel.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Arena<const N: usize>(pub [u8; N]);

impl<const N: usize> Arena<N> {
    /// All zero.
    pub const fn new() -> Self {
        Arena([0; N])
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}
