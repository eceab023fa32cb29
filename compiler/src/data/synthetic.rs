//! The built-in set: 10,000 grey images of handwriting-like digits, drawn from a seed, so that every
//! command works before anything is downloaded.
//!
//! A digit is a few curves with jittered control points under a random affine transform, drawn
//! with an anti-aliased pen over an uneven background, among stray strokes, partly covered, and with
//! noise on top: hard enough that a small network errs now and then, and quantisation damage shows.
//!
//! Only `+ - * /` and `sqrt` of IEEE 754 singles are used, which round alike everywhere: the bytes
//! are equal on every machine, and a test keeps them equal for ever.

use rayon::prelude::*;

use super::split::TestOrder;
use super::{Dataset, Elements, Splits};
use crate::rng::Pcg32;

/// Rows and columns of an image.
pub const EDGE: usize = 32;
/// Samples that train and val are cut from.
pub const TRAIN: u32 = 8000;
/// Samples of the test set.
pub const TEST: u32 = 2000;

const SEED: u64 = 0x676c_7970_6873;
const PIXELS: usize = EDGE * EDGE;

/// Draws the set: images `[32, 32, 1]` of bytes, digits 0 to 9 in equal numbers.
pub fn generate() -> Dataset {
    let mut images = vec![0; (TRAIN + TEST) as usize * PIXELS];
    images.par_chunks_exact_mut(PIXELS).enumerate().for_each(|(index, image)| draw(index as u32, image));
    Dataset {
        name: "synthetic".to_owned(),
        sample_shape: vec![EDGE, EDGE, 1],
        elements: Elements::U8(images),
        labels: (0..TRAIN + TEST).map(|index| Some(digit_of(index))).collect(),
        splits: Splits::with_test(TRAIN, TEST, TestOrder::OfFile),
    }
}

fn digit_of(index: u32) -> u32 {
    index % DIGITS.len() as u32
}

/// Draws sample `index`, which depends on no other.
fn draw(index: u32, image: &mut [u8]) {
    let rng = &mut Pcg32::new(SEED, u64::from(index));
    let mut canvas = Canvas::background(rng);
    let ink = canvas.contrasting(rng);
    for _ in 0..rng.below(4) {
        let stray_ink = if rng.below(2) == 0 { ink } else { rng.between(20.0, 235.0) };
        canvas.stroke(&stray(rng), rng.between(0.4, 1.2), stray_ink);
    }
    canvas.stroke(&glyph(digit_of(index), rng), rng.between(0.6, 1.7), ink);
    if rng.below(3) > 0 {
        canvas.cover(rng);
    }
    canvas.add_noise(rng);
    for (byte, level) in image.iter_mut().zip(&canvas.levels) {
        *byte = (level + 0.5) as u8;
    }
}

type Point = [f32; 2];

/// A quadratic Bézier curve: start, control point, end.
type Curve = [Point; 3];

const fn line(from: Point, to: Point) -> Curve {
    [from, [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0], to]
}

