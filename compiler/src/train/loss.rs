//! How wrong outputs are, and the gradient of that.
//!
//! Targets are distributions over classes, so that label smoothing, mixed samples and plain labels are
//! one case.

use super::ops::simple::softmax;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Cross entropy of the softmax with the target distribution.
    CrossEntropy,
    /// Mean over outputs of the squared distance to the target.
    SquaredError,
}

/// A loss and its gradient by each output.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Mean over the samples.
    pub value: f64,
    /// Of the mean, sample after sample.
    pub gradient: Vec<f32>,
}

impl Objective {
    /// Of `outputs` against `targets`, both sample after sample, `width` numbers each.
    pub fn of(self, outputs: &[f32], targets: &[f32], width: usize) -> Loss {
        let samples = (outputs.len() / width) as f32;
        let mut loss = Loss { value: 0.0, gradient: vec![0.0; outputs.len()] };
        let rows = outputs.chunks_exact(width).zip(targets.chunks_exact(width));
        for ((y, target), gradient) in rows.zip(loss.gradient.chunks_exact_mut(width)) {
            let total: f64 = match self {
                Objective::CrossEntropy => {
                    softmax(y, gradient);
                    let logs = log_softmax(y);
                    let mass: f32 = target.iter().sum();
                    let value = logs.zip(target).map(|(log, t)| -f64::from(t * log)).sum();
                    gradient.iter_mut().zip(target).for_each(|(g, t)| *g = *g * mass - t);
                    value
                }
                Objective::SquaredError => {
                    let scale = 2.0 / width as f32;
                    gradient.iter_mut().zip(y.iter().zip(target)).for_each(|(g, (y, t))| *g = (y - t) * scale);
                    y.iter().zip(target).map(|(y, t)| f64::from((y - t) * (y - t))).sum::<f64>() / width as f64
                }
            };
            loss.value += total / f64::from(samples);
            gradient.iter_mut().for_each(|g| *g /= samples);
        }
        loss
    }
}

/// What a teacher's logits say (Hinton, Vinyals & Dean 2015): the divergence of the softened
/// distributions, times the temperature squared so that its gradients do not fade with it.
pub fn distillation(outputs: &[f32], teacher: &[f32], width: usize, temperature: f32) -> Loss {
    let soften = |logits: &[f32]| logits.iter().map(|x| x / temperature).collect::<Vec<f32>>();
    let (outputs, teacher) = (soften(outputs), soften(teacher));
    let mut targets = vec![0.0; teacher.len()];
    teacher.chunks_exact(width).zip(targets.chunks_exact_mut(width)).for_each(|(t, p)| softmax(t, p));
    let mut loss = Objective::CrossEntropy.of(&outputs, &targets, width);
    let own: f64 = teacher
        .chunks_exact(width)
        .zip(targets.chunks_exact(width))
        .map(|(t, p)| log_softmax(t).zip(p).map(|(log, p)| f64::from(p * log)).sum::<f64>())
        .sum();
    loss.value += own * width as f64 / teacher.len() as f64;
    loss.value *= f64::from(temperature * temperature);
    loss.gradient.iter_mut().for_each(|g| *g *= temperature);
    loss
}

/// Target distributions of labels: `1 - smoothing` on the class, the rest spread over all (Szegedy et al. 2016).
pub fn distributions(labels: &[u32], classes: usize, smoothing: f32) -> Vec<f32> {
    let mut targets = vec![smoothing / classes as f32; labels.len() * classes];
    for (target, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        if let Some(slot) = target.get_mut(label as usize) {
            *slot += 1.0 - smoothing;
        }
    }
    targets
}

fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let log_sum = logits.iter().map(|x| (x - top).exp()).sum::<f32>().ln();
    logits.iter().map(move |x| x - top - log_sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, phase: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 1.7 + phase).sin() * 2.0).collect()
    }

    fn check(loss: impl Fn(&[f32]) -> Loss) {
        const STEP: f32 = 1e-2;
        let outputs = numbers(12, 0.3);
        let gradient = loss(&outputs).gradient;
        for i in 0..outputs.len() {
            let at = |by: f32| {
                let mut moved = outputs.clone();
                moved[i] += by;
                loss(&moved).value
            };
            let slope = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}: {slope} against {}", gradient[i]);
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let targets = distributions(&[1, 3, 0], 4, 0.1);
        check(|outputs| Objective::CrossEntropy.of(outputs, &targets, 4));
        check(|outputs| Objective::SquaredError.of(outputs, &numbers(12, 1.0), 4));
        check(|outputs| distillation(outputs, &numbers(12, 2.0), 4, 3.0));
    }

    #[test]
    fn a_teacher_says_nothing_to_its_equal() {
        let logits = numbers(8, 0.0);
        let loss = distillation(&logits, &logits, 4, 4.0);
        assert!(loss.value.abs() < 1e-6 && loss.gradient.iter().all(|g| g.abs() < 1e-6), "{loss:?}");
    }

    #[test]
    fn smoothed_labels_are_distributions() {
        let targets = distributions(&[2], 4, 0.2);
        assert!((targets[2] - 0.85).abs() < 1e-6 && (targets[0] - 0.05).abs() < 1e-6, "{targets:?}");
        assert!((targets.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
