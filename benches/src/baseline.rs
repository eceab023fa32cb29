//! Counts against a committed file of them: one `name<TAB>count` a line, below the compiler that they hold for.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Where counts are kept, and how much they may grow.
#[derive(Debug)]
pub struct Baseline {
    /// What is counted, for people.
    pub title: &'static str,
    /// The file, beside `Cargo.toml`.
    pub file: &'static str,
    /// Relative growth that is a regression.
    pub tolerance: f64,
}

impl Baseline {
    /// Prints what changed and fails where anything grew too much or is new; writes the file anew where `PARE_BLESS`
    /// is set. Counts change with the compiler: those of another one are shown and fail nothing.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the compiler not be asked for its name.
    pub fn check(&self, counts: &BTreeMap<String, u64>) -> Result<ExitCode, Box<dyn Error>> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(self.file);
        let compiler = rustc()?;
        if std::env::var_os("PARE_BLESS").is_some() {
            let lines = counts.iter().map(|(name, count)| format!("{name}\t{count}\n"));
            std::fs::write(&path, format!("# {compiler}\n") + &lines.collect::<String>())?;
            println!("{}: {} blessed", self.title, counts.len());
            return Ok(ExitCode::SUCCESS);
        }
        let text = std::fs::read_to_string(&path)?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let known = lines.filter_map(|(name, count)| Some((name, count.parse().ok()?))).collect();
        let regressed = self.regressed(counts, &known);
        if text.starts_with(&format!("# {compiler}\n")) {
            return Ok(if regressed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        println!("{}: the baseline is of another compiler than {compiler}: nothing failed; bless it anew", self.title);
        Ok(ExitCode::SUCCESS)
    }

    fn regressed(&self, counts: &BTreeMap<String, u64>, known: &BTreeMap<&str, u64>) -> bool {
        let mut failed = false;
        for (name, &count) in counts {
            let Some(&before) = known.get(name.as_str()) else {
                println!("  {name:<44} {count:>10}  no baseline");
                failed = true;
                continue;
            };
            let growth = count as f64 / before as f64 - 1.0;
            if growth.abs() > self.tolerance {
                let verdict = if growth > 0.0 { "REGRESSION" } else { "better: bless it" };
                println!("  {name:<44} {before:>10} -> {count:>10} ({:+.1} %)  {verdict}", 100.0 * growth);
            }
            failed |= growth > self.tolerance;
        }
        println!("{}: {} counts, {}", self.title, counts.len(), if failed { "FAILED" } else { "none grew" });
        failed
    }
}

fn rustc() -> Result<String, Box<dyn Error>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(String::from_utf8(Command::new(rustc).arg("--version").output()?.stdout)?.trim().to_owned())
}
