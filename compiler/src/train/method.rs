//! The seam through which a method of compression takes part in training.

use super::net::{Net, NetError};
use crate::eval::{self, EvalError};

/// What a method adds to a [`super::Training`]: maps in front of weights and behind activations, which it may change
/// as training goes on.
pub trait Method: Sync {
    /// Names all that the outcome depends on besides network, data, recipe and seed: training does not go on from
    /// the checkpoint of another identity.
    fn identity(&self) -> String;

    /// Attaches the maps, before the first step and before a checkpoint is read.
    ///
    /// # Errors
    /// When the network has no place for one.
    fn attach(&self, net: &mut Net) -> Result<(), NetError>;

    /// Changes them before a step, when so many epochs are over.
    fn advance(&self, _net: &mut Net, _epochs: f32) {}

    /// The network as it will be used: what is scored after every epoch.
    ///
    /// # Errors
    /// When it cannot be evaluated.
    fn evaluated(&self, net: &Net) -> Result<eval::Net, EvalError> {
        eval::Net::float(&net.graph())
    }
}
