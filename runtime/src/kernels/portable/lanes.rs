//! Sixteen neighbouring channels.

/// How many.
pub(super) const LANES: usize = crate::format::PANEL_CHANNELS;

/// One value for each.
pub(super) type Lanes<T> = [T; LANES];

/// The elements from `at` on; zeros beyond the end.
#[inline(always)]
pub(in crate::kernels) fn load<T: Copy + Default, const N: usize>(from: &[T], at: usize) -> [T; N] {
    let rest = from.get(at..).unwrap_or(&[]);
    if let Some(lanes) = rest.first_chunk() {
        return *lanes;
    }
    let mut lanes = [T::default(); N];
    lanes.iter_mut().zip(rest).for_each(|(lane, &of)| *lane = of);
    lanes
}
