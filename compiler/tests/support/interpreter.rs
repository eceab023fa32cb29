//! The operators of the graph as their definitions read: slow, scalar, one loop nest each.

use pare::ir::{Conv2d, Coordinates, DepthToSpaceOrder, Graph, Node, Op, Padding, Pool, ResizeMode, Rounding};

/// The outputs of a verified graph for one sample of each input.
pub(crate) fn run(graph: &Graph, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut values: Vec<Option<Vec<f32>>> =
        graph.values.iter().map(|value| value.data.as_ref().map(|data| data.to_vec())).collect();
    for (id, input) in graph.inputs.iter().zip(inputs) {
        values[id.0 as usize] = Some(input.clone());
    }
    for node in &graph.nodes {
        let operands: Vec<&[f32]> = node.inputs.iter().map(|id| values[id.0 as usize].as_deref().unwrap()).collect();
        let result = evaluate(graph, node, &operands);
        assert_eq!(result.len(), graph.value(node.output).len(), "{}", node.name);
        values[node.output.0 as usize] = Some(result);
    }
    graph.outputs.iter().map(|id| values[id.0 as usize].clone().unwrap()).collect()
}

fn evaluate(graph: &Graph, node: &Node, operands: &[&[f32]]) -> Vec<f32> {
    let x = operands[0];
    let from = graph.input_shape(node, 0);
    let to = &graph.value(node.output).shape;
    let second = |i: usize| match operands[1].len() {
        1 => operands[1][0],
        n if n == x.len() => operands[1][i],
        n => operands[1][i % n],
    };
    match &node.op {
        Op::Conv2d(conv) => {
            conv2d(conv, x, from, operands[1], graph.input_shape(node, 1), operands.get(2).copied(), to)
        }
        Op::FullyConnected { clamp } => {
            let (k, n) = (from[from.len() - 1], to[to.len() - 1]);
            let bias = |o: usize| operands.get(2).map_or(0.0, |bias| bias[o]);
            let dot = |row: &[f32], o: usize| row.iter().zip(&operands[1][o * k..]).map(|(a, b)| a * b).sum::<f32>();
            x.chunks(k).flat_map(|row| (0..n).map(move |o| clamp.apply(dot(row, o) + bias(o)))).collect()
        }
        Op::Add { clamp } => x.iter().enumerate().map(|(i, x)| clamp.apply(x + second(i))).collect(),
        Op::Mul => x.iter().enumerate().map(|(i, x)| x * second(i)).collect(),
        Op::Unary(function) => x.iter().map(|&x| function.apply(x)).collect(),
        Op::Concat { axis } => {
            let outer: usize = to[..*axis].iter().product();
            let rows = |i: usize| operands[i].len() / outer;
            let row = |o: usize| (0..operands.len()).flat_map(move |i| &operands[i][o * rows(i)..(o + 1) * rows(i)]);
            (0..outer).flat_map(row).copied().collect()
        }
        Op::Pad { pads } => indices(to)
            .map(|at| {
                let inside: Option<Vec<usize>> = at
                    .iter()
                    .zip(pads)
                    .zip(from)
                    .map(|((&i, pad), &n)| i.checked_sub(pad.0).filter(|&i| i < n))
                    .collect();
                inside.map_or(0.0, |at| x[offset(from, &at)])
            })
            .collect(),
        Op::AvgPool(pool) => pooled(pool, x, from, to, |window| window.iter().sum::<f32>() / window.len() as f32),
        Op::MaxPool(pool) => {
            pooled(pool, x, from, to, |window| window.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        }
        Op::Softmax => {
            let softmax = |row: &[f32]| {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<f32> = row.iter().map(|x| (x - max).exp()).collect();
                let sum: f32 = powers.iter().sum();
                powers.into_iter().map(move |p| p / sum)
            };
            x.chunks(to[to.len() - 1]).flat_map(softmax).collect()
        }
        Op::Reshape => x.to_vec(),
        Op::Transpose { perm } => indices(to)
            .map(|at| {
                let mut source = vec![0; at.len()];
                perm.iter().zip(at).for_each(|(&axis, i)| source[axis] = i);
                x[offset(from, &source)]
            })
            .collect(),
        Op::Resize { mode, coordinates } => indices(to)
            .map(|at| {
                let (y, x_) = (place(*coordinates, at[1], from[1], to[1]), place(*coordinates, at[2], from[2], to[2]));
                resized(*mode, x, from, y, x_, at[3])
            })
            .collect(),
        Op::DepthToSpace { block, order } => indices(to)
            .map(|at| {
                let (dy, dx, c) = (at[1] % block, at[2] % block, to[3]);
                let channel = match order {
                    DepthToSpaceOrder::BlockFirst => (dy * block + dx) * c + at[3],
                    DepthToSpaceOrder::ChannelFirst => (at[3] * block + dy) * block + dx,
                };
                x[offset(from, &[0, at[1] / block, at[2] / block, channel])]
            })
            .collect(),
    }
}

fn conv2d(
    conv: &Conv2d,
    x: &[f32],
    from: &[usize],
    weights: &[f32],
    kernel: &[usize],
    bias: Option<&[f32]>,
    to: &[usize],
) -> Vec<f32> {
    let (taps, depth) = ([kernel[1], kernel[2]], kernel[3]);
    let one = |at: Vec<usize>| {
        let group = at[3] / (to[3] / conv.groups);
        let mut sum = 0.0;
        for tap in indices(&taps) {
            let y = (at[1] * conv.stride[0] + tap[0] * conv.dilation[0]).checked_sub(conv.pad.top);
            let x_ = (at[2] * conv.stride[1] + tap[1] * conv.dilation[1]).checked_sub(conv.pad.left);
            let (Some(y), Some(x_)) = (y.filter(|&y| y < from[1]), x_.filter(|&x| x < from[2])) else { continue };
            for c in 0..depth {
                let weight = weights[offset(kernel, &[at[3], tap[0], tap[1], c])];
                sum += weight * x[offset(from, &[0, y, x_, group * depth + c])];
            }
        }
        conv.clamp.apply(sum + bias.map_or(0.0, |bias| bias[at[3]]))
    };
    indices(to).map(one).collect()
}

fn pooled(pool: &Pool, x: &[f32], from: &[usize], to: &[usize], reduce: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let Padding { top, left, .. } = pool.pad;
    let one = |at: Vec<usize>| {
        let tap = |tap: Vec<usize>| {
            let y = (at[1] * pool.stride[0] + tap[0]).checked_sub(top).filter(|&y| y < from[1])?;
            let x_ = (at[2] * pool.stride[1] + tap[1]).checked_sub(left).filter(|&x| x < from[2])?;
            Some(x[offset(from, &[0, y, x_, at[3]])])
        };
        pool.clamp.apply(reduce(&indices(&pool.kernel).filter_map(tap).collect::<Vec<f32>>()))
    };
    indices(to).map(one).collect()
}

fn place(coordinates: Coordinates, at: usize, from: usize, to: usize) -> f32 {
    let ratio = from as f32 / to as f32;
    match coordinates {
        Coordinates::Asymmetric => at as f32 * ratio,
        Coordinates::HalfPixel => (at as f32 + 0.5) * ratio - 0.5,
        Coordinates::AlignCorners if to == 1 => 0.0,
        Coordinates::AlignCorners => at as f32 * (from - 1) as f32 / (to - 1) as f32,
    }
}

fn resized(mode: ResizeMode, x: &[f32], from: &[usize], row: f32, column: f32, channel: usize) -> f32 {
    let pixel = |row: f32, column: f32| {
        let row = row.clamp(0.0, (from[1] - 1) as f32) as usize;
        let column = column.clamp(0.0, (from[2] - 1) as f32) as usize;
        x[offset(from, &[0, row, column, channel])]
    };
    match mode {
        ResizeMode::Nearest(rounding) => {
            let round = |at: f32| match rounding {
                Rounding::Floor => at.floor(),
                Rounding::Ceil => at.ceil(),
                Rounding::HalfUp => (at + 0.5).floor(),
                Rounding::HalfDown => (at - 0.5).ceil(),
            };
            pixel(round(row), round(column))
        }
        ResizeMode::Bilinear => {
            let row = row.clamp(0.0, (from[1] - 1) as f32);
            let column = column.clamp(0.0, (from[2] - 1) as f32);
            let (top, left) = (row.floor(), column.floor());
            let (down, right) = (row - top, column - left);
            let mix = |row: f32| pixel(row, left) * (1.0 - right) + pixel(row, left + 1.0) * right;
            mix(top) * (1.0 - down) + mix(top + 1.0) * down
        }
    }
}

/// Every index of a shape, in row-major order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product()).map(move |mut rest: usize| {
        let mut index = vec![0; shape.len()];
        for (i, &n) in index.iter_mut().zip(shape).rev() {
            *i = rest % n;
            rest /= n;
        }
        index
    })
}

fn offset(shape: &[usize], index: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, n)| at * n + i)
}
