//! What the fuzz targets call, and the tests that replay their corpus.

use pare_runtime::{Isa, Model, Session};

use crate::blob::seal;

/// Arena and work that a hostile blob may claim before it is turned away, as a host would.
const ARENA_LIMIT: usize = 1 << 20;
const WORK_LIMIT: u64 = 1 << 24;

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An error, in words.
    Refused,
    /// A blob, but of more memory or work than this harness gives it.
    TooLarge,
    /// It ran.
    Ran,
}

/// Parses bytes as a blob, length and checksum made right, and runs it on every instruction set.
///
/// # Panics
/// When two instruction sets differ, or the runtime panics: the finding.
pub fn blob(bytes: &[u8]) -> Outcome {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let model = match Model::parse(&bytes) {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Outcome::Refused;
        }
    };
    assert!((0..model.layers().len()).all(|i| model.layer_name(i).len() < 256));
    if model.arena_bytes() > ARENA_LIMIT || model.work() > WORK_LIMIT {
        return Outcome::TooLarge;
    }
    let results = Isa::available().filter_map(|isa| run(model, isa));
    results
        .reduce(|a, b| if a == b { a } else { panic!("two instruction sets differ") })
        .map_or(Outcome::Refused, |_| Outcome::Ran)
}

/// The arena after a run; `None` when the session cannot start.
fn run(model: Model<'_>, isa: Isa) -> Option<Vec<u8>> {
    let mut arena = vec![0x5a; model.arena_bytes()];
    let mut session = Session::with_isa(model, &mut arena, isa).ok()?;
    for i in 0..model.inputs().len() {
        session.input(i).iter_mut().zip(0u8..).for_each(|(code, i)| *code = i.wrapping_mul(37));
    }
    session.run();
    Some((0..model.outputs().len()).flat_map(|i| session.output(i).to_vec()).collect())
}
