//! A data set that a network of a few hundred weights learns in a second.

use pare::data::{Dataset, Elements, Metric, Preprocessing, Splits};
use pare::rng::Pcg32;
use pare::task::Samples;

/// Noise with stripes along rows, along columns, or none.
pub(crate) fn stripes(count: u32) -> Samples {
    let rng = &mut Pcg32::new(5, 0);
    let mut pixels = Vec::new();
    for index in 0..count {
        let phase = rng.below(2) as usize;
        for at in 0..64 {
            let stripe = match index % 3 {
                0 => (at / 8 + phase) % 2,
                1 => (at % 8 + phase) % 2,
                _ => usize::from(rng.below(2) == 0),
            };
            pixels.push(stripe as f32 + rng.between(-0.4, 0.4));
        }
    }
    // Samples come in random order; as many are for choosing as tell a few points apart.
    let cuts = [count * 9 / 25, count * 3 / 5];
    let dataset = Dataset {
        name: "stripes".to_owned(),
        sample_shape: vec![8, 8, 1],
        elements: Elements::F32(pixels),
        labels: (0..count).map(|index| Some(index % 3)).collect(),
        splits: Splits {
            train: (0..cuts[0]).collect(),
            val: (cuts[0]..cuts[1]).collect(),
            test: (cuts[1]..count).collect(),
        },
    };
    let preprocessing = Preprocessing { scale: 2.0, mean: vec![0.5] };
    Samples::new(dataset, preprocessing, Some(Metric::Top1), 64, 3).unwrap()
}
