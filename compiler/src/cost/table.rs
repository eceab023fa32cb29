//! Kernel times measured on a target, and what they say about shapes that were not measured.
//!
//! A row is one kernel at one shape and one pair of widths, with its raw samples. A query that a row
//! answers gets that row; others get a fit ([`super::fit`]), one for each operator and weight format.
//!
//! Machines are not equally fast at all times. Every row says what the board's yardstick took beside it;
//! a table scales all rows to its fastest, [`LatencyTable::yardstick`], and whoever compares a prediction
//! with the clock scales it by the yardstick of that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pare_runtime::Isa;
use pare_runtime::format::Layout;
use serde::{Deserialize, Serialize};

use crate::board::quantile;
use crate::files;
use crate::lower::{ConvKey, Layouts, Measured};
use crate::policy::WeightFormat;
use crate::units::{TickUnit, Ticks};

use super::fit::Fit;
use super::layers::{Shape, Steps};

/// What the operators of convolutions that take in a sum end in.
const SUM: &str = "_add";
/// Version of the file that [`LatencyTable::save`] writes.
const SCHEMA: u32 = 3;
/// Parts that the rows of a fit are cut into to measure its error on rows it did not see.
const FOLDS: usize = 10;

/// Measured kernel times of one target.
#[derive(Clone, Debug)]
pub struct LatencyTable {
    file: File,
    /// Of the rows that answer one query, the number of the fastest; the first of equals.
    fastest: BTreeMap<Key, usize>,
    /// Each made when first asked for: a network that was measured needs none.
    fits: BTreeMap<Group, OnceLock<Fit>>,
}

/// An operator and its weight format.
type Group = (String, Option<WeightFormat>);

/// How the rows were got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the target.
    pub target: String,
    /// Model name of the processor.
    pub cpu: String,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Version of the runtime crate.
    pub runtime_version: String,
    /// Version of this compiler.
    pub pare_version: String,
    /// Day of the measurement, `YYYY-MM-DD`.
    pub date: String,
}

/// One kernel at one shape and one pair of widths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name of the kernel that ran.
    pub kernel: String,
    /// Operator, as [`super::layers::Layer::operator`] names it.
    pub operator: String,
    /// Dimensions.
    pub shape: Shape,
    /// Coding of the weights; absent for operators without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFormat>,
    /// Width of the input codes.
    pub activation_bits: u8,
    /// What was left of a layer that skips zeros; absent for others.
    #[serde(default, skip_serializing_if = "is_dense")]
    pub steps: Steps,
    /// Order of the weights' codes; absent for operators without.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "layout_name")]
    pub layout: Option<Layout>,
    /// Middle sample, in the table's unit.
    pub median: f64,
    /// A tenth of the samples is below.
    pub p10: f64,
    /// What the board's yardstick took where these times hold: see [`crate::board::Timing::yardstick`].
    pub yardstick: f64,
    /// Sorted samples: the medians of blocks, some blocks a place where the kernel runs.
    pub samples: Vec<f64>,
}

/// A kernel that a policy would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelQuery<'a> {
    /// As [`Row::operator`].
    pub operator: &'a str,
    /// Dimensions.
    pub shape: Shape,
    /// As [`Row::weights`].
    pub weights: Option<WeightFormat>,
    /// Width of the input codes.
    pub activation_bits: u8,
    /// What skipping zeros would leave of it.
    pub steps: Steps,
}

/// A time and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// The time.
    pub ticks: Ticks,
    /// Measured or fitted.
    pub source: Source,
}

/// Where a time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A row of the table.
    Measured,
    /// The fit.
    Fitted,
}

/// Error of a fit on rows that it did not see, relative to the measured median.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Operator of the fit.
    pub operator: String,
    /// Weight format of the fit.
    pub weights: Option<WeightFormat>,
    /// Rows predicted while held out.
    pub rows: usize,
    /// Their relative errors, sorted.
    #[serde(skip)]
    pub errors: Vec<f64>,
    /// Middle relative error.
    pub median: f64,
    /// Nine tenths of the relative errors are below.
    pub p90: f64,
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Nothing to predict from.
    #[error("the latency table of target `{0}` has no rows: measure some kernels first")]
    Empty(String),
    /// A row that no measurement gives.
    #[error("row {index} of the latency table ({kernel}): {problem}")]
    Row {
        /// Position of the row.
        index: usize,
        /// Its kernel.
        kernel: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Reading or writing failed.
    #[error("latency table {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a table.
    #[error("latency table {path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A table of another version.
    #[error("latency table {path} has schema {found}, this pare reads schema {SCHEMA}: measure the target again")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    unit: TickUnit,
    provenance: Provenance,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    operator: String,
    weights: Option<WeightFormat>,
    shape: Shape,
    activation_bits: u8,
    steps: Steps,
    kernel: String,
}