/// The strokes of the digits within -1..1, x to the right, y down.
const DIGITS: [&[Curve]; 10] = [
    &[
        [[0.0, -0.9], [0.6, -0.9], [0.6, 0.0]],
        [[0.6, 0.0], [0.6, 0.9], [0.0, 0.9]],
        [[0.0, 0.9], [-0.6, 0.9], [-0.6, 0.0]],
        [[-0.6, 0.0], [-0.6, -0.9], [0.0, -0.9]],
    ],
    &[line([-0.35, -0.5], [0.05, -0.9]), line([0.05, -0.9], [0.05, 0.9])],
    &[
        [[-0.55, -0.45], [-0.55, -0.9], [0.0, -0.9]],
        [[0.0, -0.9], [0.55, -0.9], [0.55, -0.45]],
        [[0.55, -0.45], [0.55, 0.0], [-0.55, 0.9]],
        line([-0.55, 0.9], [0.6, 0.9]),
    ],
    &[
        [[-0.5, -0.8], [0.6, -1.1], [0.5, -0.45]],
        [[0.5, -0.45], [0.45, -0.05], [-0.15, -0.05]],
        [[-0.15, -0.05], [0.6, -0.05], [0.55, 0.45]],
        [[0.55, 0.45], [0.5, 1.1], [-0.55, 0.8]],
    ],
    &[line([0.2, -0.9], [-0.6, 0.3]), line([-0.6, 0.3], [0.6, 0.3]), line([0.25, -0.25], [0.25, 0.9])],
    &[
        line([0.5, -0.9], [-0.45, -0.9]),
        line([-0.45, -0.9], [-0.5, -0.1]),
        [[-0.5, -0.1], [0.65, -0.4], [0.55, 0.4]],
        [[0.55, 0.4], [0.45, 1.1], [-0.55, 0.75]],
    ],
    &[
        [[0.4, -0.9], [-0.55, -0.6], [-0.55, 0.35]],
        [[-0.55, 0.35], [-0.55, 0.9], [0.0, 0.9]],
        [[0.0, 0.9], [0.55, 0.9], [0.55, 0.4]],
        [[0.55, 0.4], [0.55, -0.1], [0.0, -0.1]],
        [[0.0, -0.1], [-0.5, -0.1], [-0.55, 0.35]],
    ],
    &[line([-0.55, -0.9], [0.55, -0.9]), [[0.55, -0.9], [0.05, 0.0], [-0.15, 0.9]]],
    &[
        [[0.0, -0.9], [0.45, -0.9], [0.45, -0.5]],
        [[0.45, -0.5], [0.45, -0.05], [0.0, -0.05]],
        [[0.0, -0.05], [-0.45, -0.05], [-0.45, -0.5]],
        [[-0.45, -0.5], [-0.45, -0.9], [0.0, -0.9]],
        [[0.0, -0.05], [0.55, -0.05], [0.55, 0.4]],
        [[0.55, 0.4], [0.55, 0.9], [0.0, 0.9]],
        [[0.0, 0.9], [-0.55, 0.9], [-0.55, 0.4]],
        [[-0.55, 0.4], [-0.55, -0.05], [0.0, -0.05]],
    ],
    &[
        [[-0.4, 0.9], [0.55, 0.6], [0.55, -0.35]],
        [[0.55, -0.35], [0.55, -0.9], [0.0, -0.9]],
        [[0.0, -0.9], [-0.55, -0.9], [-0.55, -0.4]],
        [[-0.55, -0.4], [-0.55, 0.1], [0.0, 0.1]],
        [[0.0, 0.1], [0.5, 0.1], [0.55, -0.35]],
    ],
];

/// The curves of a digit in pixels: control points jittered, then stretched, slanted, turned and moved.
fn glyph(digit: u32, rng: &mut Pcg32) -> Vec<Curve> {
    const JITTER: f32 = 0.14;
    let size = rng.between(7.0, 12.5);
    let (stretch_x, stretch_y) = (size * rng.between(0.75, 1.15), size * rng.between(0.85, 1.1));
    let slant = rng.between(-0.35, 0.35);
    // A turn by up to 28 degrees, from the tangent of half the angle.
    let t = rng.between(-0.25, 0.25);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let middle = EDGE as f32 / 2.0;
    let (move_x, move_y) = (middle + rng.between(-3.5, 3.5), middle + rng.between(-3.5, 3.5));
    let mut place = |[x, y]: Point| {
        let x = x + rng.between(-JITTER, JITTER);
        let y = y + rng.between(-JITTER, JITTER);
        let (x, y) = ((x + slant * y) * stretch_x, y * stretch_y);
        [cos * x - sin * y + move_x, sin * x + cos * y + move_y]
    };
    // Curves that meet keep meeting: a start equal to an end drawn before takes its place.
    let mut ends: Vec<(Point, Point)> = Vec::new();
    let mut curves = Vec::new();
    for &[start, control, end] in DIGITS[digit as usize] {
        let mut shared = |point: Point| match ends.iter().find(|(from, _)| *from == point) {
            Some((_, placed)) => *placed,
            None => {
                let placed = place(point);
                ends.push((point, placed));
                placed
            }
        };
        let (start, end) = (shared(start), shared(end));
        curves.push([start, place(control), end]);
    }
    curves
}

/// A stroke that means nothing, long or short, anywhere.
fn stray(rng: &mut Pcg32) -> Vec<Curve> {
    let edge = EDGE as f32;
    let start = [rng.between(0.0, edge), rng.between(0.0, edge)];
    let reach = rng.between(4.0, 18.0);
    let mut near = |[x, y]: Point| [x + rng.between(-reach, reach), y + rng.between(-reach, reach)];
    let control = near(start);
    vec![[start, control, near(control)]]
}

/// Grey levels, 0.0..=255.0 when done.
struct Canvas {
    levels: [f32; PIXELS],
    mean: f32,
}

impl Canvas {
    /// An uneven background: a level, plus a smooth random field.
    fn background(rng: &mut Pcg32) -> Self {
        const CELLS: usize = 4;
        let mean = rng.between(30.0, 225.0);
        let roughness = rng.between(5.0, 45.0);
        let mut field = [[0.0; CELLS + 1]; CELLS + 1];
        field.iter_mut().flatten().for_each(|corner| *corner = rng.between(-roughness, roughness));
        let cell = EDGE / CELLS;
        let mut levels = [0.0; PIXELS];
        for (i, level) in levels.iter_mut().enumerate() {
            let (row, column) = (i / EDGE, i % EDGE);
            let (y, x) = (row / cell, column / cell);
            let (v, u) = ((row % cell) as f32 / cell as f32, (column % cell) as f32 / cell as f32);
            let above = field[y][x] + (field[y][x + 1] - field[y][x]) * u;
            let below = field[y + 1][x] + (field[y + 1][x + 1] - field[y + 1][x]) * u;
            *level = mean + above + (below - above) * v;
        }
        Canvas { levels, mean }
    }

