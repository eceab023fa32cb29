//! The data sets of the benchmarks, where they are at hand: in `$PARE_SHARED`, or in a folder
//! `shared` beside the workspace or above it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use pare::data::{self, DataSpec, Dataset, Metric, Windows};

/// The first of the candidates that exists; `None`, and a line that says so, when there is none.
fn find(candidates: impl IntoIterator<Item = PathBuf>, what: &str) -> Option<PathBuf> {
    let found = candidates.into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: no {what} here; set PARE_SHARED to the folder that holds data/");
    }
    found
}

fn shared(name: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared"));
    let roots = std::env::var_os("PARE_SHARED").map(PathBuf::from).into_iter().chain(above);
    find(roots.map(|root| root.join("data").join(name)), name)
}

fn open(spec: String) -> Dataset {
    data::open(&spec.parse().unwrap()).unwrap()
}

fn counts(set: &Dataset) -> [usize; 3] {
    [set.splits.train.len(), set.splits.val.len(), set.splits.test.len()]
}

fn class_counts(set: &Dataset, samples: Range<u32>) -> [usize; 10] {
    let mut counts = [0; 10];
    samples.filter_map(|index| set.label(index)).for_each(|label| counts[label as usize] += 1);
    counts
}

#[test]
fn mnist() {
    let Some(dir) = shared("mnist") else { return };
    let set = open(format!("mnist:{}", dir.display()));
    assert_eq!(set.sample_shape, [28, 28, 1]);
    assert_eq!(counts(&set)[..2], [54_000, 6_000]);
    assert_eq!(class_counts(&set, 0..60_000)[..3], [5923, 6742, 5958]);
}

#[test]
fn cifar10() {
    let home = std::env::var_os("HOME").map(PathBuf::from).into_iter();
    let Some(dir) = find(home.map(|home| home.join(".cache/pare/cifar10")), "CIFAR-10") else { return };
    let set = open(format!("cifar10:{}", dir.display()));
    assert_eq!(set.sample_shape, [32, 32, 3]);
    assert_eq!(counts(&set), [45_000, 5_000, 10_000]);
    assert_eq!(class_counts(&set, 0..50_000), [5000; 10]);
    assert_eq!(class_counts(&set, 50_000..60_000), [1000; 10]);
}

#[test]
fn keywords() {
    let (Some(train), Some(val)) = (shared("kws/train.npz"), shared("kws/val.npz")) else { return };
    let set = open(format!("npz:{},{}", train.display(), val.display()));
    assert_eq!(set.sample_shape, [49, 10, 1]);
    assert_eq!(counts(&set), [2755, 306, 714]);
    assert_eq!(Metric::infer(490, 12, &set.labels), Ok(Metric::Top1));
    // Sorted by class in its file, mixed here: any prefix shows most of the twelve classes.
    let mut first: Vec<_> = set.splits.test[..60].iter().map(|&index| set.label(index)).collect();
    first.sort_unstable();
    first.dedup();
    assert!(first.len() >= 8, "{first:?}");
}

#[test]
fn persons() {
    let Some(file) = shared("vww/dev.npz") else { return };
    let set = open(format!("npz:{}", file.display()));
    assert_eq!(set.sample_shape, [96, 96, 3]);
    assert_eq!(counts(&set), [60, 60, 180]);
    assert_eq!(counts(&set.fold(2).unwrap()), [120, 120, 60]);
}

#[test]
fn machine_sounds() {
    let (Some(train), Some(val)) = (shared("toycar/train_normal.npz"), shared("toycar/val.npz")) else { return };
    let set = open(format!("npz:{},{}", train.display(), val.display()));
    assert_eq!(set.sample_shape, [200, 128]);
    assert_eq!(counts(&set), [225, 25, 200]);
    assert!(set.splits.train.iter().all(|&index| set.label(index).is_none()));
    let labels: Vec<_> = set.splits.test.iter().map(|&index| set.label(index)).collect();
    assert_eq!(Metric::infer(640, 640, &labels), Ok(Metric::Auc));
    assert_eq!(Windows::of(&set.sample_shape, 640).map(|windows| windows.count()), Some(196));
}

#[test]
fn the_wrong_kind_of_set_is_refused() {
    let Some(dir) = shared("mnist") else { return };
    for kind in ["cifar10", "images", "npz"] {
        let spec: DataSpec = format!("{kind}:{}", dir.display()).parse().unwrap();
        let message = data::open(&spec).unwrap_err().to_string();
        assert!(message.contains("mnist"), "{message}");
    }
}