impl LatencyTable {
    /// A table of these rows, ordered by operator, weights, shape, activation bits, steps and kernel; times
    /// are kept to a thousandth of a tick, scaled to the fastest yardstick.
    ///
    /// # Errors
    /// [`TableError`] where there is no row, a row twice, or a row without a positive time.
    pub fn new(provenance: Provenance, unit: TickUnit, mut rows: Vec<Row>) -> Result<LatencyTable, TableError> {
        if rows.is_empty() {
            return Err(TableError::Empty(provenance.target));
        }
        rows.sort_by_key(key);
        let yardstick = rows.iter().map(|row| row.yardstick).fold(f64::INFINITY, f64::min);
        rows.iter_mut().for_each(|row| row.scale_to(yardstick));
        for (index, row) in rows.iter().enumerate() {
            let refuse = |problem| Err(TableError::Row { index, kernel: row.kernel.clone(), problem });
            if ![row.median, row.yardstick].iter().all(|ticks| ticks.is_finite() && *ticks > 0.0) {
                return refuse("its median or yardstick is not a positive number; measure it again");
            }
            if index > 0 && rows.get(index - 1).is_some_and(|before| key(before) == key(row)) {
                return refuse("it stands twice; keep one of the two");
            }
        }
        let mut fastest: BTreeMap<Key, usize> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            let best = fastest.entry(Key { kernel: String::new(), ..key(row) }).or_insert(index);
            if row.median < rows[*best].median {
                *best = index;
            }
        }
        // Convolutions with a sum have no fit of their own, and those that skip zeros none at all.
        let fitted = rows.iter().filter(|row| !row.operator.ends_with(SUM) && is_dense(&row.steps));
        let fits = fitted.map(|row| ((row.operator.clone(), row.weights), OnceLock::new())).collect();
        Ok(LatencyTable { file: File { schema: SCHEMA, unit, provenance, rows }, fastest, fits })
    }

    /// The time of a kernel: its row where one was measured (the fastest, where several kernels do
    /// the same), else the fit of its operator and weight format; `None` where that has no row. A convolution with
    /// a sum that was not measured takes what the two do. Weights of fewer bits count as no faster than those of 8 unless
    /// they are so beyond doubt.
    pub fn predict(&self, query: &KernelQuery) -> Option<Predicted> {
        let own = self.own(query)?;
        let is_narrow = query.weights.is_some_and(|format| format.bits() < 8);
        let bytes = KernelQuery { weights: Some(WeightFormat::Linear(8)), ..*query };
        let Some(bytes) = self.own(&bytes).filter(|_| is_narrow) else { return Some(own) };
        let sure = 1.0 - self.doubt(own.source).max(self.doubt(bytes.source));
        let in_doubt = (sure * bytes.ticks.value..bytes.ticks.value).contains(&own.ticks.value);
        Some(if in_doubt { Predicted { ticks: bytes.ticks, ..own } } else { own })
    }

    /// The part of a time by which two must differ, to differ surely: some nine tenths of errors are less.
    fn doubt(&self, source: Source) -> f64 {
        match (source, self.file.unit) {
            (Source::Fitted, _) => 0.1,
            (Source::Measured, TickUnit::Nanoseconds) => 0.03,
            // Counts.
            (Source::Measured, _) => 0.0,
        }
    }

    /// The time of a kernel as it was measured or fitted, whatever other widths take: with its zeros or without, whichever
    /// is faster.
    fn own(&self, query: &KernelQuery) -> Option<Predicted> {
        let dense = self.dense(query)?;
        if is_dense(&query.steps) {
            return Some(dense);
        }
        let sparse = self.sparse(query).filter(|&time| time < dense.ticks.value);
        Some(sparse.map_or(dense, |value| Predicted {
            ticks: Ticks { value, unit: self.file.unit },
            source: Source::Measured,
        }))
    }

    /// The time of a layer that skips its zeros: that of the same layer with as many steps, or of one with more.
    fn sparse(&self, query: &KernelQuery) -> Option<f64> {
        let key = |steps| Key { steps, ..Key::of(query) };
        let rows =
            self.fastest.range(key(query.steps)..key(Steps::ALL)).map(|(_, &index)| self.file.rows[index].median);
        rows.min_by(f64::total_cmp)
    }

    /// The time of a kernel that leaves nothing out.
    fn dense(&self, query: &KernelQuery) -> Option<Predicted> {
        let key = Key { steps: Steps::ALL, ..Key::of(query) };
        let predicted = |value, source| Predicted { ticks: Ticks { value, unit: self.file.unit }, source };
        if let Some(&index) = self.fastest.get(&key) {
            return Some(predicted(self.file.rows[index].median, Source::Measured));
        }
        if let Some(operator) = query.operator.strip_suffix(SUM) {
            let Shape { h_out, w_out, c_out, .. } = query.shape;
            let shape =
                Shape { h: h_out, w: w_out, c_in: c_out, kernel: [1; 2], stride: [1; 2], groups: 1, ..query.shape };
            let sum = self.dense(&KernelQuery { operator: "add", shape, weights: None, ..*query })?;
            let conv = self.dense(&KernelQuery { operator, ..*query })?;
            return Some(predicted(conv.ticks.value + sum.ticks.value, Source::Fitted));
        }
        let group = (key.operator, key.weights);
        let fit = self.fits.get(&group)?.get_or_init(|| self.fit(&self.group(&group)));
        Some(predicted(fit.time(query), Source::Fitted))
    }

    /// How well each fit predicts rows that it did not see; fits of fewer than three rows have none.
    pub fn held_out(&self) -> Vec<HeldOut> {
        let mut report = Vec::new();
        let groups: BTreeSet<Group> = self.fits.keys().cloned().collect();
        for (operator, weights) in groups {
            let rows = self.group(&(operator.clone(), weights));
            if rows.len() < 3 {
                continue;
            }
            // One shape at several widths is unseen at all of them.
            let shapes: BTreeSet<Shape> = rows.iter().map(|row| row.shape).collect();
            let fold: BTreeMap<Shape, usize> = shapes.into_iter().zip((0..FOLDS).cycle()).collect();
            let mut errors: Vec<f64> = Vec::with_capacity(rows.len());
            for held in 0..FOLDS {
                let (unseen, seen): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| fold[&row.shape] == held);
                if !unseen.is_empty() && !seen.is_empty() {
                    let fit = self.fit(&seen);
                    errors.extend(unseen.iter().map(|row| (fit.time(&row.query()) / row.median - 1.0).abs()));
                }
            }
            if errors.is_empty() {
                continue;
            }
            errors.sort_by(f64::total_cmp);
            let (median, p90) = (quantile(&errors, 0.5), quantile(&errors, 0.9));
            report.push(HeldOut { operator, weights, rows: rows.len(), errors, median, p90 });
        }
        report
    }

    /// What the board's yardstick takes where the predictions hold.
    pub fn yardstick(&self) -> f64 {
        self.file.rows.first().map_or(1.0, |row| row.yardstick)
    }

    /// The clock that the times were read from.
    pub fn unit(&self) -> TickUnit {
        self.file.unit
    }

    /// How the rows were got.
    pub fn provenance(&self) -> &Provenance {
        &self.file.provenance
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.file.rows
    }

    fn group(&self, (operator, weights): &Group) -> Vec<&Row> {
        let dense = self.fastest().filter(|row| is_dense(&row.steps));
        dense.filter(|row| (&row.operator, &row.weights) == (operator, weights)).collect()
    }

    fn fit(&self, rows: &[&Row]) -> Fit {
        let samples: Vec<(KernelQuery<'_>, f64)> = rows.iter().map(|row| (row.query(), row.median)).collect();
        Fit::new(self.file.provenance.isa.parse().unwrap_or(Isa::Portable), &samples)
    }

    /// The rows that predictions are made from: those of the fastest kernels.
    pub fn fastest(&self) -> impl Iterator<Item = &Row> {
        self.fastest.values().map(|&index| &self.file.rows[index])
    }

    /// The layout in which each convolution is fastest.
    pub fn layouts(&self) -> Layouts {
        let mut measured = Measured::default();
        for row in self.fastest() {
            let (Some(weights), Some(layout)) = (row.weights, row.layout) else { continue };
            let key = ConvKey { shape: row.shape, weights, activation_bits: row.activation_bits };
            if is_dense(&row.steps) {
                measured.dense.insert(key, layout);
                continue;
            }
            let most = measured.sparse.entry(key).or_default();
            let dense = self.dense(&row.query());
            if dense.is_some_and(|dense| row.median < dense.ticks.value) {
                *most = (*most).max(Some(row.steps));
            }
        }
        Layouts::Measured(measured)
    }

    /// Reads a file that [`LatencyTable::save`] wrote.
    ///
    /// # Errors
    /// [`TableError`] naming the file.
    pub fn load(path: &Path) -> Result<LatencyTable, TableError> {
        let io = |source| TableError::Io { path: path.to_owned(), source };
        let parse = |source| TableError::Parse { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(io)?;
        let file: File = serde_json::from_slice(&bytes).map_err(parse)?;
        if file.schema != SCHEMA {
            return Err(TableError::Schema { path: path.to_owned(), found: file.schema });
        }
        LatencyTable::new(file.provenance, file.unit, file.rows)
    }

    /// Writes the table as JSON, whole or not at all.
    ///
    /// # Errors
    /// [`TableError`] naming the file.
    pub fn save(&self, path: &Path) -> Result<(), TableError> {
        let mut text = serde_json::to_vec_pretty(&self.file)
            .map_err(|source| TableError::Parse { path: path.to_owned(), source })?;
        text.push(b'\n');
        files::replace(path, &text).map_err(|source| TableError::Io { path: path.to_owned(), source })
    }
}

impl Row {
    /// What it answers.
    pub fn query(&self) -> KernelQuery<'_> {
        KernelQuery {
            operator: &self.operator,
            shape: self.shape,
            weights: self.weights,
            activation_bits: self.activation_bits,
            steps: self.steps,
        }
    }

    /// The same at another speed of the board, to a thousandth of a tick: no clock tells more, and short
    /// decimals survive the file exactly.
    fn scale_to(&mut self, yardstick: f64) {
        let factor = yardstick / self.yardstick;
        let times = [&mut self.median, &mut self.p10].into_iter().chain(&mut self.samples);
        times.for_each(|time| *time = (*time * factor * 1e3).round() / 1e3);
        self.yardstick = yardstick;
    }
}

