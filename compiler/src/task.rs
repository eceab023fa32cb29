//! A network with the data that says how good it is: samples in, one figure out.

use pare_runtime::{Isa, Model};
use sha2::{Digest, Sha256};

use crate::board::host::Host;
use crate::board::{Board, BoardError};
use crate::data::metric::argmax;
use crate::data::{Dataset, Elements, Metric, MetricAccumulator, MetricError, Preprocessing, Split, Splits, Windows};
use crate::eval::{EvalError, Net};
use crate::ir::Graph;
use crate::rng::Pcg32;

/// A simplified network, its data and its metric.
#[derive(Clone, Debug)]
pub struct Task {
    /// The network, after [`crate::passes::simplify`].
    pub graph: Graph,
    /// Where samples come from.
    pub data: Samples,
}

/// A data set as one network sees it.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The set.
    pub dataset: Dataset,
    /// From elements to what the network takes.
    pub preprocessing: Preprocessing,
    /// What is measured.
    pub metric: Metric,
    windows: Windows,
    output_len: usize,
}

/// A figure, and over how many samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The metric's value.
    pub value: f64,
    /// Samples.
    pub n: usize,
}

/// Why a network and a data set do not go together, or cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The sizes do not fit.
    #[error(
        "data set `{data}` has samples of {sample:?} elements but the network takes {input}: choose other data, or other rows of features"
    )]
    Shape {
        /// The set.
        data: String,
        /// Its sample shape.
        sample: Vec<usize>,
        /// Elements of the network's input.
        input: usize,
    },
    /// A split without samples.
    #[error("data set `{data}` has no {split:?} samples")]
    Empty {
        /// The set.
        data: String,
        /// Which split.
        split: Split,
    },
    /// More than one input or output.
    #[error("the network has {inputs} inputs and {outputs} outputs; a metric needs one of each")]
    Endpoints {
        /// How many inputs.
        inputs: usize,
        /// How many outputs.
        outputs: usize,
    },
    /// The metric does not fit.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The float network failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The blob failed.
    #[error(transparent)]
    Host(#[from] BoardError),
}

impl Samples {
    /// Fits a data set to a network of `input` elements in and `output` elements out; the metric is
    /// inferred where none is given.
    ///
    /// # Errors
    /// [`TaskError::Shape`], and when no metric fits.
    pub fn new(
        dataset: Dataset,
        preprocessing: Preprocessing,
        metric: Option<Metric>,
        input: usize,
        output: usize,
    ) -> Result<Samples, TaskError> {
        let windows = Windows::of(&dataset.sample_shape, input).ok_or_else(|| TaskError::Shape {
            data: dataset.name.clone(),
            sample: dataset.sample_shape.clone(),
            input,
        })?;
        let metric = match metric {
            Some(metric) => metric,
            None => {
                let scored = dataset.split(Split::Test);
                let labels: Vec<Option<u32>> = scored.iter().map(|&i| dataset.label(i)).collect();
                Metric::infer(input, output, &labels)?
            }
        };
        Ok(Samples { dataset, preprocessing, metric, windows, output_len: output })
    }

    /// The first `limit` samples of a split.
    ///
    /// # Errors
    /// When there is none.
    pub fn indices(&self, split: Split, limit: Option<usize>) -> Result<&[u32], TaskError> {
        let all = self.dataset.split(split);
        let some = &all[..limit.unwrap_or(all.len()).min(all.len())];
        if some.is_empty() { Err(TaskError::Empty { data: self.dataset.name.clone(), split }) } else { Ok(some) }
    }

    /// Whether the labels of a split let the metric be computed on it: those of an anomaly detector's training
    /// samples do not.
    pub fn judges(&self, split: Split) -> bool {
        let mut labels = self.dataset.split(split).iter().map(|&index| self.dataset.label(index));
        match self.metric {
            Metric::Top1 => labels.all(|label| label.is_some()),
            Metric::Auc => [0, 1].iter().all(|&mark| labels.clone().any(|label| label == Some(mark))),
            Metric::Psnr | Metric::Mse => true,
        }
    }

    /// What scores on a split are: the metric or, where its labels do not let it be computed, minus the loss.
    pub fn judged_by(&self, split: Split) -> String {
        if self.judges(split) { self.metric.to_string() } else { "-loss".to_owned() }
    }

