//! What each choice of each layer loses, measured with the true loss, one layer changed at a time.
//!
//! The base is the widest choice everywhere. A choice that differs from the base in its weights *and*
//! in its output width is not measured: it counts the sum of both changes, which spares a factor of
//! the number of widths and leaves out only an interaction within one layer, of the same kind as
//! those between layers that any separable model leaves out.
//!
//! Measurements are noisy, on few samples to the point of a wider code losing more than a narrower
//! one of its family. Since more levels of the same kind represent every tensor at least as well,
//! losses are made to fall with width ([`smooth`]); families (linear, codebook, ternary) are not
//! compared with each other, because there the order is an empirical matter. Nothing is below zero:
//! a negative increase is noise too, and solvers would chase it.
//!
//! Behind a [`super::cache::Cached`] evaluator an interrupted measurement goes on where it stopped.

use std::collections::BTreeMap;

use crate::policy::{LayerPolicy, WeightChoice, WeightFormat};

use super::space::{Selection, Space, label};
use super::{Event, Problem, SearchError};

/// Loss increases of all choices over the widest.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Loss of the base.
    pub base: f64,
    /// Increase by layer and choice: never negative, 0 for the base.
    pub increases: Vec<Vec<f64>>,
    /// Policies scored.
    pub evaluations: usize,
}