fn key(row: &Row) -> Key {
    Key { kernel: row.kernel.clone(), ..Key::of(&row.query()) }
}

impl Key {
    /// Of whatever kernel.
    fn of(query: &KernelQuery) -> Key {
        Key {
            operator: query.operator.to_owned(),
            weights: query.weights,
            shape: query.shape,
            activation_bits: query.activation_bits,
            steps: query.steps,
            kernel: String::new(),
        }
    }
}

fn is_dense(steps: &Steps) -> bool {
    *steps == Steps::ALL
}

/// A layout as tables write it.
mod layout_name {
    use super::{Deserialize, Layout};

    const NAMES: [(Layout, &str); 6] = [
        (Layout::Plain, "plain"),
        (Layout::Panels, "panels"),
        (Layout::Words, "words"),
        (Layout::Planes, "planes"),
        (Layout::Vectors, "vectors"),
        (Layout::Sparse, "sparse"),
    ];

    pub(super) fn serialize<S: serde::Serializer>(layout: &Option<Layout>, to: S) -> Result<S::Ok, S::Error> {
        match NAMES.iter().find(|(known, _)| Some(*known) == *layout) {
            Some((_, name)) => to.serialize_str(name),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Layout>, D::Error> {
        let text = String::deserialize(from)?;
        let known = NAMES.iter().find(|(_, name)| *name == text).map(|(layout, _)| Some(*layout));
        known.ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no weight layout: it is plain, panels, words, planes, vectors or sparse"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(edge: usize, c_in: usize, c_out: usize, kernel: usize) -> Shape {
        Shape {
            h: edge,
            w: edge,
            c_in,
            h_out: edge,
            w_out: edge,
            c_out,
            kernel: [kernel; 2],
            stride: [1; 2],
            groups: 1,
        }
    }

    fn row(shape: Shape, bits: u8, noise: f64) -> Row {
        let macs = (shape.h_out * shape.w_out * shape.c_out * shape.c_in * shape.kernel[0] * shape.kernel[1]) as f64;
        let outputs = (shape.h_out * shape.w_out * shape.c_out) as f64;
        let median = (200.0 + macs * 0.006 + outputs * 0.1) * noise;
        Row {
            kernel: "conv_avx2".into(),
            operator: "conv2d".into(),
            shape,
            weights: Some(WeightFormat::Linear(bits)),
            activation_bits: 8,
            steps: Steps::ALL,
            layout: None,
            median,
            p10: median,
            yardstick: 1.0,
            samples: vec![median],
        }
    }

    fn table() -> LatencyTable {
        let mut rows = Vec::new();
        for (i, edge) in [4, 8, 16, 32].into_iter().enumerate() {
            for (j, channels) in [3, 8, 16, 32, 64].into_iter().enumerate() {
                for kernel in [1, 3] {
                    let noise = 1.0 + 0.02 * (((i * 7 + j * 3 + kernel) % 5) as f64 - 2.0);
                    rows.push(row(shape(edge, channels, 32, kernel), 4, noise));
                }
            }
        }
        LatencyTable::new(Provenance { target: "host".into(), ..Default::default() }, TickUnit::Nanoseconds, rows)
            .unwrap()
    }

    fn ask(shape: Shape, bits: u8) -> KernelQuery<'static> {
        KernelQuery {
            operator: "conv2d",
            shape,
            weights: Some(WeightFormat::Linear(bits)),
            activation_bits: 8,
            steps: Steps::ALL,
        }
    }

    #[test]
    fn answers_with_the_row_where_there_is_one_and_with_the_fit_elsewhere() {
        let table = table();
        let seen = table.predict(&ask(shape(8, 16, 32, 3), 4)).unwrap();
        let row = table.rows().iter().find(|row| row.shape == shape(8, 16, 32, 3)).unwrap();
        assert_eq!((seen.ticks.value, seen.source), (row.median, Source::Measured));

        let unseen = shape(24, 48, 32, 3);
        let truth = super::tests::row(unseen, 4, 1.0).median;
        let fitted = table.predict(&ask(unseen, 4)).unwrap();
        assert_eq!(fitted.source, Source::Fitted);
        assert!((fitted.ticks.value / truth - 1.0).abs() < 0.05, "{} against {truth}", fitted.ticks.value);
        assert!(table.predict(&ask(unseen, 3)).is_none(), "no row of that width");
    }

    #[test]
    fn credits_no_width_with_less_than_the_doubt() {
        let time = |factor: f64, unit| {
            let shape = shape(8, 16, 32, 3);
            let rows = vec![row(shape, 8, 1.0), row(shape, 4, factor)];
            let table = LatencyTable::new(Provenance::default(), unit, rows).unwrap();
            table.predict(&ask(shape, 4)).unwrap().ticks.value / row(shape, 8, 1.0).median
        };
        for (factor, expected) in [(0.5, 0.5), (0.98, 1.0), (1.02, 1.02)] {
            assert!((time(factor, TickUnit::Nanoseconds) - expected).abs() < 1e-3, "{factor}");
        }
        assert!((time(0.98, TickUnit::Instructions) - 0.98).abs() < 1e-3, "counts are exact");
    }

    #[test]
    fn reports_the_error_on_rows_it_did_not_see() {
        let report = table().held_out();
        assert_eq!(report.len(), 1);
        assert_eq!(report[0].rows, 40);
        assert!(report[0].median > 0.001 && report[0].median < 0.05, "{report:?}");
        assert!(report[0].p90 >= report[0].median && report[0].p90 < 0.1, "{report:?}");
    }

    #[test]
    fn survives_the_disk_and_refuses_what_is_no_table() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tables").join("host.json");
        let table = table();
        table.save(&path).unwrap();
        let again = LatencyTable::load(&path).unwrap();
        assert_eq!(again.rows(), table.rows());
        let text = std::fs::read_to_string(&path).unwrap();
        again.save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "same rows, same bytes");

