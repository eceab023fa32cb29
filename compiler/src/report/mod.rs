//! What a compilation came to: `report.json` for programs, `report.html` for people, `front.svg` for a text
//! about it.
//!
//! [`Report`] is plain data that the pipeline fills in; [`files()`] makes the files of it. Each loads
//! nothing from elsewhere: styles and plots are inside.
//!
//! * [`html`] lays the page out, [`front`], [`curves`] and [`charts`] draw its plots, [`svg`] is what they draw with.

pub mod charts;
pub mod curves;
pub mod front;
pub mod html;
pub mod quantizers;
pub mod svg;

use serde::{Deserialize, Serialize};

use crate::board::link::Linked;
use crate::passes::Saving;
use crate::units::{Bytes, Count, Ticks};

/// All that the files show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the network.
    pub model: String,
    /// Name of the target.
    pub target: String,
    /// The figures on top.
    pub headline: Headline,
    /// What the passes over the graph saved.
    #[serde(default)]
    pub passes: Vec<Saving>,
    /// The network after each step that changed it; empty where it was quantised alone.
    #[serde(default)]
    pub stages: Vec<StageRow>,
    /// Every bound that was given, and what was reached.
    pub budget: Vec<BudgetLine>,
    /// What the search was to reach, as far as plots show it; absent without a search.
    #[serde(default)]
    pub goal: Option<Goal>,
    /// What the accuracies of policies are on the validation samples: the metric, unless these lack its labels.
    #[serde(default)]
    pub judged_by: String,
    /// Policies by accuracy and cost.
    pub front: Vec<FrontPoint>,
    /// The ways to search, the one that counts first; empty where there was one alone.
    #[serde(default)]
    pub methods: Vec<MethodRow>,
    /// Every node of the network, in order.
    pub layers: Vec<LayerRow>,
    /// Where tensors lie in the arena while the network runs.
    pub memory: Option<MemoryMap>,
    /// What each choice of each layer loses.
    pub sensitivity: Option<SensitivityMap>,
    /// How to get the same again.
    pub provenance: Provenance,
}

/// The figures on top.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    /// Name of the metric: `top1`, `auc`.
    pub metric: String,
    /// Its value for the float network.
    pub accuracy_float: f64,
    /// Its value for the blob.
    pub accuracy: f64,
    /// Samples behind it.
    pub n: u64,
    /// Bytes of the blob.
    pub blob_bytes: Bytes,
    /// Bytes of packed weights in it.
    pub weight_bytes: Bytes,
    /// Bytes of weights of the float network.
    pub float_bytes: Bytes,
    /// Bytes of the arena.
    pub arena_bytes: Bytes,
    /// Bytes of the least program that runs it, where one was linked.
    pub linked: Option<Linked>,
    /// Predicted duration of one inference.
    pub predicted: Option<Ticks>,
    /// Measured duration of one inference.
    pub measured: Option<Ticks>,
    /// Multiply-accumulates of one inference.
    pub macs: Count,
    /// Multiply-accumulates times the widths of both operands.
    pub bitops: Count,
    /// Seconds that the compilation took.
    pub wall_s: f64,
}

/// The network after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    /// What was done.
    pub name: String,
    /// On all validation samples; absent where the metric needs labels that they lack.
    pub accuracy: Option<f64>,
    /// Multiply-accumulates of one inference.
    pub macs: Count,
    /// Bytes of its weights, in float, or of its blob.
    pub bytes: Bytes,
}

/// One bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLine {
    /// The option, as `--max-flash`.
    pub name: String,
    /// What it asks for, with its unit.
    pub bound: String,
    /// What was reached, with its unit.
    pub reached: String,
}

/// What a search was to reach, on the validation samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// The metric of the float network.
    pub accuracy_float: f64,
    /// The least metric allowed.
    pub floor: Option<f64>,
    /// The largest blob allowed.
    pub flash: Option<Bytes>,
    /// The longest inference allowed.
    pub latency: Option<Ticks>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Short name: `w4a8`, `front 3`.
    pub name: String,
    /// What it is.
    pub kind: PointKind,
    /// The metric's value, on the validation samples.
    pub accuracy: f64,
    /// Bytes of its blob.
    pub blob_bytes: Bytes,
    /// Duration of one inference.
    pub latency: Option<Ticks>,
}

/// What a way to search came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodRow {
    /// As on the command line: `haq`, `exact`.
    pub name: String,
    /// The metric's value of the policy that it chose, on the validation samples.
    pub accuracy: f64,
    /// Bytes of that policy's blob.
    pub blob_bytes: Bytes,
    /// Duration of one inference under it.
    pub latency: Option<Ticks>,
    /// Its decisions, layer by layer: `w4a8`.
    pub choices: Vec<String>,
    /// The metric of each policy that it tried on training samples, in order; empty for one that solves.
    pub tried: Vec<f64>,
}

