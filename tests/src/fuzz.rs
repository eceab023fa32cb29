//! What the fuzz targets call, and the tests that replay their corpora.
//!
//! Every target takes bytes from anywhere and ends soon with an [`Outcome`]; a panic is the finding.

#[cfg(feature = "compiler")]
mod importers;
pub mod mutate;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use pare_runtime::bits::write_code;
use pare_runtime::format::{CODEBOOK_BYTES, LayerOp, Layout, Shape, WeightFormat};
use pare_runtime::kernels::scratch::conv_scratch_bytes;
use pare_runtime::{Isa, Model, Session, Team};

use crate::blob::seal;
use crate::problems::{ConvProblem, ConvSpec};
#[cfg(feature = "compiler")]
pub use importers::{onnx, tflite};

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
    /// A blob that ran, or a model that became a graph.
    Ran,
}

/// A target's function.
pub type Target = fn(&[u8]) -> Outcome;

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("blob", blob),
    ("weights", weights),
    #[cfg(feature = "compiler")]
    ("tflite", tflite),
    #[cfg(feature = "compiler")]
    ("onnx", onnx),
];

/// The seeds of a target: its corpus, and for the readers of model files the golden models of one operator each.
///
/// # Errors
/// Those of the file system.
pub fn seeds(target: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    for dir in [root.join("fuzz/corpus").join(target), root.join("goldens/ops")] {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if dir.ends_with(target) || path.extension().is_some_and(|extension| extension == target) {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(std::fs::read).collect()
}

/// Takes the first bytes as a convolution and the rest for its packed weights, and runs it on every instruction set:
/// every code means what `Conv::position` and `read_code` say, which the reference reads by.
///
/// # Panics
/// When a kernel differs from the reference, which reads weight by weight: the finding.
pub fn weights(bytes: &[u8]) -> Outcome {
    let Some((&[kind, format, c_in, c_out, edge, kernel, stride, seed], codes)) = bytes.split_first_chunk::<8>() else {
        return Outcome::Refused;
    };
    let within = |byte: u8, most: usize| 1 + usize::from(byte) % most;
    let format = WeightFormat::ALL[usize::from(format) % WeightFormat::ALL.len()];
    let layout = match kind & 7 {
        4 if format.has_planes() => Layout::Planes,
        _ if kind & 8 != 0 => Layout::Words,
        kind if kind & 1 == 0 => Layout::Plain,
        _ => Layout::Panels,
    };
    let (kernel, stride) = (within(kernel, 3), within(stride, 2));
    let input = Shape { h: within(edge, 4), w: within(edge / 4, 6), c: within(c_in, 40) };
    let spec = match kind & 2 {
        0 => ConvSpec::dense(input, within(c_out, 40), kernel, stride, format, layout),
        _ => ConvSpec::depthwise(input, kernel, stride, format, layout),
    };
    let mut problem = ConvProblem::new(ConvSpec { seed: seed.into(), ..spec });
    let conv = problem.conv();
    let channels = 0..conv.output.c;
    let places = channels.flat_map(|channel| (0..conv.depth()).map(move |k| (channel, k)));
    let places: Vec<_> = places.map(|(channel, k)| conv.position(layout, format, channel, k)).collect();
    let mut codes = codes.iter().copied().cycle();
    let (table, packed) = problem.weights.split_at_mut(match format {
        WeightFormat::Codebook(_) => CODEBOOK_BYTES,
        _ => 0,
    });
    table.iter_mut().zip(&mut codes).for_each(|(level, code)| *level = code);
    for (at, code) in places.into_iter().zip(codes) {
        write_code(&mut packed[at.offset..], format.bits(), at.index, code ^ at.inverted);
    }
    let expected = problem.run(Isa::Reference);
    for isa in Isa::available() {
        assert!(problem.run(isa) == expected, "{isa} decodes otherwise than the reference: {problem:?}");
    }
    Outcome::Ran
}

/// Parses bytes as a blob, length and checksum made right, and runs it on every instruction set, layers whole and
/// in shares.
///
/// # Panics
/// When two of these runs differ, or the runtime panics: the finding.
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
    let runs = || Isa::available().flat_map(|isa| [0, 2].map(|more| (isa, NonZeroUsize::MIN.saturating_add(more))));
    let fits = |(isa, threads)| model.arena_bytes_with_threads(isa, threads) <= ARENA_LIMIT;
    if !runs().all(fits) || model.work() > WORK_LIMIT {
        return Outcome::TooLarge;
    }
    let results: Vec<_> = runs().filter_map(|(isa, threads)| run(model, isa, threads)).collect();
    if scratch_is_private(&model) && codes_are_bytes(&model) {
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "two runs differ");
    }
    if results.is_empty() { Outcome::Refused } else { Outcome::Ran }
}

/// Whether no tensor shares memory with scratch; what kernels leave in scratch is their own business, and a
/// hostile blob may read it.
fn scratch_is_private(model: &Model<'_>) -> bool {
    let scratches: Vec<Range<usize>> = model
        .layers()
        .filter_map(|layer| match &layer.op {
            LayerOp::Conv(p) => Some((
                layer.scratch,
                p.weight_groups().map(|group| conv_scratch_bytes(p, group.layout, group.format)).max()?,
            )),
            _ => None,
        })
        .map(|(start, bytes)| start..start + bytes)
        .collect();
    // Of a stage, tensors hold rows in front of where they begin, and kernels want scratch of their own for each band.
    let has_stages = (0..model.layers().len()).any(|layer| model.stage_of(layer).is_some());
    let mut tensors = (0..model.header().n_tensors).filter_map(|index| model.tensor(index)).map(|t| t.range());
    (!has_stages || scratches.iter().all(|scratch| scratch.is_empty()))
        && tensors.all(|t| scratches.iter().all(|s| t.end <= s.start || s.end <= t.start))
}

/// Whether every byte is a code to the convolutions; what becomes of others is the kernels' own business, and
/// a hostile blob may make them.
fn codes_are_bytes(model: &Model<'_>) -> bool {
    model.layers().all(|layer| !matches!(&layer.op, LayerOp::Conv(p) if p.bits_in < 8))
}

/// One thread that does the work of several.
struct InTurn;

impl Team for InTurn {
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        b();
        a();
    }
}

/// The outputs of a run; `None` when the session cannot start.
fn run(model: Model<'_>, isa: Isa, threads: NonZeroUsize) -> Option<Vec<u8>> {
    let mut arena = vec![0x5a; model.arena_bytes_with_threads(isa, threads)];
    let mut session = Session::with_threads(model, &mut arena, isa, threads).ok()?;
    for i in 0..model.inputs().len() {
        session.input(i).iter_mut().zip((0..=255u8).cycle()).for_each(|(code, i)| *code = i.wrapping_mul(37));
    }
    match threads {
        NonZeroUsize::MIN => session.run(),
        _ => session.run_with(&InTurn),
    }
    Some((0..model.outputs().len()).flat_map(|i| session.output(i).to_vec()).collect())
}
