//! `pare eval`: the metric of a blob or of a model file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pare_runtime::{Isa, Model};
use serde_json::json;

use super::Output;
use super::args::{self, DataArgs, PassArgs, SampleArgs, ThreadArgs};
use super::blob::read_blob;
use crate::compile::Metadata;
use crate::data::{self, DataSpec};
use crate::eval::Net;
use crate::task::{Figure, Samples, TaskError};

/// Options of `pare eval`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A blob (.pare), or a model file.
    artifact: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    on: SampleArgs,
    #[command(flatten)]
    sharing: ThreadArgs,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let (samples, figure) = if let Some(blob) = read_blob(&args.artifact)? {
        if !args.passes.are_usual() {
            let path = args.artifact.display();
            bail!("--without and --class-only are for model files: {path} is compiled, leave them out");
        }
        let samples = blob_samples(&blob, &args.data, &args.artifact)?;
        let figure = samples.score_blob(&blob, args.sharing.host(), Isa::best(), args.on.indices(&samples)?)?;
        (samples, figure)
    } else {
        let (task, _) = args::task(Some(&args.artifact), &args.data, &args.passes, 1)?;
        let indices = args.on.indices(&task.data)?;
        let figure = task.data.score_net(&Net::float(&task.graph)?, indices)?;
        (task.data, figure)
    };
    let Figure { value, n } = figure;
    let metric = samples.metric;
    let json = json!({ "metric": metric, "value": value, "n": n, "data": samples.dataset.name });
    Ok(Output::new(json, format!("{metric} {value:.4} on {n} samples\n")))
}

/// Data as a blob takes it: preprocessing and metric are those it was compiled with unless told otherwise.
pub(super) fn blob_samples(blob: &[u8], args: &DataArgs, path: &Path) -> Result<Samples> {
    let model = Model::parse(blob).with_context(|| path.display().to_string())?;
    let metadata: Option<Metadata> = serde_json::from_slice(model.metadata()).ok();
    let spec = args.data.clone().unwrap_or(DataSpec::Synthetic);
    let dataset = data::open(&spec)?;
    let preprocessing = args::preprocessing(args, metadata.as_ref().map(|m| m.preprocessing.clone()));
    preprocessing.check(&dataset.sample_shape)?;
    let metric = args.metric.or(metadata.map(|m| m.metric));
    let (inputs, outputs): (Vec<_>, Vec<_>) = (model.inputs().collect(), model.outputs().collect());
    let ([input], [output]) = (&inputs[..], &outputs[..]) else {
        return Err(TaskError::Endpoints { inputs: inputs.len(), outputs: outputs.len() }.into());
    };
    Ok(Samples::new(dataset, preprocessing, metric, input.shape.len(), output.shape.len())?)
}
