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
        Parameter { name, role, values, gradient }
    }
}
