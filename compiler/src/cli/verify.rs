//! `pare verify`: the same bytes from every kernel family, and how often the float network agrees.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use pare_runtime::{Isa, Model};
use rayon::prelude::*;
use serde_json::json;

use super::args::{self, DataArgs, PassArgs, SampleArgs};
use super::eval::{blob_samples, read_blob};
use super::progress::Progress;
use super::{Global, Output};
use crate::board::host;
use crate::data::Metric;
use crate::eval::Net;
use crate::ir::ValueId;
use crate::task::{decode, encode};

/// Options of `pare verify`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A blob (.pare).
    blob: PathBuf,
    /// The model file it was compiled from, to compare classes with the float network.
    #[arg(long, value_name = "MODEL")]
    float: Option<PathBuf>,
    /// Kernel families; `host` is the fastest here, and one alone is compared with the reference [default: all
    /// that this processor runs].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    backends: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    on: SampleArgs,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let Some(blob) = read_blob(&args.blob)? else {
        bail!("{} is no blob: compile it first (`pare compile`)", args.blob.display());
    };
    let backends = backends(&args.backends)?;
    let model = Model::parse(&blob)?;
    let samples = blob_samples(&blob, &args.data, &args.blob)?;
    let indices = args.on.indices(&samples)?;
    let output_len: usize = model.outputs().map(|t| t.shape.len()).sum();
    let input_len: usize = model.inputs().map(|t| t.shape.len()).sum();
    let net = args.float.as_deref().map(|path| float_net(path, input_len, output_len)).transpose()?;
    let progress = Progress::new(global);

    let mut mismatch: Option<(usize, Isa)> = None;
    let (mut agree, mut inputs_seen) = (0, 0);
    progress.event(crate::search::Event::Stage { name: "comparing", steps: indices.len().div_ceil(256) });
    for chunk in indices.chunks(256) {
        let inputs = samples.inputs(chunk);
        let codes = encode(&model, &inputs);
        let mut first: Option<Vec<u8>> = None;
        for &isa in &backends {
            let outputs = host::infer(&blob, isa, &codes)?;
            let expected = first.get_or_insert_with(|| outputs.clone());
            if let Some(at) = expected.par_iter().zip(&outputs).position_first(|(a, b)| a != b) {
                mismatch.get_or_insert((inputs_seen + at / output_len, isa));
            }
        }
        if let (Some(net), Some(outputs)) = (&net, &first) {
            let float = net.forward(&inputs, inputs.len() / input_len)?;
            let integer = decode(&model, outputs);
            let pairs = float.chunks(output_len).zip(integer.chunks(output_len));
            agree += pairs.filter(|(a, b)| argmax(a) == argmax(b)).count();
        }
        inputs_seen += inputs.len() / input_len;
        progress.event(crate::search::Event::Step { label: format!("{inputs_seen} inputs") });
    }
    progress.finish();

    let agreement = net.filter(|_| samples.metric == Metric::Top1).map(|_| agree as f64 / inputs_seen as f64);
    let names: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let json = json!({
        "bit_exact": mismatch.is_none(), "n": indices.len(), "inputs": inputs_seen, "backends": names,
        "agreement": agreement,
        "mismatch": mismatch.map(|(input, isa)| json!({ "input": input, "backend": isa.to_string() })),
    });
    let mut text = match mismatch {
        None => format!("bit-exact: {} give the same bytes on {} samples\n", names.join(", "), indices.len()),
        Some((input, isa)) => format!("MISMATCH: {isa} differs from {} first at input {input}\n", names[0]),
    };
    if let Some(agreement) = agreement {
        text += &format!("same class as the float network on {:.2} % of them\n", 100.0 * agreement);
    }
    Ok(Output { json, text, code: u8::from(mismatch.is_some()) })
}

/// The float network, where it takes and gives what the blob does.
fn float_net(path: &Path, input_len: usize, output_len: usize) -> Result<Net> {
    let graph = args::network(path, &PassArgs::default(), 1)?.graph;
    let len = |values: &[ValueId]| values.iter().map(|&value| graph.value(value).len()).sum::<usize>();
    let (inputs, outputs) = (len(&graph.inputs), len(&graph.outputs));
    if (inputs, outputs) != (input_len, output_len) {
        bail!(
            "{} maps {inputs} values to {outputs}, the blob {input_len} to {output_len}: it was compiled from another",
            path.display()
        );
    }
    Ok(Net::float(&graph)?)
}

fn backends(names: &[String]) -> Result<Vec<Isa>> {
    if names.is_empty() {
        return Ok(Isa::available().collect());
    }
    let mut backends = Vec::new();
    for name in names {
        let isa = match name.as_str() {
            "host" => Isa::best(),
            _ => match name.parse::<Isa>() {
                Ok(isa) => isa,
                Err(unknown) => bail!("backend `{name}`: {unknown}, or host"),
            },
        };
        if !isa.is_available() {
            bail!("this processor cannot run the {isa} kernels; leave them out of --backends");
        }
        backends.push(isa);
    }
    if let [alone] = backends[..] {
        backends = vec![Isa::Reference, alone];
    }
    Ok(backends)
}

fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0
}
