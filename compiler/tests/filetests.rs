//! Runs the file tests: graphs as text, with what shall become of them.
//!
//! Every file under the workspace's `tests/filetests/DIR` goes through the action that `DIR` names:
//!
//! * `text`: parses, verifies and prints back to the same text, or fails.
//! * `simplify`: parses, and simplifies to the text after the line `---`.
//!
//! A file that shall fail has the error's text after a line `--- error`. With `PARE_BLESS=1` the
//! expected text is written anew.

use std::path::{Path, PathBuf};

use pare::ir::text::parse;
use pare::ir::verify::verify;
use pare::passes::simplify;

#[test]
fn text() {
    run("text", |input| {
        let graph = parse(input).map_err(|error| error.to_string())?;
        verify(&graph).map_err(|error| error.to_string())?;
        assert_eq!(parse(&graph.to_string()), Ok(graph.clone()), "does not parse back to an equal graph");
        Ok(graph.to_string())
    });
}

#[test]
fn simplified() {
    run("simplify", |input| {
        let graph = parse(input).map_err(|error| error.to_string())?;
        simplify(graph).map(|graph| graph.to_string()).map_err(|error| error.to_string())
    });
}

/// Tries every file of a directory and reports all that differ.
fn run(dir: &str, action: impl Fn(&str) -> Result<String, String>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests").join(dir);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no file tests in {}", dir.display());
    let failures: Vec<String> = files.iter().filter_map(|file| check(file, &action)).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn check(file: &Path, action: &impl Fn(&str) -> Result<String, String>) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let (input, expected) = text.split_once("---\n").or_else(|| text.split_once("--- error\n")).unwrap_or((&text, ""));
    let (marker, found) = match action(input) {
        Ok(text) => ("---", text),
        Err(error) => ("--- error", format!("{error}\n")),
    };
    let found = format!("{input}{marker}\n{found}");
    if found == text {
        return None;
    }
    if std::env::var_os("PARE_BLESS").is_some() {
        std::fs::write(file, found).unwrap();
        return None;
    }
    Some(format!("{}:\nexpected\n{expected}\nfound\n{found}", file.display()))
}
