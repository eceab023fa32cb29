//! Numbers that training changes.

/// One tensor of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// That of the constant in the graph, or of the node and what it is there.
    pub name: String,
    /// What it does, which decides about weight decay.
    pub role: Role,
    /// Its numbers, row-major.
    pub values: Vec<f32>,
    /// The gradient of the loss by each of them.
    pub gradient: Vec<f32>,
    /// What optimisers count them in.
    pub unit: f32,
}

/// The size of the numbers that a learning rate of a thousandth or less is meant for.
pub(super) const USUAL: f32 = 0.3;

/// What to count numbers in so that they are about as large as is [`USUAL`].
pub(super) fn unit(numbers: &[f32]) -> f32 {
    let square = numbers.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / numbers.len().max(1) as f64;
    let unit = square.sqrt() as f32 / USUAL;
    if unit.is_normal() { unit } else { 1.0 }
}

/// What a parameter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights of a layer; the only ones to decay.
    Weights,
    /// A bias, or the factors or shifts of a norm.
    Vector,
    /// What a map of weights or activations has of its own.
    Map,
}

impl Parameter {
    /// With a gradient of zero.
    pub fn new(name: String, role: Role, values: Vec<f32>) -> Self {
        let gradient = vec![0.0; values.len()];
        Parameter { name, role, values, gradient, unit: 1.0 }
    }

    /// Counts weights in a [`unit`] of their own, so that one learning rate suits all layers of a trained network, whatever
    /// the magnitude of their inputs: raw pixels, say.
    pub(super) fn take_own_unit(&mut self) {
        if self.role == Role::Weights {
            self.unit = unit(&self.values);
        }
    }
}
