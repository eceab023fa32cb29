//! Quantisers on schemes of backends: codes are of their scheme, and the blob computes what the simulation says.

use pare::data::Split;
use pare::deploy::deploy_quantized;
use pare::eval::Net;
use pare::lower::{LowerConfig, PlannedOp};
use pare::methods::quantizers::{Backend, Quantizer, academic, policy};
use pare::models::bundled;
use pare::quant::{CalibrationConfig, CodeBank, Granularity, Quantized, Scales, Scheme, Zeros, calibrate};
use pare::task::Task;
use pare::train::{Norms, QuantisedTraining, Recipe, Schedule};
use pare_runtime::format::Layout;

fn task() -> Task {
    let bundled = bundled();
    let graph = pare::passes::simplify(bundled.graph).unwrap();
    let dataset = pare::data::open(&bundled.card.data).unwrap();
    Task::new(graph, dataset, bundled.card.preprocessing, None).unwrap()
}

fn each(mut check: impl FnMut(&Task, Quantizer, Backend, Quantized)) {
    let task = task();
    let inputs = task.data.spread(Split::Train, 64).unwrap();
    let calibration = calibrate(&task.graph, &inputs, 64, &CalibrationConfig::with_seed(0)).unwrap();
    for backend in Backend::ALL {
        for quantizer in Quantizer::ALL {
            let bank = CodeBank::new(&task.graph, &calibration, &quantizer.config(backend)).unwrap();
            let policy = policy(&task.graph, quantizer.format(4).unwrap(), 8);
            check(&task, quantizer, backend, bank.quantize(&policy).unwrap());
        }
    }
}

fn assert_is_of(scheme: Scheme, quantized: &Quantized, context: &str) {
    let is_power = |scale: f32| scale.log2() == scale.log2().round();
    for codes in quantized.weights.values() {
        if scheme.granularity == Granularity::Tensor {
            assert!(codes.scales.iter().all(|scale| *scale == codes.scales[0]), "{context}");
        }
        if scheme.scales == Scales::PowersOfTwo {
            assert!(codes.scales.iter().all(|&scale| is_power(scale)), "{context}");
        }
    }
    for code in quantized.activations.iter().flatten() {
        if scheme.zeros == Zeros::Fixed {
            assert!([0, 1 << (code.bits - 1)].contains(&code.zero), "{context}: {code:?}");
        }
        assert!(scheme.scales == Scales::Real || is_power(code.scale), "{context}: {code:?}");
    }
}

#[test]
fn codes_are_of_their_scheme() {
    each(|_, quantizer, backend, quantized| {
        assert_is_of(backend.scheme(), &quantized, &format!("{} on {}", quantizer.name(), backend.name()));
    });
}

#[test]
fn training_keeps_to_the_scheme() {
    let task = task();
    let inputs = task.data.spread(Split::Train, 64).unwrap();
    let calibration = calibrate(&task.graph, &inputs, 64, &CalibrationConfig::with_seed(0)).unwrap();
    let mut samples = task.data.clone();
    samples.dataset.splits.train.truncate(1024);
    samples.dataset.splits.val.truncate(256);
    let usual = Recipe::fine_tuning(1);
    let recipe = Recipe { batch: 32, schedule: Schedule { peak: 3e-3, ..usual.schedule.clone() }, ..usual };
    for (quantizer, backend, learns_steps) in [
        (Quantizer::Lsq, Backend::PerChannel, Some(true)),
        (Quantizer::Lsq, Backend::PerTensor, Some(true)),
        // A step is doubled or halved, or stays.
        (Quantizer::Lsq, Backend::PowerOfTwo, None),
        (Quantizer::Pact, Backend::PerTensor, Some(true)),
        (Quantizer::MinMax, Backend::PerChannel, Some(false)),
    ] {
        let bank = CodeBank::new(&task.graph, &calibration, &quantizer.config(backend)).unwrap();
        let start = bank.quantize(&policy(&task.graph, quantizer.format(2).unwrap(), 8)).unwrap();
        let training = QuantisedTraining {
            start: &start,
            estimator: quantizer.estimator(),
            scheme: backend.scheme(),
            norms: Norms::Bias,
            samples: &samples,
            recipe: &recipe,
            teacher: None,
            seed: 1,
        };
        let trained = training.run(None, &mut |_| ()).unwrap();
        let context = format!("{} on {}", quantizer.name(), backend.name());
        assert!(trained.val > 0.0 && trained.quantized.weights != start.weights, "{context}: nothing was learned");
        let moved = scales(&trained.quantized) != scales(&start);
        assert_eq!(moved, learns_steps.unwrap_or(moved), "{context}");
        assert_is_of(backend.scheme(), &trained.quantized, &context);
    }
}

/// All scales of weights and activations.
fn scales(quantized: &Quantized) -> Vec<f32> {
    let of_weights = quantized.weights.values().flat_map(|codes| codes.scales.clone());
    of_weights.chain(quantized.activations.iter().flatten().map(|code| code.scale)).collect()
}

#[test]
fn powers_of_two_leave_shifts_alone() {
    each(|_, quantizer, backend, quantized| {
        if backend != Backend::PowerOfTwo {
            return;
        }
        let deployed = deploy_quantized(quantized, &LowerConfig::new(Layout::Panels), "").unwrap();
        for layer in &deployed.plan.layers {
            if let PlannedOp::Conv(conv) = &layer.op {
                assert!(conv.mult.iter().all(|mult| mult.count_ones() == 1), "{}: {:?}", quantizer.name(), conv.mult);
            }
        }
    });
}

#[test]
fn what_is_deployed_is_what_was_simulated() {
    each(|task, quantizer, backend, quantized| {
        let indices = task.data.indices(Split::Val, Some(200)).unwrap();
        let simulated = Net::fake_quantized(&quantized).unwrap();
        let score = |net: &Net| task.data.score_net(net, indices).unwrap().value;
        let as_papers_do = score(&academic(quantized.clone()).unwrap());
        let blob = deploy_quantized(quantized, &LowerConfig::new(Layout::Panels), "").unwrap().blob;
        let bytes = pare::board::AlignedBytes::from(&blob.bytes[..]);
        let context = format!("{} on {}", quantizer.name(), backend.name());
        assert_eq!(task.data.agreement(&simulated, &bytes, indices).unwrap(), 1.0, "{context}");
        // The same weights and the same activations, but for those of sums and pools.
        assert!((as_papers_do - score(&simulated)).abs() < 0.15, "{context}: {as_papers_do}");
    });
}
