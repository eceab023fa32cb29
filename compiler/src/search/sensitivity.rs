//! What each choice of each layer loses, measured with the true loss, one layer changed at a time.
//!
//! The base is the widest choice everywhere. A choice that differs from the base in its weights *and*
//! in its output width is not measured: it counts the sum of both changes, which spares a factor of
//! the number of widths and leaves out only an interaction within one layer, of the same kind as
//! those between layers that any separable model leaves out.
//!
//! Measurements are noisy, on few samples to the point of a wider code losing more than a narrower
//! one of its family. Since more levels of the same kind represent every tensor at least as well,
//! losses are made to fall with width ([`smooth`]); families (linear, codebook, ternary) are not
//! compared with each other, because there the order is an empirical matter. Nothing is below zero:
//! a negative increase is noise too, and solvers would chase it.
//!
//! Every measurement is saved as it comes, so an interrupted run goes on where it stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;
use crate::policy::{LayerPolicy, Policy, WeightChoice, WeightFormat};

use super::space::{self, Selection, Space};
use super::{Event, Problem, SearchError};

/// Version of the cache file.
const SCHEMA: u32 = 1;

/// Loss increases of all choices over the widest.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Loss of the base.
    pub base: f64,
    /// Increase by layer and choice: never negative, 0 for the base.
    pub increases: Vec<Vec<f64>>,
    /// Policies scored now; the others came from the cache.
    pub evaluations: usize,
}

/// Where measurements are kept between runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// A folder of its own, such as `~/.cache/pare/sensitivity`.
    pub directory: PathBuf,
    /// Names everything that a loss depends on beside the policy: the network, its quantisation
    /// settings and the calibration samples.
    pub digest: String,
}

/// Measures the choices of `problem.space` with `problem.calibration`.
///
/// # Errors
/// [`SearchError::Evaluation`], [`SearchError::NotFinite`], and [`SearchError::Cache`] where a cache
/// is given and cannot be written. A cache file that does not parse is measured anew.
pub fn measure(
    problem: &Problem,
    cache: Option<&Cache>,
    events: &mut dyn FnMut(Event),
) -> Result<Sensitivity, SearchError> {
    let space = problem.space;
    let widest = space.widest();
    let mut store = Store::open(cache, &space.policy(&widest));
    let plan = plan(space, &widest);
    events(Event::Stage { name: "sensitivity", steps: plan.len() + 1 });

    let mut evaluations = 0;
    let mut loss_of = |label: String, layer: &str, selection: &Selection| -> Result<f64, SearchError> {
        let known = store.get(layer, &label);
        let loss = match known {
            Some(loss) => loss,
            None => {
                evaluations += 1;
                let loss = problem.calibrate(&space.policy(selection))?.loss;
                store.put(layer, &label, loss)?;
                loss
            }
        };
        events(Event::Step { label: format!("{layer} {label}") });
        Ok(loss)
    };
    let base = loss_of("base".into(), "all", &widest)?;
    let mut measured = BTreeMap::new();
    for &(layer, choice) in &plan {
        let site = &space.sites()[layer];
        let label = key(&site.choices[choice]);
        let loss = loss_of(label, &site.name, &widest.with(layer, choice))?;
        measured.insert((layer, choice), loss - base);
    }
    let increases = (0..space.len()).map(|layer| complete(space, &widest, layer, &measured)).collect();
    events(Event::Finished { summary: format!("{evaluations} policies scored") });
    Ok(Sensitivity { base, increases, evaluations })
}

/// The choices to be measured: all that differ from the base in one aspect alone, and those for
/// which no such pair of choices exists.
fn plan(space: &Space, widest: &Selection) -> Vec<(usize, usize)> {
    let mut plan = Vec::new();
    for layer in 0..space.len() {
        for choice in 0..space.sites()[layer].choices.len() {
            let base = widest.choices()[layer];
            if choice != base && parts(space, layer, base, choice).is_none() {
                plan.push((layer, choice));
            }
        }
    }
    plan
}