    /// Says so where there are too few validation samples to choose between candidates that are nearly alike.
    pub fn warn_of_few(&self) {
        let n = self.dataset.split(Split::Val).len();
        if n < Splits::FEW {
            tracing::warn!(
                "only {n} samples of `{}` to choose by: a point of accuracy is {:.1} of them, so expect a choice to look better than it is",
                self.dataset.name,
                n as f64 / 100.0
            );
        }
    }

    /// `n` network inputs spread over a split, back to back: one window of each sample in turn.
    ///
    /// # Errors
    /// When the split is empty.
    pub fn spread(&self, split: Split, n: usize) -> Result<Vec<f32>, TaskError> {
        Ok(self.spread_labelled(split, n)?.0)
    }

    /// As [`Samples::spread`], with the label of the sample that each input comes from.
    ///
    /// # Errors
    /// When the split is empty.
    pub fn spread_labelled(&self, split: Split, n: usize) -> Result<(Vec<f32>, Vec<Option<u32>>), TaskError> {
        let indices = self.indices(split, None)?;
        let mut sample = vec![0.0; self.dataset.sample_len()];
        let total = n.min(indices.len() * self.windows.count());
        let (mut inputs, mut labels) = (Vec::new(), Vec::with_capacity(total));
        for i in 0..total {
            let index = indices[i * indices.len() / total];
            self.dataset.read(index, &self.preprocessing, &mut sample);
            // A stride coprime to most counts visits early and late windows alike.
            inputs.extend(self.windows.iter(&sample).nth(i * 37 % self.windows.count()).unwrap_or_default());
            labels.push(self.dataset.label(index));
        }
        Ok((inputs, labels))
    }

    /// Network inputs of these samples, all windows, back to back.
    pub fn inputs(&self, indices: &[u32]) -> Vec<f32> {
        let mut sample = vec![0.0; self.dataset.sample_len()];
        let mut inputs = Vec::new();
        for &index in indices {
            self.dataset.read(index, &self.preprocessing, &mut sample);
            self.windows.iter(&sample).for_each(|window| inputs.extend(window));
        }
        inputs
    }

    /// Elements of a network input.
    pub fn input_len(&self) -> usize {
        self.windows.window_len()
    }

    /// A network input of sample `index`, of several windows one at random.
    ///
    /// # Panics
    /// When `out` has not [`Samples::input_len`] elements, or there is no such sample.
    pub fn read_window(&self, index: u32, rng: &mut Pcg32, out: &mut [f32]) {
        if self.windows.count() == 1 {
            return self.dataset.read(index, &self.preprocessing, out);
        }
        let mut sample = vec![0.0; self.dataset.sample_len()];
        self.dataset.read(index, &self.preprocessing, &mut sample);
        let window = rng.below(self.windows.count() as u32) as usize;
        out.copy_from_slice(self.windows.iter(&sample).nth(window).unwrap_or_default());
    }

    /// Scores samples through `infer`, which maps network inputs to outputs, both back to back.
    ///
    /// # Errors
    /// Those of `infer`, and of the metric.
    pub fn score<E>(
        &self,
        indices: &[u32],
        mut infer: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
    ) -> Result<Figure, TaskError>
    where
        TaskError: From<E>,
    {
        // Bounds memory: some hundred thousand windows of a long recording would not fit.
        let chunk = (4096 / self.windows.count()).max(1);
        let mut accumulator = MetricAccumulator::new(self.metric, self.output_len);
        for some in indices.chunks(chunk) {
            let inputs = self.inputs(some);
            let outputs = infer(&inputs)?;
            let per_sample = (inputs.len() / some.len(), outputs.len() / some.len());
            for (i, &index) in some.iter().enumerate() {
                let (x, y) =
                    (&inputs[i * per_sample.0..][..per_sample.0], &outputs[i * per_sample.1..][..per_sample.1]);
                accumulator.push(self.dataset.label(index), x, y)?;
            }
        }
        let n = accumulator.samples();
        Ok(Figure { value: accumulator.finish()?, n })
    }

    /// Scores the float network.
    ///
    /// # Errors
    /// As [`Samples::score`].
    pub fn score_net(&self, net: &Net, indices: &[u32]) -> Result<Figure, TaskError> {
        self.score(indices, |inputs| net.forward(inputs, inputs.len() / net.sample_len()))
    }

    /// Scores a blob with the integer runtime of this machine.
    ///
    /// # Errors
    /// As [`Samples::score`].
    pub fn score_blob(&self, blob: &[u8], host: Host, isa: Isa, indices: &[u32]) -> Result<Figure, TaskError> {
        self.score(indices, |inputs| infer_blob(blob, host, isa, inputs))
    }

