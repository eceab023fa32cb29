//! The invariants of a [`super::Graph`].
