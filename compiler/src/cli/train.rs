//! `pare train`: trains a network on a data set, from its own weights or from random ones.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::args::{self, DataArgs, NormsArg, PassArgs};
use super::progress::Progress;
use super::{Global, Output};
use crate::data::Split;
use crate::eval::Net;
use crate::import::{self, native};
use crate::ir::Graph;
use crate::passes::simplify;
use crate::task::Task;
use crate::train::fit::CHECKPOINT_FILE;
use crate::train::{Augmentation, Decay, Distillation, Norms, Recipe, Rule, Schedule, Start, Training, randomised};

/// Options of `pare train`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The network: a model file, or a directory with a graph.ir; weights may be missing --from-scratch.
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Where the trained network goes, its card, and the checkpoint from which a killed training goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Passes over the training samples.
    #[arg(long, value_name = "N", default_value_t = 10)]
    epochs: usize,
    /// Begin with random weights rather than the model's.
    #[arg(long)]
    from_scratch: bool,
    /// What stands behind convolutions while training [default: batch from scratch, else bias].
    #[arg(long, value_enum)]
    norms: Option<NormsArg>,
    /// Samples of a step.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = args::batch)]
    batch: usize,
    /// What gradients do [default: sgd from scratch, else adamw].
    #[arg(long, value_enum)]
    rule: Option<RuleArg>,
    /// The highest learning rate [default: 0.1 for sgd, 0.0003 for adamw].
    #[arg(long, value_name = "RATE", value_parser = args::positive)]
    rate: Option<f32>,
    /// Epochs over which the rate rises from nothing [default: a tenth of all, at most 3, from scratch, else 0].
    #[arg(long, value_name = "EPOCHS")]
    warm_up: Option<f32>,
    /// Divide the rate by ten at these epochs; without it falls along a cosine.
    #[arg(long, value_name = "EPOCHS", value_delimiter = ',')]
    rate_steps: Vec<f32>,
    /// Pull on weights towards zero [default: 0.0005 from scratch, else 0.0001].
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f32>,
    /// Share of every label that is spread over all classes.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = args::share)]
    smoothing: f32,
    /// Mix samples in pairs; the larger, the more evenly.
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0)]
    mixup: f32,
    /// Change images at random: flip, invert, shift=PIXELS, shift-edge=PIXELS.
    #[arg(long, value_name = "HOW", value_delimiter = ',')]
    augment: Vec<Augmentation>,
    /// Stop after so many epochs without a better validation score.
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Keep the average of the weights over steps: the share of the old in it, as 0.999.
    #[arg(long, value_name = "SHARE", value_parser = args::share)]
    average: Option<f32>,
    /// A model to learn from, besides the labels.
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// Share of the teacher in the loss.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = args::share)]
    distill: f32,
    /// Softens what the teacher says.
    #[arg(long, value_name = "T", default_value_t = 4.0, value_parser = args::positive)]
    temperature: f32,
    /// Nodes whose outputs shall be like the teacher's.
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    distill_maps: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum RuleArg {
    /// Stochastic gradient descent with Nesterov's momentum.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Output> {
    let progress = Progress::new(global);
    progress.stage("reading the network and its data");
    let start = if args.from_scratch { Start::Random } else { Start::Trained };
    let (graph, task) = read(&args, start, global.seed)?;
    let teacher = args.teacher.as_deref().map(|path| -> Result<Graph> { Ok(simplify(import::import(path)?)?) });
    let teacher = teacher.transpose()?;
    let recipe = recipe(&args);
    let norms = match args.norms {
        Some(norms) => norms.into(),
        None if args.from_scratch => Norms::Batch,
        None => Norms::Bias,
    };
    let training = Training {
        graph: &graph,
        start,
        norms,
        samples: &task.data,
        recipe: &recipe,
        teacher: teacher.as_ref(),
        method: None,
        seed: global.seed,
    };
    let clock = Instant::now();
    let trained = training.run(Some(&args.out), &mut |event| progress.training(event)).with_context(|| {
        let checkpoint = args.out.join(CHECKPOINT_FILE);
        format!("training stopped; started again, it goes on from {} if that is there", checkpoint.display())
    })?;
    progress.stage("scoring on the test samples");
    let net = Net::float(&trained.graph)?;
    let test = task.data.score_net(&net, task.data.indices(Split::Test, None)?)?;
    let card = args::card_of(&args.model, "Trained by `pare train`", &task, [trained.val, test.value], global.seed);
    card.save_with(&trained.graph, &args.out)?;
    progress.finish();

    let wall_s = clock.elapsed().as_secs_f64();
    let json = json!({
        "metric": task.data.metric,
        "judged_by": task.data.judged_by(Split::Val),
        "val": trained.val,
        "test": test.value,
        "n": test.n,
        "epochs": trained.epochs,
        "recipe": recipe,
        "digest": trained.digest,
        "out": args.out,
        "wall_s": wall_s,
    });
    let text = format!(
        "val {:.4}, test {} {:.4} on {} samples after {} epochs in {wall_s:.0} s\nweights {}\nwritten to {}\n",
        trained.val,
        task.data.metric,
        test.value,
        test.n,
        trained.epochs.len(),
        &trained.digest[..16],
        args.out.display(),
    );
    Ok(Output::new(json, text))
}

/// The simplified network, and its data. Random weights come before simplification: passes take zeros out.
fn read(args: &Args, start: Start, seed: u64) -> Result<(Graph, Task)> {
    if start == Start::Trained {
        let (task, _) = args::task(Some(&args.model), &args.data, &PassArgs::default(), 1)?;
        return Ok((task.graph.clone(), task));
    }
    let graph = if args.model.is_dir() { native::load_untrained(&args.model)? } else { import::import(&args.model)? };
    let graph = simplify(randomised(&graph, seed))?;
    let Some(spec) = &args.data.data else { bail!("which data? --data names samples to train on, as cifar10:DIR") };
    let dataset = args::dataset(&args.data, spec)?;
    let preprocessing = args::preprocessing(&args.data, None);
    preprocessing.check(&dataset.sample_shape)?;
    let task = Task::new(graph, dataset, preprocessing, args.data.metric)?;
    Ok((task.graph.clone(), task))
}

fn recipe(args: &Args) -> Recipe {
    let usual = if args.from_scratch { Recipe::from_scratch(args.epochs) } else { Recipe::fine_tuning(args.epochs) };
    let rule = match args.rule {
        Some(RuleArg::Sgd) => Rule::SGD,
        Some(RuleArg::Adamw) => Rule::ADAMW,
        None => usual.rule,
    };
    let peak = if matches!(rule, Rule::Sgd { .. }) { 0.1 } else { 3e-4 };
    let decay = match args.rate_steps.as_slice() {
        [] => Decay::Cosine,
        epochs => Decay::Steps { epochs: epochs.to_vec(), factor: 0.1 },
    };
    Recipe {
        batch: args.batch,
        rule,
        weight_decay: args.weight_decay.unwrap_or(usual.weight_decay),
        schedule: Schedule {
            peak: args.rate.unwrap_or(peak),
            warm_up: args.warm_up.unwrap_or(usual.schedule.warm_up),
            decay,
        },
        smoothing: args.smoothing,
        mixup: args.mixup,
        augmentations: args.augment.clone(),
        patience: args.patience,
        averaging: args.average,
        distillation: args.teacher.as_ref().map(|_| Distillation {
            logits: args.distill,
            temperature: args.temperature,
            features: if args.distill_maps.is_empty() { 0.0 } else { 1.0 },
            maps: args.distill_maps.clone(),
        }),
        ..usual
    }
}