    /// Share of samples of which a blob, by the integer runtime of this machine, gives the same class as a network.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn agreement(&self, net: &Net, blob: &[u8], indices: &[u32]) -> Result<f64, TaskError> {
        let (mut same, mut all) = (0, 0);
        for some in indices.chunks(4096) {
            let inputs = self.inputs(some);
            let floats = net.forward(&inputs, inputs.len() / net.sample_len())?;
            let integers = infer_blob(blob, Host::default(), Isa::best(), &inputs)?;
            let rows = floats.chunks(self.output_len).zip(integers.chunks(self.output_len));
            same += rows.filter(|(a, b)| argmax(a) == argmax(b)).count();
            all += floats.len() / self.output_len;
        }
        Ok(same as f64 / all.max(1) as f64)
    }
}

impl Task {
    /// Elements of the network's input.
    pub fn input_len(&self) -> usize {
        self.graph.inputs.iter().map(|&input| self.graph.value(input).len()).sum()
    }

    /// A digest of the network, the data and how they meet: what scores of the network depend on.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.graph.to_string());
        for value in &self.graph.values {
            hash.update(bytemuck::cast_slice::<f32, u8>(value.data.as_deref().map_or(&[], Vec::as_slice)));
        }
        let Samples { dataset, preprocessing, metric, .. } = &self.data;
        match &dataset.elements {
            Elements::U8(all) => hash.update(all),
            Elements::F16(all) => hash.update(all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()),
            Elements::F32(all) => hash.update(bytemuck::cast_slice::<f32, u8>(all)),
        }
        let (shape, splits, labels) = (&dataset.sample_shape, &dataset.splits, &dataset.labels);
        hash.update(format!("{shape:?} {splits:?} {labels:?} {preprocessing:?} {metric}"));
        hash.finalize().into()
    }

    /// Fits a data set to a simplified network.
    ///
    /// # Errors
    /// As [`Samples::new`], and when the network has not one input and one output.
    pub fn new(
        graph: Graph,
        dataset: Dataset,
        preprocessing: Preprocessing,
        metric: Option<Metric>,
    ) -> Result<Task, TaskError> {
        let (&[input], &[output]) = (&graph.inputs[..], &graph.outputs[..]) else {
            return Err(TaskError::Endpoints { inputs: graph.inputs.len(), outputs: graph.outputs.len() });
        };
        let (input, output) = (graph.value(input).len(), graph.value(output).len());
        let data = Samples::new(dataset, preprocessing, metric, input, output)?;
        Ok(Task { graph, data })
    }
}

/// Real inputs to real outputs through a blob.
///
/// # Errors
/// When the blob does not run here.
pub fn infer_blob(blob: &[u8], host: Host, isa: Isa, inputs: &[f32]) -> Result<Vec<f32>, BoardError> {
    let model = Model::parse(blob)?;
    let outputs = host.run(blob, isa, &encode(&model, inputs))?;
    Ok(decode(&model, &outputs))
}

/// Real inputs as codes of a model's input.
pub fn encode(model: &Model<'_>, inputs: &[f32]) -> Vec<u8> {
    model.inputs().next().map_or_else(Vec::new, |t| inputs.iter().map(|&x| t.encode(x)).collect())
}

/// Codes of a model's output as reals.
pub fn decode(model: &Model<'_>, codes: &[u8]) -> Vec<f32> {
    model.outputs().next().map_or_else(Vec::new, |t| codes.iter().map(|&q| t.decode(q)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::split::TestOrder;

    #[test]
    fn normal_sounds_alone_judge_no_detector() {
        let dataset = Dataset {
            name: "sounds".to_owned(),
            sample_shape: vec![2],
            elements: Elements::F32(vec![0.0; 48]),
            labels: (0..24).map(|i| (i >= 20).then_some(i % 2)).collect(),
            splits: Splits::with_test(20, 4, TestOrder::OfFile),
        };
        let samples = Samples::new(dataset, Preprocessing::IDENTITY, None, 2, 2).unwrap();
        assert_eq!(samples.metric, Metric::Auc);
        assert!(samples.judges(Split::Test) && !samples.judges(Split::Val));
        assert_eq!([Split::Test, Split::Val].map(|split| samples.judged_by(split)), ["auc", "-loss"]);
        let without_labels = Samples { metric: Metric::Mse, ..samples };
        assert!(without_labels.judges(Split::Val));
    }
}
