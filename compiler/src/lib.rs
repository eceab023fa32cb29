//! Pare's offline compiler: a trained network, a target and budgets in; the deployed blob that
//! meets them with the best accuracy out.

pub mod data;
pub mod eval;
pub mod import;
pub mod ir;
pub mod models;
pub mod passes;
pub mod policy;
pub mod quant;
pub mod rng;