        std::fs::write(&path, text.replacen("\"schema\": 3", "\"schema\": 9", 1)).unwrap();
        assert!(matches!(LatencyTable::load(&path), Err(TableError::Schema { found: 9, .. })));
        std::fs::write(&path, text.replacen("\"median\"", "\"middle\"", 1)).unwrap();
        assert!(matches!(LatencyTable::load(&path), Err(TableError::Parse { .. })));
    }

    #[test]
    fn goes_by_the_fastest_layout() {
        let in_layout = |kernel: &str, layout, factor: f64, edge: usize| {
            let shape = shape(edge, 64, 64, 3);
            Row { kernel: kernel.into(), layout: Some(layout), activation_bits: 1, ..row(shape, 1, factor) }
        };
        let rows = vec![
            in_layout("planes", Layout::Planes, 0.5, 8),
            in_layout("conv", Layout::Panels, 1.0, 8),
            in_layout("planes", Layout::Planes, 2.0, 4),
            in_layout("conv", Layout::Panels, 1.0, 4),
        ];
        let table = LatencyTable::new(Provenance::default(), TickUnit::Nanoseconds, rows).unwrap();
        let key =
            |edge| ConvKey { shape: shape(edge, 64, 64, 3), weights: WeightFormat::Linear(1), activation_bits: 1 };
        let dense = [(key(8), Layout::Planes), (key(4), Layout::Panels)].into();
        assert_eq!(table.layouts(), Layouts::Measured(Measured { dense, ..Measured::default() }));
        let query = |edge| KernelQuery { activation_bits: 1, ..ask(shape(edge, 64, 64, 3), 1) };
        let time = |edge| table.predict(&query(edge)).unwrap().ticks.value;
        assert_eq!(table.fastest().map(|row| row.median).collect::<Vec<_>>(), [time(4), time(8)]);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.json");
        table.save(&path).unwrap();
        assert_eq!(LatencyTable::load(&path).unwrap().rows(), table.rows());
    }

    /// What the search pays for and what lowering does go by the same rows.
    #[test]
    fn zeros_are_skipped_only_where_that_was_faster() {
        let levels = |nonzero: usize| -> Vec<i8> {
            (0..64 * 1024).map(|i| i8::from((i * 7 + i / 1024 * 3) % 16 < nonzero)).collect()
        };
        let of = |nonzero: usize| Steps::of(&levels(nonzero), 1024);
        let (few, some, many) = (of(1), of(3), of(9));
        assert!(few < some && some < many && many < Steps::ALL);
        let vector = Shape { h: 1, w: 1, h_out: 1, w_out: 1, ..shape(1, 1024, 64, 1) };
        let layer = |layout, steps, factor| {
            let kernel = if layout == Layout::Sparse { "sparse" } else { "dense" };
            Row { kernel: kernel.into(), layout: Some(layout), steps, ..row(vector, 4, factor) }
        };
        let rows = vec![
            layer(Layout::Panels, Steps::ALL, 1.0),
            layer(Layout::Sparse, few, 0.3),
            layer(Layout::Sparse, some, 0.7),
            layer(Layout::Sparse, many, 1.6),
        ];
        let unit = row(vector, 4, 1.0).median;
        let table = LatencyTable::new(Provenance::default(), TickUnit::Instructions, rows.clone()).unwrap();
        let layouts = table.layouts();
        for (steps, expected) in [(few, 0.3), (of(2), 0.7), (some, 0.7), (of(4), 1.0), (many, 1.0), (Steps::ALL, 1.0)] {
            let predicted = table.predict(&KernelQuery { steps, ..ask(vector, 4) }).unwrap();
            assert!((predicted.ticks.value / unit - expected).abs() < 1e-3, "{steps:?}: {predicted:?}");
            let skips = layouts.skips_zeros(vector, &[WeightFormat::Linear(4)], 8, steps);
            assert_eq!(skips, expected < 1.0, "{steps:?}");
        }
        // Of another shape it knows nothing, and its fits are of dense layers alone.
        let other = KernelQuery { steps: few, ..ask(Shape { c_out: 32, ..vector }, 4) };
        assert_eq!(table.predict(&other).unwrap().source, Source::Fitted);
        let dense = LatencyTable::new(Provenance::default(), TickUnit::Instructions, rows[..1].to_vec()).unwrap();
        assert_eq!(table.predict(&other), dense.predict(&other));
    }

    #[test]
    fn refuses_rows_that_no_measurement_gives() {
        let new = |rows| LatencyTable::new(Provenance::default(), TickUnit::Cycles, rows);
        let good = row(shape(4, 8, 8, 1), 8, 1.0);
        assert!(new(Vec::new()).is_err());
        assert!(new(vec![Row { median: f64::NAN, ..good.clone() }]).is_err());
        assert!(new(vec![good.clone(), good]).unwrap_err().to_string().contains("twice"));
    }
}
