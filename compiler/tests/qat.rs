//! Quantisation-aware training from a float network to a blob.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pare::board::host::Host;
use pare::board::{AlignedBytes, Board};
use pare::data::Split;
use pare::deploy::deploy_quantized;
use pare::eval::Net;
use pare::ir::Graph;
use pare::ir::text::parse_with;
use pare::lower::LowerConfig;
use pare::policy::{EdgeLayers, Policy, WeightChoice, WeightFormat};
use pare::quant::{CalibrationConfig, CodeBank, QuantConfig, Quantized, Scheme, calibrate};
use pare::task::{Samples, infer_blob};
use pare::train::fit::score;
use pare::train::{
    Distillation, Estimator, Event, Norms, QuantisedTraining, Recipe, Schedule, Start, TrainedCodes, Training,
};
use pare::tuning::Tuning;
use pare_runtime::Isa;

use self::stripes::stripes;

#[path = "support/stripes.rs"]
mod stripes;

/// With a sum, activations on both sides of zero, moved codes, a layer without a bias.
const NET: &str = "graph stripes
input %x: [1, 8, 8, 1]
const %a.w: [8, 3, 3, 1]
const %a.b: [8]
%a: [1, 8, 8, 8] = conv2d(%x, %a.w, %a.b) pad=[1, 1, 1, 1] clamp=[0.0, inf]
const %b.w: [8, 3, 3, 1]
%b: [1, 8, 8, 8] = conv2d(%a, %b.w) pad=[1, 1, 1, 1] groups=8
%sum: [1, 8, 8, 8] = add(%a, %b) clamp=[0.0, inf]
%max: [1, 4, 4, 8] = max_pool(%sum) kernel=[2, 2] stride=[2, 2]
%mean: [1, 1, 1, 8] = avg_pool(%max) kernel=[4, 4] stride=[4, 4]
%flat: [1, 8] = reshape(%mean)
const %c.w: [3, 8]
const %c.b: [3]
%c: [1, 3] = fully_connected(%flat, %c.w, %c.b)
output %c
";

/// A float network that knows stripes, and its data.
fn floats() -> (Graph, Samples) {
    let graph = parse_with(NET, |_, shape| Ok(vec![0.0; shape.iter().product()])).unwrap();
    let samples = stripes(1500);
    let recipe = Recipe { batch: 32, ..Recipe::from_scratch(8) };
    let (start, norms) = (Start::Random, Norms::Batch);
    let training = Training {
        graph: &graph,
        start,
        norms,
        samples: &samples,
        recipe: &recipe,
        teacher: None,
        method: None,
        seed: 3,
    };
    (training.run(None, &mut |_| ()).unwrap().graph, samples)
}

/// Without training.
fn quantised(graph: &Graph, samples: &Samples, policy: &Policy) -> Quantized {
    let config = QuantConfig::USUAL;
    let inputs = samples.spread(Split::Train, 256).unwrap();
    let calibration = calibrate(graph, &inputs, 256, &CalibrationConfig::with_seed(0)).unwrap();
    CodeBank::new(graph, &calibration, &config).unwrap().quantize(policy).unwrap()
}

fn uniform(graph: &Graph, format: &str, bits: u8) -> Policy {
    Policy::uniform(graph, format.parse().unwrap(), bits, EdgeLayers::Uniform)
}

fn recipe(epochs: usize) -> Recipe {
    let usual = Recipe::fine_tuning(epochs);
    Recipe { batch: 32, schedule: Schedule { peak: 3e-3, ..usual.schedule.clone() }, ..usual }
}

fn training<'a>(start: &'a Quantized, samples: &'a Samples, recipe: &'a Recipe) -> QuantisedTraining<'a> {
    QuantisedTraining {
        start,
        estimator: Estimator::Lsq,
        scheme: Scheme::FINEST,
        norms: Norms::Bias,
        samples,
        recipe,
        teacher: None,
        seed: 5,
    }
}

fn val(quantized: &Quantized, samples: &Samples) -> f64 {
    score(&Net::fake_quantized(quantized).unwrap(), samples).unwrap()
}

/// Share of samples whose class is the same by the integers of the blob and by the fake-quantised network.
fn agreement(quantized: &Quantized, samples: &Samples) -> f64 {
    let indices: Vec<u32> = (0..1500).collect();
    let inputs = samples.inputs(&indices);
    let isa = Isa::best();
    let config = LowerConfig::new(Host::default().layout(isa));
    let blob = deploy_quantized(quantized.clone(), &config, "").unwrap().blob;
    let integers = infer_blob(&AlignedBytes::from(&blob.bytes[..]), Host::default(), isa, &inputs).unwrap();
    let floats = Net::fake_quantized(quantized).unwrap().forward(&inputs, indices.len()).unwrap();
    let class = |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let same = integers.chunks(3).zip(floats.chunks(3)).filter(|(a, b)| class(a) == class(b)).count();
    same as f64 / indices.len() as f64
}

