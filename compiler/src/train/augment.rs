//! Images changed at random before a network sees them, so that it sees none of them twice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rng::Pcg32;

/// One way to change an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Augmentation {
    /// `flip`: left and right change places, half of the time.
    Flip,
    /// `shift=N`: moved by up to N pixels each way, zeros behind it (a crop from the image padded by N).
    Shift(usize),
    /// `shift-edge=N`: the same, the edge repeated.
    ShiftEdge(usize),
    /// `invert`: every number changes its sign, half of the time.
    Invert,
}

/// A text that names no augmentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no augmentation: use flip, invert, shift=PIXELS or shift-edge=PIXELS")]
pub struct UnknownAugmentation(String);

impl Augmentation {
    /// Changes an image `[h, w, c]`; `spare` is memory to work in.
    pub(super) fn apply(self, image: &mut [f32], shape: [usize; 3], spare: &mut Vec<f32>, rng: &mut Pcg32) {
        let [h, w, c] = shape;
        match self {
            Augmentation::Invert if rng.below(2) == 0 => image.iter_mut().for_each(|x| *x = -*x),
            Augmentation::Flip if rng.below(2) == 0 => {
                for row in image.chunks_exact_mut(w * c) {
                    for x in 0..w / 2 {
                        (0..c).for_each(|k| row.swap(x * c + k, (w - 1 - x) * c + k));
                    }
                }
            }
            Augmentation::Invert | Augmentation::Flip => {}
            Augmentation::Shift(by) | Augmentation::ShiftEdge(by) => {
                let mut offset = || rng.below(2 * by as u32 + 1) as isize - by as isize;
                let (down, right) = (offset(), offset());
                let source = |at: usize, by: isize, edge: usize| {
                    let place = at as isize + by;
                    let nearest = place.clamp(0, edge as isize - 1);
                    (matches!(self, Augmentation::ShiftEdge(_)) || place == nearest).then_some(nearest as usize)
                };
                spare.clear();
                spare.extend_from_slice(image);
                for (i, pixel) in image.chunks_exact_mut(c).enumerate() {
                    match (source(i / w, down, h), source(i % w, right, w)) {
                        (Some(y), Some(x)) => pixel.copy_from_slice(&spare[(y * w + x) * c..][..c]),
                        _ => pixel.fill(0.0),
                    }
                }
            }
        }
    }
}

impl FromStr for Augmentation {
    type Err = UnknownAugmentation;

    fn from_str(text: &str) -> Result<Self, UnknownAugmentation> {
        let unknown = || UnknownAugmentation(text.to_owned());
        let pixels = |n: &str| n.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(unknown);
        match text.split_once('=') {
            None if text == "flip" => Ok(Augmentation::Flip),
            None if text == "invert" => Ok(Augmentation::Invert),
            Some(("shift", n)) => Ok(Augmentation::Shift(pixels(n)?)),
            Some(("shift-edge", n)) => Ok(Augmentation::ShiftEdge(pixels(n)?)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Augmentation::Flip => f.write_str("flip"),
            Augmentation::Invert => f.write_str("invert"),
            Augmentation::Shift(by) => write!(f, "shift={by}"),
            Augmentation::ShiftEdge(by) => write!(f, "shift-edge={by}"),
        }
    }
}

impl TryFrom<String> for Augmentation {
    type Error = UnknownAugmentation;

    fn try_from(text: String) -> Result<Self, UnknownAugmentation> {
        text.parse()
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> String {
        augmentation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_it_parses() {
        for text in ["flip", "invert", "shift=4", "shift-edge=2"] {
            assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
        }
        for text in ["", "shift", "shift=0", "shift=x", "rotate"] {
            assert!(text.parse::<Augmentation>().unwrap_err().to_string().contains("shift=PIXELS"));
        }
    }

    #[test]
    fn flips_and_shifts_move_pixels() {
        let image: Vec<f32> = (1..=12).map(|x| x as f32).collect();
        let (mut flipped, mut shifted, mut inside) = (0, 0, 0);
        let rng = &mut Pcg32::new(1, 0);
        for _ in 0..200 {
            let mut changed = image.clone();
            Augmentation::Flip.apply(&mut changed, [2, 3, 2], &mut Vec::new(), rng);
            flipped += usize::from(changed == [5.0, 6.0, 3.0, 4.0, 1.0, 2.0, 11.0, 12.0, 9.0, 10.0, 7.0, 8.0]);
            let mut changed = image.clone();
            Augmentation::Shift(1).apply(&mut changed, [2, 3, 2], &mut Vec::new(), rng);
            shifted += usize::from(changed == [3.0, 4.0, 5.0, 6.0, 0.0, 0.0, 9.0, 10.0, 11.0, 12.0, 0.0, 0.0]);
            let mut changed = image.clone();
            Augmentation::ShiftEdge(1).apply(&mut changed, [2, 3, 2], &mut Vec::new(), rng);
            inside += usize::from(changed.iter().all(|&x| x >= 1.0));
        }
        assert!((70..130).contains(&flipped) && (8..45).contains(&shifted), "{flipped} {shifted}");
        assert_eq!(inside, 200);
    }
}
