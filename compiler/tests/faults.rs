//! What `pare` leaves behind when it is killed, or the disk is full, or the data are gone.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const NET: &str = "graph stripes
input %x: [1, 8, 8, 1]
const %a.w: [64, 3, 3, 1]
const %a.b: [64]
%a: [1, 8, 8, 64] = conv2d(%x, %a.w, %a.b) pad=[1, 1, 1, 1] clamp=[0.0, inf]
%mean: [1, 1, 1, 64] = avg_pool(%a) kernel=[8, 8] stride=[8, 8]
%flat: [1, 64] = reshape(%mean)
const %c.w: [3, 64]
const %c.b: [3]
%c: [1, 3] = fully_connected(%flat, %c.w, %c.b)
output %c
";

/// A directory with an untrained network and images of 8 by 8 pixels in the files of MNIST.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(bench.path("net")).unwrap();
        std::fs::create_dir_all(bench.path("data")).unwrap();
        std::fs::write(bench.path("net/graph.ir"), NET).unwrap();
        for (split, count) in [("train", 600u32), ("t10k", 60)] {
            let size = |n: u32| n.to_be_bytes();
            let pixel = |i: u32| match (i / 64) % 3 {
                0 => (i / 8 % 2 * 255) as u8,
                1 => (i % 2 * 255) as u8,
                _ => (i.wrapping_mul(2_654_435_761) >> 24) as u8,
            };
            let mut images = [size(0x803), size(count), size(8), size(8)].concat();
            images.extend((0..count * 64).map(pixel));
            let mut labels = [size(0x801), size(count)].concat();
            labels.extend((0..count).map(|i| (i % 3) as u8));
            std::fs::write(bench.path(&format!("data/{split}-images-idx3-ubyte")), images).unwrap();
            std::fs::write(bench.path(&format!("data/{split}-labels-idx1-ubyte")), labels).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `pare` by a shell that runs `before` first.
    fn shell(&self, before: &str, words: &str) -> Command {
        let mut command = Command::new("sh");
        let line = format!("{before} exec {} {words}", env!("CARGO_BIN_EXE_pare"));
        command.args(["-c", &line]).current_dir(self.dir.path()).env("PARE_CACHE", self.path("cache"));
        command
    }

    fn training(&self, epochs: usize, out: &str) -> String {
        format!("train net --from-scratch --data mnist:data --batch 32 --epochs {epochs} --out {out} --json")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn digest(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    json["digest"].as_str().unwrap().to_owned()
}

/// Every file in a directory, with its contents.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn training_that_is_killed_goes_on_to_the_same_weights() {
    const EPOCHS: usize = 200;
    let bench = Bench::new();
    let whole = digest(&bench.shell("", &bench.training(EPOCHS, "whole")).output().unwrap());
    for _ in 0..2 {
        let checkpoint = bench.path("killed/checkpoint.safetensors");
        let before = std::fs::metadata(&checkpoint).and_then(|found| found.modified()).ok();
        let mut command = bench.shell("", &bench.training(EPOCHS, "killed"));
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while std::fs::metadata(&checkpoint).and_then(|found| found.modified()).ok() == before {
            assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint is written");
            std::thread::sleep(Duration::from_millis(2));
        }
        running.kill().unwrap();
        assert!(!running.wait().unwrap().success(), "it was killed before its end");
    }
    assert_eq!(digest(&bench.shell("", &bench.training(EPOCHS, "killed")).output().unwrap()), whole);
}

/// A limit on the size of files fails writes as a full disk does.
const FULL: &str = "trap '' XFSZ; ulimit -f 2;";

#[test]
fn a_full_disk_leaves_the_results_of_before() {
    let bench = Bench::new();
    digest(&bench.shell("", &bench.training(1, "model")).output().unwrap());
    let compile = "compile model --data mnist:data --out out --bits";
    assert!(bench.shell("", &format!("{compile} w8a8")).output().unwrap().status.success());
    let before = contents(&bench.path("out"));

    let failed = bench.shell(FULL, &format!("{compile} w2a8")).output().unwrap();
    assert_eq!(failed.status.code(), Some(2), "{}", said(&failed));
    assert!(said(&failed).contains("out/"), "{}", said(&failed));
    assert_eq!(contents(&bench.path("out")), before);

    let before = contents(&bench.path("model"));
    std::fs::remove_file(bench.path("model/checkpoint.safetensors")).unwrap();
    let failed = bench.shell(FULL, &bench.training(2, "model")).output().unwrap();
    assert_eq!(failed.status.code(), Some(2), "{}", said(&failed));
    assert!(said(&failed).contains("checkpoint.safetensors") && said(&failed).contains("make room"));
    let kept: Vec<_> = before.into_iter().filter(|(path, _)| !path.ends_with("checkpoint.safetensors")).collect();
    assert_eq!(contents(&bench.path("model")), kept);
}

#[test]
fn data_that_are_gone_are_named() {
    let bench = Bench::new();
    std::fs::remove_file(bench.path("data/train-labels-idx1-ubyte")).unwrap();
    let failed = bench.shell("", &bench.training(1, "model")).output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    assert!(said(&failed).contains("train-labels-idx1-ubyte"), "{}", said(&failed));
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    let failed = bench.shell("", &bench.training(1, "model")).output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    assert!(said(&failed).contains("data"), "{}", said(&failed));
    assert!(!bench.path("model").exists(), "nothing is made before the data are read");
}
