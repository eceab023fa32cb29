//! How the learning rate goes from the first step to the last.

use serde::{Deserialize, Serialize};

/// A rate for every moment of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f32,
    /// Epochs over which it rises from nothing.
    pub warm_up: f32,
    /// How it falls.
    pub decay: Decay,
}

/// How the rate falls from its peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all.
    None,
    /// Along half a cosine to nothing.
    Cosine,
    /// By a factor at each of some epochs.
    Steps {
        /// When.
        epochs: Vec<f32>,
        /// By what.
        factor: f32,
    },
}

impl Schedule {
    /// The rate at a moment, in epochs, of training that takes `epochs`.
    pub fn rate(&self, at: f32, epochs: f32) -> f32 {
        let rising = if self.warm_up > 0.0 { (at / self.warm_up).min(1.0) } else { 1.0 };
        let falling = match &self.decay {
            Decay::None => 1.0,
            Decay::Cosine => {
                let share = ((at - self.warm_up) / (epochs - self.warm_up).max(f32::EPSILON)).clamp(0.0, 1.0);
                0.5 * (1.0 + (std::f32::consts::PI * share).cos())
            }
            Decay::Steps { epochs, factor } => factor.powi(epochs.iter().filter(|&&epoch| at >= epoch).count() as i32),
        };
        self.peak * rising * falling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls() {
        let cosine = Schedule { peak: 0.4, warm_up: 2.0, decay: Decay::Cosine };
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} against {b}");
        close(cosine.rate(0.0, 10.0), 0.0);
        close(cosine.rate(1.0, 10.0), 0.2);
        close(cosine.rate(2.0, 10.0), 0.4);
        close(cosine.rate(6.0, 10.0), 0.2);
        close(cosine.rate(10.0, 10.0), 0.0);
        let steps = Decay::Steps { epochs: vec![3.0, 5.0], factor: 0.1 };
        let steps = Schedule { peak: 1.0, warm_up: 0.0, decay: steps };
        close(steps.rate(2.9, 8.0), 1.0);
        close(steps.rate(3.0, 8.0), 0.1);
        close(steps.rate(7.0, 8.0), 0.01);
    }
}
