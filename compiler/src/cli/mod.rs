//! The command line: one file a subcommand.
//!
//! Results go to standard output, for people or, with `--json`, as one object; progress and logs go to
//! standard error. Exit codes: 0 done; 1 the budget is infeasible or a verification failed; 2 usage or
//! input and output; 3 the model has unsupported operators.

mod args;
mod bench;
mod bench_quantizers;
mod blob;
mod compile;
mod completions;
mod compress;
mod eval;
mod finetune;
mod import;
mod inspect;
mod measure;
mod progress;
mod prune;
mod report;
mod run;
mod search;
mod stages;
mod targets;
mod train;
mod verify;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::compile::CompileError;
use crate::import::ImportError;
use crate::methods::amc::AmcError;
use crate::search::SearchError;

/// Pares a neural network down to what a small device can run.
#[derive(Debug, Parser)]
#[command(name = "pare", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every subcommand.
#[derive(Debug, clap::Args)]
struct Global {
    /// Print one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Fixes every random choice.
    #[arg(long, global = true, default_value_t = 0)]
    seed: u64,
    /// Where scores and latency tables are remembered.
    #[arg(long, global = true, env = "PARE_CACHE", value_name = "DIR")]
    cache: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Search a policy, apply it and write the blob: the main job.
    Compile(compile::Args),
    /// Search a policy and print it with the front; write nothing.
    Search(search::Args),
    /// Measure the metric of a blob (integer runtime) or of a model file (float).
    Eval(eval::Args),
    /// Time a blob, layer by layer if asked.
    Bench(bench::Args),
    /// Compare ways to quantise, as papers score them and as they are deployed, on schemes of backends.
    BenchQuantizers(Box<bench_quantizers::Args>),
    /// Time kernels on a target and write a latency table.
    Measure(measure::Args),
    /// Show what an artefact holds.
    Inspect(inspect::Args),
    /// Check that all kernels give the same bytes, and how often the float network agrees.
    Verify(verify::Args),
    /// Run a blob on arrays.
    Run(run::Args),
    /// Train a network, from its own weights or from random ones.
    Train(Box<train::Args>),
    /// Prune a trained network, let its weights share values, and store it small (Deep Compression).
    Compress(Box<compress::Args>),
    /// Take channels out of a network, which ones decided by a search, and write what is left.
    Prune(Box<prune::Args>),
    /// Read a model file and print it, or say what it holds that is not supported.
    Import(import::Args),
    /// List the targets, or check a description.
    Targets(targets::Args),
    /// Print the completions of a shell.
    Completions(completions::Args),
}

/// What a subcommand has to say.
struct Output {
    /// For `--json`.
    json: Value,
    /// For people.
    text: String,
    /// The exit code: not 0 where the result itself is bad news.
    code: u8,
}

impl Output {
    fn new(json: Value, text: String) -> Output {
        Output { json, text, code: 0 }
    }
}

/// Parses the arguments, runs, prints.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.global.verbose);
    let command = cli.command.unwrap_or(Command::Compile(compile::Args::bundled()));
    let result = match command {
        Command::Compile(args) => compile::run(args, &cli.global),
        Command::Search(args) => search::run(args, &cli.global),
        Command::Eval(args) => eval::run(args),
        Command::Bench(args) => bench::run(args, &cli.global),
        Command::BenchQuantizers(args) => bench_quantizers::run(*args, &cli.global),
        Command::Measure(args) => measure::run(args, &cli.global),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args, &cli.global),
        Command::Run(args) => run::run(args),
        Command::Train(args) => train::run(*args, &cli.global),
        Command::Compress(args) => compress::run(*args, &cli.global),
        Command::Prune(args) => prune::run(*args, &cli.global),
        Command::Import(args) => import::run(args),
        Command::Targets(args) => targets::run(args),
        Command::Completions(args) => return completions::run(args),
    };
    match result {
        Ok(output) => {
            let text = if cli.global.json { format!("{}\n", output.json) } else { output.text };
            // A reader that went away (`pare ... | head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(output.code)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", sentence(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The causes of an error as one line; a cause that its parent already quotes is not said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let unsupported = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ImportError::Unsupported { .. })));
    let infeasible = error.chain().any(|cause| {
        let found = cause.downcast_ref::<CompileError>();
        matches!(found, Some(CompileError::Search(SearchError::Infeasible(_) | SearchError::Accuracy { .. })))
            || matches!(cause.downcast_ref(), Some(AmcError::Infeasible { .. } | AmcError::Inaccurate { .. }))
            || cause.is::<compile::OverBudget>()
            || cause.is::<compile::TooInaccurate>()
    });
    match (unsupported, infeasible) {
        (true, _) => 3,
        (_, true) => 1,
        _ => 2,
    }
}

fn start_log(verbose: u8) {
    let level = ["warn", "pare=info", "pare=debug"][usize::from(verbose.min(2))];
    let filter = tracing_subscriber::EnvFilter::try_from_env("PARE_LOG").unwrap_or_else(|_| level.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
    let log = log.with_target(false).with_ansi(std::io::stderr().is_terminal());
    // Only a second call in one process can fail.
    let _ = log.try_init();
}
