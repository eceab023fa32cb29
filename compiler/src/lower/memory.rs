//! The offline memory plan: where in the arena every buffer lies, to the byte.
//!
//! A buffer is live over a closed range of layer indices. Two buffers whose ranges meet must not share
//! bytes, except as an [`Overlap`] allows. No plan can be smaller than the largest sum of buffers live at one layer
//! ([`lower_bound`]); [`plan`] tries first-fit in several orders and stops as soon as it meets that
//! bound, then changes the best of them a bounded number of times.

use crate::rng::Pcg32;

/// Offsets are multiples of this, so that vector loads of a pixel seldom cross a cache line.
pub const ALIGN: usize = 16;

/// Orders tried beyond the usual ones; milliseconds for nets of some fifty buffers.
const ROUNDS: usize = 3000;

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

/// Two buffers that may share bytes although both are live, since the one is written as the other dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The dying one, which begins above the other.
    pub dying: usize,
    /// The other one.
    pub growing: usize,
    /// By so many bytes at least.
    pub distance: usize,
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
pub fn lower_bound(buffers: &[Buffer], overlaps: &[Overlap]) -> usize {
    buffers.iter().map(|b| live_at(buffers, overlaps, b.first)).max().unwrap_or(0)
}

/// Bytes that a layer needs, what may overlap counted once.
pub fn live_at(buffers: &[Buffer], overlaps: &[Overlap], layer: usize) -> usize {
    let is_live = |b: &Buffer| b.first <= layer && layer <= b.last;
    let bytes: usize = buffers.iter().filter(|b| is_live(b)).map(|b| b.bytes).sum();
    let shared = |o: &Overlap| {
        let [dying, growing] = [o.dying, o.growing].map(|i| &buffers[i]);
        let together = dying.bytes + growing.bytes;
        match is_live(dying) && is_live(growing) {
            true => together.saturating_sub(growing.bytes.max(o.distance + dying.bytes)),
            false => 0,
        }
    };
    bytes - overlaps.iter().map(shared).sum::<usize>()
}

/// Packs the buffers.
pub fn plan(buffers: &[Buffer], overlaps: &[Overlap]) -> Placement {
    let padded = buffers.iter().map(|b| Buffer { bytes: b.bytes.next_multiple_of(ALIGN), ..*b }).collect();
    let packing = Packing { buffers: padded, overlaps };
    let bound = lower_bound(&packing.buffers, overlaps);
    let orders = orders(&packing.buffers);
    let start = orders.into_iter().min_by_key(|order| packing.first_fit(order).bytes).unwrap_or_default();
    let mut found = packing.reorder(bound, start);
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

/// What is to be packed.
struct Packing<'a> {
    buffers: Vec<Buffer>,
    overlaps: &'a [Overlap],
}

