//! What the agent sees of a network, and what its actions mean.

use crate::cost::layers::Layer;
use crate::policy::{LayerPolicy, WeightChoice};
use crate::search::ddpg::{Step, normalised};
use crate::search::space::{Site, SpaceError};
use crate::search::{Problem, SearchError, Selection};

/// The layers that there is something to decide about.
///
/// A state is ten numbers (section 3.1; their order is that of the authors' code): whether the layer is depthwise, its input
/// channels, output channels, stride, kernel, weights, input pixels and place; the action before; whether weights
/// are decided now or activations. Those of a layer go from 0 to 1 over the network's layers; a number that all of them
/// share is 0. Where activations are left alone, as in the authors' setting of codebooks, the last is left out.
pub(super) struct Environment {
    layers: Vec<Decisions>,
    /// Whether activations are decided anywhere.
    decides_activations: bool,
}

/// What a state says of the layer itself.
const FACTS: usize = 8;

/// One layer's.
struct Decisions {
    facts: Vec<f32>,
    /// Narrowest first.
    weights: Vec<Option<WeightChoice>>,
    /// Narrowest first.
    activations: Vec<u8>,
    choices: Vec<LayerPolicy>,
}

/// What a step decides.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Weights,
    Activations,
}

impl Environment {
    /// # Errors
    /// When the space has a layer that the network has not.
    pub(super) fn new(problem: &Problem) -> Result<Environment, SearchError> {
        let sites = problem.space.sites();
        if sites.is_empty() {
            return Err(SearchError::Empty);
        }
        let find = |site: &Site| problem.layers.iter().find(|layer| layer.name == site.name);
        let mut rows = Vec::with_capacity(sites.len());
        for (place, site) in sites.iter().enumerate() {
            let layer = find(site).ok_or_else(|| SearchError::Space(SpaceError::Unknown(site.name.clone())))?;
            rows.push(facts(layer, place));
        }
        let layers = sites.iter().zip(normalised(&rows)).map(|(site, facts)| Decisions::new(site, facts));
        let layers: Vec<Decisions> = layers.collect();
        let decides_activations = layers.iter().any(|layer| layer.activations.len() > 1);
        Ok(Environment { layers, decides_activations })
    }

    /// Numbers of a state.
    pub(super) fn state_len(&self) -> usize {
        FACTS + 1 + usize::from(self.decides_activations)
    }

    /// Steps of an episode.
    pub(super) fn steps(&self) -> usize {
        self.layers.iter().map(|layer| layer.kinds().count()).sum()
    }

    /// Walks through the layers; what `act` answers to each state, a number in [0, 1], decides.
    pub(super) fn walk(&self, mut act: impl FnMut(&[f32]) -> f32) -> (Selection, Vec<Step>) {
        let (mut steps, mut before): (Vec<Step>, f32) = (Vec::new(), 1.0);
        let mut choices = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (mut weights, mut activations) = (0, layer.activations.len() - 1);
            for kind in layer.kinds() {
                let state = self.state(layer, before, kind);
                let action = act(&state);
                match kind {
                    Kind::Weights => weights = option(action, layer.weights.len()),
                    Kind::Activations => activations = option(action, layer.activations.len()),
                }
                before = action;
                steps.push(Step { state, action });
            }
            choices.push(layer.choice(weights, activations));
        }
        (Selection::new(choices), steps)
    }

    /// The steps that lead to a selection.
    pub(super) fn steps_of(&self, selection: &Selection) -> Vec<Step> {
        let decided = self
            .layers
            .iter()
            .zip(selection.choices())
            .flat_map(|(layer, &choice)| layer.kinds().map(move |kind| layer.action(choice, kind)));
        let mut decided = decided.collect::<Vec<f32>>().into_iter();
        self.walk(|_| decided.next().unwrap_or(1.0)).1
    }

    fn state(&self, layer: &Decisions, before: f32, kind: Kind) -> Vec<f32> {
        let flag = if kind == Kind::Weights { 1.0 } else { 0.0 };
        layer.facts.iter().copied().chain([before]).chain(self.decides_activations.then_some(flag)).collect()
    }
}

