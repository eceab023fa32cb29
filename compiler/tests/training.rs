//! Training from data to a graph: it learns, it can be killed anywhere, and it says what is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pare::eval::Net;
use pare::import::native;
use pare::ir::Graph;
use pare::ir::text::parse_with;
use pare::methods::amc::Aim;
use pare::methods::amc::densities::allocate;
use pare::prune::fine::density;
use pare::rng::Pcg32;
use pare::task::{Samples, Task};
use pare::train::{
    Augmentation, Distillation, Event, Norms, Recipe, Rule, Schedule, Start, TrainError, Trained, Training,
};

use self::stripes::stripes;

#[path = "support/stripes.rs"]
mod stripes;

const NET: &str = "graph stripes
input %x: [1, 8, 8, 1]
const %a.w: [8, 3, 3, 1]
const %a.b: [8]
%a: [1, 8, 8, 8] = conv2d(%x, %a.w, %a.b) pad=[1, 1, 1, 1] clamp=[0.0, inf]
const %b.w: [8, 3, 3, 1]
const %b.b: [8]
%b: [1, 4, 4, 8] = conv2d(%a, %b.w, %b.b) stride=[2, 2] pad=[1, 0, 1, 0] groups=8 clamp=[0.0, inf]
%mean: [1, 1, 1, 8] = avg_pool(%b) kernel=[4, 4] stride=[4, 4]
%flat: [1, 8] = reshape(%mean)
const %c.w: [3, 8]
const %c.b: [3]
%c: [1, 3] = fully_connected(%flat, %c.w, %c.b)
%p: [1, 3] = softmax(%c)
output %p
";

fn net() -> Graph {
    parse_with(NET, |_, shape| Ok(vec![0.0; shape.iter().product()])).unwrap()
}

fn recipe(epochs: usize) -> Recipe {
    let usual = Recipe::from_scratch(epochs);
    let augmentations = vec![Augmentation::Flip, Augmentation::ShiftEdge(1)];
    Recipe { batch: 32, smoothing: 0.05, averaging: Some(0.9), augmentations, ..usual }
}

fn training<'a>(graph: &'a Graph, samples: &'a Samples, recipe: &'a Recipe) -> Training<'a> {
    Training { graph, start: Start::Random, norms: Norms::Batch, samples, recipe, teacher: None, method: None, seed: 3 }
}

#[test]
fn learns_and_its_graph_scores_as_said() {
    let (graph, samples, recipe) = (net(), stripes(1500), recipe(8));
    let trained = training(&graph, &samples, &recipe).run(None, &mut |_| ()).unwrap();
    assert!(trained.val > 0.9, "{:?}", trained.epochs);
    assert_eq!(pare::train::fit::score(&Net::float(&trained.graph).unwrap(), &samples).unwrap(), trained.val);
    // From there on, with biases for norms, and by another rule.
    let gentle = Recipe { mixup: 0.2, ..Recipe::fine_tuning(2) };
    let from = Training { start: Start::Trained, norms: Norms::Bias, ..training(&trained.graph, &samples, &gentle) };
    let tuned = from.run(None, &mut |_| ()).unwrap();
    assert!(tuned.val > trained.val - 0.05, "{:?} after {}", tuned.epochs, trained.val);
    // Norms that are taken out of the biases again change little.
    let none = Recipe { batch: 64, ..Recipe::fine_tuning(1) };
    let none = Recipe { schedule: Schedule { peak: 1e-9, ..none.schedule.clone() }, ..none };
    let from = Training { start: Start::Trained, norms: Norms::Batch, ..training(&trained.graph, &samples, &none) };
    let same = from.run(None, &mut |_| ()).unwrap();
    assert!((same.val - trained.val).abs() < 0.03, "{} after {}", same.val, trained.val);
}

#[test]
fn an_agent_divides_weights_among_layers() {
    let (graph, samples, recipe) = (net(), stripes(1500), recipe(6));
    let graph = training(&graph, &samples, &recipe).run(None, &mut |_| ()).unwrap().graph;
    let task = Task { graph, data: samples };
    let val = |pruned: &Graph| pare::train::fit::score(&Net::float(pruned).unwrap(), &task.data).unwrap();
    let rounding = |layers: usize| 0.5 * layers as f64 / 168.0;

    let found = allocate(&task, Aim::Share(0.6), 60, 1, &mut |_| ()).unwrap();
    let pruned = &found.graph;
    let (layers, all) = density(pruned);
    // Of a share of a layer's weights, whole ones are left.
    assert!(all <= 0.6 + rounding(layers.len()), "{layers:?}");
    let of =
        |name| found.rivals.iter().find(|(rival, _)| *rival == name).and_then(|(_, came_to)| came_to.as_ref()).unwrap();
    let best = found.rivals.iter().flat_map(|(_, came_to)| came_to).map(|rival| rival.val).fold(0.0, f64::max);
    assert_eq!(val(pruned), best);
    assert!(best >= val(&found.sparsity.prune(&task.graph)), "refitting did harm: {found:?}");
    assert!(of("amc").val >= of("uniform").val - 0.02, "{found:?}");

    let found = allocate(&task, Aim::Drop(2.0), 60, 1, &mut |_| ()).unwrap();
    assert!(val(&found.graph) >= val(&task.graph) - 0.02, "{found:?}");
    let least = found.rivals.iter().flat_map(|(_, came_to)| came_to).map(|rival| rival.density).fold(1.0, f64::min);
    let (layers, all) = density(&found.graph);
    assert!(all <= least + rounding(layers.len()) && least < 1.0, "{found:?}");
}