/// The choice with these weights at the base's width, and the base's weights at this width, where
/// `choice` differs in both and the space offers the two.
fn parts(space: &Space, layer: usize, base: usize, choice: usize) -> Option<(usize, usize)> {
    let choices = &space.sites()[layer].choices;
    let (base, this) = (&choices[base], &choices[choice]);
    if this.weights == base.weights || this.activation_bits == base.activation_bits || this.keep != base.keep {
        return None;
    }
    let find = |wanted: LayerPolicy| choices.iter().position(|c| *c == wanted);
    let weights = find(LayerPolicy { activation_bits: base.activation_bits, ..this.clone() })?;
    let width = find(LayerPolicy { activation_bits: this.activation_bits, ..base.clone() })?;
    Some((weights, width))
}

fn complete(space: &Space, widest: &Selection, layer: usize, measured: &BTreeMap<(usize, usize), f64>) -> Vec<f64> {
    let choices = &space.sites()[layer].choices;
    let base = widest.choices()[layer];
    let of = |choice: usize| measured.get(&(layer, choice)).copied().unwrap_or(0.0);
    let raw: Vec<f64> = (0..choices.len())
        .map(|choice| match parts(space, layer, base, choice) {
            Some((weights, width)) => of(weights).max(0.0) + of(width).max(0.0),
            None => of(choice),
        })
        .collect();
    let mut smoothed = smooth(choices, &raw);
    smoothed[base] = 0.0;
    smoothed
}

/// The middle between the two monotone envelopes of the losses: the least one above them (the worst
/// of all that is as wide or wider) and the greatest one below (the best of all that is as narrow or
/// narrower). Losses in order stay as they are; those out of order meet halfway.
pub fn smooth(choices: &[LayerPolicy], losses: &[f64]) -> Vec<f64> {
    let pairs = || choices.iter().zip(losses);
    choices
        .iter()
        .map(|choice| {
            let wider = pairs().filter(|(other, _)| as_wide(other, choice)).map(|(_, &loss)| loss);
            let narrower = pairs().filter(|(other, _)| as_wide(choice, other)).map(|(_, &loss)| loss);
            let above = wider.fold(f64::NEG_INFINITY, f64::max);
            let below = narrower.fold(f64::INFINITY, f64::min);
            (0.5 * above + 0.5 * below).max(0.0)
        })
        .collect()
}

/// Whether `a` can represent whatever `b` can: the same kind of levels, no fewer bits anywhere.
fn as_wide(a: &LayerPolicy, b: &LayerPolicy) -> bool {
    let weights = match (&a.weights, &b.weights) {
        (Some(WeightChoice::Layer(a)), Some(WeightChoice::Layer(b))) => match (a, b) {
            (WeightFormat::Linear(a), WeightFormat::Linear(b)) => a >= b,
            (WeightFormat::Codebook(a), WeightFormat::Codebook(b)) => a >= b,
            (a, b) => a == b,
        },
        (a, b) => a == b,
    };
    weights && a.keep == b.keep && a.activation_bits >= b.activation_bits
}

/// The decision as text, in full: the key of a measurement.
fn key(choice: &LayerPolicy) -> String {
    match (&choice.weights, &choice.keep) {
        (Some(WeightChoice::Channels(_)), _) | (_, Some(_)) => serde_json::to_string(choice).unwrap_or_default(),
        _ => space::label(choice),
    }
}

/// Losses on disk. They are kept as text so that a number read back is the number written, to the
/// last bit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    digest: String,
    base: Policy,
    losses: BTreeMap<String, BTreeMap<String, String>>,
}

struct Store {
    path: Option<PathBuf>,
    file: File,
}

impl Store {
    fn open(cache: Option<&Cache>, base: &Policy) -> Store {
        let digest = cache.map(|cache| cache.digest.clone()).unwrap_or_default();
        let empty = File { schema: SCHEMA, digest, base: base.clone(), losses: BTreeMap::new() };
        let path = cache.map(|cache| cache.directory.join(file_name(&cache.digest, base)));
        let file = path
            .as_deref()
            .and_then(read)
            .filter(|file| file.schema == SCHEMA && file.digest == empty.digest && file.base == empty.base);
        Store { path, file: file.unwrap_or(empty) }
    }

