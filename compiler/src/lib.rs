//! Pare's offline compiler: a trained network, a target and budgets in; the deployed blob that
//! meets them with the best accuracy out.

pub mod cost;
pub mod data;
pub mod files;
pub mod ir;
pub mod policy;
pub mod quant;
pub mod report;
pub mod search;
pub mod units;