/// Measures the choices of `problem.space` with `problem.calibration`.
///
/// # Errors
/// [`SearchError::Evaluation`] and [`SearchError::NotFinite`].
pub fn measure(problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Sensitivity, SearchError> {
    let space = problem.space;
    let widest = space.widest();
    let plan = plan(space, &widest);
    let evaluations = plan.len() + 1;
    events(Event::Stage { name: "sensitivity", steps: evaluations });
    let base = problem.calibrate(&space.policy(&widest))?.loss;
    events(Event::Step { label: "base".into() });
    let mut measured = BTreeMap::new();
    for (layer, choice) in plan {
        let loss = problem.calibrate(&space.policy(&widest.with(layer, choice)))?.loss;
        measured.insert((layer, choice), loss - base);
        let site = &space.sites()[layer];
        events(Event::Step { label: format!("{} {}", site.name, label(&site.choices[choice])) });
    }
    let increases = (0..space.len()).map(|layer| complete(space, &widest, layer, &measured)).collect();
    events(Event::Finished { summary: format!("{evaluations} policies scored") });
    Ok(Sensitivity { base, increases, evaluations })
}

/// The choices to be measured: all that differ from the base in one aspect alone, and those for
/// which no such pair of choices exists.
fn plan(space: &Space, widest: &Selection) -> Vec<(usize, usize)> {
    let mut plan = Vec::new();
    for layer in 0..space.len() {
        for choice in 0..space.sites()[layer].choices.len() {
            let base = widest.choices()[layer];
            if choice != base && parts(space, layer, base, choice).is_none() {
                plan.push((layer, choice));
            }
        }
    }
    plan
}

/// The choice with these weights at the base's width, and the base's weights at this width, where
/// `choice` differs in both and the space offers the two.
fn parts(space: &Space, layer: usize, base: usize, choice: usize) -> Option<(usize, usize)> {
    let choices = &space.sites()[layer].choices;
    let (base, this) = (&choices[base], &choices[choice]);
    if this.weights == base.weights || this.activation_bits == base.activation_bits || this.keep != base.keep {
        return None;
    }
    let find = |wanted: LayerPolicy| choices.iter().position(|c| *c == wanted);
    let weights = find(LayerPolicy { activation_bits: base.activation_bits, ..this.clone() })?;
    let width = find(LayerPolicy { activation_bits: this.activation_bits, ..base.clone() })?;
    Some((weights, width))
}

fn complete(space: &Space, widest: &Selection, layer: usize, measured: &BTreeMap<(usize, usize), f64>) -> Vec<f64> {
    let choices = &space.sites()[layer].choices;
    let base = widest.choices()[layer];
    let of = |choice: usize| measured.get(&(layer, choice)).copied().unwrap_or(0.0);
    let raw: Vec<f64> = (0..choices.len())
        .map(|choice| match parts(space, layer, base, choice) {
            Some((weights, width)) => of(weights).max(0.0) + of(width).max(0.0),
            None => of(choice),
        })
        .collect();
    let mut smoothed = smooth(choices, &raw);
    smoothed[base] = 0.0;
    smoothed
}

/// The middle between the two monotone envelopes of the losses: the least one above them (the worst
/// of all that is as wide or wider) and the greatest one below (the best of all that is as narrow or
/// narrower). Losses in order stay as they are; those out of order meet halfway.
pub fn smooth(choices: &[LayerPolicy], losses: &[f64]) -> Vec<f64> {
    let pairs = || choices.iter().zip(losses);
    choices
        .iter()
        .map(|choice| {
            let wider = pairs().filter(|(other, _)| as_wide(other, choice)).map(|(_, &loss)| loss);
            let narrower = pairs().filter(|(other, _)| as_wide(choice, other)).map(|(_, &loss)| loss);
            let above = wider.fold(f64::NEG_INFINITY, f64::max);
            let below = narrower.fold(f64::INFINITY, f64::min);
            (0.5 * above + 0.5 * below).max(0.0)
        })
        .collect()
}

/// Whether `a` can represent whatever `b` can: the same kind of levels, no fewer bits anywhere.
fn as_wide(a: &LayerPolicy, b: &LayerPolicy) -> bool {
    let weights = match (&a.weights, &b.weights) {
        (Some(WeightChoice::Layer(a)), Some(WeightChoice::Layer(b))) => match (a, b) {
            (WeightFormat::Linear(a), WeightFormat::Linear(b)) => a >= b,
            (WeightFormat::Codebook(a), WeightFormat::Codebook(b)) => a >= b,
            (a, b) => a == b,
        },
        (a, b) => a == b,
    };
    weights && a.keep == b.keep && a.activation_bits >= b.activation_bits
}

#[cfg(test)]
mod tests {
    use super::super::space::layer_policy;
    use super::super::testing::{Synthetic, quiet};
    use super::*;

    #[test]
    fn smoothing_keeps_order_and_mends_disorder() {
        let choices: Vec<LayerPolicy> =
            [2, 3, 4, 8].into_iter().map(|b| layer_policy(WeightFormat::Linear(b), 8)).collect();
        assert_eq!(smooth(&choices, &[0.5, 0.2, 0.1, 0.0]), [0.5, 0.2, 0.1, 0.0]);
        assert_eq!(smooth(&choices, &[0.5, 0.1, 0.3, 0.0]), [0.5, 0.2, 0.2, 0.0]);
        let mended = smooth(&choices, &[0.5, 0.1, 0.3, -0.1]);
        assert!(mended.windows(2).all(|pair| pair[0] >= pair[1]) && mended[3] == 0.0);
    }

    #[test]
    fn families_are_not_compared() {
        let choices = [layer_policy(WeightFormat::Linear(2), 8), layer_policy(WeightFormat::Codebook(2), 8)];
        assert_eq!(smooth(&choices, &[0.1, 0.3]), [0.1, 0.3]);
    }

    #[test]
    fn measures_one_aspect_at_a_time() {
        let net = Synthetic::new(4, &[2, 4, 8], &[4, 8], 11);
        let sensitivity = measure(&net.problem(), &mut quiet()).unwrap();
        // 4 layers: two narrower weights, one narrower width; and the base.
        assert_eq!(sensitivity.evaluations, 4 * 3 + 1);
        assert_eq!(net.scored(), sensitivity.evaluations);
        for (row, site) in sensitivity.increases.iter().zip(net.space.sites()) {
            assert_eq!(row.len(), site.choices.len());
            assert!(row.iter().all(|x| *x >= 0.0));
            assert_eq!(row.last(), Some(&0.0));
            assert!(row[0] > 0.0, "the narrowest loses something");
        }
    }
}