impl Decisions {
    fn new(site: &Site, facts: Vec<f32>) -> Decisions {
        let mut weights: Vec<Option<WeightChoice>> = Vec::new();
        let mut activations: Vec<u8> = Vec::new();
        for choice in &site.choices {
            if !weights.contains(&choice.weights) {
                weights.push(choice.weights.clone());
            }
            activations.push(choice.activation_bits);
        }
        activations.sort_unstable();
        activations.dedup();
        Decisions { facts, weights, activations, choices: site.choices.clone() }
    }

    /// What is decided, in order: what has one option is not.
    fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let weights = (self.weights.len() > 1).then_some(Kind::Weights);
        weights.into_iter().chain((self.activations.len() > 1).then_some(Kind::Activations))
    }

    /// The choice of these weights and, where they are offered with them, these activations.
    fn choice(&self, weights: usize, activations: usize) -> usize {
        let (weights, bits) = (&self.weights[weights], self.activations[activations]);
        let of_weights = |choice: &&(usize, &LayerPolicy)| choice.1.weights == *weights;
        let choices: Vec<(usize, &LayerPolicy)> = self.choices.iter().enumerate().collect();
        let nearest = choices.iter().filter(of_weights).min_by_key(|(_, choice)| choice.activation_bits.abs_diff(bits));
        nearest.map_or(0, |(at, _)| *at)
    }

    /// The action in the middle of those that lead to a choice.
    fn action(&self, choice: usize, kind: Kind) -> f32 {
        let LayerPolicy { weights, activation_bits, .. } = &self.choices[choice];
        let (at, of) = match kind {
            Kind::Weights => (self.weights.iter().position(|other| other == weights), self.weights.len()),
            Kind::Activations => {
                (self.activations.iter().position(|other| other == activation_bits), self.activations.len())
            }
        };
        (at.unwrap_or(0) as f32 + 0.5) / of as f32
    }
}

/// Which of `n` options an action means: each has as much of [0, 1] as another (section 3.2).
fn option(action: f32, n: usize) -> usize {
    ((action * n as f32) as usize).min(n - 1)
}

