//! Between which numbers the channels of every value stay, whatever the network is given.
//!
//! Activations are taken to stay within [`REACH`]: what gets near it in a network that runs in `f32` and shall run in
//! 8 bits is not worth a thought. So weights that training has let decay to 1e-30 count for nothing beside a bias
//! ([`terms`]).

use super::terms;
use crate::ir::channels::{channels, unblocked};
use crate::ir::weighted::Weighted;
use crate::ir::{Clamp, Graph, Node, Op, Padding, Pool, Unary};

/// No activation is larger: 2^40.
const REACH: f64 = (1u64 << 40) as f64;

/// All numbers from `lo` to `hi`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    lo: f64,
    hi: f64,
}

impl Interval {
    const ALL: Interval = Interval { lo: -REACH, hi: REACH };
    const ZERO: Interval = Interval { lo: 0.0, hi: 0.0 };

    fn at(x: f32) -> Interval {
        Interval { lo: x.into(), hi: x.into() }
    }

    /// The one number that it holds; `None` where there are more, or where `f32` cannot hold it.
    pub(super) fn constant(self) -> Option<f32> {
        (self.lo == self.hi && (self.lo as f32).is_finite()).then_some(self.lo as f32)
    }

    /// The largest distance from zero.
    pub(super) fn magnitude(self) -> f64 {
        self.hi.max(-self.lo)
    }

