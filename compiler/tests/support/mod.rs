//! What the integration tests share.

#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod interpreter;

use std::path::{Path, PathBuf};

/// A file under `shared/models`, found through `PARE_SHARED` or beside a directory above the
/// workspace; says so and gives `None` where it is absent.
pub(crate) fn reference_model(file: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared"));
    let places = std::env::var_os("PARE_SHARED").map(PathBuf::from).into_iter().chain(beside);
    let found = places.map(|shared| shared.join("models").join(file)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {file} is absent; set PARE_SHARED to the directory that holds models/");
    }
    found
}