    fn get(&self, layer: &str, choice: &str) -> Option<f64> {
        self.file.losses.get(layer)?.get(choice)?.parse().ok().filter(|loss: &f64| loss.is_finite())
    }

    fn put(&mut self, layer: &str, choice: &str, loss: f64) -> Result<(), SearchError> {
        self.file.losses.entry(layer.to_owned()).or_default().insert(choice.to_owned(), loss.to_string());
        if let Some(path) = &self.path {
            files::replace(path, &serde_json::to_vec_pretty(&self.file).map_err(std::io::Error::from)?)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<File> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn file_name(digest: &str, base: &Policy) -> String {
    let mut hash = Sha256::new();
    hash.update(digest);
    hash.update(serde_json::to_vec(base).unwrap_or_default());
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.json")
}

#[cfg(test)]
mod tests {
    use super::super::space::layer_policy;
    use super::super::testing::{Synthetic, quiet};
    use super::*;

    #[test]
    fn smoothing_keeps_order_and_mends_disorder() {
        let choices: Vec<LayerPolicy> =
            [2, 3, 4, 8].into_iter().map(|b| layer_policy(WeightFormat::Linear(b), 8)).collect();
        assert_eq!(smooth(&choices, &[0.5, 0.2, 0.1, 0.0]), [0.5, 0.2, 0.1, 0.0]);
        assert_eq!(smooth(&choices, &[0.5, 0.1, 0.3, 0.0]), [0.5, 0.2, 0.2, 0.0]);
        let mended = smooth(&choices, &[0.5, 0.1, 0.3, -0.1]);
        assert!(mended.windows(2).all(|pair| pair[0] >= pair[1]) && mended[3] == 0.0);
    }

    #[test]
    fn families_are_not_compared() {
        let choices = [layer_policy(WeightFormat::Linear(2), 8), layer_policy(WeightFormat::Codebook(2), 8)];
        assert_eq!(smooth(&choices, &[0.1, 0.3]), [0.1, 0.3]);
    }

    #[test]
    fn measures_one_aspect_at_a_time() {
        let net = Synthetic::new(4, &[2, 4, 8], &[4, 8], 11);
        let sensitivity = measure(&net.problem(), None, &mut quiet()).unwrap();
        // 4 layers: two narrower weights, one narrower width; and the base.
        assert_eq!(sensitivity.evaluations, 4 * 3 + 1);
        assert_eq!(net.scored(), sensitivity.evaluations);
        for (row, site) in sensitivity.increases.iter().zip(net.space.sites()) {
            assert_eq!(row.len(), site.choices.len());
            assert!(row.iter().all(|x| *x >= 0.0));
            assert_eq!(row.last(), Some(&0.0));
            assert!(row[0] > 0.0, "the narrowest loses something");
        }
    }

    #[test]
    fn an_interrupted_run_goes_on_and_ends_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { directory: folder.path().join("sensitivity"), digest: "net+data".into() };
        let net = Synthetic::new(5, &[2, 3, 4, 8], &[8], 12);
        let whole = measure(&net.problem(), None, &mut quiet()).unwrap();

        let mut broken = Synthetic::new(5, &[2, 3, 4, 8], &[8], 12);
        broken.fails_after = Some(7);
        assert!(measure(&broken.problem(), Some(&cache), &mut quiet()).is_err());

        let resumed = measure(&net.problem(), Some(&cache), &mut quiet()).unwrap();
        assert_eq!(resumed.evaluations, whole.evaluations - 7);
        assert_eq!((resumed.base, &resumed.increases), (whole.base, &whole.increases));

        let cached = measure(&net.problem(), Some(&cache), &mut quiet()).unwrap();
        assert_eq!((cached.evaluations, &cached.increases), (0, &whole.increases));

        let other = Cache { digest: "another net".into(), ..cache.clone() };
        assert!(measure(&net.problem(), Some(&other), &mut quiet()).unwrap().evaluations > 0);

        for file in std::fs::read_dir(&cache.directory).unwrap() {
            std::fs::write(file.unwrap().path(), "{ torn").unwrap();
        }
        assert_eq!(measure(&net.problem(), Some(&cache), &mut quiet()).unwrap().increases, whole.increases);
    }
}
