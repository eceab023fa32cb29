//! How good a model's answers are, in one number: the same code scores the float oracle and the
//! integer runtime.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Share of samples whose largest output is their class; outputs of several windows are averaged.
    Top1,
    /// Area under the receiver operating characteristic of the mean squared error between input and
    /// output (over all windows of a sample), as a mark of samples labelled 1.
    Auc,
    /// `10 log10(peak² / mse)` in dB, peak being the range of all inputs, mse that of [`Metric::Mse`];
    /// infinite when output equals input.
    Psnr,
    /// Mean squared error between input and output; lower is better.
    Mse,
}

/// Why there is no figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// A text that names no metric.
    #[error("`{0}` is no metric: use top1, auc, psnr or mse")]
    Unknown(String),
    /// Neither rule of inference holds.
    #[error(
        "the metric cannot be inferred from {inputs} inputs, {outputs} outputs and {labels}: name it with --metric"
    )]
    Ambiguous {
        /// Elements of the model's input.
        inputs: usize,
        /// Elements of the model's output.
        outputs: usize,
        /// What the labels are.
        labels: &'static str,
    },
    /// A sample without the label that the metric needs.
    #[error("a sample has no label, and {0} needs one: use a labelled set or another metric")]
    Unlabelled(Metric),
    /// A class that the model cannot answer, or a mark other than 0 and 1.
    #[error(
        "the label {label} is out of range for {metric}, which takes labels below {bound}: use the model's own data set"
    )]
    LabelOutOfRange {
        /// The metric.
        metric: Metric,
        /// The label.
        label: u32,
        /// Labels are below it.
        bound: usize,
    },
    /// Input and output cannot be compared element by element.
    #[error("{metric} compares input with output, but they have {inputs} and {outputs} elements: use top1")]
    UnequalLengths {
        /// The metric.
        metric: Metric,
        /// Elements of the input.
        inputs: usize,
        /// Elements of the output.
        outputs: usize,
    },
    /// No sample was scored, or, for AUC, only samples of one mark.
    #[error("{0} is undefined for these samples: use more of them (auc needs some with label 0 and some with label 1)")]
    Undefined(Metric),
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 4] = [Metric::Top1, Metric::Auc, Metric::Psnr, Metric::Mse];

    /// The metric that fits: an output as large as the input is an autoencoder's, scored by AUC
    /// where labels are 0 and 1 and by MSE where there are none; any other output is scored by top1
    /// where every sample has a label.
    ///
    /// # Errors
    /// When none fits.
    pub fn infer(inputs: usize, outputs: usize, labels: &[Option<u32>]) -> Result<Self, MetricError> {
        let unlabelled = labels.iter().all(Option::is_none);
        let labelled = !unlabelled && labels.iter().all(Option::is_some);
        let marked = labelled && labels.iter().flatten().all(|&label| label <= 1);
        match (inputs == outputs, labelled) {
            (true, _) if marked => Ok(Metric::Auc),
            (true, _) if unlabelled => Ok(Metric::Mse),
            (false, true) => Ok(Metric::Top1),
            (false, _) => {
                let labels = if unlabelled { "no labels" } else { "labels for some samples only" };
                Err(MetricError::Ambiguous { inputs, outputs, labels })
            }
            (true, _) => Err(MetricError::Ambiguous { inputs, outputs, labels: "labels other than 0 and 1" }),
        }
    }

    /// The value turned so that more is better.
    pub fn merit(self, value: f64) -> f64 {
        match self {
            Metric::Top1 | Metric::Auc | Metric::Psnr => value,
            Metric::Mse => -value,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Top1 => "top1",
            Metric::Auc => "auc",
            Metric::Psnr => "psnr",
            Metric::Mse => "mse",
        })
    }
}

impl FromStr for Metric {
    type Err = MetricError;

    fn from_str(text: &str) -> Result<Self, MetricError> {
        Metric::ALL
            .into_iter()
            .find(|metric| metric.to_string() == text)
            .ok_or_else(|| MetricError::Unknown(text.to_owned()))
    }
}

/// Scores samples one by one.
#[derive(Clone, Debug)]
pub struct MetricAccumulator {
    metric: Metric,
    output_len: usize,
    samples: usize,
    correct: usize,
    error_sum: f64,
    range: (f32, f32),
    marked: Vec<(f64, bool)>,
}

