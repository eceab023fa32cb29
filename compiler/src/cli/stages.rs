//! The steps of a compilation that change the network: channels go, weights are trained again, codes take their place.
//! After each, what it costs and how good it is.

use std::cell::OnceCell;

use anyhow::{Result, bail};
use pare_runtime::Isa;

use super::progress::Progress;
use super::prune::{self, Keep, Plan, SelectArg};
use crate::board::AlignedBytes;
use crate::board::host::Host;
use crate::compile::{Settings, Workshop};
use crate::data::Split;
use crate::deploy::Deployed;
use crate::eval::Net;
use crate::ir::Graph;
use crate::methods::amc::{Aim, Method};
use crate::report::StageRow;
use crate::task::{Samples, Task};
use crate::units::{Bytes, Count};

/// How channels are taken out before bits.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Take channels out first, as `pare prune --keep` does: the share of a price that stays, as 0.5macs, 0.6weights,
    /// 0.65latency. The best network of all methods is taken, with --search amc that of the agent. With --finetune it is
    /// trained for as many epochs before bits are chosen; bounds on accuracy then count from it.
    #[arg(long, value_name = "SHARE")]
    prune: Option<Keep>,
    /// With --prune: networks that each method tries.
    #[arg(long, value_name = "N", default_value_t = 100, requires = "prune")]
    episodes: usize,
}

impl PruneArgs {
    /// Whether channels are to go.
    pub(super) fn is_wanted(&self) -> bool {
        self.prune.is_some()
    }

    /// The network with fewer channels, if that is wanted: the best that one of `methods` finds.
    pub(super) fn prune(
        &self,
        task: &Task,
        settings: &Settings,
        methods: &[Method],
        progress: &Progress,
    ) -> Result<Option<Step>> {
        let Some(Keep { share, of }) = self.prune else { return Ok(None) };
        let plan = Plan {
            aim: Aim::Share(share),
            price: of,
            select: SelectArg::Elimination,
            multiple: settings.target.channel_block,
            methods: methods.to_vec(),
            episodes: self.episodes,
        };
        progress.stage("taking channels out");
        let calibration = OnceCell::new();
        let outcome = prune::prune(&plan, &Workshop::new(task, settings, &calibration), progress)?;
        let found = outcome.entries.iter().filter_map(|entry| Some((&entry.method, entry.best.as_ref()?)));
        // Of equals the first.
        let Some((method, best)) = found.rev().max_by(|(_, a), (_, b)| a.score.total_cmp(&b.score)) else {
            bail!("no method found a network within --prune: let more stay");
        };
        Ok(Some(Step { name: format!("pruned, widths by {}", method.name()), graph: best.graph.clone() }))
    }
}

/// What a step made.
pub(super) struct Step {
    pub(super) name: String,
    pub(super) graph: Graph,
}

/// The row of a network in float.
pub(super) fn of_graph(name: &str, graph: &Graph, data: &Samples) -> Result<StageRow> {
    let numbers: usize = graph.values.iter().filter_map(|value| value.data.as_ref()).map(|data| data.len()).sum();
    Ok(StageRow {
        name: name.to_owned(),
        accuracy: accuracy(data, |indices| Ok(data.score_net(&Net::float(graph)?, indices)?.value))?,
        macs: macs(graph),
        bytes: Bytes(4 * numbers as u64),
    })
}

/// The row of a blob.
pub(super) fn of_blob(name: &str, deployed: &Deployed, data: &Samples) -> Result<StageRow> {
    let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
    Ok(StageRow {
        name: name.to_owned(),
        accuracy: accuracy(data, |indices| Ok(data.score_blob(&blob, Host::default(), Isa::best(), indices)?.value))?,
        macs: macs(&deployed.quantized.graph),
        bytes: Bytes(deployed.blob.bytes.len() as u64),
    })
}

/// The metric on all validation samples, where their labels let it be computed.
fn accuracy(data: &Samples, score: impl FnOnce(&[u32]) -> Result<f64>) -> Result<Option<f64>> {
    data.judges(Split::Val).then(|| score(data.indices(Split::Val, None)?)).transpose()
}

fn macs(graph: &Graph) -> Count {
    Count(graph.nodes.iter().map(|node| graph.macs(node)).sum())
}