/// What a policy in the plot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// The same decision for all layers.
    Uniform,
    /// Found by the search.
    Front,
    /// Found by another search beside it.
    Beside,
    /// The one compiled.
    Chosen,
}

/// One node of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Name of the node.
    pub name: String,
    /// What it computes.
    pub operator: String,
    /// Shape of its output, as `32×32×16`.
    pub shape: String,
    /// Kernel that runs it.
    pub kernel: String,
    /// Weight format, as `w4`; absent without weights.
    pub weights: Option<String>,
    /// Mean bits of a stored weight; absent without weights.
    pub weight_bits: Option<f64>,
    /// Width of its output codes.
    pub activation_bits: u8,
    /// Bytes of its packed weights.
    pub weight_bytes: Bytes,
    /// Multiply-accumulates.
    pub macs: Count,
    /// Duration that the table gives.
    pub predicted: Option<Ticks>,
    /// Duration that was measured.
    pub measured: Option<Ticks>,
}

/// The arena over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMap {
    /// Bytes of the arena.
    pub arena: Bytes,
    /// Name of each step, in order.
    pub steps: Vec<String>,
    /// What lies in it.
    pub tensors: Vec<TensorLife>,
}

/// What a piece of the arena holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryRole {
    /// Tensors, one at a time.
    #[default]
    Tensor,
    /// What a kernel needs while it runs.
    Scratch,
}

/// One tensor in the arena, or the scratch memory of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorLife {
    /// Its name; those of all tensors that take turns in it, with a comma and a space between.
    pub name: String,
    /// What it holds.
    #[serde(default)]
    pub role: MemoryRole,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Step that writes it.
    pub first: usize,
    /// Last step that reads it.
    pub last: usize,
}

/// Loss increase by layer and choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityMap {
    /// Labels of the columns: `w2a8`, `w3a8` …
    pub choices: Vec<String>,
    /// One row a layer.
    pub rows: Vec<SensitivityRow>,
}

/// One layer of a [`SensitivityMap`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRow {
    /// Name of the layer.
    pub layer: String,
    /// Loss increase by choice; absent where the layer does not offer it.
    pub increases: Vec<Option<f64>>,
    /// The choice that was made.
    pub chosen: Option<usize>,
}

/// How to get the same again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The command line.
    pub command: String,
    /// The seed of every random choice.
    pub seed: u64,
    /// Digest of the blob.
    pub digest: String,
    /// The data, as the user named it.
    pub data: String,
    /// Samples and split that the reported accuracy was measured on.
    pub evaluated_on: String,
    /// Name and version of what took part: pare, runtime, latency table, CPU, instruction set.
    pub versions: Vec<(String, String)>,
    /// What the search did, in a sentence.
    pub search: String,
}

/// A file of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What it is: `report_json` for programs, `report` for people, `front` as a picture.
    pub kind: &'static str,
    /// Its name in the directory of results.
    pub name: &'static str,
    /// What stands in it.
    pub bytes: Vec<u8>,
}