    fn hull(self, other: Interval) -> Interval {
        Interval { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    fn plus(self, other: Interval) -> Interval {
        Interval { lo: self.lo + other.lo, hi: self.hi + other.hi }
    }

    fn times(self, factor: f32) -> Interval {
        let factor = f64::from(factor);
        match factor {
            0.0 => Interval::ZERO,
            _ if factor > 0.0 => Interval { lo: self.lo * factor, hi: self.hi * factor },
            _ => Interval { lo: self.hi * factor, hi: self.lo * factor },
        }
    }

    fn clamped(self, clamp: Clamp) -> Interval {
        let apply = |x: f64| x.max(clamp.min.into()).min(clamp.max.into());
        Interval { lo: apply(self.lo), hi: apply(self.hi) }
    }

    fn mapped(self, function: Unary) -> Interval {
        // Between these every function of the graph is monotone.
        let turns: &[f32] = match function {
            Unary::LeakyRelu { .. } => &[0.0],
            Unary::HardSwish => &[-3.0, -1.5],
            Unary::Clamp(_) | Unary::Sigmoid | Unary::Tanh | Unary::HardSigmoid { .. } => &[],
        };
        let inside = turns.iter().copied().filter(|&x| self.lo < x.into() && self.hi > x.into());
        let images = inside.chain([self.lo as f32, self.hi as f32]).map(|x| Interval::at(function.apply(x)));
        images.reduce(Interval::hull).unwrap_or(Interval::ALL)
    }

    fn within_reach(self) -> Interval {
        let met = Interval { lo: self.lo.max(-REACH), hi: self.hi.min(REACH) };
        if met.lo <= met.hi { met } else { self }
    }
}

/// One interval for each channel (index along the last dimension) of each value; none for constants.
pub(super) fn bounds(graph: &Graph) -> Vec<Vec<Interval>> {
    let mut bounds = vec![Vec::new(); graph.values.len()];
    for &input in &graph.inputs {
        bounds[input.0 as usize] = vec![Interval::ALL; channels(graph, input)];
    }
    for node in &graph.nodes {
        let found = of_node(graph, node, &bounds);
        bounds[node.output.0 as usize] = found.into_iter().map(Interval::within_reach).collect();
    }
    bounds
}

fn of_node(graph: &Graph, node: &Node, bounds: &[Vec<Interval>]) -> Vec<Interval> {
    let operand = |i: usize| bounds[node.inputs[i].0 as usize].as_slice();
    let (x, channels) = (operand(0), channels(graph, node.output));
    let each = |f: &dyn Fn(usize, Interval) -> Interval| x.iter().enumerate().map(|(c, &i)| f(c, i)).collect();
    let constant = |c: usize| {
        let data = graph.value(node.inputs[1]).data.as_deref().map_or(&[][..], Vec::as_slice);
        data.get(c).or(data.first()).copied().unwrap_or_default()
    };
    match &node.op {
        Op::Conv2d(conv) => weighted(graph, node, x, conv.clamp),
        Op::FullyConnected { clamp } => weighted(graph, node, x, *clamp),
        Op::Add { clamp } if graph.value(node.inputs[1]).is_constant() => {
            each(&|c, i| i.plus(Interval::at(constant(c))).clamped(*clamp))
        }
        Op::Add { clamp } => each(&|c, i| i.plus(operand(1)[c]).clamped(*clamp)),
        Op::Mul => each(&|c, i| i.times(constant(c))),
        Op::Unary(function) => each(&|_, i| i.mapped(*function)),
        Op::AvgPool(Pool { clamp, .. }) | Op::MaxPool(Pool { clamp, .. }) => each(&|_, i| i.clamped(*clamp)),
        Op::Resize { .. } => x.to_vec(),
        Op::Softmax => vec![Interval { lo: 0.0, hi: 1.0 }; channels],
        Op::Concat { axis } if axis + 1 == graph.value(node.output).shape.len() => {
            (0..node.inputs.len()).flat_map(operand).copied().collect()
        }
        Op::Concat { .. } => {
            let hull = |c: usize| (0..node.inputs.len()).map(|i| operand(i)[c]).reduce(Interval::hull);
            (0..channels).map(|c| hull(c).unwrap_or(Interval::ALL)).collect()
        }
        Op::Pad { pads } => {
            let (before, around) = pads.split_last().map_or((0, &[][..]), |(last, rest)| (last.0, rest));
            let is_surrounded = around.iter().any(|&pair| pair != (0, 0));
            let mut padded = vec![Interval::ZERO; channels];
            for (slot, &inside) in padded.iter_mut().skip(before).zip(x) {
                *slot = if is_surrounded { inside.hull(Interval::ZERO) } else { inside };
            }
            padded
        }
        Op::Reshape => {
            // Element by element, channel `e % x.len()` becomes channel `e % channels`.
            if channels % x.len() == 0 || x.len() % channels == 0 {
                let of = |c: usize| (c % x.len()..x.len()).step_by(channels).map(|from| x[from]).reduce(Interval::hull);
                (0..channels).map(|c| of(c).unwrap_or(Interval::ALL)).collect()
            } else {
                vec![all_of(x); channels]
            }
        }
        Op::Transpose { perm } if perm.last() == Some(&(perm.len() - 1)) => x.to_vec(),
        Op::Transpose { .. } => vec![all_of(x); channels],
        Op::DepthToSpace { block, order } => {
            let mut spread = vec![None; channels];
            for (from, &interval) in x.iter().enumerate() {
                let slot: &mut Option<Interval> = &mut spread[unblocked(from, *block, channels, *order)];
                *slot = Some(slot.map_or(interval, |known| known.hull(interval)));
            }
            spread.into_iter().map(|interval| interval.unwrap_or(Interval::ALL)).collect()
        }
    }
}

fn all_of(x: &[Interval]) -> Interval {
    x.iter().copied().reduce(Interval::hull).unwrap_or(Interval::ALL)
}

fn weighted(graph: &Graph, node: &Node, x: &[Interval], clamp: Clamp) -> Vec<Interval> {
    let layer = Weighted::of(graph, node);
    // Where a window reaches beyond the edge, it reads zeros.
    let seen: Vec<Interval> = match &node.op {
        Op::Conv2d(conv) if conv.pad != Padding::default() => x.iter().map(|i| i.hull(Interval::ZERO)).collect(),
        _ => x.to_vec(),
    };
    let row = |o: usize| {
        let sum = terms(&layer, o, &seen).fold(Interval::at(layer.bias(o)), |sum, (c, w)| sum.plus(seen[c].times(w)));
        sum.clamped(clamp)
    };
    (0..layer.n_rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::text::parse;

    fn of(text: &str, value: &str) -> Vec<(f64, f64)> {
        let graph = parse(text).unwrap();
        let at = graph.values.iter().position(|v| v.name == value).unwrap();
        bounds(&graph)[at].iter().map(|i| (i.lo, i.hi)).collect()
    }

    #[test]
    fn functions_that_turn_are_bounded_by_their_turns() {
        let all = Interval::ALL.mapped(Unary::HardSwish);
        assert_eq!((all.lo, all.hi as f32), (-0.375, REACH as f32));
        let left = Interval { lo: -4.0, hi: -2.0 }.mapped(Unary::HardSwish);
        assert!((left.lo + 1.0 / 3.0).abs() < 1e-6 && left.hi == 0.0);
        let bent = Interval { lo: -1.0, hi: 2.0 }.mapped(Unary::LeakyRelu { alpha: -0.5 });
        assert_eq!((bent.lo, bent.hi), (0.0, 2.0));
        assert_eq!(Interval::at(0.25).mapped(Unary::Tanh).constant(), Some(0.25f32.tanh()));
    }

    #[test]
    fn padding_counts_where_it_is_seen() {
        let text = "graph g\ninput %x: [1, 3, 3, 1]\nconst %w: [2, 1, 1, 1] = [0.0, 0.0]\nconst %b: [2] = [2.0, -1.0]\n\
                    %a: [1, 3, 3, 2] = conv2d(%x, %w, %b) clamp=[0.0, inf]\nconst %v: [2, 3, 3, 1] = [1, 1, 1, 1, 1, 1, 1, 1, 1, \
                    1, 1, 1, 1, 1, 1, 1, 1, 1]\n%y: [1, 3, 3, 2] = conv2d(%a, %v) groups=2 pad=[1, 1, 1, 1]\noutput %y\n";
        assert_eq!(of(text, "a"), [(2.0, 2.0), (0.0, 0.0)]);
        assert_eq!(of(text, "y"), [(0.0, 18.0), (0.0, 0.0)]);
    }

    #[test]
    fn what_decayed_in_training_is_nothing() {
        let text = "graph g\ninput %x: [1, 2]\nconst %w: [4, 2] = [1, -1, 1e-30, 0, -1, -1, 1e-30, 0]\n\
                    const %b: [4] = [0, -2, 0, 0]\n%a: [1, 2] = clamp(%x) clamp=[0.0, inf]\n\
                    %y: [1, 4] = fully_connected(%a, %w, %b)\noutput %y\n";
        let found = of(text, "y");
        assert_eq!(found[..3], [(-REACH, REACH), (-2.0, -2.0), (-REACH, 0.0)]);
        assert!(found[3].1 > 0.0, "beside a bias of zero it is something");
    }
}
