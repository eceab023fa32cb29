//! The report of a compilation: what [`crate::report`] shows, gathered from all stages.

use std::collections::BTreeMap;

use pare_runtime::Model;

use super::Global;
use super::compile::{Finished, search_sentence};
use crate::board::AlignedBytes;
use crate::compile::Found;
use crate::cost::Cost;
use crate::cost::bitops::Bitops;
use crate::cost::energy::Energy;
use crate::cost::latency::Latency;
use crate::cost::layers::Layers;
use crate::data::Split;
use crate::ir::NodeId;
use crate::measure;
use crate::policy::{Policy, WeightChoice};
use crate::report::{
    self, BudgetLine, FrontPoint, Goal, Headline, LayerRow, MemoryMap, MemoryRole, MethodRow, PointKind, Report,
    SensitivityMap, SensitivityRow, TensorLife,
};
use crate::search::budget::Metric as Bounded;
use crate::search::space::label;
use crate::search::{Budget, Front, Point};
use crate::target::Target;
use crate::units::{Bytes, Count, Quantity, Ticks};

impl Finished<'_> {
    pub(super) fn report(&self, global: &Global, wall_s: f64) -> Report {
        let graph = &self.task.graph;
        let layers = Layers::of(graph).with_sums(self.deployed.plan.sums());
        let latency = Latency::new(layers.clone(), &self.table);
        let predicted = latency.of(&self.policy).ok();
        let float_bytes: usize = graph.values.iter().filter_map(|v| v.data.as_ref()).map(|data| 4 * data.len()).sum();
        let is_measured = !self.settings.target.is_modelled();
        let headline = Headline {
            metric: self.task.data.metric.to_string(),
            accuracy_float: self.float.value,
            accuracy: self.integer.value,
            n: self.integer.n as u64,
            blob_bytes: Bytes(self.deployed.blob.bytes.len() as u64),
            weight_bytes: Bytes(self.deployed.blob.weight_bytes as u64),
            float_bytes: Bytes(float_bytes as u64),
            arena_bytes: Bytes(self.deployed.plan.arena_bytes as u64),
            linked: self.linked.as_ref().ok().copied(),
            predicted: predicted.map(|quantity| self.ticks(quantity.value())),
            measured: is_measured.then(|| self.timing.total(0.5)),
            macs: Count(graph.nodes.iter().map(|node| graph.macs(node)).sum()),
            bitops: Count(Bitops(layers.clone()).of(&self.policy).map_or(0, |q| q.value() as u64)),
            wall_s,
        };
        let command: Vec<String> =
            std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        let provenance = self.table.provenance();
        let versions = [
            ("pare", env!("CARGO_PKG_VERSION")),
            ("runtime", pare_runtime::VERSION),
            ("cpu", &provenance.cpu),
            ("kernels", &provenance.isa),
            ("latency table", &provenance.date),
        ];
        Report {
            model: graph.name.clone(),
            target: self.settings.target.name.clone(),
            passes: self.savings.clone(),
            stages: self.stages.clone(),
            judged_by: self.task.data.judged_by(Split::Val),
            budget: self.budget_lines(&headline),
            goal: self.found.as_ref().map(|found| Goal {
                accuracy_float: found.float.metric,
                floor: found.floor,
                flash: self.budget.flash,
                latency: self.budget.latency,
            }),
            front: self.front_points(),
            methods: self.method_rows(),
            layers: self.layer_rows(&latency),
            memory: Some(self.memory_map()),
            sensitivity: self.found.as_ref().map(|found| sensitivity_map(found, &self.policy)),
            provenance: report::Provenance {
                command: format!("pare {}", command.join(" ")),
                seed: global.seed,
                digest: self.deployed.blob.digest(),
                data: self.task.data.dataset.name.clone(),
                evaluated_on: format!("{} test samples", self.integer.n),
                versions: versions.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
                search: self.choice(),
            },
            headline,
        }
    }

    /// Where policy and codes come from.
    fn choice(&self) -> String {
        let policy = self.found.as_ref().map_or_else(|| "policy given, no search".to_owned(), search_sentence);
        match &self.finetuned {
            Some(tuned) => format!("{policy}; fine-tuned: {}", tuned.sentence()),
            None => policy,
        }
    }

    fn budget_lines(&self, headline: &Headline) -> Vec<BudgetLine> {
        let reached = |bounded: Bounded| match bounded {
            Bounded::Latency => headline.measured.or(headline.predicted).map(Quantity::Ticks),
            Bounded::Flash => {
                Some(Quantity::Bytes(headline.linked.map_or(headline.blob_bytes, |linked| linked.flash_bytes)))
            }
            Bounded::Ram => {
                Some(Quantity::Bytes(headline.linked.map_or(headline.arena_bytes, |linked| linked.ram_bytes)))
            }
            Bounded::Macs => Some(Quantity::Operations(headline.macs)),
            Bounded::Bitops => Some(Quantity::Operations(headline.bitops)),
            Bounded::Energy => {
                let Target { name, energy, .. } = &self.settings.target;
                let layers = Layers::of(&self.task.graph).with_sums(self.deployed.plan.sums());
                Energy::new(layers, name, energy.clone()).and_then(|energy| energy.of(&self.policy)).ok()
            }
        };
        let line = |(bounded, bound): (Bounded, Quantity)| BudgetLine {
            name: bounded.flag().to_owned(),
            bound: bound.to_string(),
            reached: match (reached(bounded), bounded, &self.settings.target.energy) {
                (Some(reached), Bounded::Energy, Some(energy)) => format!("{reached} ({})", energy.source),
                (Some(reached), ..) => reached.to_string(),
                (None, ..) => "-".to_owned(),
            },
        };
        self.budget.bounds().into_iter().map(line).chain(self.accuracy_line()).collect()
    }

    /// What the search was to keep of the metric, which validation samples decide.
    fn accuracy_line(&self) -> Option<BudgetLine> {
        let found = self.found.as_ref()?;
        let floor = found.floor?;
        let name = match (self.budget.max_drop, self.budget.min_accuracy) {
            (Some(points), _) => format!("--max-drop {points}"),
            (None, Some(_)) => "--min-accuracy".to_owned(),
            (None, None) => format!("--max-drop {} (default)", Budget::DEFAULT_DROP),
        };
        Some(BudgetLine {
            name,
            bound: format!("{floor:.4} or more (float {:.4}, validation)", found.float.metric),
            reached: format!("{:.4}", found.front.chosen.score.metric),
        })
    }

    fn front_points(&self) -> Vec<FrontPoint> {
        let Some(found) = &self.found else { return Vec::new() };
        let point = |kind: PointKind, point: &Point| FrontPoint {
            name: point.name.clone(),
            kind,
            accuracy: point.score.metric,
            blob_bytes: Bytes(point.costs.get(&Bounded::Flash).map_or(0, |q| q.value() as u64)),
            latency: point.costs.get(&Bounded::Latency).map(|q| Ticks { value: q.value(), unit: self.table.unit() }),
        };
        let others = |p: &&Point| p.policy != found.front.chosen.policy;
        let front = found.front.points.iter().filter(others).map(|p| point(PointKind::Front, p));
        let beside = found.beside.iter().flat_map(|(_, front)| front.points.iter().chain([&front.chosen]));
        let front = front.chain(beside.filter(others).map(|p| point(PointKind::Beside, p)));
        let uniform = found.uniform.iter().map(|p| point(PointKind::Uniform, p));
        front.chain(uniform).chain([point(PointKind::Chosen, &found.front.chosen)]).collect()
    }

    fn method_rows(&self) -> Vec<MethodRow> {
        let Some(found) = self.found.as_ref().filter(|found| !found.beside.is_empty()) else { return Vec::new() };
        let row = |name: &str, front: &Front| {
            let chosen = &front.chosen;
            let decided = found.space.sites().iter().filter_map(|site| chosen.policy.layers.get(&site.name));
            MethodRow {
                name: name.to_owned(),
                accuracy: chosen.score.metric,
                blob_bytes: Bytes(chosen.costs.get(&Bounded::Flash).map_or(0, |q| q.value() as u64)),
                latency: chosen
                    .costs
                    .get(&Bounded::Latency)
                    .map(|q| Ticks { value: q.value(), unit: self.table.unit() }),
                choices: decided.map(label).collect(),
                tried: front.statistics.tried.clone(),
            }
        };
        let beside = found.beside.iter().map(|(name, front)| row(name, front));
        std::iter::once(row(found.strategy, &found.front)).chain(beside).collect()
    }

    fn layer_rows(&self, latency: &Latency<'_>) -> Vec<LayerRow> {
        let graph = &self.task.graph;
        let layers = Layers::of(graph);
        let is_measured = !self.settings.target.is_modelled();
        let predicted: BTreeMap<String, Ticks> = latency
            .predict(&self.policy)
            .map(|rows| rows.into_iter().map(|(name, p)| (name, p.ticks)).collect())
            .unwrap_or_default();
        let blob = AlignedBytes::from(&self.deployed.blob.bytes[..]);
        let measured = Model::parse(&blob)
            .map(|model| measure::per_node(&self.deployed.plan.served(), &model, &self.timing))
            .unwrap_or_default();
        let row = |(index, (node, layer)): (usize, (&crate::ir::Node, &crate::cost::layers::Layer))| {
            let measured = measured.get(&NodeId(index as u32));
            let choice = self.policy.layers.get(&node.name).and_then(|entry| entry.weights.as_ref());
            let bits = layer.weight_bits(&self.policy).ok().filter(|_| layer.weights > 0);
            let shape: Vec<String> = graph.value(node.output).shape[1..].iter().map(ToString::to_string).collect();
            let code = self.deployed.quantized.activations[node.output.0 as usize];
            LayerRow {
                name: node.name.clone(),
                operator: layer.operator.to_owned(),
                shape: shape.join("×"),
                kernel: measured.map(|(kernel, _)| kernel.clone()).unwrap_or_default(),
                weights: choice.map(choice_name),
                weight_bits: bits.map(|bits| bits as f64 / layer.weights as f64),
                activation_bits: code.map_or(8, |code| code.bits),
                weight_bytes: Bytes(bits.unwrap_or(0).div_ceil(8)),
                macs: Count(layer.macs),
                predicted: predicted.get(&node.name).copied(),
                measured: measured.filter(|_| is_measured).map(|(_, ticks)| self.timing.ticks(*ticks)),
            }
        };
        graph.nodes.iter().zip(layers.iter()).enumerate().map(row).collect()
    }

    /// A predicted time, in the unit of the table that it comes from, at the speed that the board had when the
    /// times beside it were measured.
    fn ticks(&self, value: f64) -> Ticks {
        Ticks { value: value * self.timing.yardstick / self.table.yardstick(), unit: self.table.unit() }
    }

    fn memory_map(&self) -> MemoryMap {
        let plan = &self.deployed.plan;
        let last_step = plan.layers.len().saturating_sub(1);
        let life = |block: &crate::lower::MemoryBlock| TensorLife {
            name: block.name.clone(),
            role: if block.scratch { MemoryRole::Scratch } else { MemoryRole::Tensor },
            offset: block.offset as u64,
            bytes: block.bytes as u64,
            first: block.first.min(last_step),
            last: block.last.min(last_step),
        };
        MemoryMap {
            arena: Bytes(plan.arena_bytes as u64),
            steps: plan.layers.iter().map(|layer| layer.name.clone()).collect(),
            tensors: plan.memory.iter().map(life).collect(),
        }
    }
}

