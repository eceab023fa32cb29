//! Scores kept on disk, so that no policy is scored twice and an interrupted search goes on where it
//! stopped.
//!
//! One file a digest, one JSON object a line, appended as scores come. A line torn by an interruption
//! is dropped on opening. Numbers are kept as text: what is read back is what was written, to the
//! last bit, and a resumed search takes the same turns.
//!
//! A folder that cannot be written is no reason to fail: what is there is used, and nothing is added.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::Lines;
use crate::policy::Policy;

use super::{Evaluator, Score};

/// Version of a line.
const SCHEMA: u32 = 1;

/// An evaluator that remembers.
pub struct Cached<E> {
    inner: E,
    digest: String,
    known: RefCell<BTreeMap<String, Score>>,
    lines: Lines,
    scored: Cell<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    schema: u32,
    digest: String,
    policy: Policy,
    metric: String,
    loss: String,
}

impl<E: Evaluator> Cached<E> {
    /// Remembers the scores of `inner` in `directory` (such as `~/.cache/pare/scores`). `digest`
    /// names everything that a score depends on beside the policy: the network, its quantisation
    /// settings and the samples.
    ///
    /// Lines that do not parse, and a file that cannot be read, are scored anew.
    pub fn open(inner: E, directory: &Path, digest: &str) -> Cached<E> {
        let mut known = BTreeMap::new();
        let lines = Lines::open(directory.join(file_name(digest)), |line| match parse(line, digest) {
            Some((key, score)) => {
                known.insert(key, score);
                true
            }
            None => false,
        });
        Cached { inner, digest: digest.to_owned(), known: RefCell::new(known), lines, scored: Cell::new(0) }
    }

    /// Policies that had to be scored, not counting remembered ones.
    pub fn scored(&self) -> usize {
        self.scored.get()
    }
}

impl<E: Evaluator> Evaluator for Cached<E> {
    fn score(&self, policy: &Policy) -> Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        let key = serde_json::to_string(policy)?;
        if let Some(score) = self.known.borrow().get(&key) {
            return Ok(*score);
        }
        let score = self.inner.score(policy)?;
        self.scored.set(self.scored.get() + 1);
        let (metric, loss) = (score.metric.to_string(), score.loss.to_string());
        let line = Line { schema: SCHEMA, digest: self.digest.clone(), policy: policy.clone(), metric, loss };
        self.lines.push(&serde_json::to_string(&line)?);
        self.known.borrow_mut().insert(key, score);
        Ok(score)
    }
}

impl<E: Evaluator + ?Sized> Evaluator for &E {
    fn score(&self, policy: &Policy) -> Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        (**self).score(policy)
    }
}

fn parse(line: &str, digest: &str) -> Option<(String, Score)> {
    let line: Line = serde_json::from_str(line).ok()?;
    if line.schema != SCHEMA || line.digest != digest {
        return None;
    }
    let score = Score { metric: line.metric.parse().ok()?, loss: line.loss.parse().ok()? };
    Some((serde_json::to_string(&line.policy).ok()?, score))
}

fn file_name(digest: &str) -> PathBuf {
    let hash = Sha256::digest(digest);
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("{hex}.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::super::exact::Exact;
    use super::super::testing::{Synthetic, quiet};
    use super::super::{Front, Problem, Strategy};
    use super::*;
    use crate::units::Bytes;

    fn net() -> Synthetic {
        let mut net = Synthetic::new(5, &[2, 3, 4, 8], &[4, 8], 12);
        net.budget.flash = Some(Bytes(3000));
        net
    }

    fn search(net: &Synthetic, evaluator: &dyn Evaluator) -> Result<Front, super::super::SearchError> {
        let problem = Problem { calibration: evaluator, validation: evaluator, ..net.problem() };
        Exact::default().search(&problem, &mut quiet())
    }

    fn same(a: &Front, b: &Front) -> bool {
        (&a.chosen, &a.points) == (&b.chosen, &b.points)
    }

    #[test]
    fn an_interrupted_search_goes_on_and_ends_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let open = |net| Cached::open(net, &folder.path().join("scores"), "net+data");
        let whole = net();
        let expected = search(&whole, &whole).unwrap();

        let mut broken = net();
        broken.fails_after = Some(9);
        let cached = open(&broken);
        assert!(search(&broken, &cached).is_err());
        assert_eq!(cached.scored(), 9);

        // The tenth line is torn.
        let path = folder.path().join("scores").join(file_name("net+data"));
        let mut text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 9);
        let torn = text.lines().next().unwrap()[..40].to_owned();
        text.push_str(&torn);
        std::fs::write(&path, text).unwrap();

        let (fresh, all) = (net(), net());
        let resumed = open(&fresh);
        assert!(same(&search(&fresh, &resumed).unwrap(), &expected));
        let everything = Cached::open(&all, &folder.path().join("elsewhere"), "net+data");
        assert!(same(&search(&all, &everything).unwrap(), &expected));
        assert_eq!(resumed.scored() + 9, everything.scored());

        let again = net();
        let remembered = open(&again);
        assert!(same(&search(&again, &remembered).unwrap(), &expected));
        assert_eq!((remembered.scored(), again.scored()), (0, 0), "everything was remembered");
    }

    #[test]
    fn another_digest_remembers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let net = net();
        let policy = net.space.policy(&net.space.widest());
        let first = Cached::open(&net, folder.path(), "a");
        first.score(&policy).unwrap();
        let second = Cached::open(&net, folder.path(), "b");
        second.score(&policy).unwrap();
        assert_eq!((first.scored(), second.scored()), (1, 1));
    }

    #[test]
    fn a_folder_that_cannot_be_written_only_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "in the way").unwrap();
        let net = net();
        let policy = net.space.policy(&net.space.widest());
        let cached = Cached::open(&net, &blocked, "a");
        assert_eq!(cached.score(&policy).unwrap(), cached.score(&policy).unwrap());
        assert_eq!(cached.scored(), 1);
    }
}
