//! Bounds-checked little-endian reads.

/// A window on bytes; every read says whether it fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    #[inline]
    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.array(at)?))
    }

    #[inline]
    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.array(at)?))
    }

    #[inline]
    pub(crate) fn i32(self, at: usize) -> Option<i32> {
        Some(i32::from_le_bytes(self.array(at)?))
    }

    #[inline]
    pub(crate) fn f32(self, at: usize) -> Option<f32> {
        Some(f32::from_le_bytes(self.array(at)?))
    }

    #[inline]
    pub(crate) fn bytes(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    #[inline]
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}