#[test]
fn a_little_training_before_a_policy_is_scored_helps_and_is_the_same_again() {
    let (graph, samples) = floats();
    let start = quantised(&graph, &samples, &uniform(&graph, "t", 1));
    let tuning = Tuning::new(&graph, &samples, 1200, 1);
    let [tuned, again] = [(); 2].map(|()| tuning.train(&start).unwrap());
    let (before, after) = (val(&start, &samples), val(&tuned, &samples));
    assert!(after > before, "{before} to {after}");
    assert_eq!(tuned.weights, again.weights);
}

#[test]
fn trained_codes_are_better_and_deploy_as_they_are() {
    let (graph, samples) = floats();
    let mut mixed = uniform(&graph, "w3", 3);
    let formats = ["w1", "t", "w2", "k2", "w3", "w4", "k2", "w8"].map(|format| format.parse::<WeightFormat>().unwrap());
    mixed.layers.get_mut("a").unwrap().weights = Some(WeightChoice::Channels(formats.to_vec()));
    let policies =
        [uniform(&graph, "w1", 4), uniform(&graph, "t", 2), uniform(&graph, "w2", 3), uniform(&graph, "k3", 8), mixed];
    for policy in policies {
        for (estimator, norms) in
            [(Estimator::Lsq, Norms::Bias), (Estimator::Pact, Norms::Bias), (Estimator::Lsq, Norms::Batch)]
        {
            let start = quantised(&graph, &samples, &policy);
            let recipe = recipe(3);
            let trained = QuantisedTraining { estimator, norms, ..training(&start, &samples, &recipe) };
            let trained = trained.run(None, &mut |_| ()).unwrap();
            let (before, after) = (val(&start, &samples), val(&trained.quantized, &samples));
            assert_eq!(after, trained.val);
            assert!(after >= before.min(0.95) && after > 0.8, "{estimator:?}: {before}, then {:?}", trained.epochs);
            let agreement = agreement(&trained.quantized, &samples);
            assert!(agreement == 1.0, "{policy:?}, {estimator:?}: {agreement}");
            let is_better = trained.epochs.iter().any(|epoch| epoch.val == after && after > before);
            for (id, codes) in &trained.quantized.weights {
                assert_eq!(codes.formats, start.weights[id].formats);
                // PACT leaves a step alone where nothing is clipped.
                assert!(estimator == Estimator::Pact || !is_better || codes.scales != start.weights[id].scales);
            }
        }
    }
}

#[test]
fn a_teacher_helps_and_knows_the_maps() {
    let (graph, samples) = floats();
    let start = quantised(&graph, &samples, &uniform(&graph, "w2", 2));
    let how = Distillation { logits: 0.9, temperature: 2.0, features: 0.1, maps: vec!["sum".to_owned()] };
    let recipe = Recipe { distillation: Some(how), ..recipe(3) };
    let taught = QuantisedTraining { teacher: Some(&graph), ..training(&start, &samples, &recipe) };
    let taught = taught.run(None, &mut |_| ()).unwrap();
    assert!(taught.val > 0.85, "{:?}", taught.epochs);
}

#[test]
fn training_with_a_rate_of_nothing_changes_no_code() {
    let (graph, samples) = floats();
    let start = quantised(&graph, &samples, &uniform(&graph, "w2", 4));
    let still = Recipe { schedule: Schedule { peak: 0.0, ..recipe(1).schedule }, ..recipe(1) };
    let same = training(&start, &samples, &still).run(None, &mut |_| ()).unwrap();
    for (id, codes) in &start.weights {
        let trained = &same.quantized.weights[id];
        assert_eq!((&trained.levels, &trained.scales), (&codes.levels, &codes.scales));
    }
    assert_eq!(same.quantized.activations[..start.activations.len()], start.activations);
}

fn same(a: &TrainedCodes, b: &TrainedCodes) -> bool {
    let (x, y) = (&a.quantized, &b.quantized);
    x.weights == y.weights && x.activations == y.activations && x.graph == y.graph && a.epochs == b.epochs
}

#[test]
fn neither_threads_nor_kills_change_a_code() {
    let (graph, samples) = floats();
    let start = quantised(&graph, &samples, &uniform(&graph, "t", 3));
    let recipe = recipe(3);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| training(&start, &samples, &recipe).run(None, &mut |_| ()).unwrap())
    };
    let whole = run(1);
    assert!(same(&whole, &run(3)));
    let directory = tempfile::tempdir().unwrap();
    for steps in [20, 10] {
        let mut left = steps;
        let mut kill = |event: Event| {
            if matches!(event, Event::Step { .. }) {
                assert!(left > 0, "killed");
                left -= 1;
            }
        };
        let run = || training(&start, &samples, &recipe).run(Some(directory.path()), &mut kill).map(|_| ());
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    }
    assert!(same(&whole, &training(&start, &samples, &recipe).run(Some(directory.path()), &mut |_| ()).unwrap()));
    // Other codes are other training.
    let other = quantised(&graph, &samples, &uniform(&graph, "t", 4));
    let refused = training(&other, &samples, &recipe).run(Some(directory.path()), &mut |_| ()).unwrap_err();
    assert!(refused.to_string().contains("remove it"), "{refused}");
}
