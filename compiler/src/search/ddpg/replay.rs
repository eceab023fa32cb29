//! What an agent remembers.

use crate::rng::Pcg32;

/// One step of an episode that is over.
#[derive(Clone, Debug)]
pub(super) struct Transition {
    pub state: Vec<f32>,
    pub action: f32,
    /// Of the whole episode.
    pub reward: f32,
    /// The state after it; `None` after the last step.
    pub next: Option<Vec<f32>>,
}

/// The last transitions, up to a number of them.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    transitions: Vec<Transition>,
    capacity: usize,
    /// The oldest, once it is full.
    oldest: usize,
}

impl Replay {
    pub(super) fn new(capacity: usize) -> Replay {
        Replay { transitions: Vec::new(), capacity: capacity.max(1), oldest: 0 }
    }

    pub(super) fn push(&mut self, transition: Transition) {
        if self.transitions.len() < self.capacity {
            return self.transitions.push(transition);
        }
        self.transitions[self.oldest] = transition;
        self.oldest = (self.oldest + 1) % self.capacity;
    }

    /// `n` of them, drawn with replacement; none where there is none.
    pub(super) fn sample(&self, n: usize, random: &mut Pcg32) -> Vec<&Transition> {
        let n = if self.transitions.is_empty() { 0 } else { n };
        (0..n).map(|_| &self.transitions[random.below(self.transitions.len() as u32) as usize]).collect()
    }
}
