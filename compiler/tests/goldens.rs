//! Imported and simplified graphs against the answers of the reference runtimes
//! (`tests/goldens.py` makes them and documents their layout).

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use pare::eval::Net;
use pare::import::import;
use pare::ir::Graph;
use pare::passes::simplify;
use support::interpreter;
use support::reference_model;

/// Array name to shape and elements.
type Arrays = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

#[test]
fn every_operator_agrees() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/ops");
    let mut models: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension != "npz"));
    models.sort();
    assert!(models.len() > 100, "goldens are missing");
    let failures: Vec<String> = models.iter().filter_map(|model| check(model, &golden_of(model)).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), models.len(), failures.join("\n"));
}

#[test]
fn reference_models_agree() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/goldens");
    let models = ["resnet8", "dscnn_kws", "mobilenetv1_025_vww", "toycar_autoencoder"];
    let extension = |model: &str| if model.starts_with("dscnn") { "onnx" } else { "tflite" };
    let files = models.iter().flat_map(|m| [format!("{m}_float.{}", extension(m)), format!("{m}_int8.tflite")]);
    for file in &files.collect::<Vec<String>>() {
        let Some(model) = reference_model(file) else { return };
        let golden = golden_of(&target.join(file));
        if !golden.is_file() {
            eprintln!("skipped: {} is absent; make it with tests/goldens.py models", golden.display());
            return;
        }
        check(&model, &golden).unwrap();
    }
}

fn golden_of(model: &Path) -> PathBuf {
    PathBuf::from(format!("{}.npz", model.display()))
}

fn check(model: &Path, golden: &Path) -> Result<(), String> {
    let name = model.file_name().unwrap().to_string_lossy().into_owned();
    let arrays = read(golden);
    let graph = import(model).map_err(|error| error.to_string())?;
    let simplified = simplify(graph.clone()).map_err(|error| format!("{name}: {error}"))?;
    let is_channels_first = name.ends_with(".onnx") && !name.contains("nhwc");
    for (stage, graph) in [("imported", &graph), ("simplified", &simplified)] {
        let samples = arrays["input_0"].0[0];
        for sample in 0..samples {
            let take = |key: String| -> Vec<f32> {
                let (shape, data) = &arrays[&key];
                let len = data.len() / samples;
                let data = &data[sample * len..(sample + 1) * len];
                if is_channels_first && shape.len() == 4 { channels_last(&shape[1..], data) } else { data.to_vec() }
            };
            let inputs: Vec<Vec<f32>> = (0..graph.inputs.len()).map(|i| take(format!("input_{i}"))).collect();
            let outputs = interpreter::run(graph, &inputs);
            let batched = Net::float(graph).and_then(|net| net.forward(&inputs.concat(), 1));
            let mut batched = batched.map_err(|error| format!("{name} {stage}: {error}"))?;
            let answers = outputs.iter().enumerate().flat_map(|(i, output)| {
                let rest = batched.split_off(output.len());
                [(i, output.clone()), (i, std::mem::replace(&mut batched, rest))]
            });
            for (i, found) in answers {
                let expected = take(format!("output_{i}"));
                let size = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                let tolerance = arrays.get("tolerance").map_or(1e-4 * size.max(1e-3), |(_, tolerance)| tolerance[0]);
                let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                if found.len() != expected.len() || error.is_nan() || error > tolerance {
                    return Err(format!("{name} {stage}: output {i} is off by {error}\n{graph}"));
                }
            }
        }
    }
    check_round_trip(&graph)
}

/// The native format keeps all of it.
fn check_round_trip(graph: &Graph) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    pare::import::native::save(graph, dir.path()).map_err(|error| error.to_string())?;
    let loaded = import(dir.path()).map_err(|error| error.to_string())?;
    if loaded == *graph { Ok(()) } else { Err(format!("{}: differs when saved and loaded", graph.name)) }
}

fn channels_last(chw: &[usize], data: &[f32]) -> Vec<f32> {
    let &[c, h, w] = chw else { panic!("no image: {chw:?}") };
    (0..h * w).flat_map(|pixel| (0..c).map(move |channel| data[channel * h * w + pixel])).collect()
}

fn read(path: &Path) -> Arrays {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut arrays = Arrays::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).unwrap();
        let name = entry.name().unwrap().trim_end_matches(".npy").to_owned();
        let array = npyz::NpyFile::new(entry).unwrap();
        let shape = array.shape().iter().map(|&d| d as usize).collect();
        arrays.insert(name, (shape, array.into_vec().unwrap()));
    }
    arrays
}