fn sensitivity_map(found: &Found, policy: &Policy) -> SensitivityMap {
    let label = |choice: &crate::policy::LayerPolicy| {
        let weights = choice.weights.as_ref().map(choice_name).unwrap_or_default();
        format!("{weights}a{}", choice.activation_bits)
    };
    let sites = found.space.sites();
    let mut choices: Vec<String> = Vec::new();
    for choice in sites.iter().flat_map(|site| &site.choices) {
        if !choices.contains(&label(choice)) {
            choices.push(label(choice));
        }
    }
    let rows = sites.iter().zip(&found.sensitivity.increases).map(|(site, increases)| {
        let offered: BTreeMap<String, f64> = site.choices.iter().map(label).zip(increases.iter().copied()).collect();
        let chosen = policy.layers.get(&site.name).map(label);
        SensitivityRow {
            layer: site.name.clone(),
            increases: choices.iter().map(|choice| offered.get(choice).copied()).collect(),
            chosen: choices.iter().position(|choice| Some(choice) == chosen.as_ref()),
        }
    });
    SensitivityMap { rows: rows.collect(), choices: choices.clone() }
}

fn choice_name(choice: &WeightChoice) -> String {
    match choice {
        WeightChoice::Layer(format) => format.to_string(),
        WeightChoice::Channels(_) => "mixed".to_owned(),
    }
}
