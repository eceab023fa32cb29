//! What a gradient does to a parameter.

use serde::{Deserialize, Serialize};

use super::parameter::{Parameter, Role};

/// A rule, and its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Stochastic gradient descent with momentum; weight decay joins the gradient.
    Sgd {
        /// Share of the velocity that stays.
        momentum: f32,
        /// Where the gradient is thought to be taken.
        lookahead: Lookahead,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW {
        /// Share of the mean gradient that stays.
        beta1: f32,
        /// Share of the mean squared gradient that stays.
        beta2: f32,
    },
}

/// See [`Rule::Sgd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookahead {
    /// Where the parameters are.
    None,
    /// Where the velocity carries them (Nesterov).
    Nesterov,
}

/// What keeps a division defined.
const EPSILON: f32 = 1e-8;

impl Rule {
    /// The usual constants: momentum 0.9, Nesterov.
    pub const SGD: Rule = Rule::Sgd { momentum: 0.9, lookahead: Lookahead::Nesterov };
    /// The usual constants.
    pub const ADAMW: Rule = Rule::AdamW { beta1: 0.9, beta2: 0.999 };
}

/// A rule with what it remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    rule: Rule,
    weight_decay: f32,
    /// Steps made.
    pub(super) steps: u64,
    /// For each parameter one or two numbers for each of its own.
    pub(super) memory: Vec<Vec<f32>>,
}

impl Optimiser {
    /// That has made no step.
    pub fn new(rule: Rule, weight_decay: f32, parameters: &[Parameter]) -> Self {
        let slots = match rule {
            Rule::Sgd { .. } => 1,
            Rule::AdamW { .. } => 2,
        };
        let memory = parameters.iter().map(|parameter| vec![0.0; slots * parameter.values.len()]).collect();
        Optimiser { rule, weight_decay, steps: 0, memory }
    }

    /// Moves every parameter, counted in its unit, against its gradient, at `rate`, and sets the gradient to zero.
    pub fn step(&mut self, parameters: &mut [Parameter], rate: f32) {
        self.steps += 1;
        for (parameter, memory) in parameters.iter_mut().zip(&mut self.memory) {
            let decay = if parameter.role == Role::Weights { self.weight_decay } else { 0.0 };
            match self.rule {
                Rule::Sgd { momentum, lookahead } => descend(parameter, memory, momentum, lookahead, rate, decay),
                Rule::AdamW { beta1, beta2 } => adapt(parameter, memory, [beta1, beta2], self.steps, rate, decay),
            }
            parameter.gradient.fill(0.0);
        }
    }
}

fn descend(
    parameter: &mut Parameter,
    velocity: &mut [f32],
    momentum: f32,
    lookahead: Lookahead,
    rate: f32,
    decay: f32,
) {
    let square = parameter.unit * parameter.unit;
    for ((w, g), v) in parameter.values.iter_mut().zip(&parameter.gradient).zip(velocity) {
        let g = square * g + decay * *w;
        *v = momentum * *v + g;
        *w -= rate * if lookahead == Lookahead::Nesterov { g + momentum * *v } else { *v };
    }
}

fn adapt(parameter: &mut Parameter, memory: &mut [f32], betas: [f32; 2], steps: u64, rate: f32, decay: f32) {
    let (means, squares) = memory.split_at_mut(parameter.values.len());
    let [beta1, beta2] = betas;
    let bias = |beta: f32| (1.0 - f64::from(beta).powi(steps.min(1 << 20) as i32)) as f32;
    let (bias1, bias2) = (bias(beta1), bias(beta2));
    let unit = parameter.unit;
    let moments = means.iter_mut().zip(squares);
    for ((w, g), (mean, square)) in parameter.values.iter_mut().zip(&parameter.gradient).zip(moments) {
        let g = unit * g;
        *mean = beta1 * *mean + (1.0 - beta1) * g;
        *square = beta2 * *square + (1.0 - beta2) * g * g;
        let update = (*mean / bias1) / ((*square / bias2).sqrt() + EPSILON);
        *w -= rate * (unit * update + decay * *w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(role: Role) -> Parameter {
        Parameter { gradient: vec![0.5], ..Parameter::new("w".to_owned(), role, vec![1.0]) }
    }

    fn stepped(rule: Rule, decay: f32, role: Role, steps: usize) -> f32 {
        let mut parameters = [parameter(role)];
        let mut optimiser = Optimiser::new(rule, decay, &parameters);
        for _ in 0..steps {
            parameters[0].gradient = vec![0.5];
            optimiser.step(&mut parameters, 0.1);
            assert_eq!(parameters[0].gradient, [0.0]);
        }
        parameters[0].values[0]
    }

    #[test]
    fn steps_are_those_of_the_papers() {
        let plain = Rule::Sgd { momentum: 0.9, lookahead: Lookahead::None };
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} against {b}");
        close(stepped(plain, 0.0, Role::Vector, 1), 0.95);
        close(stepped(plain, 0.0, Role::Vector, 2), 0.95 - 0.1 * 0.95);
        close(stepped(Rule::SGD, 0.0, Role::Vector, 1), 1.0 - 0.1 * (0.5 + 0.45));
        // Adam's first step is the rate, whatever the gradient.
        close(stepped(Rule::ADAMW, 0.0, Role::Vector, 1), 0.9);
    }

    #[test]
    fn only_weights_decay() {
        assert_eq!(stepped(Rule::ADAMW, 0.5, Role::Vector, 1), stepped(Rule::ADAMW, 0.0, Role::Vector, 1));
        let decayed = stepped(Rule::ADAMW, 0.5, Role::Weights, 1);
        assert!((decayed - (0.9 - 0.1 * 0.5)).abs() < 1e-6, "{decayed}");
    }
}
