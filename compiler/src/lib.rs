//! Pare's offline compiler: a trained network, a target and budgets in; the deployed blob that
//! meets them with the best accuracy out.

pub mod board;
pub mod cholesky;
pub mod cli;
pub mod compile;
pub mod cost;
pub mod data;
pub mod deploy;
pub mod emit;
pub mod eval;
pub mod files;
pub mod import;
pub mod ir;
pub mod lower;
pub mod measure;
pub mod methods;
pub mod models;
pub mod pack;
pub mod passes;
pub mod policy;
pub mod prune;
pub mod quant;
pub mod report;
pub mod rng;
pub mod search;
pub mod storage;
pub mod target;
pub mod task;
pub mod train;
pub mod tuning;
pub mod units;
