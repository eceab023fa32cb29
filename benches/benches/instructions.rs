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
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use pare_benches::{FORMATS, shapes};
use pare_runtime::Isa;
use pare_runtime::format::Conv;
use pare_runtime::kernels::ConvKernel;
use pare_tests::problems::ConvProblem;

/// Relative growth that is a regression.
const TOLERANCE: f64 = 0.03;
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
    let counts = count()?;
    let baseline = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.tsv");
    let compiler = rustc()?;
    if std::env::var_os("PARE_BLESS").is_some() {
        let lines = counts.iter().map(|(kernel, count)| format!("{kernel}\t{count}\n"));
        std::fs::write(&baseline, format!("# {compiler}\n") + &lines.collect::<String>())?;
        println!("instruction counts: {} kernels blessed", counts.len());
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(&baseline)?;
    if !text.starts_with(&format!("# {compiler}\n")) {
        println!("instruction counts: the baseline is of another compiler than {compiler}; bless it anew");
    }
    let known: BTreeMap<&str, u64> =
        text.lines().filter_map(|line| line.split_once('\t')).filter_map(|(k, n)| Some((k, n.parse().ok()?))).collect();
    Ok(if regressed(&counts, &known) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints what changed; whether anything grew too much or has no baseline.
fn regressed(counts: &BTreeMap<String, u64>, known: &BTreeMap<&str, u64>) -> bool {
    let mut failed = false;
    for (kernel, &count) in counts {
        let Some(&before) = known.get(kernel.as_str()) else {
            println!("  {kernel:<44} {count:>10}  no baseline");
            failed = true;
            continue;
        };
        let growth = count as f64 / before as f64 - 1.0;
        if growth.abs() > TOLERANCE {
            let verdict = if growth > 0.0 { "REGRESSION" } else { "better: bless it" };
            println!("  {kernel:<44} {before:>10} -> {count:>10} ({:+.1} %)  {verdict}", 100.0 * growth);
        }
        failed |= growth > TOLERANCE;
    }
    println!("instruction counts: {} kernels, {}", counts.len(), if failed { "FAILED" } else { "none slower" });
    failed
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

fn rustc() -> Result<String, Box<dyn Error>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(String::from_utf8(Command::new(rustc).arg("--version").output()?.stdout)?.trim().to_owned())
}
