//! What a search may choose: for each layer, a list of decisions that the target has kernels for.

use crate::ir::Graph;
use crate::policy::{LayerPolicy, Policy, WeightChoice, WeightFormat};

/// The choices of every layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    sites: Vec<Site>,
}

/// One layer and its choices, narrowest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Name of the node.
    pub name: String,
    /// At least one decision, ordered by weight bits, then activation bits.
    pub choices: Vec<LayerPolicy>,
}

/// One choice a layer, as indices into [`Site::choices`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selection(Vec<usize>);

/// A space that cannot be searched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// A layer without a choice.
    #[error("layer `{0}` has no choice left: offer at least one weight format and one activation width for it")]
    Empty(String),
    /// Two entries for one layer.
    #[error("layer `{0}` stands twice in the search space: give every layer one entry")]
    Twice(String),
    /// A name that no layer has.
    #[error("the search space has no layer `{0}`: use a node name that `pare inspect --layers` prints")]
    Unknown(String),
}

impl Space {
    /// A space of these sites; their choices are put in order, repeated ones dropped.
    ///
    /// # Errors
    /// [`SpaceError`] for a layer without choices or with two entries.
    pub fn new(sites: Vec<Site>) -> Result<Space, SpaceError> {
        let mut seen = std::collections::BTreeSet::new();
        let mut ordered = Vec::with_capacity(sites.len());
        for mut site in sites {
            if !seen.insert(site.name.clone()) {
                return Err(SpaceError::Twice(site.name));
            }
            if site.choices.is_empty() {
                return Err(SpaceError::Empty(site.name));
            }
            site.choices.sort_by_key(|choice| (width(choice), format!("{choice:?}")));
            site.choices.dedup();
            ordered.push(site);
        }
        Ok(Space { sites: ordered })
    }

    /// Every layer with weights, offered every pair of a weight format and an activation width.
    /// `formats` are those that the target has kernels for.
    ///
    /// # Errors
    /// [`SpaceError::Empty`] where either list is empty.
    pub fn of(graph: &Graph, formats: &[WeightFormat], activation_bits: &[u8]) -> Result<Space, SpaceError> {
        let choices: Vec<LayerPolicy> = formats
            .iter()
            .flat_map(|&format| activation_bits.iter().map(move |&bits| layer_policy(format, bits)))
            .collect();
        let name = |id| graph.node(id).name.clone();
        Space::new(graph.weighted().map(|id| Site { name: name(id), choices: choices.clone() }).collect())
    }

    /// The same space with one layer left at these weights and activations, whether it was offered them or not.
    ///
    /// # Errors
    /// [`SpaceError::Unknown`].
    pub fn pin(mut self, layer: &str, (format, bits): (WeightFormat, u8)) -> Result<Space, SpaceError> {
        let site = self.sites.iter_mut().find(|site| site.name == layer);
        site.ok_or_else(|| SpaceError::Unknown(layer.into()))?.choices = vec![layer_policy(format, bits)];
        Ok(self)
    }

    /// The layers, in order.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Whether there is no layer to decide about.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// The widest choice everywhere: where sensitivity is measured from.
    pub fn widest(&self) -> Selection {
        Selection(self.sites.iter().map(|site| site.choices.len() - 1).collect())
    }

    /// The narrowest choice everywhere.
    pub fn narrowest(&self) -> Selection {
        Selection(vec![0; self.sites.len()])
    }

    /// The policy that a selection stands for.
    pub fn policy(&self, selection: &Selection) -> Policy {
        let layers = self.sites.iter().zip(&selection.0).map(|(site, &c)| (site.name.clone(), site.choices[c].clone()));
        Policy { layers: layers.collect() }
    }

    /// The selection that stands for a policy; `None` where the space does not offer it.
    pub fn selection(&self, policy: &Policy) -> Option<Selection> {
        let choice = |site: &Site| site.choices.iter().position(|c| policy.layers.get(&site.name) == Some(c));
        self.sites.iter().map(choice).collect::<Option<Vec<usize>>>().map(Selection)
    }

    /// Whether any layer can choose its output width.
    pub fn varies_activations(&self) -> bool {
        let bits = |site: &Site| site.choices.iter().map(|c| c.activation_bits).collect::<Vec<u8>>();
        self.sites.iter().any(|site| bits(site).windows(2).any(|pair| pair[0] != pair[1]))
    }
}

impl Site {
    /// The same weights with the next narrower activations, if they are offered.
    pub fn narrower_activations(&self, choice: usize) -> Option<usize> {
        let from = &self.choices[choice];
        let narrower = |c: &LayerPolicy| c.weights == from.weights && c.activation_bits < from.activation_bits;
        self.choices[..choice].iter().rposition(narrower)
    }

    /// The next narrower weights with the same activations, if they are offered.
    pub fn narrower_weights(&self, choice: usize) -> Option<usize> {
        let from = &self.choices[choice];
        let narrower = |c: &LayerPolicy| c.weights != from.weights && c.activation_bits == from.activation_bits;
        self.choices[..choice].iter().rposition(narrower)
    }
}

impl Selection {
    /// A selection of these choices.
    pub fn new(choices: Vec<usize>) -> Selection {
        Selection(choices)
    }

    /// One index a layer.
    pub fn choices(&self) -> &[usize] {
        &self.0
    }

    /// The same but for one layer.
    pub fn with(&self, layer: usize, choice: usize) -> Selection {
        let mut changed = self.clone();
        changed.0[layer] = choice;
        changed
    }
}

/// A layer coded alike in all channels.
pub fn layer_policy(format: WeightFormat, activation_bits: u8) -> LayerPolicy {
    LayerPolicy { weights: Some(WeightChoice::Layer(format)), activation_bits, keep: None }
}

/// Weight bits (in all, over channels where those differ), then activation bits; codebooks before
/// linear levels of the same width, so that the widest choice is the plain one.
fn width(choice: &LayerPolicy) -> (u64, bool, u8) {
    let (bits, linear) = match &choice.weights {
        None => (0, true),
        Some(WeightChoice::Layer(format)) => {
            (u64::from(format.bits()) << 32, matches!(format, WeightFormat::Linear(_)))
        }
        Some(WeightChoice::Channels(formats)) => {
            let sum: u64 = formats.iter().map(|f| u64::from(f.bits())).sum();
            ((sum << 32) / formats.len().max(1) as u64, false)
        }
    };
    (bits, linear, choice.activation_bits)
}

/// A short text for a layer's decision: `w4a8`.
pub fn label(choice: &LayerPolicy) -> String {
    let weights = match &choice.weights {
        None => String::new(),
        Some(WeightChoice::Layer(format)) => format.to_string(),
        Some(WeightChoice::Channels(formats)) => {
            let sum: f64 = formats.iter().map(|f| f64::from(f.bits())).sum();
            format!("w~{:.1}", sum / formats.len().max(1) as f64)
        }
    };
    format!("{weights}a{}", choice.activation_bits)
}
