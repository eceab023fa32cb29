//! Feeds a fuzz target random damage to its seeds: `cargo run --release -p pare-tests --example mutate -- TARGET CASES [SEED]`,
//! TARGET one of blob, tflite, onnx. The same seed gives the same cases. A case that panics or takes longer than a
//! second is written to `target/fuzz-findings/` and ends the run with a failure.
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use pare_tests::fuzz::{self, Outcome, TARGETS, mutate::mutate};
use pare_tests::problems::Random;

/// What a case may take.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, cases, seed @ ..] = args.as_slice() else {
        return Err("usage: mutate blob|tflite|onnx CASES [SEED]".into());
    };
    let run = TARGETS.iter().find(|(name, _)| name == target).map(|&(_, run)| run);
    let run = run.ok_or_else(|| format!("no target {target}: give blob, tflite or onnx"))?;
    let cases: usize = cases.parse()?;
    let mut random = Random(seed.first().map_or(Ok(1), |seed| seed.parse())?);
    let mut seeds = fuzz::seeds(target)?;
    seeds.retain(|seed| run(seed) == Outcome::Ran);
    if seeds.is_empty() {
        return Err(format!("no seed of {target} runs").into());
    }

    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut accepted = 0;
    for case in 0..cases {
        let mut pick = || &seeds[random.next() as usize % seeds.len()];
        let (seed, other) = (pick(), pick());
        let bytes = mutate(seed, other, &mut random);
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(|| run(&bytes));
        let took = start.elapsed();
        slowest = slowest.max(took);
        match outcome {
            Ok(outcome) if took < PATIENCE => accepted += usize::from(outcome == Outcome::Ran),
            outcome => {
                let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-findings");
                let file = dir.join(format!("{target}-{case}"));
                std::fs::create_dir_all(&dir)?;
                std::fs::write(&file, &bytes)?;
                let what = if outcome.is_err() { "panics" } else { "is slow" };
                return Err(format!("case {case} {what} ({took:?}): {}", file.display()).into());
            }
        }
    }
    println!(
        "{target}: {cases} cases of {} seeds, {accepted} accepted, no panic; slowest {slowest:?}, {:?} in all",
        seeds.len(),
        begin.elapsed()
    );
    Ok(())
}