impl MetricAccumulator {
    /// No sample yet; `output_len` is the length of one output of the model.
    pub fn new(metric: Metric, output_len: usize) -> Self {
        let range = (f32::INFINITY, f32::NEG_INFINITY);
        MetricAccumulator { metric, output_len, samples: 0, correct: 0, error_sum: 0.0, range, marked: Vec::new() }
    }

    /// How many samples were scored.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Scores a sample from the model's real inputs and outputs, those of all its windows back to back.
    ///
    /// # Errors
    /// When the metric needs a label that is missing or out of range, or when inputs and outputs cannot be compared.
    pub fn push(&mut self, label: Option<u32>, inputs: &[f32], outputs: &[f32]) -> Result<(), MetricError> {
        match self.metric {
            Metric::Top1 => {
                let label = self.label_below(label, self.output_len)?;
                self.correct += usize::from(argmax(&sum_rows(outputs, self.output_len)) == Some(label));
            }
            Metric::Auc => {
                let label = self.label_below(label, 2)?;
                self.marked.push((self.mean_squared_error(inputs, outputs)?, label == 1));
            }
            Metric::Psnr | Metric::Mse => {
                self.error_sum += self.mean_squared_error(inputs, outputs)?;
                self.range = inputs.iter().fold(self.range, |(low, high), &x| (low.min(x), high.max(x)));
            }
        }
        self.samples += 1;
        Ok(())
    }

    /// The figure over all samples.
    ///
    /// # Errors
    /// When it is undefined: no sample, or AUC without both marks.
    pub fn finish(self) -> Result<f64, MetricError> {
        let undefined = MetricError::Undefined(self.metric);
        if self.samples == 0 {
            return Err(undefined);
        }
        let mse = self.error_sum / self.samples as f64;
        match self.metric {
            Metric::Top1 => Ok(self.correct as f64 / self.samples as f64),
            Metric::Auc => auc(self.marked).ok_or(undefined),
            Metric::Mse => Ok(mse),
            Metric::Psnr => {
                let peak = f64::from(self.range.1) - f64::from(self.range.0);
                Ok(10.0 * (peak * peak / mse).log10())
            }
        }
    }

    fn label_below(&self, label: Option<u32>, bound: usize) -> Result<usize, MetricError> {
        let label = label.ok_or(MetricError::Unlabelled(self.metric))?;
        if (label as usize) < bound {
            Ok(label as usize)
        } else {
            Err(MetricError::LabelOutOfRange { metric: self.metric, label, bound })
        }
    }

    fn mean_squared_error(&self, inputs: &[f32], outputs: &[f32]) -> Result<f64, MetricError> {
        if inputs.len() != outputs.len() {
            let (inputs, outputs) = (inputs.len(), outputs.len());
            return Err(MetricError::UnequalLengths { metric: self.metric, inputs, outputs });
        }
        let sum: f64 = inputs.iter().zip(outputs).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
        Ok(sum / inputs.len().max(1) as f64)
    }
}

/// Index of the largest element, the first of equals.
pub(crate) fn argmax<T: PartialOrd>(row: &[T]) -> Option<usize> {
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best })
}

