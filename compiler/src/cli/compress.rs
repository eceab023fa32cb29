//! `pare compress`: Deep Compression, a network of few weights and few values, to run and to store.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use pare_runtime::Isa;
use serde_json::json;

use super::args::{self, DataArgs, NormsArg, PassArgs, PortArgs};
use super::progress::Progress;
use super::{Global, Output};
use crate::board::AlignedBytes;
use crate::board::host::Host;
use crate::compile::{Metadata, Settings};
use crate::data::Split;
use crate::eval::Net;
use crate::files;
use crate::import::native;
use crate::lower::LowerConfig;
use crate::methods::amc::Aim;
use crate::methods::amc::densities::{Allocation, allocate};
use crate::methods::deep_compression::Compression;
use crate::prune::fine::{self, Sparsity};
use crate::train::{Augmentation, Distillation, Recipe, Schedule};

/// The blob that runs, and the same as it is stored, in the directory of results.
const BLOB_FILE: &str = "model.pare";
const STORED_FILE: &str = "model.parez";

/// Options of `pare compress`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The trained network: a model file, or a directory with a graph.ir.
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Where model.pare, model.parez and the float network go, and checkpoints from which a killed run goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Weights that are left: a share of all, or so many of every few in a row, as 2:4.
    #[arg(long, value_name = "SHARE|N:M", default_value = "0.1", conflicts_with = "max_drop")]
    density: DensityArg,
    /// In place of a density: as few weights as lose no more of the accuracy than this, in points, before training
    /// (AMC's accuracy-guaranteed protocol).
    #[arg(long, value_name = "POINTS", value_parser = args::positive)]
    max_drop: Option<f32>,
    /// With a share: how it is divided among layers.
    #[arg(long, value_enum, default_value = "magnitude")]
    allocate: AllocateArg,
    /// With --allocate amc or --max-drop: what the agent tries, and each that it must beat.
    #[arg(long, value_name = "N", default_value_t = 200)]
    episodes: usize,
    /// Values that the weights of a layer share, 0 among them: 2^BITS.
    #[arg(long, value_name = "BITS", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=4))]
    bits: u8,
    /// Passes over the training samples while weights go, and afterwards as many for the others to make up for them.
    #[arg(long, value_name = "N", default_value_t = 10)]
    prune_epochs: usize,
    /// Passes while values are shared.
    #[arg(long, value_name = "N", default_value_t = 5)]
    share_epochs: usize,
    /// The highest learning rate while weights go; half of it while values are shared.
    #[arg(long, value_name = "RATE", default_value_t = 1e-3, value_parser = args::positive)]
    rate: f32,
    /// What stands behind convolutions while training.
    #[arg(long, value_enum, default_value = "bias")]
    norms: NormsArg,
    /// Share of the network that was given in the loss.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = args::share)]
    distill: f32,
    /// Change images at random: flip, invert, shift=PIXELS, shift-edge=PIXELS.
    #[arg(long, value_name = "HOW", value_delimiter = ',')]
    augment: Vec<Augmentation>,
    /// A name from `pare targets`, or the path of a description.
    #[arg(long, default_value = "host")]
    target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum AllocateArg {
    /// By magnitudes (LAMP, Lee et al. 2021).
    Magnitude,
    /// By AMC's agent or one that it must beat, whatever is best before training.
    Amc,
}

/// What `--density` says.
#[derive(Clone, Debug)]
struct DensityArg(Sparsity);

impl FromStr for DensityArg {
    type Err = String;

