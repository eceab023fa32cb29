//! `pare run`: arrays in, arrays out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use npyz::WriterBuilder;
use pare_runtime::{Isa, Model};
use serde_json::json;

use super::Output;
use super::args::ThreadArgs;
use super::blob::read_blob;
use crate::compile::Metadata;
use crate::data::Preprocessing;
use crate::files;
use crate::task::infer_blob;

/// Options of `pare run`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A blob (.pare).
    blob: PathBuf,
    /// An array of f32 or u8 (.npy): one sample, or several along the first axis, before preprocessing.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the f32 outputs go (.npy).
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Kernels [default: the fastest].
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    #[command(flatten)]
    sharing: ThreadArgs,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let Some(blob) = read_blob(&args.blob)? else {
        bail!("{} is no blob: compile it first (`pare compile`)", args.blob.display());
    };
    let model = Model::parse(&blob)?;
    let (&[input], &[output]) = (&model.inputs().collect::<Vec<_>>()[..], &model.outputs().collect::<Vec<_>>()[..])
    else {
        bail!("{} has several inputs or outputs; use the runtime's API", args.blob.display());
    };
    let mut x = read_array(&args.input)?;
    if x.is_empty() || x.len() % input.shape.len() != 0 {
        bail!("{} holds {} elements; the network takes {} a sample", args.input.display(), x.len(), input.shape.len());
    }
    let metadata: Option<Metadata> = serde_json::from_slice(model.metadata()).ok();
    let preprocessing = metadata.map_or(Preprocessing::IDENTITY, |m| m.preprocessing);
    preprocessing.apply(&mut x);
    let y = infer_blob(&blob, args.sharing.host(), args.isa.unwrap_or_else(Isa::best), &x)?;
    let row = output.shape.len();
    if let Some(path) = &args.output {
        let mut bytes = Vec::new();
        let shape = [(y.len() / row) as u64, row as u64];
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd()?;
        writer.extend(y.iter().copied())?;
        writer.finish()?;
        files::replace(path, &bytes)?;
    }
    let rows: Vec<&[f32]> = y.chunks(row).collect();
    let text: String = rows.iter().map(|row| format!("{row:?}\n")).collect();
    Ok(Output::new(json!({ "outputs": rows, "n": rows.len() }), text))
}

fn read_array(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let malformed = || format!("{} is no .npy array of f32 or u8", path.display());
    let array = npyz::NpyFile::new(&bytes[..]).with_context(malformed)?;
    if let Ok(floats) = npyz::NpyFile::new(&bytes[..])?.into_vec::<f32>() {
        return Ok(floats);
    }
    Ok(array.into_vec::<u8>().with_context(malformed)?.into_iter().map(f32::from).collect())
}