/// `report.json`, `report.html` and, after a search, `front.svg`.
///
/// # Errors
/// When a figure has no form in JSON.
pub fn files(report: &Report) -> serde_json::Result<Vec<File>> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    let mut files = vec![
        File { kind: "report_json", name: "report.json", bytes: json },
        File { kind: "report", name: "report.html", bytes: html::page(report).into_bytes() },
    ];
    if !report.front.is_empty() {
        files.push(File { kind: "front", name: "front.svg", bytes: front::figure(report).into_bytes() });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::TickUnit;

    fn ns(value: f64) -> Option<Ticks> {
        Some(Ticks { value, unit: TickUnit::Nanoseconds })
    }

    /// ResNet-8 with invented figures and one name that tries to break out of its element.
    fn sample() -> Report {
        let nodes = [
            ("conv2d", "conv2d", 442_368, Some(8.0)),
            ("conv2d_1", "conv2d", 2_359_296, Some(6.0)),
            ("conv2d_2", "conv2d", 2_359_296, Some(4.0)),
            ("add", "add", 0, None),
            ("conv2d_3", "conv2d", 1_179_648, Some(4.0)),
            ("conv2d_4", "conv2d", 2_359_296, Some(3.0)),
            ("conv2d_5<script>alert('x')</script>&\"", "conv2d", 131_072, Some(8.0)),
            ("add_1", "add", 0, None),
            ("conv2d_6", "conv2d", 1_179_648, Some(4.0)),
            ("conv2d_7", "conv2d", 2_359_296, Some(2.0)),
            ("conv2d_8", "conv2d", 131_072, Some(5.0)),
            ("add_2", "add", 0, None),
            ("average_pooling2d", "avg_pool", 0, None),
            ("dense", "fully_connected", 640, Some(8.0)),
        ];
        let layers: Vec<LayerRow> = nodes
            .iter()
            .enumerate()
            .map(|(i, &(name, operator, macs, bits))| LayerRow {
                name: name.into(),
                operator: operator.into(),
                shape: "32×32×16".into(),
                kernel: format!("{operator}_avx512vnni"),
                weights: bits.map(|b: f64| format!("w{b}")),
                weight_bits: bits,
                activation_bits: if i % 5 == 2 { 4 } else { 8 },
                weight_bytes: Bytes(macs / 100),
                macs: Count(macs),
                predicted: ns(400.0 + macs as f64 * 0.0052),
                measured: ns(380.0 + macs as f64 * 0.005 * (1.0 + 0.03 * (i % 4) as f64)),
            })
            .collect();
        let point = |name: &str, kind, accuracy, kib: u64, us: f64| FrontPoint {
            name: name.into(),
            kind,
            accuracy,
            blob_bytes: Bytes(kib * 1024),
            latency: ns(us * 1e3),
        };
        let front = vec![
            point("w2a8", PointKind::Uniform, 0.31, 22, 66.0),
            point("w3a8", PointKind::Uniform, 0.63, 31, 80.0),
            point("w4a8", PointKind::Uniform, 0.77, 40, 71.0),
            point("w5a8", PointKind::Uniform, 0.851, 49, 84.0),
            point("w8a8", PointKind::Uniform, 0.872, 77, 70.0),
            point("front 1", PointKind::Front, 0.61, 25, 72.0),
            point("front 2", PointKind::Front, 0.755, 31, 74.0),
            point("exact", PointKind::Chosen, 0.848, 39, 72.5),
            point("front 3", PointKind::Front, 0.866, 52, 71.0),
        ];
        let steps: Vec<String> = nodes.iter().map(|node| node.0.to_owned()).collect();
        let tensor = |name: &str, offset, bytes, first, last| TensorLife {
            name: name.into(),
            role: if name.ends_with("(scratch)") { MemoryRole::Scratch } else { MemoryRole::Tensor },
            offset,
            bytes,
            first,
            last,
        };
        let tensors = vec![
            tensor("input", 32_768, 3_072, 0, 0),
            tensor("conv2d", 0, 16_384, 0, 3),
            tensor("conv2d_1", 16_384, 16_384, 1, 2),
            tensor("conv2d_2", 32_768, 16_384, 2, 3),
            tensor("add", 0, 16_384, 3, 6),
            tensor("conv2d_3", 16_384, 8_192, 4, 5),
            tensor("conv2d_4", 24_576, 8_192, 5, 7),
            tensor("conv2d_5", 16_384, 8_192, 6, 7),
            tensor("add_1", 0, 8_192, 7, 10),
            tensor("conv2d_6", 8_192, 4_096, 8, 9),
            tensor("conv2d_7", 12_288, 4_096, 9, 11),
            tensor("conv2d_8", 8_192, 4_096, 10, 11),
            tensor("add_2", 0, 4_096, 11, 12),
            tensor("pool, flatten", 4_096, 64, 12, 13),
            tensor("conv2d (scratch)", 36_000, 6_464, 0, 0),
        ];
        let choices: Vec<String> = ["w2a8", "w3a8", "w4a8", "w5a8", "w6a8", "w8a8"].map(String::from).to_vec();
        let rows = layers
            .iter()
            .filter(|layer| layer.weight_bits.is_some())
            .enumerate()
            .map(|(i, layer)| SensitivityRow {
                layer: layer.name.clone(),
                increases: (0..6)
                    .map(|j| {
                        (i != 0 || j > 1)
                            .then(|| if j == 5 { 0.0 } else { 2.5 / f64::powi(3.4, j) / (1 + i % 4) as f64 })
                    })
                    .collect(),
                chosen: Some([5, 4, 2, 2, 1, 5, 2, 0, 3, 5][i]),
            })
            .collect();
        Report {
            model: "resnet8_float".into(),
            target: "host".into(),
            headline: Headline {
                metric: "top1".into(),
                accuracy_float: 0.8719,
                accuracy: 0.8478,
                n: 10_000,
                blob_bytes: Bytes(39_808),
                weight_bytes: Bytes(37_900),
                float_bytes: Bytes(309_440),
                arena_bytes: Bytes(49_152),
                linked: None,
                predicted: ns(72_500.0),
                measured: ns(70_100.0),
                macs: Count(12_501_632),
                bitops: Count(441_000_000),
                wall_s: 38.4,
            },
            passes: Vec::new(),
            stages: Vec::new(),
            judged_by: "top1".into(),
            budget: vec![BudgetLine { name: "--max-flash".into(), bound: "40 KiB".into(), reached: "38.9 KiB".into() }],
            goal: Some(Goal {
                accuracy_float: 0.874,
                floor: Some(0.84),
                flash: Some(Bytes(40 * 1024)),
                latency: ns(90_000.0),
            }),
            front,
            methods: [("haq", vec![0.7, 0.6, 0.8, 0.846]), ("exact", Vec::new())]
                .map(|(name, tried)| MethodRow {
                    name: name.into(),
                    accuracy: 0.848,
                    blob_bytes: Bytes(39 * 1024),
                    latency: ns(72_500.0),
                    choices: ["w8a8", "w4a8", "w2a8<"].map(String::from).to_vec(),
                    tried,
                })
                .to_vec(),
            layers,
            memory: Some(MemoryMap { arena: Bytes(49_152), steps, tensors }),
            sensitivity: Some(SensitivityMap { choices, rows }),
            provenance: Provenance {
                command: "pare compile resnet8_float.tflite --data cifar10:DIR --max-flash 40KiB".into(),
                seed: 7,
                digest: "sha256:0123abcd".into(),
                data: "cifar10".into(),
                evaluated_on: "test split, 10000 samples".into(),
                versions: vec![("pare".into(), "0.1.0".into()), ("cpu".into(), "Zen 4".into())],
                search: "exact: predicted loss increase 0.083, proved optimal".into(),
            },
        }
    }

    /// Walks the tags: each closes the one opened last.
    fn assert_well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
        while let Some(start) = rest.find('<') {
            let tag = &rest[start + 1..];
            let end = tag.find('>').expect("a tag that ends");
            let inner = &tag[..end];
            assert!(!inner.contains('<'), "a stray < in {inner}");
            let name = inner.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if let Some(closed) = inner.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed));
            } else if !inner.ends_with('/') && name != "meta" {
                open.push(name);
            }
            rest = &tag[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }

    #[test]
    fn the_page_is_whole_self_contained_and_escaped() {
        let report = sample();
        let html = html::page(&report);
        assert_well_formed(&html);
        for outside in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
            assert!(!html.contains(outside), "{outside}");
        }
        for layer in &report.layers {
            assert!(html.contains(&svg::escape(&layer.name)), "{}", layer.name);
        }
        for section in ["Accuracy against cost", "Bits per layer", "Time per layer", "Memory over time", "Sensitivity"]
        {
            assert!(html.contains(section), "{section}");
        }
        assert!(!html.contains("NaN") && !html.contains("inf\""));
        assert_eq!(html, html::page(&report), "same report, same bytes");
    }

    #[test]
    fn the_figure_marks_hopeless_policies_at_its_edge() {
        let figure = front::figure(&sample());
        assert_eq!(figure.matches("<polygon").count(), 3, "w2a8, w3a8 and front 1 are beyond reach");
        assert!(figure.contains("float 87.4") && figure.contains("at least 84.0") && figure.contains("budget"));
        assert!(figure.contains("w4a8") && figure.contains("w2a8 31"));
        for outside in ["https:", "href=", "@import", "url("] {
            assert!(!figure.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_report_without_measurements_is_a_page_too() {
        let mut report = sample();
        (report.memory, report.sensitivity) = (None, None);
        (report.headline.predicted, report.headline.measured) = (None, None);
        (report.goal, report.front) = (None, Vec::new());
        for layer in &mut report.layers {
            (layer.predicted, layer.measured) = (None, None);
        }
        let html = html::page(&report);
        assert_well_formed(&html);
        assert!(!html.contains("Time per layer") && !html.contains("NaN"));
    }

    #[test]
    fn the_json_reads_back_and_a_front_is_drawn_where_there_is_one() {
        let made = files(&sample()).unwrap();
        let again: Report = serde_json::from_slice(&made[0].bytes).unwrap();
        assert_eq!(again.layers.len(), sample().layers.len());
        assert_eq!(made.iter().map(|file| file.name).collect::<Vec<_>>(), ["report.json", "report.html", "front.svg"]);
        let alone = Report { front: Vec::new(), ..sample() };
        assert_eq!(files(&alone).unwrap().len(), 2);
    }
}
