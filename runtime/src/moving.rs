//! Moves within memory.

/// Moves all elements so many places to the front, over the first of them, and leaves as many of the last as they were.
///
/// By pieces that do not overlap: [`copy_within`](slice::copy_within) would link what panics, and a second function of
/// the compiler's that moves memory.
pub(crate) fn move_down<T: Copy>(mut elements: &mut [T], by: usize) {
    while by > 0
        && let Some((to, from)) = core::mem::take(&mut elements).split_at_mut_checked(by)
    {
        let count = by.min(from.len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
            to.copy_from_slice(from);
        }
        elements = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_move_whatever_they_overlap() {
        for by in 0..12 {
            let (mut moved, mut expected) = ([0u16; 10], [0u16; 10]);
            for (i, (a, b)) in moved.iter_mut().zip(&mut expected).enumerate() {
                (*a, *b) = (i as u16, i as u16);
            }
            expected.copy_within(by.min(10).., 0);
            move_down(&mut moved, by);
            assert_eq!(moved, expected, "by {by}");
        }
    }
}