fn facts(layer: &Layer, place: usize) -> Vec<f64> {
    let shape = layer.shape;
    let is_vector = layer.operator.starts_with("fully_connected");
    let depthwise = shape.groups > 1 && shape.groups == shape.c_in;
    let stride = if is_vector { 0 } else { shape.stride[0] };
    let numbers = [shape.c_in, shape.c_out, stride, shape.kernel[0], layer.weights as usize, shape.h * shape.w, place];
    std::iter::once(f64::from(u8::from(depthwise))).chain(numbers.map(|n| n as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::layers::Layers;
    use crate::ir::text::parse_with;
    use crate::policy::WeightFormat;
    use crate::search::testing::Synthetic;
    use crate::search::{Selection, Space};

    const NET: &str = "graph four
input %x: [1, 8, 8, 3]
const %a.w: [16, 3, 3, 3]
%a: [1, 4, 4, 16] = conv2d(%x, %a.w) stride=[2, 2] pad=[0, 1, 0, 1]
const %b.w: [16, 3, 3, 1]
%b: [1, 4, 4, 16] = conv2d(%a, %b.w) pad=[1, 1, 1, 1] groups=16
const %c.w: [8, 1, 1, 16]
%c: [1, 4, 4, 8] = conv2d(%b, %c.w)
%mean: [1, 1, 1, 8] = avg_pool(%c) kernel=[4, 4] stride=[4, 4]
%flat: [1, 8] = reshape(%mean)
const %d.w: [2, 8]
%d: [1, 2] = fully_connected(%flat, %d.w)
output %d
";

    #[test]
    fn states_are_those_of_the_paper() {
        let graph = parse_with(NET, |_, shape| Ok(vec![0.0; shape.iter().product()])).unwrap();
        let formats = [2, 4, 8].map(WeightFormat::Linear);
        let space = Space::of(&graph, &formats, &[4, 8]).unwrap();
        let layers = Layers::of(&graph);
        let other = Synthetic::new(2, &[8], &[8], 0);
        let problem = Problem { space: &space, layers: &layers, ..other.problem() };
        let environment = Environment::new(&problem).unwrap();
        let mut actions = [0.1, 0.9, 0.5, 0.2, 1.0, 0.0, 0.7, 0.6].into_iter();
        let (selection, steps) = environment.walk(|_| actions.next().unwrap());
        let policy = space.policy(&selection);
        let labels: Vec<String> = policy.layers.values().map(crate::search::space::label).collect();
        assert_eq!(labels, ["w2a8", "w4a4", "w8a4", "w8a8"]);
        let weights = |n: f32| (n - 16.0) / (432.0 - 16.0);
        // Depthwise, channels in and out, stride, kernel, weights, pixels, place; the action before, weights now.
        let expected = [
            [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.1, 0.0],
            [1.0, 1.0, 1.0, 0.5, 1.0, weights(144.0), 15.0 / 63.0, 1.0 / 3.0, 0.9, 1.0],
            [1.0, 1.0, 1.0, 0.5, 1.0, weights(144.0), 15.0 / 63.0, 1.0 / 3.0, 0.5, 0.0],
            [0.0, 1.0, 6.0 / 14.0, 0.5, 0.0, weights(128.0), 15.0 / 63.0, 2.0 / 3.0, 0.2, 1.0],
            [0.0, 1.0, 6.0 / 14.0, 0.5, 0.0, weights(128.0), 15.0 / 63.0, 2.0 / 3.0, 1.0, 0.0],
            [0.0, 5.0 / 13.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0],
            [0.0, 5.0 / 13.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.7, 0.0],
        ];
        assert_eq!(steps.len(), environment.steps());
        for (step, expected) in steps.iter().zip(&expected) {
            let same = step.state.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(same && step.state.len() == environment.state_len(), "{:?} against {expected:?}", step.state);
        }
        // What leads there again.
        let again = environment.steps_of(&selection);
        let mut actions = again.iter().map(|step| step.action);
        assert_eq!(environment.walk(|_| actions.next().unwrap()).0, selection);

        // Codebooks alone: the same without the flag.
        let space = Space::of(&graph, &[2, 3].map(WeightFormat::Codebook), &[8]).unwrap();
        let environment = Environment::new(&Problem { space: &space, ..problem }).unwrap();
        let steps = environment.walk(|_| 0.1).1;
        assert_eq!((steps.len(), environment.state_len()), (4, 9));
        let facts: Vec<Vec<f32>> = expected.iter().step_by(2).map(|state| state[..8].to_vec()).collect();
        for ((step, facts), before) in steps.iter().zip(facts).zip([1.0, 0.1, 0.1, 0.1]) {
            assert_eq!(step.state.len(), 9);
            assert!(step.state.iter().zip(facts.iter().chain([&before])).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn every_option_has_as_much_of_the_actions() {
        let mut counts = [0; 7];
        (0..7000).for_each(|i| counts[option((i as f32 + 0.5) / 7000.0, 7)] += 1);
        assert!(counts.iter().all(|&n| (n - 1000i32).abs() <= 1), "{counts:?}");
        assert_eq!((option(0.0, 7), option(1.0, 7)), (0, 6));
    }

    #[test]
    fn a_layer_without_a_choice_is_no_step() {
        let net = Synthetic::new(3, &[2, 8], &[8], 0);
        let pinned = |space: Space, layer: &str| space.pin(layer, (WeightFormat::Linear(8), 8));
        let space = pinned(pinned(net.space.clone(), "conv0").unwrap(), "conv2").unwrap();
        let environment = Environment::new(&Problem { space: &space, ..net.problem() }).unwrap();
        let (selection, steps) = environment.walk(|_| 0.0);
        assert_eq!((steps.len(), selection), (1, Selection::new(vec![0, 0, 0])));
    }
}
