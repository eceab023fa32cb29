//! Which output channels can be cut: those of layers whose results operators tie together share one decision.
//!
//! A *unit* is what can only stay or go as one: channels tied to one another ([`Ties`]). A *group* holds the units that
//! one layer with weights produces, and those of all layers that share any with it: the branches of a residual sum, say.
//! Each unit knows the rows of weights that compute it and the columns that read it; after a flattening, or in a grouped
//! convolution, these are several (Fang et al., *DepGraph: Towards Any Structural Pruning*, CVPR 2023, by channels).

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::channels::{Kept, Ties, channels, values};
use crate::ir::weighted::is_dense;
use crate::ir::{Graph, NodeId, ValueId};

/// Every group of a graph.
#[derive(Clone, Debug)]
pub struct Groups {
    groups: Vec<Group>,
    /// What stays when no group keeps anything.
    rest: Kept,
}

/// Units that one decision is about.
#[derive(Clone, Debug)]
pub struct Group {
    /// In order of the first producer's rows.
    pub units: Vec<Unit>,
    /// Layers with weights that compute units, in order of the graph; depthwise and grouped convolutions, which pass
    /// units on, among them.
    pub producers: Vec<NodeId>,
    /// Layers that read units and do not pass them on, in order of the graph.
    pub consumers: Vec<NodeId>,
}

/// Channels that can only stay or go together.
#[derive(Clone, Debug)]
pub struct Unit {
    class: usize,
    /// Output channels of each of [`Group::producers`].
    pub rows: Vec<Vec<usize>>,
    /// Input channels of each of [`Group::consumers`].
    pub columns: Vec<Vec<usize>>,
}

impl Groups {
    /// The groups of a graph, in order of their first producers; channels that must stay are in none.
    pub fn of(graph: &Graph) -> Groups {
        let ties = Ties::of(graph);
        let fixed: BTreeSet<usize> = ties.whole().iter().flat_map(|&v| classes(graph, &ties, v)).collect();
        // Producers that share a class share a group, named by its lowest class.
        let mut group_of: BTreeMap<usize, usize> = BTreeMap::new();
        for id in graph.weighted() {
            let free: BTreeSet<usize> =
                classes(graph, &ties, graph.node(id).output).difference(&fixed).copied().collect();
            let met: BTreeSet<usize> = free.iter().filter_map(|class| group_of.get(class)).copied().collect();
            let Some(&name) = met.first().or(free.first()) else { continue };
            group_of.extend(free.into_iter().map(|class| (class, name)));
            group_of.values_mut().filter(|group| met.contains(group)).for_each(|group| *group = name);
        }
        let names: BTreeSet<usize> = group_of.values().copied().collect();
        let group = |&name: &usize| {
            let members: BTreeSet<usize> =
                group_of.iter().filter(|(_, group)| **group == name).map(|(c, _)| *c).collect();
            Group::of(graph, &ties, members)
        };
        let mut groups: Vec<Group> = names.iter().map(group).collect();
        groups.sort_by_key(|group| group.producers.first().copied());
        let mut rest = Kept::least(graph, ties.clone());
        for class in
            values(graph).flat_map(|id| classes(graph, &ties, id)).filter(|class| !group_of.contains_key(class))
        {
            rest.keep_class(class);
        }
        Groups { groups, rest }
    }

    /// The groups.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nothing can be cut.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The channels that stay where, of the units of each group, those of these numbers do, and all channels that are in
    /// no group. A layer that would lose all its output channels keeps the first.
    pub fn kept(&self, units: &[Vec<usize>]) -> Kept {
        let mut kept = self.rest.clone();
        for (group, units) in self.iter().zip(units) {
            for producer in 0..group.producers.len() {
                let mut computed = group.units.iter().enumerate().filter(|(_, unit)| !unit.rows[producer].is_empty());
                let first = computed.clone().next();
                if computed.all(|(i, _)| !units.contains(&i)) {
                    first.map(|(_, unit)| kept.keep_class(unit.class));
                }
            }
            for &unit in units {
                kept.keep_class(group.units[unit].class);
            }
        }
        kept
    }

    /// All units of every group.
    pub fn whole(&self) -> Vec<Vec<usize>> {
        self.iter().map(|group| (0..group.units.len()).collect()).collect()
    }
}

impl Group {
    /// In rising order, the numbers of units with which the first producer has a multiple of `multiple` channels, and all.
    pub fn widths(&self, multiple: usize) -> impl Iterator<Item = usize> + use<> {
        let rows = self.units.iter().map(|unit| unit.rows[0].len()).max().unwrap_or(1).max(1);
        let all = self.units.len();
        (1..=all).filter(move |n| (n * rows).is_multiple_of(multiple.max(1)) || *n == all)
    }

    fn of(graph: &Graph, ties: &Ties, members: BTreeSet<usize>) -> Group {
        let touches = |value| classes(graph, ties, value).iter().any(|class| members.contains(class));
        let producers: Vec<NodeId> = graph.weighted().filter(|&id| touches(graph.node(id).output)).collect();
        let reads = |&id: &NodeId| is_dense(graph.node(id)) && touches(graph.node(id).inputs[0]);
        let consumers: Vec<NodeId> = graph.weighted().filter(reads).collect();
        let of_class =
            |value, class| (0..channels(graph, value)).filter(move |&c| ties.class(value, c) == class).collect();
        let unit = |&class: &usize| Unit {
            class,
            rows: producers.iter().map(|&id| of_class(graph.node(id).output, class)).collect(),
            columns: consumers.iter().map(|&id| of_class(graph.node(id).inputs[0], class)).collect(),
        };
        let units = members.iter().map(unit).collect();
        Group { units, producers, consumers }
    }
}

fn classes(graph: &Graph, ties: &Ties, value: ValueId) -> BTreeSet<usize> {
    (0..channels(graph, value)).map(|c| ties.class(value, c)).collect()
}
