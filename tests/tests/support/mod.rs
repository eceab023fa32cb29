//! The four reference networks with their data, where they are at hand.

#![allow(dead_code, reason = "each test and example uses some of it")]

use std::path::{Path, PathBuf};

use pare::data::{self, Preprocessing, Split};
use pare::deploy::{Deployed, deploy};
use pare::import::import;
use pare::ir::Graph;
use pare::lower::{Layouts, LowerConfig};
use pare::passes::simplify;
use pare::policy::Policy;
use pare::quant::{Calibration, CalibrationConfig, CodeBank, QuantConfig, Rounding, calibrate};
use pare::task::Task;
use pare_runtime::format::Layout;

/// A network and how its data is fed to it.
pub(crate) struct Reference {
    /// File under `models/`.
    pub(crate) file: &'static str,
    data: &'static [&'static str],
    scale: f32,
}

/// The four of MLPerf Tiny.
pub(crate) const NETWORKS: [Reference; 4] = [
    Reference { file: "resnet8_float.tflite", data: &[], scale: 1.0 },
    Reference { file: "dscnn_kws_float.onnx", data: &["kws/train.npz", "kws/val.npz"], scale: 1.0 },
    Reference { file: "mobilenetv1_025_vww_float.tflite", data: &["vww/dev.npz"], scale: 1.0 / 255.0 },
    Reference {
        file: "toycar_autoencoder_float.tflite",
        data: &["toycar/train_normal.npz", "toycar/val.npz"],
        scale: 1.0,
    },
];

impl Reference {
    /// The network as its file has it; `None`, and a line that says so, where the file is absent.
    pub(crate) fn imported(&self) -> Option<Graph> {
        let path = shared(&format!("models/{}", self.file))?;
        Some(import(&path).unwrap())
    }

    /// The simplified network; `None` as above.
    pub(crate) fn graph(&self) -> Option<Graph> {
        self.imported().map(|graph| simplify(graph).unwrap())
    }

    /// The network with its data; `None`, and a line that says so, where either is absent.
    pub(crate) fn task(&self) -> Option<Task> {
        let graph = self.graph()?;
        let spec = if self.data.is_empty() {
            let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
            format!("cifar10:{}", existing([home.join(".cache/pare/cifar10")], "CIFAR-10")?.display())
        } else {
            let files: Option<Vec<PathBuf>> = self.data.iter().map(|file| shared(&format!("data/{file}"))).collect();
            let files: Vec<String> = files?.iter().map(|file| file.display().to_string()).collect();
            format!("npz:{}", files.join(","))
        };
        let dataset = data::open(&spec.parse().unwrap()).unwrap();
        Some(Task::new(graph, dataset, Preprocessing { scale: self.scale, mean: Vec::new() }, None).unwrap())
    }
}

/// Statistics over training inputs.
pub(crate) fn calibration(task: &Task, inputs: usize) -> Calibration {
    let inputs = task.data.spread(Split::Train, inputs).unwrap();
    let n = inputs.len() / task.graph.value(task.graph.inputs[0]).len();
    calibrate(&task.graph, &inputs, n, &CalibrationConfig::with_seed(0)).unwrap()
}

/// Nearest rounding, least squared error of the activations, means corrected.
pub(crate) fn config() -> QuantConfig {
    QuantConfig { rounding: Rounding::Nearest, ..QuantConfig::USUAL }
}

/// A blob of a policy.
pub(crate) fn deployed(bank: &CodeBank<'_>, policy: &Policy, layout: Layout) -> Deployed {
    deploy(bank, policy, &LowerConfig::new(layout).with(Layouts::All(layout)), "").unwrap()
}

/// A file or folder of the shared data.
fn shared(name: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared"));
    let roots = std::env::var_os("PARE_SHARED").map(PathBuf::from).into_iter().chain(above);
    existing(roots.map(|root| root.join(name)), name)
}

fn existing(candidates: impl IntoIterator<Item = PathBuf>, what: &str) -> Option<PathBuf> {
    let found = candidates.into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: no {what} here; set PARE_SHARED to the folder that holds models/ and data/");
    }
    found
}
