//! A graph in which operands of nodes become other constants.

use super::{Graph, NodeId, Value, ValueId};

/// A graph while its constants change. Nodes may share a constant, so that none changes in place: a node that is given
/// another one reads that alone.
#[derive(Clone, Debug)]
pub struct Rewriting {
    /// The graph so far.
    pub graph: Graph,
    /// Values that there were.
    known: usize,
}

impl Rewriting {
    /// Nothing has changed yet.
    pub fn new(graph: &Graph) -> Rewriting {
        Rewriting { graph: graph.clone(), known: graph.values.len() }
    }

    /// Another constant in place of an operand, of the same name.
    pub fn replace(&mut self, node: NodeId, operand: usize, shape: Vec<usize>, data: Vec<f32>) {
        let old = self.graph.value(self.graph.node(node).inputs[operand]);
        if old.shape == shape && old.data.as_deref() == Some(&data) {
            return;
        }
        let name = old.name.clone();
        let new = self.graph.add_value(Value { name, shape, data: Some(data.into()), range: None });
        self.graph.nodes[node.0 as usize].inputs[operand] = new;
    }

    /// Gives a layer with weights its biases, unless it had none and needs none.
    pub fn set_bias(&mut self, node: NodeId, biases: Vec<f32>) {
        let layer = self.graph.node(node);
        if layer.inputs.len() > 2 {
            self.replace(node, 2, vec![biases.len()], biases);
        } else if biases.iter().any(|&b| b != 0.0) {
            let (name, shape) = (format!("{}.b", layer.name), vec![biases.len()]);
            let new = self.graph.add_value(Value { name, shape, data: Some(biases.into()), range: None });
            self.graph.nodes[node.0 as usize].inputs.push(new);
        }
    }

    /// The graph, values numbered as before and new ones after them, those included that nothing reads any more;
    /// `None` where a new constant is not finite.
    pub fn finish(mut self) -> Option<Graph> {
        let mut new = self.graph.values[self.known..].iter().filter_map(|value| value.data.as_ref());
        if !new.all(|data| data.iter().all(|x| x.is_finite())) {
            return None;
        }
        let count = self.graph.values.len() - self.known;
        name_apart(&mut self.graph, count);
        Some(self.graph)
    }
}

/// Gives the last `count` values names of their own: each wears the name of the constant it stands
/// for, which other nodes may read still.
pub fn name_apart(graph: &mut Graph, count: usize) {
    let start = graph.values.len() - count;
    for i in start..graph.values.len() {
        let is_taken = |graph: &Graph, name: &str| {
            let read = |id: usize| !graph.consumers(ValueId(id as u32)).is_empty();
            (0..graph.values.len()).any(|id| id != i && graph.values[id].name == name && read(id))
        };
        let name = graph.values[i].name.clone();
        let mut candidate = name.clone();
        let mut suffix = 2;
        while is_taken(graph, &candidate) {
            candidate = format!("{name}_{suffix}");
            suffix += 1;
        }
        graph.values[i].name = candidate;
    }
}
