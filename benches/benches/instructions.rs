//! Instructions of one run of every kernel that Valgrind knows, against the committed baseline.
//!
//!     cargo bench -p pare-benches --bench instructions             # fails where a kernel takes over 3 % more
//!     PARE_BLESS=1 cargo bench -p pare-benches --bench instructions    # writes the baseline anew
//!
//! Callgrind counts what this program does between the marks: exact, whatever else the machine does. It knows
//! AVX2 and no AVX-512. Counts change with the compiler, so the baseline names its own.
#![allow(clippy::print_stdout, reason = "a report")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use pare_benches::baseline::Baseline;
use pare_benches::{FORMATS, shapes};
use pare_runtime::Isa;
use pare_runtime::format::Conv;
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::ConvProblem;

const BASELINE: Baseline = Baseline { title: "instruction counts", file: "instructions.tsv", tolerance: 0.03 };
/// The argument that makes this program the one that is counted.
const GUEST: &str = "--counted";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if std::env::args().any(|arg| arg == GUEST) {
        guest();
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instruction counts: skipped, there is no valgrind");
        return Ok(ExitCode::SUCCESS);
    }
    BASELINE.check(&count()?)
}

/// Every kernel's name, and its instructions.
fn count() -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let _absent = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)?;
    let output = Command::new("valgrind")
        // Callgrind heeds one option a pattern: two patterns, then.
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(["--toggle-collect=*counted_run*", "--dump-after=instructions::counted_run*"])
        .arg(format!("--callgrind-out-file={}", directory.join("out").display()))
        .arg(std::env::current_exe()?)
        .arg(GUEST)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    // One dump a run, numbered from 1 in the order of the names on the guest's standard output.
    let names = String::from_utf8(output.stdout)?;
    let counts = names.lines().zip(1..).map(|(name, index)| {
        let dump = std::fs::read_to_string(directory.join(format!("out.{index}")))?;
        let totals = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        let count = totals.and_then(|count| count.trim().parse().ok()).ok_or("a dump without totals")?;
        Ok((name.to_owned(), count))
    });
    counts.collect()
}

/// Names every kernel, then runs it once.
fn guest() {
    for isa in Isa::available().filter(|&isa| isa != Isa::Reference) {
        for format in FORMATS {
            for (name, spec) in shapes(format) {
                let problem = ConvProblem::new(spec);
                let conv = problem.conv();
                let kernel = ConvKernel::choose(isa, &conv);
                let mut output = vec![0; conv.output.len()];
                let mut scratch = vec![0; kernel.scratch_bytes(&conv)];
                println!("{isa} {format} {name}");
                counted_run(&kernel, &conv, &problem.input, &mut output, &mut scratch);
            }
        }
    }
}

/// What is counted, by this name.
#[inline(never)]
fn counted_run(kernel: &ConvKernel, conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    kernel.run(conv, input, output, scratch);
}
