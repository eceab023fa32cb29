//! `pare`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pare::cli::main()
}