    fn from_str(text: &str) -> Result<DensityArg, String> {
        let wrong = || format!("`{text}` is no density: give a share, as 0.1, or N:M, as 2:4");
        if let Some((keep, of)) = text.split_once(':') {
            let (keep, of) = (keep.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
            return if (1..=of).contains(&keep) {
                Ok(DensityArg(Sparsity::OfEvery { keep, of }))
            } else {
                Err(wrong())
            };
        }
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(wrong)?;
        Ok(DensityArg(Sparsity::Global(share)))
    }
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let (task, _) = args::task(Some(&args.model), &args.data, &PassArgs::default(), 1)?;
    let target = PortArgs { port: None }.target(&args.target)?;
    let settings = Settings::new(target, global.seed, PathBuf::new());
    let recipe = |epochs, share: f32| {
        let usual = Recipe::fine_tuning(epochs);
        let distillation = (args.distill > 0.0).then(|| Distillation {
            logits: args.distill,
            temperature: 4.0,
            features: 0.0,
            maps: Vec::new(),
        });
        let schedule = Schedule { peak: args.rate * share, ..usual.schedule.clone() };
        Recipe { schedule, augmentations: args.augment.clone(), distillation, ..usual }
    };
    let aim = match (args.max_drop, args.allocate, &args.density.0) {
        (Some(points), ..) => Some(Aim::Drop(points.into())),
        (None, AllocateArg::Magnitude, _) => None,
        (None, AllocateArg::Amc, &Sparsity::Global(density)) => Some(Aim::Share(density)),
        (None, AllocateArg::Amc, _) => {
            bail!("--allocate amc divides a share among layers: give one with --density, as 0.5")
        }
    };
    let divide = |aim| allocate(&task, aim, args.episodes, global.seed, &mut |event| progress.event(event));
    let allocation = aim.map(divide).transpose()?;
    let sparsity = allocation.as_ref().map_or(&args.density.0, |allocation| &allocation.sparsity);
    let compression = Compression {
        task: &task,
        start: allocation.as_ref().map_or(&task.graph, |allocation| &allocation.graph),
        sparsity: sparsity.clone(),
        shrinking: args.prune_epochs as f32,
        pruning: recipe(2 * args.prune_epochs, 1.0),
        bits: args.bits,
        sharing: recipe(args.share_epochs, 0.5),
        norms: args.norms.into(),
        seed: global.seed,
    };
    let compressed = compression.run(&args.out, &mut |event| progress.training(event))?;
    progress.stage("writing and scoring");
    let metadata = Metadata { preprocessing: task.data.preprocessing.clone(), metric: task.data.metric };
    let config = LowerConfig::new(settings.target.board().layout(settings.isa));
    let deployed = compressed.deploy(&config, &serde_json::to_string(&metadata)?)?;
    let blob = deployed.blob.bytes;
    let (sizes, stored) = compressed.sizes(&blob);
    let mut made = native::encode(&compressed.graph)?.to_vec();
    made.extend([(BLOB_FILE, blob.clone()), (STORED_FILE, stored)]);
    let made: Vec<_> = made.into_iter().map(|(name, bytes)| (args.out.join(name), bytes.into())).collect();
    files::replace_all(&made)?;

    let runnable = AlignedBytes::from(&blob[..]);
    let score = |split| -> Result<[f64; 2]> {
        let indices = task.data.indices(split, None)?;
        let float = task.data.score_net(&Net::float(&task.graph)?, indices)?.value;
        Ok([float, task.data.score_blob(&runnable, Host::default(), Isa::best(), indices)?.value])
    };
    let (val, test) = (score(Split::Val)?, score(Split::Test)?);
    progress.finish();
    let (layers, density) = fine::density(&compressed.graph);
    let ratio = sizes.float as f64 / sizes.stored as f64;
    let json = json!({
        "metric": task.data.metric,
        "density": density,
        "allocation": allocation.map(|Allocation { rivals, .. }| {
            rivals.into_iter().map(|(name, rival)| (name.to_owned(), json!(rival))).collect::<serde_json::Map<_, _>>()
        }),
        "layers": layers,
        "bytes": sizes,
        "ratio": ratio,
        "val": { "float": val[0], "pruned": compressed.val[0], "shared": compressed.val[1], "blob": val[1] },
        "test": { "float": test[0], "blob": test[1] },
        "out": args.out,
    });
    let metric = task.data.metric;
    let text = format!(
        "{:.1} % of the weights are left\n\
         bytes: floats {}, blob {}, stored {} (the paper's Huffman codes: {}): 1/{ratio:.1} of the floats\n\
         val {metric}: float {:.4}, pruned {:.4}, shared {:.4}, blob {:.4}\n\
         test {metric}: float {:.4}, blob {:.4}\n\
         written to {}\n",
        100.0 * density,
        sizes.float,
        sizes.blob,
        sizes.stored,
        sizes.huffman,
        val[0],
        compressed.val[0],
        compressed.val[1],
        val[1],
        test[0],
        test[1],
        args.out.display(),
    );
    Ok(Output::new(json, text))
}