impl Packing<'_> {
    fn first_fit(&self, order: &[usize]) -> Placement {
        let mut offsets = vec![0; self.buffers.len()];
        let mut placed: Vec<usize> = Vec::with_capacity(self.buffers.len());
        let mut bytes = 0;
        for &i in order {
            offsets[i] = self.lowest_gap(&offsets, &placed, i);
            bytes = bytes.max(offsets[i] + self.buffers[i].bytes);
            placed.push(i);
        }
        Placement { offsets, bytes }
    }

    /// The lowest offset at which buffer `i` gets along with all of the placed ones.
    fn lowest_gap(&self, offsets: &[usize], placed: &[usize], i: usize) -> usize {
        let meeting = placed.iter().filter(|&&j| self.buffers[j].meets(&self.buffers[i]));
        let mut taken: Vec<(isize, isize)> = meeting.map(|&j| self.taken(i, j, offsets[j])).collect();
        taken.sort_unstable();
        let mut at = 0;
        for (low, high) in taken {
            if low >= at {
                break;
            }
            at = at.max(high);
        }
        at as usize
    }

    /// The offsets between which buffer `i` cannot begin, as `j` begins at `at`.
    fn taken(&self, i: usize, j: usize, at: usize) -> (isize, isize) {
        let [bytes, other] = [i, j].map(|i| self.buffers[i].bytes);
        let distance = |dying: usize, growing: usize| {
            self.overlaps.iter().find(|o| (o.dying, o.growing) == (dying, growing)).map(|o| o.distance)
        };
        let below = distance(j, i).map_or(bytes, |distance| distance.min(bytes));
        let above = distance(i, j).map_or(other, |distance| distance.min(other));
        (at as isize - below as isize, (at + above) as isize)
    }

    /// Tries other orders: again and again, the buffer on top goes in front of one that it meets, which takes
    /// the lowest gap before that one does. Orders that are no worse are kept.
    fn reorder(&self, bound: usize, mut order: Vec<usize>) -> Placement {
        let buffers = &self.buffers;
        let mut rng = Pcg32::new(0, 0);
        let mut now = self.first_fit(&order);
        let mut best = now.clone();
        for _ in 0..ROUNDS {
            if best.bytes <= bound {
                break;
            }
            let end = |&k: &usize| now.offsets[order[k]] + buffers[order[k]].bytes;
            let Some(top) = (0..order.len()).max_by_key(end) else { break };
            let ahead: Vec<usize> = (0..top).filter(|&k| buffers[order[k]].meets(&buffers[order[top]])).collect();
            let Some(&target) = ahead.get(rng.below(ahead.len() as u32) as usize) else { break };
            let mut candidate = order.clone();
            candidate[target..=top].rotate_right(1);
            let placement = self.first_fit(&candidate);
            // A step down now and then leads out of a dead end.
            if placement.bytes <= now.bytes || rng.below(8) == 0 {
                (order, now) = (candidate, placement);
            }
            if now.bytes < best.bytes {
                best = now.clone();
            }
        }
        best
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
            let placement = plan(&buffers, &[]);
            prop_assert!(placement.bytes >= lower_bound(&buffers, &[]));
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

    proptest! {
        #[test]
        fn buffers_overlap_no_further_than_they_may(buffers in prop::collection::vec(buffer(), 2..16), seed in any::<u64>()) {
            let mut rng = Pcg32::new(seed, 0);
            let mut overlaps: Vec<Overlap> = Vec::new();
            for (growing, late) in buffers.iter().enumerate() {
                let dying = buffers.iter().position(|early| early.first < late.first && early.last == late.first);
                let distance = ALIGN * rng.below(100) as usize;
                overlaps.extend(dying.map(|dying| Overlap { dying, growing, distance }));
            }
            let placement = plan(&buffers, &overlaps);
            prop_assert!(placement.bytes >= lower_bound(&buffers, &overlaps) || overlaps.len() > 1);
            for (i, a) in buffers.iter().enumerate() {
                for (j, b) in buffers.iter().enumerate().filter(|(j, b)| *j != i && a.meets(b)) {
                    let (x, y) = (placement.offsets[i], placement.offsets[j]);
                    let may = overlaps.iter().any(|o| match (o.dying, o.growing) {
                        pair if pair == (i, j) => x >= y + o.distance,
                        pair if pair == (j, i) => y >= x + o.distance,
                        _ => false,
                    });
                    prop_assert!(may || x + a.bytes <= y || y + b.bytes <= x, "{i} and {j} overlap");
                }
            }
        }
    }

    #[test]
    fn a_buffer_is_written_onto_one_that_dies() {
        let buffers = [Buffer { bytes: 320, first: 0, last: 1 }, Buffer { bytes: 160, first: 1, last: 2 }];
        let onto = |distance| plan(&buffers, &[Overlap { dying: 0, growing: 1, distance }]).bytes;
        assert_eq!([0, 48, 160, 400].map(onto), [320, 368, 480, 480]);
    }

    #[test]
    fn a_chain_needs_its_widest_pair() {
        let sizes = [3072, 16384, 16384, 8192, 8192, 4096, 64];
        let chain: Vec<Buffer> =
            sizes.iter().enumerate().map(|(i, &bytes)| Buffer { bytes, first: i, last: i + 1 }).collect();
        assert_eq!(plan(&chain, &[]).bytes, 32768);
    }

    #[test]
    fn the_search_closes_the_gap_that_first_fit_leaves() {
        let live = |bytes, first, last| Buffer { bytes, first, last };
        let buffers = [live(64, 0, 1), live(32, 0, 3), live(96, 2, 4), live(64, 4, 5), live(32, 5, 6), live(96, 5, 6)];
        assert_eq!(plan(&buffers, &[]).bytes, lower_bound(&buffers, &[]));
        // The start of MobileNetV1 at 96 x 96: neither by size, by area nor by time does it fit.
        let buffers = [
            live(27648, 0, 0),
            live(18432, 0, 1),
            live(18432, 1, 2),
            live(36864, 2, 3),
            live(9216, 3, 4),
            live(18432, 4, 5),
            live(18432, 5, 6),
            live(1712, 0, 0),
            live(19088, 1, 1),
            live(480, 2, 2),
            live(9872, 3, 3),
            live(832, 4, 4),
            live(9872, 5, 5),
        ];
        assert_eq!(plan(&buffers, &[]).bytes, lower_bound(&buffers, &[]));
    }
}
