//! `pare completions`: what a shell needs to complete command lines.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Options of `pare completions`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: Args) -> ExitCode {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "pare", &mut std::io::stdout());
    ExitCode::SUCCESS
}
