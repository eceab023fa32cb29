//! The offline memory plan: where in the arena every buffer lies, to the byte.
//!
//! A buffer is live over a closed range of layer indices. Two buffers whose ranges meet must not share
//! bytes. No plan can be smaller than the largest sum of buffers live at one layer
//! ([`lower_bound`]); [`plan`] tries first-fit in several orders and stops as soon as it meets that
//! bound, then falls back on a bounded depth-first search over placement orders.

/// Offsets are multiples of this, so that vector loads of a pixel seldom cross a cache line.
pub const ALIGN: usize = 16;

/// Memory that is needed from one layer to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Size; may be 0.
    pub bytes: usize,
    /// First layer that touches it.
    pub first: usize,
    /// Last layer that touches it.
    pub last: usize,
}

impl Buffer {
    fn meets(&self, other: &Buffer) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where the buffers lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// One offset a buffer.
    pub offsets: Vec<usize>,
    /// End of the highest buffer.
    pub bytes: usize,
}

/// The largest sum of sizes live at one layer: no plan is smaller.
pub fn lower_bound(buffers: &[Buffer]) -> usize {
    let live_at = |layer: usize| buffers.iter().filter(|b| b.first <= layer && layer <= b.last).map(|b| b.bytes).sum();
    buffers.iter().map(|b| live_at(b.first)).max().unwrap_or(0)
}

/// Packs the buffers.
pub fn plan(buffers: &[Buffer]) -> Placement {
    let padded: Vec<Buffer> = buffers.iter().map(|b| Buffer { bytes: b.bytes.next_multiple_of(ALIGN), ..*b }).collect();
    let bound = lower_bound(&padded);
    let mut best: Option<Placement> = None;
    for order in orders(&padded) {
        let candidate = first_fit(&padded, &order);
        if best.as_ref().is_none_or(|b| candidate.bytes < b.bytes) {
            best = Some(candidate);
        }
        if best.as_ref().is_some_and(|b| b.bytes <= bound) {
            break;
        }
    }
    let start = best.unwrap_or(Placement { offsets: Vec::new(), bytes: 0 });
    let mut found = if start.bytes > bound { Search::new(&padded, bound, start).run() } else { start };
    // The padding behind the highest buffer is not needed.
    found.bytes = buffers.iter().zip(&found.offsets).map(|(b, at)| at + b.bytes).max().unwrap_or(0);
    found
}

/// Orders worth trying first: large first, long-lived first, wide area first, by time.
fn orders(buffers: &[Buffer]) -> Vec<Vec<usize>> {
    let length = |b: &Buffer| b.last - b.first + 1;
    let mut by_size: Vec<usize> = (0..buffers.len()).collect();
    by_size.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), buffers[i].first, i));
    let mut by_length = by_size.clone();
    by_length.sort_by_key(|&i| std::cmp::Reverse(length(&buffers[i])));
    let mut by_area = by_size.clone();
    by_area.sort_by_key(|&i| std::cmp::Reverse(length(&buffers[i]) * buffers[i].bytes));
    let mut by_time = by_size.clone();
    by_time.sort_by_key(|&i| buffers[i].first);
    vec![by_size, by_area, by_length, by_time]
}

fn first_fit(buffers: &[Buffer], order: &[usize]) -> Placement {
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
    let mut bytes = 0;
    for &i in order {
        offsets[i] = lowest_gap(buffers, &offsets, &placed, i);
        bytes = bytes.max(offsets[i] + buffers[i].bytes);
        placed.push(i);
    }
    Placement { offsets, bytes }
}

/// The lowest offset at which buffer `i` meets none of the placed ones.
fn lowest_gap(buffers: &[Buffer], offsets: &[usize], placed: &[usize], i: usize) -> usize {
    let mut taken: Vec<(usize, usize)> = placed
        .iter()
        .filter(|&&j| buffers[j].meets(&buffers[i]))
        .map(|&j| (offsets[j], offsets[j] + buffers[j].bytes))
        .collect();
    taken.sort_unstable();
    let mut at = 0;
    for (start, end) in taken {
        if start >= at + buffers[i].bytes {
            break;
        }
        at = at.max(end);
    }
    at
}

/// Depth-first search over placement orders, lowest gap each, within a number of steps.
struct Search<'a> {
    buffers: &'a [Buffer],
    bound: usize,
    best: Placement,
    offsets: Vec<usize>,
    placed: Vec<usize>,
    steps: usize,
}

impl<'a> Search<'a> {
    /// Enough for the exact optimum of nets with some twenty overlapping buffers; milliseconds.
    const STEPS: usize = 200_000;

    fn new(buffers: &'a [Buffer], bound: usize, best: Placement) -> Self {
        Search { buffers, bound, best, offsets: vec![0; buffers.len()], placed: Vec::new(), steps: Self::STEPS }
    }

    fn run(mut self) -> Placement {
        let mut left: Vec<usize> = (0..self.buffers.len()).collect();
        left.sort_by_key(|&i| std::cmp::Reverse(self.buffers[i].bytes));
        self.descend(&mut left, 0);
        self.best
    }

    fn descend(&mut self, left: &mut Vec<usize>, bytes: usize) {
        if left.is_empty() {
            self.best = Placement { offsets: self.offsets.clone(), bytes };
            return;
        }
        for k in 0..left.len() {
            if self.steps == 0 || self.best.bytes <= self.bound {
                return;
            }
            self.steps -= 1;
            let i = left.remove(k);
            let at = lowest_gap(self.buffers, &self.offsets, &self.placed, i);
            let reach = bytes.max(at + self.buffers[i].bytes);
            if reach < self.best.bytes {
                self.offsets[i] = at;
                self.placed.push(i);
                self.descend(left, reach);
                self.placed.pop();
            }
            left.insert(k, i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer() -> impl Strategy<Value = Buffer> {
        (0usize..2000, 0usize..12, 0usize..4).prop_map(|(bytes, first, len)| Buffer { bytes, first, last: first + len })
    }

    proptest! {
        #[test]
        fn live_buffers_never_share_bytes(buffers in prop::collection::vec(buffer(), 0..16)) {
            let placement = plan(&buffers);
            prop_assert!(placement.bytes >= lower_bound(&buffers));
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(placement.offsets[i].is_multiple_of(ALIGN));
                prop_assert!(placement.offsets[i] + a.bytes <= placement.bytes);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let (x, y) = (placement.offsets[i], placement.offsets[j]);
                    prop_assert!(!a.meets(b) || x + a.bytes <= y || y + b.bytes <= x, "{i} and {j} overlap");
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_its_widest_pair() {
        let sizes = [3072, 16384, 16384, 8192, 8192, 4096, 64];
        let chain: Vec<Buffer> =
            sizes.iter().enumerate().map(|(i, &bytes)| Buffer { bytes, first: i, last: i + 1 }).collect();
        assert_eq!(plan(&chain).bytes, 32768);
    }

    #[test]
    fn the_search_closes_the_gap_that_first_fit_leaves() {
        let live = |bytes, first, last| Buffer { bytes, first, last };
        let buffers = [live(64, 0, 1), live(32, 0, 3), live(96, 2, 4), live(64, 4, 5), live(32, 5, 6), live(96, 5, 6)];
        assert_eq!(plan(&buffers).bytes, lower_bound(&buffers));
    }
}