    /// An ink that differs from the background, lighter or darker where there is room.
    fn contrasting(&self, rng: &mut Pcg32) -> f32 {
        let contrast = rng.between(50.0, 150.0);
        let lighter = if rng.below(2) == 0 { self.mean + contrast <= 255.0 } else { self.mean - contrast < 0.0 };
        if lighter { self.mean + contrast } else { self.mean - contrast }
    }

    /// Draws curves with a round pen.
    fn stroke(&mut self, curves: &[Curve], half_width: f32, ink: f32) {
        const PIECES: usize = 6;
        let mut distance = [f32::INFINITY; PIXELS];
        for curve in curves {
            let mut from = curve[0];
            for piece in 1..=PIECES {
                let to = point_on(curve, piece as f32 / PIECES as f32);
                approach(&mut distance, from, to, half_width + 1.0);
                from = to;
            }
        }
        for (level, squared) in self.levels.iter_mut().zip(distance) {
            let coverage = (half_width + 0.5 - squared.sqrt()).clamp(0.0, 1.0);
            *level += (ink - *level) * coverage;
        }
    }

    /// Puts a plain rectangle over a part.
    fn cover(&mut self, rng: &mut Pcg32) {
        let (height, width) = (3 + rng.below(9) as usize, 3 + rng.below(9) as usize);
        let top = rng.below((EDGE - height) as u32) as usize;
        let left = rng.below((EDGE - width) as u32) as usize;
        let level = rng.between(20.0, 235.0);
        for row in self.levels.chunks_exact_mut(EDGE).skip(top).take(height) {
            row[left..left + width].fill(level);
        }
    }

    /// Adds a different error to each pixel, bell-shaped.
    fn add_noise(&mut self, rng: &mut Pcg32) {
        let strength = rng.between(4.0, 24.0);
        for level in &mut self.levels {
            let bell = rng.unit() + rng.unit() + rng.unit() - 1.5;
            *level = (*level + 2.0 * strength * bell).clamp(0.0, 255.0);
        }
    }
}

fn point_on(&[start, control, end]: &Curve, t: f32) -> Point {
    let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
    [a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]]
}

/// Lowers `distance`, squared and from each pixel's centre, to that from a segment, within `reach` of it.
fn approach(distance: &mut [f32; PIXELS], from: Point, to: Point, reach: f32) {
    let span = |axis: usize| {
        let low = (from[axis].min(to[axis]) - reach).max(0.0) as usize;
        let high = (from[axis].max(to[axis]) + reach).max(0.0) as usize;
        low.min(EDGE)..(high + 1).min(EDGE)
    };
    let direction = [to[0] - from[0], to[1] - from[1]];
    let length = direction[0] * direction[0] + direction[1] * direction[1];
    for row in span(1) {
        for column in span(0) {
            let offset = [column as f32 + 0.5 - from[0], row as f32 + 0.5 - from[1]];
            let along = (offset[0] * direction[0] + offset[1] * direction[1]) / length.max(1e-12);
            let along = along.clamp(0.0, 1.0);
            let (dx, dy) = (offset[0] - along * direction[0], offset[1] - along * direction[1]);
            let nearest = &mut distance[row * EDGE + column];
            *nearest = nearest.min(dx * dx + dy * dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn bytes(set: &Dataset) -> &[u8] {
        let Elements::U8(bytes) = &set.elements else { panic!("{:?}", set.elements) };
        bytes
    }

    #[test]
    fn the_bytes_never_change() {
        let digest: String = Sha256::digest(bytes(&generate())).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "a0720fb3b250d21bf38a2035ff5763f82b18dbb77e93c118e66d0ce06de6ea74");
    }

    #[test]
    fn digits_come_in_equal_numbers() {
        let set = generate();
        assert_eq!((set.labels.len(), bytes(&set).len()), (10_000, 10_000 * PIXELS));
        for digit in 0..10 {
            let tests = set.splits.test.iter().filter(|&&index| set.label(index) == Some(digit)).count();
            assert_eq!(tests, 200);
        }
    }

    #[test]
    fn no_two_images_are_equal() {
        let set = generate();
        let mut images: Vec<&[u8]> = bytes(&set).chunks_exact(PIXELS).collect();
        images.sort_unstable();
        assert!(images.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