/// Sum of the rows, which ranks as their mean does.
fn sum_rows(outputs: &[f32], len: usize) -> Vec<f64> {
    let mut sums = vec![0.0; len];
    for row in outputs.chunks_exact(len.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sums
}

/// Share of (marked, unmarked) pairs in which the marked sample scores higher, ties counting half:
/// from the sum of the marked samples' ranks, equal scores sharing their mean rank (Mann-Whitney).
/// `None` unless there are both kinds. Scores that are no number rank highest.
fn auc(mut scores: Vec<(f64, bool)>) -> Option<f64> {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let marked = scores.iter().filter(|(_, mark)| *mark).count() as f64;
    let unmarked = scores.len() as f64 - marked;
    let mut rank_sum = 0.0;
    let mut before = 0;
    for ties in scores.chunk_by(|a, b| a.0 == b.0) {
        let mean_rank = before as f64 + (ties.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * ties.iter().filter(|(_, mark)| *mark).count() as f64;
        before += ties.len();
    }
    (marked > 0.0 && unmarked > 0.0).then(|| (rank_sum - marked * (marked + 1.0) / 2.0) / (marked * unmarked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score(metric: Metric, output_len: usize, samples: &[(Option<u32>, &[f32], &[f32])]) -> Result<f64, MetricError> {
        let mut accumulator = MetricAccumulator::new(metric, output_len);
        for (label, inputs, outputs) in samples {
            accumulator.push(*label, inputs, outputs)?;
        }
        assert_eq!(accumulator.samples(), samples.len());
        accumulator.finish()
    }

    #[test]
    fn top1_counts_the_largest_output() {
        let samples: [(_, &[f32], &[f32]); 4] = [
            (Some(1), &[], &[0.0, 2.0, 1.0]),
            (Some(0), &[], &[0.0, 2.0, 1.0]),
            (Some(0), &[], &[1.0, 1.0, 1.0]),
            (Some(2), &[], &[0.5, 0.0, 0.4, 0.0, 0.0, 0.4]),
        ];
        assert_eq!(score(Metric::Top1, 3, &samples), Ok(0.75));
    }

    #[test]
    fn errors_and_peaks_are_measured() {
        let samples: [(_, &[f32], &[f32]); 2] = [(None, &[0.0, 10.0], &[1.0, 10.0]), (None, &[5.0, 5.0], &[5.0, 6.0])];
        assert_eq!(score(Metric::Mse, 2, &samples), Ok(0.5));
        let psnr = score(Metric::Psnr, 2, &samples).unwrap();
        assert!((psnr - 23.010_3).abs() < 1e-4, "{psnr}");
    }

    #[test]
    fn auc_ranks_reconstruction_errors() {
        let samples: [(_, &[f32], &[f32]); 3] =
            [(Some(0), &[0.0], &[1.0]), (Some(1), &[0.0], &[2.0]), (Some(1), &[0.0], &[1.0])];
        assert_eq!(score(Metric::Auc, 1, &samples), Ok(0.75));
        assert_eq!(score(Metric::Auc, 1, &samples[1..]), Err(MetricError::Undefined(Metric::Auc)));
    }

    #[test]
    fn what_cannot_be_scored_is_explained() {
        assert_eq!(score(Metric::Top1, 2, &[(None, &[], &[0.0, 0.0])]), Err(MetricError::Unlabelled(Metric::Top1)));
        assert!(matches!(
            score(Metric::Top1, 2, &[(Some(2), &[], &[0.0, 0.0])]),
            Err(MetricError::LabelOutOfRange { bound: 2, .. })
        ));
        assert!(matches!(
            score(Metric::Mse, 2, &[(None, &[0.0], &[0.0, 0.0])]),
            Err(MetricError::UnequalLengths { .. })
        ));
        assert_eq!(score(Metric::Mse, 2, &[]), Err(MetricError::Undefined(Metric::Mse)));
    }

    #[test]
    fn the_metric_follows_from_shape_and_labels() {
        assert_eq!(Metric::infer(3072, 10, &[Some(3), Some(0)]), Ok(Metric::Top1));
        assert_eq!(Metric::infer(9216, 2, &[Some(1), Some(0)]), Ok(Metric::Top1));
        assert_eq!(Metric::infer(640, 640, &[Some(1), Some(0)]), Ok(Metric::Auc));
        assert_eq!(Metric::infer(640, 640, &[None, None]), Ok(Metric::Mse));
        assert!(Metric::infer(640, 640, &[Some(2), Some(0)]).is_err());
        assert!(Metric::infer(640, 10, &[None]).is_err());
        assert!(Metric::infer(640, 10, &[None, Some(1)]).is_err());
    }

    #[test]
    fn names_round_trip() {
        for metric in Metric::ALL {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        assert!("top5".parse::<Metric>().unwrap_err().to_string().contains("psnr"));
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_in_order(scores in prop::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let scores: Vec<(f64, bool)> = scores.into_iter().map(|(s, mark)| (f64::from(s), mark)).collect();
            let pairs: Vec<f64> = scores.iter().filter(|p| p.1)
                .flat_map(|p| scores.iter().filter(|q| !q.1).map(move |q| if p.0 > q.0 { 1.0 } else if p.0 == q.0 { 0.5 } else { 0.0 }))
                .collect();
            let expected = (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64);
            match (auc(scores), expected) {
                (Some(fast), Some(slow)) => prop_assert!((fast - slow).abs() < 1e-12, "{} {}", fast, slow),
                (fast, slow) => prop_assert_eq!(fast, slow),
            }
        }
    }
}
