//! `pare verify`: the same bytes from every kernel family and board, and how often the float network agrees.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pare_runtime::kernels::UnknownIsa;
use pare_runtime::{Isa, Model};
use rayon::prelude::*;
use serde_json::json;

use super::args::{self, DataArgs, PassArgs, PortArgs, SampleArgs, ThreadArgs};
use super::blob::read_blob;
use super::eval::blob_samples;
use super::progress::Progress;
use super::{Global, Output};
use crate::board::Board;
use crate::board::host::Host;
use crate::data::Metric;
use crate::data::metric::argmax;
use crate::eval::Net;
use crate::ir::ValueId;
use crate::target::Target;
use crate::task::{decode, encode};

/// Options of `pare verify`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A blob (.pare).
    blob: PathBuf,
    /// The model file it was compiled from, to compare classes with the float network.
    #[arg(long, value_name = "MODEL")]
    float: Option<PathBuf>,
    /// Kernel families of this processor, and other targets, as qemu:cortex-m4, or serial:nucleo-l4r5zi at --port; `host`
    /// is the fastest family here, and one alone is compared with the reference [default: all families that this
    /// processor runs].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    backends: Vec<String>,
    #[command(flatten)]
    at: PortArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    on: SampleArgs,
    #[command(flatten)]
    sharing: ThreadArgs,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let Some(blob) = read_blob(&args.blob)? else {
        bail!("{} is no blob: compile it first (`pare compile`)", args.blob.display());
    };
    let backends = backends(&args.backends, args.sharing.host(), &args.at)?;
    let model = Model::parse(&blob)?;
    let samples = blob_samples(&blob, &args.data, &args.blob)?;
    let indices = args.on.indices(&samples)?;
    let output_len: usize = model.outputs().map(|t| t.shape.len()).sum();
    let input_len: usize = model.inputs().map(|t| t.shape.len()).sum();
    let net = args.float.as_deref().map(|path| float_net(path, input_len, output_len)).transpose()?;
    let progress = Progress::new(global);

    let mut mismatch: Option<(usize, &str)> = None;
    let (mut agree, mut inputs_seen) = (0, 0);
    progress.event(crate::search::Event::Stage { name: "comparing", steps: indices.len().div_ceil(256) });
    for chunk in indices.chunks(256) {
        let inputs = samples.inputs(chunk);
        let codes = encode(&model, &inputs);
        let mut first: Option<Vec<u8>> = None;
        for Backend { name, board, isa } in &backends {
            let outputs = board.run(&blob, *isa, &codes).with_context(|| name.clone())?;
            let expected = first.get_or_insert_with(|| outputs.clone());
            if let Some(at) = expected.par_iter().zip(&outputs).position_first(|(a, b)| a != b) {
                mismatch.get_or_insert((inputs_seen + at / output_len, name));
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
    let names: Vec<&str> = backends.iter().map(|backend| backend.name.as_str()).collect();
    let json = json!({
        "bit_exact": mismatch.is_none(), "n": indices.len(), "inputs": inputs_seen, "backends": names,
        "agreement": agreement,
        "mismatch": mismatch.map(|(input, name)| json!({ "input": input, "backend": name })),
    });
    let mut text = match mismatch {
        None => format!("bit-exact: {} give the same bytes on {} samples\n", names.join(", "), indices.len()),
        Some((input, name)) => format!("MISMATCH: {name} differs from {} first at input {input}\n", names[0]),
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

/// What runs the blob, and by which kernels.
struct Backend {
    name: String,
    board: Box<dyn Board>,
    isa: Isa,
}

impl Backend {
    /// A kernel family of this processor; the reference, which others are compared with, by one thread.
    fn here(isa: Isa, host: Host) -> Backend {
        let host = if isa == Isa::Reference { Host::default() } else { host };
        Backend { name: isa.to_string(), board: Box::new(host), isa }
    }

    fn find(name: &str, host: Host, at: &PortArgs) -> Result<Backend> {
        if name == "host" {
            return Ok(Backend::here(Isa::best(), host));
        }
        if let Ok(isa) = name.parse::<Isa>() {
            if !isa.is_available() {
                bail!("this processor cannot run the {isa} kernels; leave them out of --backends");
            }
            return Ok(Backend::here(isa, host));
        }
        if let Some(target) = name.strip_prefix("serial:") {
            if at.port.is_none() {
                bail!("backend `{name}` is a board at a serial port: say which, as --port /dev/ttyACM0");
            }
            let board = at.target(target)?.board();
            return Ok(Backend { name: name.to_owned(), isa: board.best_isa(), board });
        }
        let Ok(target) = Target::find(name) else {
            bail!("backend `{name}`: {UnknownIsa}, or host, or a target as qemu:cortex-m4 (see `pare targets`)");
        };
        let board = target.board();
        Ok(Backend { name: name.to_owned(), isa: board.best_isa(), board })
    }
}

fn backends(names: &[String], host: Host, at: &PortArgs) -> Result<Vec<Backend>> {
    if names.is_empty() {
        return Ok(Isa::available().map(|isa| Backend::here(isa, host)).collect());
    }
    let mut backends: Vec<Backend> = names.iter().map(|name| Backend::find(name, host, at)).collect::<Result<_>>()?;
    if backends.len() == 1 {
        backends.insert(0, Backend::here(Isa::Reference, host));
    }
    Ok(backends)
}