/// Raw pixels and small weights, or small inputs and usual weights: the same network.
#[test]
fn fine_tuning_suits_inputs_of_any_magnitude() {
    let (graph, samples, scratch) = (net(), stripes(1500), recipe(4));
    let usual = training(&graph, &samples, &scratch).run(None, &mut |_| ()).unwrap().graph;
    let (mut raw, mut small) = (samples.clone(), usual.clone());
    raw.preprocessing.scale *= 256.0;
    let weights = small.values.iter_mut().find(|value| value.name == "a.w").unwrap();
    let scaled = weights.data.as_deref().unwrap().iter().map(|w| w / 256.0).collect();
    weights.data = Some(std::sync::Arc::new(scaled));
    for rule in [Rule::ADAMW, Rule::SGD] {
        let gentle = Recipe { rule, ..Recipe::fine_tuning(2) };
        let tune = |graph, samples| {
            let start = Training { start: Start::Trained, norms: Norms::Bias, ..training(graph, samples, &gentle) };
            start.run(None, &mut |_| ()).unwrap().epochs
        };
        for (a, b) in tune(&usual, &samples).iter().zip(tune(&small, &raw)) {
            assert!((a.loss - b.loss).abs() < 1e-3 * a.loss, "{} against {}", a.loss, b.loss);
        }
    }
}

#[test]
fn learns_from_a_teacher_alone() {
    let (graph, samples, scratch) = (net(), stripes(1500), recipe(8));
    let teacher = training(&graph, &samples, &scratch).run(None, &mut |_| ()).unwrap();
    let how = Distillation { logits: 1.0, temperature: 2.0, features: 0.1, maps: vec!["a".to_owned()] };
    let taught = Recipe { distillation: Some(how), rule: Rule::ADAMW, ..recipe(8) };
    let taught = Recipe { schedule: Schedule { peak: 0.02, ..taught.schedule.clone() }, averaging: None, ..taught };
    let student = Training { teacher: Some(&teacher.graph), seed: 4, ..training(&graph, &samples, &taught) };
    let student = student.run(None, &mut |_| ()).unwrap();
    assert!(student.val > 0.85, "{:?}", student.epochs);
    let unknown = Distillation { maps: vec!["nowhere".to_owned()], ..taught.distillation.clone().unwrap() };
    let unknown = Recipe { distillation: Some(unknown), ..taught };
    let lost = Training { teacher: Some(&teacher.graph), ..training(&graph, &samples, &unknown) };
    assert!(lost.run(None, &mut |_| ()).unwrap_err().to_string().contains("`nowhere`"));
}

/// Trains into `directory` until `steps` steps are done.
fn killed_after(steps: usize, training: &Training, directory: &std::path::Path) -> Option<Trained> {
    let mut left = steps;
    let run = || {
        training.run(Some(directory), &mut |event| {
            if matches!(event, Event::Step { .. }) {
                assert!(left > 0, "killed");
                left -= 1;
            }
        })
    };
    catch_unwind(AssertUnwindSafe(run)).ok().map(Result::unwrap)
}

#[test]
fn killed_training_ends_at_the_same_bytes() {
    let (graph, samples, recipe) = (net(), stripes(400), recipe(5));
    let training = training(&graph, &samples, &recipe);
    let whole = training.run(None, &mut |_| ()).unwrap();
    let rng = &mut Pcg32::new(9, 0);
    let directory = tempfile::tempdir().unwrap();
    let mut trained = None;
    let mut kills = 0;
    while trained.is_none() {
        trained = killed_after(4 + rng.below(12) as usize, &training, directory.path());
        kills += 1;
    }
    assert!(kills > 2, "{kills}");
    assert_eq!(trained.unwrap(), whole);
    // Once more: nothing is left to do, and the result is there.
    assert_eq!(training.run(Some(directory.path()), &mut |_| ()).unwrap(), whole);
}

#[test]
fn threads_change_nothing() {
    let (graph, samples, recipe) = (net(), stripes(300), recipe(2));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| training(&graph, &samples, &recipe).run(None, &mut |_| ()).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn errors_say_what_to_do() {
    let (graph, samples, recipe) = (net(), stripes(300), recipe(1));
    let usual = training(&graph, &samples, &recipe);
    let directory = tempfile::tempdir().unwrap();
    usual.run(Some(directory.path()), &mut |_| ()).unwrap();
    let other = Training { seed: 4, ..usual }.run(Some(directory.path()), &mut |_| ()).unwrap_err().to_string();
    assert!(other.contains("checkpoint.safetensors") && other.contains("remove it"), "{other}");
    // A directory that cannot be written, as on a full disk.
    let usual = training(&graph, &samples, &recipe);
    let full = usual.run(Some(std::path::Path::new("/dev/full")), &mut |_| ()).unwrap_err();
    assert!(matches!(full, TrainError::Checkpoint(_)) && full.to_string().contains("/dev/full"), "{full}");
    let mut strange = samples.clone();
    strange.dataset.labels.fill(Some(7));
    let strange = training(&graph, &strange, &recipe).run(None, &mut |_| ()).unwrap_err().to_string();
    assert!(strange.contains("class Some(7)") || strange.contains("class 7"), "{strange}");
    let wild = Recipe { schedule: Schedule { peak: 1e30, warm_up: 0.0, ..recipe.schedule.clone() }, ..recipe.clone() };
    let wild = training(&graph, &samples, &wild).run(None, &mut |_| ()).unwrap_err();
    assert!(matches!(wild, TrainError::Diverged { epoch: 1 }), "{wild}");
}

#[test]
fn a_graph_without_weights_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    assert!(native::load_untrained(directory.path()).is_err());
    std::fs::write(directory.path().join(native::GRAPH_FILE), NET).unwrap();
    assert_eq!(native::load_untrained(directory.path()).unwrap(), net());
}
