//! Timings kept as they come: a sweep over many networks that broke off goes on where it stopped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pare_runtime::Isa;
use pare_runtime::format::Layout;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Board, BoardError, Timing};
use crate::emit::ObjectArch;
use crate::units::TickUnit;

/// A board whose timings are written down, and not taken again.
pub struct Journal {
    board: Box<dyn Board>,
    path: PathBuf,
    known: Mutex<BTreeMap<String, Timing>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    timing: Timing,
}

impl Journal {
    /// Of a board, in a file of lines; timings that it holds already are taken from there. One line of it may be cut
    /// where it broke off, which counts for nothing.
    pub fn open(board: Box<dyn Board>, path: PathBuf) -> Journal {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let entries = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let known = entries.map(|Entry { key, timing }| (key, timing)).collect();
        Journal { board, path, known: Mutex::new(known) }
    }

    /// How many timings it holds.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sweep is over, and what it came to is kept elsewhere.
    pub fn finish(self) {
        // What stays is read again, to the same end.
        let _ = std::fs::remove_file(&self.path);
    }

    fn file(path: &Path) -> std::io::Result<File> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        OpenOptions::new().create(true).append(true).open(path)
    }
}

impl Board for Journal {
    fn processor(&self) -> String {
        self.board.processor()
    }

    fn isas(&self) -> Vec<Isa> {
        self.board.isas()
    }

    fn unit(&self) -> TickUnit {
        self.board.unit()
    }

    fn layout(&self, isa: Isa) -> Layout {
        self.board.layout(isa)
    }

    fn object_arch(&self) -> ObjectArch {
        self.board.object_arch()
    }

    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
        self.board.run(blob, isa, codes)
    }

    fn time(&self, blob: &[u8], isa: Isa, codes: &[u8], runs: usize) -> Result<Timing, BoardError> {
        // A clock on the wall is to be read in every round; counts are the same in all.
        if self.unit() == TickUnit::Nanoseconds {
            return self.board.time(blob, isa, codes, runs);
        }
        let digest = [blob, isa.name().as_bytes(), codes].iter().fold(Sha256::new(), Sha256::chain_update);
        let key: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let known = |key| self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(timing) = known(&key) {
            return Ok(timing);
        }
        let timing = self.board.time(blob, isa, codes, runs)?;
        let entry = Entry { key, timing: timing.clone() };
        // What could not be written down is timed again next time: no reason to fail.
        let written = serde_json::to_string(&entry).map_err(std::io::Error::from).and_then(|line| {
            // After a line that was cut, this is one of its own.
            Journal::file(&self.path)?.write_all(format!("\n{line}\n").as_bytes())
        });
        if let Err(error) = written {
            tracing::warn!("{}: {error}", self.path.display());
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.key, entry.timing);
        Ok(timing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::FirstInference;

    /// Times everything once, and then breaks.
    struct Once(Mutex<Vec<Vec<u8>>>);

    impl Board for Once {
        fn processor(&self) -> String {
            "once".into()
        }
        fn isas(&self) -> Vec<Isa> {
            vec![Isa::Portable]
        }
        fn unit(&self) -> TickUnit {
            TickUnit::Cycles
        }
        fn layout(&self, isa: Isa) -> Layout {
            isa.layout()
        }
        fn object_arch(&self) -> ObjectArch {
            ObjectArch::ArmSoftFloat
        }
        fn run(&self, _blob: &[u8], _isa: Isa, _codes: &[u8]) -> Result<Vec<u8>, BoardError> {
            Ok(Vec::new())
        }
        fn time(&self, blob: &[u8], isa: Isa, _codes: &[u8], _runs: usize) -> Result<Timing, BoardError> {
            let mut seen = self.0.lock().unwrap();
            assert!(!seen.contains(&blob.to_vec()), "timed twice");
            seen.push(blob.to_vec());
            let first = FirstInference { parse: 1.0, setup: 2.0, run: 3.0 };
            let (total, layers, isas) = (vec![f64::from(blob[0])], vec![vec![1.0]], vec![isa]);
            let stack = None;
            Ok(Timing { unit: self.unit(), total, layers, isas, first, yardstick: 1.0, quiet: 1.0, stack })
        }
    }

    #[test]
    fn what_was_timed_before_a_break_is_not_timed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tables/sweep.jsonl");
        let time = |journal: &Journal, network| journal.time(&[network], Isa::Portable, &[7], 1).unwrap().total[0];
        let open = |seen| Journal::open(Box::new(Once(Mutex::new(seen))), path.clone());
        let journal = open(vec![]);
        assert_eq!((time(&journal, 5), time(&journal, 6), time(&journal, 5)), (5.0, 6.0, 5.0));
        // It is killed while it writes the second line.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let journal = open(vec![vec![5]]);
        assert_eq!(journal.len(), 1);
        assert_eq!((time(&journal, 5), time(&journal, 6)), (5.0, 6.0));
        let journal = open(vec![vec![5], vec![6]]);
        assert_eq!((time(&journal, 5), time(&journal, 6)), (5.0, 6.0));
        journal.finish();
        assert!(!path.exists());
    }
}
