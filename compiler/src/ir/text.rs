//! The textual form: prints a graph and parses it back to an equal one.
//!
//! One statement a line, in the order of definition; `#` starts a comment:
//!
//! ```text
//! graph tiny
//! input %image: [1, 8, 8, 3] range [0.0, 255.0]
//! const %conv.w: [4, 3, 3, 3]
//! const %conv.b: [4] = [0.5, -1.0, 0.0, 2.0]
//! %conv: [1, 8, 8, 4] = conv2d(%image, %conv.w, %conv.b) pad=[1, 1, 1, 1] clamp=[0.0, inf]
//! %mean: [1, 1, 1, 4] = avg_pool @pool(%conv) kernel=[8, 8]
//! output %mean
//! ```
//!
//! * A node bears the name of its output unless `@name` follows the operator.
//! * Constants of up to [`INLINE`] elements stand in the text; the data of larger ones lives beside
//!   it (`weights.safetensors` in [`crate::import::native`]) and [`parse_with`] fetches it by name.
//! * Attributes at their usual value are left out: stride, dilation and groups 1, no padding, no
//!   clamp. Paddings read `[top, bottom, left, right]`; `pads` reads `[before, after]` for each axis.
//! * Numbers print as the shortest decimal that parses back to the same `f32`.
//!
//! Values are numbered in the order of definition when parsed. [`Graph::compact`] leaves a graph in
//! that order, so any compacted graph survives the round trip unchanged; others do up to numbering.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::verify::is_name_byte;
use super::{
    Clamp, Conv2d, Coordinates, DepthToSpaceOrder, Graph, Node, Op, Padding, Pool, ResizeMode, Rounding, Unary, Value,
    ValueId,
};

/// Constants of up to this many elements are printed in full.
pub const INLINE: usize = 16;

/// Why a text is no graph: one sentence and the line it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Parses a text in which every constant is inline.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    parse_with(text, |_, _| Err("its data is not in the text, and no weights file was given".to_owned()))
}

/// Parses a text; `fetch` gives the data of a constant that is not inline, by name and shape, or
/// says why it cannot. The result has the right form; [`super::verify`] says whether it has sense.
pub fn parse_with(
    text: &str,
    mut fetch: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, String>,
) -> Result<Graph, ParseError> {
    let mut parser = GraphParser { graph: Graph::default(), ids: BTreeMap::new(), fetch: &mut fetch };
    for (i, line) in text.lines().enumerate() {
        let tokens = Tokens { rest: line.split('#').next().unwrap_or_default() };
        if tokens.peek_is_some() {
            parser.statement(tokens).map_err(|problem| ParseError { line: i + 1, problem })?;
        }
    }
    Ok(parser.graph)
}

pub(super) fn print(graph: &Graph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "graph {}", graph.name)?;
    let mut printed = vec![false; graph.values.len()];
    for &input in &graph.inputs {
        writeln!(f, "input {}", Declared(graph, input))?;
    }
    for node in &graph.nodes {
        for &id in &node.inputs {
            if let (Some(data), Some(printed)) = (&graph.value(id).data, printed.get_mut(id.0 as usize))
                && !std::mem::replace(printed, true)
            {
                print_constant(f, Declared(graph, id), data)?;
            }
        }
        print_node(f, graph, node)?;
    }
    for &output in &graph.outputs {
        writeln!(f, "output %{}", graph.value(output).name)?;
    }
    Ok(())
}

/// `%name: [shape] range [min, max]`.
struct Declared<'a>(&'a Graph, ValueId);

impl fmt::Display for Declared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0.value(self.1);
        write!(f, "%{}: {:?}", value.name, value.shape)?;
        match value.range {
            Some((min, max)) => write!(f, " range [{min:?}, {max:?}]"),
            None => Ok(()),
        }
    }
}

fn print_constant(f: &mut fmt::Formatter<'_>, declared: Declared<'_>, data: &[f32]) -> fmt::Result {
    write!(f, "const {declared}")?;
    if data.len() <= INLINE {
        write!(f, " = {data:?}")?;
    }
    writeln!(f)
}

fn print_node(f: &mut fmt::Formatter<'_>, graph: &Graph, node: &Node) -> fmt::Result {
    write!(f, "{} = {}", Declared(graph, node.output), node.op.name())?;
    if node.name != graph.value(node.output).name {
        write!(f, " @{}", node.name)?;
    }
    let operands: Vec<String> = node.inputs.iter().map(|&id| format!("%{}", graph.value(id).name)).collect();
    write!(f, "({})", operands.join(", "))?;
    match &node.op {
        Op::Conv2d(conv) => {
            print_unless(f, "stride", &conv.stride, &[1, 1])?;
            print_padding(f, conv.pad)?;
            print_unless(f, "dilation", &conv.dilation, &[1, 1])?;
            print_unless(f, "groups", &conv.groups, &1)?;
            print_clamp(f, conv.clamp)?;
        }
        Op::FullyConnected { clamp } | Op::Add { clamp } | Op::Unary(Unary::Clamp(clamp)) => print_clamp(f, *clamp)?,
        Op::AvgPool(pool) | Op::MaxPool(pool) => {
            write!(f, " kernel={:?}", pool.kernel)?;
            print_unless(f, "stride", &pool.stride, &[1, 1])?;
            print_padding(f, pool.pad)?;
            print_clamp(f, pool.clamp)?;
        }
        Op::Concat { axis } => write!(f, " axis={axis}")?,
        Op::Pad { pads } => {
            let flat: Vec<usize> = pads.iter().flat_map(|&(before, after)| [before, after]).collect();
            write!(f, " pads={flat:?}")?;
        }
        Op::Transpose { perm } => write!(f, " perm={perm:?}")?,
        Op::Resize { mode, coordinates } => {
            write!(f, " mode={} coordinates={}", keyword_of(MODES, mode), keyword_of(COORDINATES, coordinates))?;
        }
        Op::DepthToSpace { block, order } => write!(f, " block={block} order={}", keyword_of(ORDERS, order))?,
        Op::Unary(Unary::LeakyRelu { alpha }) => write!(f, " alpha={alpha:?}")?,
        Op::Unary(Unary::HardSigmoid { alpha, beta }) => write!(f, " alpha={alpha:?} beta={beta:?}")?,
        Op::Unary(Unary::Sigmoid | Unary::Tanh | Unary::HardSwish) | Op::Mul | Op::Softmax | Op::Reshape => {}
    }
    writeln!(f)
}

fn print_unless<T: PartialEq + fmt::Debug>(f: &mut fmt::Formatter<'_>, key: &str, value: &T, usual: &T) -> fmt::Result {
    if value == usual { Ok(()) } else { write!(f, " {key}={value:?}") }
}

fn print_padding(f: &mut fmt::Formatter<'_>, pad: Padding) -> fmt::Result {
    print_unless(f, "pad", &[pad.top, pad.bottom, pad.left, pad.right], &[0; 4])
}

fn print_clamp(f: &mut fmt::Formatter<'_>, clamp: Clamp) -> fmt::Result {
    print_unless(f, "clamp", &[clamp.min, clamp.max], &[Clamp::NONE.min, Clamp::NONE.max])
}

const MODES: &[(&str, ResizeMode)] = &[
    ("bilinear", ResizeMode::Bilinear),
    ("nearest_floor", ResizeMode::Nearest(Rounding::Floor)),
    ("nearest_half_up", ResizeMode::Nearest(Rounding::HalfUp)),
    ("nearest_half_down", ResizeMode::Nearest(Rounding::HalfDown)),
    ("nearest_ceil", ResizeMode::Nearest(Rounding::Ceil)),
];

const COORDINATES: &[(&str, Coordinates)] = &[
    ("asymmetric", Coordinates::Asymmetric),
    ("half_pixel", Coordinates::HalfPixel),
    ("align_corners", Coordinates::AlignCorners),
];

const ORDERS: &[(&str, DepthToSpaceOrder)] =
    &[("block_first", DepthToSpaceOrder::BlockFirst), ("channel_first", DepthToSpaceOrder::ChannelFirst)];

/// The tables above list every variant, so the fallback is never printed.
fn keyword_of<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, v)| v == value).map_or("?", |(keyword, _)| keyword)
}

type Fetch<'a> = &'a mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, String>;

struct GraphParser<'a> {
    graph: Graph,
    ids: BTreeMap<String, ValueId>,
    fetch: Fetch<'a>,
}

impl GraphParser<'_> {
    fn statement(&mut self, mut tokens: Tokens<'_>) -> Result<(), String> {
        if tokens.next_is("%") {
            return self.node(tokens);
        }
        match tokens.word()? {
            "graph" => self.graph.name = tokens.word()?.to_owned(),
            "input" => {
                let value = self.declaration(&mut tokens)?;
                let id = self.define(value)?;
                self.graph.inputs.push(id);
            }
            "const" => {
                let mut value = self.declaration(&mut tokens)?;
                let data = if tokens.accept("=") {
                    tokens.list()?
                } else {
                    let fetched = (self.fetch)(&value.name, &value.shape);
                    fetched.map_err(|problem| format!("constant `{}`: {problem}", value.name))?
                };
                value.data = Some(Arc::new(data));
                self.define(value)?;
            }
            "output" => {
                let id = self.reference(&mut tokens)?;
                self.graph.outputs.push(id);
            }
            other => return Err(format!("`{other}` starts no statement: use graph, input, const, output or %name")),
        }
        tokens.end()
    }

    fn node(&mut self, mut tokens: Tokens<'_>) -> Result<(), String> {
        let value = self.declaration(&mut tokens)?;
        tokens.expect("=")?;
        let keyword = tokens.word()?;
        let name = if tokens.accept("@") { tokens.word()?.to_owned() } else { value.name.clone() };
        let mut inputs = Vec::new();
        tokens.expect("(")?;
        while !tokens.accept(")") {
            if !inputs.is_empty() {
                tokens.expect(",")?;
            }
            inputs.push(self.reference(&mut tokens)?);
        }
        let mut attributes = Attributes::parse(tokens)?;
        let op = operator(keyword, &mut attributes)?;
        attributes.end()?;
        let output = self.define(value)?;
        self.graph.nodes.push(Node { name, op, inputs, output });
        Ok(())
    }

    /// `%name: [shape]`, then perhaps `range [min, max]`.
    fn declaration(&self, tokens: &mut Tokens<'_>) -> Result<Value, String> {
        tokens.expect("%")?;
        let name = tokens.word()?.to_owned();
        tokens.expect(":")?;
        let shape = tokens.list()?;
        let range = if tokens.accept("range") {
            let [min, max] = array(&tokens.list::<f32>()?)?;
            Some((min, max))
        } else {
            None
        };
        Ok(Value { name, shape, data: None, range })
    }

    fn define(&mut self, value: Value) -> Result<ValueId, String> {
        let name = value.name.clone();
        let id = self.graph.add_value(value);
        match self.ids.insert(name.clone(), id) {
            Some(_) => Err(format!("%{name} is defined twice")),
            None => Ok(id),
        }
    }

    fn reference(&self, tokens: &mut Tokens<'_>) -> Result<ValueId, String> {
        tokens.expect("%")?;
        let name = tokens.word()?;
        self.ids.get(name).copied().ok_or_else(|| format!("%{name} is not defined above"))
    }
}

fn operator(keyword: &str, attributes: &mut Attributes<'_>) -> Result<Op, String> {
    Ok(match keyword {
        "conv2d" => Op::Conv2d(Conv2d {
            stride: attributes.array_or("stride", [1, 1])?,
            pad: attributes.padding()?,
            dilation: attributes.array_or("dilation", [1, 1])?,
            groups: attributes.number_or("groups", 1)?,
            clamp: attributes.clamp()?,
        }),
        "fully_connected" => Op::FullyConnected { clamp: attributes.clamp()? },
        "add" => Op::Add { clamp: attributes.clamp()? },
        "mul" => Op::Mul,
        "clamp" => Op::Unary(Unary::Clamp(attributes.clamp()?)),
        "leaky_relu" => Op::Unary(Unary::LeakyRelu { alpha: attributes.number("alpha")? }),
        "sigmoid" => Op::Unary(Unary::Sigmoid),
        "tanh" => Op::Unary(Unary::Tanh),
        "hard_sigmoid" => {
            Op::Unary(Unary::HardSigmoid { alpha: attributes.number("alpha")?, beta: attributes.number("beta")? })
        }
        "hard_swish" => Op::Unary(Unary::HardSwish),
        "concat" => Op::Concat { axis: attributes.number("axis")? },
        "pad" => {
            let flat: Vec<usize> = attributes.list("pads")?;
            if !flat.len().is_multiple_of(2) {
                return Err("`pads` needs two numbers for each axis".to_owned());
            }
            let pads = flat.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect();
            Op::Pad { pads }
        }
        "avg_pool" => Op::AvgPool(attributes.pool()?),
        "max_pool" => Op::MaxPool(attributes.pool()?),
        "softmax" => Op::Softmax,
        "reshape" => Op::Reshape,
        "transpose" => Op::Transpose { perm: attributes.list("perm")? },
        "resize" => Op::Resize {
            mode: attributes.keyword("mode", MODES)?,
            coordinates: attributes.keyword("coordinates", COORDINATES)?,
        },
        "depth_to_space" => {
            Op::DepthToSpace { block: attributes.number("block")?, order: attributes.keyword("order", ORDERS)? }
        }
        other => return Err(format!("`{other}` is no operator")),
    })
}

/// The `key=value` pairs after a node's operands; each is taken once.
struct Attributes<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Attributes<'a> {
    fn parse(mut tokens: Tokens<'a>) -> Result<Self, String> {
        let mut pairs = BTreeMap::new();
        while tokens.peek_is_some() {
            let key = tokens.word()?;
            tokens.expect("=")?;
            let words = if tokens.next_is("[") { tokens.words()? } else { vec![tokens.word()?] };
            if pairs.insert(key, words).is_some() {
                return Err(format!("`{key}` is given twice"));
            }
        }
        Ok(Attributes(pairs))
    }

    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("the operator has no attribute `{key}`")),
            None => Ok(()),
        }
    }

    fn list<T: std::str::FromStr>(&mut self, key: &str) -> Result<Vec<T>, String> {
        numbers(&self.0.remove(key).ok_or_else(|| format!("the attribute `{key}` is missing"))?)
    }

    fn number<T: std::str::FromStr + Copy>(&mut self, key: &str) -> Result<T, String> {
        array(&self.list(key)?).map(|[x]| x)
    }

    fn number_or<T: std::str::FromStr + Copy>(&mut self, key: &str, usual: T) -> Result<T, String> {
        if self.0.contains_key(key) { self.number(key) } else { Ok(usual) }
    }

    fn array_or<T: std::str::FromStr + Copy, const N: usize>(
        &mut self,
        key: &str,
        usual: [T; N],
    ) -> Result<[T; N], String> {
        if self.0.contains_key(key) { array(&self.list(key)?) } else { Ok(usual) }
    }

    fn padding(&mut self) -> Result<Padding, String> {
        let [top, bottom, left, right] = self.array_or("pad", [0; 4])?;
        Ok(Padding { top, bottom, left, right })
    }

    fn clamp(&mut self) -> Result<Clamp, String> {
        let [min, max] = self.array_or("clamp", [Clamp::NONE.min, Clamp::NONE.max])?;
        Ok(Clamp { min, max })
    }

    fn pool(&mut self) -> Result<Pool, String> {
        Ok(Pool {
            kernel: array(&self.list("kernel")?)?,
            stride: self.array_or("stride", [1, 1])?,
            pad: self.padding()?,
            clamp: self.clamp()?,
        })
    }

    fn keyword<T: Copy>(&mut self, key: &str, table: &[(&str, T)]) -> Result<T, String> {
        let words = self.0.remove(key).unwrap_or_default();
        let found = table.iter().find(|(keyword, _)| words.as_slice() == [*keyword]);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = table.iter().map(|(keyword, _)| *keyword).collect();
            format!("`{key}` must be one of {}", known.join(", "))
        })
    }
}

fn numbers<T: std::str::FromStr>(words: &[&str]) -> Result<Vec<T>, String> {
    words.iter().map(|word| word.parse().map_err(|_| format!("`{word}` is no number of the right kind"))).collect()
}

fn array<T: Copy, const N: usize>(list: &[T]) -> Result<[T; N], String> {
    list.try_into().map_err(|_| format!("expected {N} numbers, found {}", list.len()))
}

/// What is left of a line. A token is a name, a number or keyword, or one punctuation character.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let is_word = |byte: u8| is_name_byte(byte) || byte == b'+';
        let word = rest.bytes().take_while(|&byte| is_word(byte)).count();
        let len = if word > 0 { word } else { rest.chars().next()?.len_utf8() };
        let (token, rest) = rest.split_at(len);
        self.rest = rest;
        Some(token)
    }

    fn peek_is_some(mut self) -> bool {
        self.next().is_some()
    }

    fn next_is(mut self, token: &str) -> bool {
        self.next() == Some(token)
    }

    fn accept(&mut self, token: &str) -> bool {
        let found = self.next_is(token);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        match self.next() {
            Some(found) if found == token => Ok(()),
            Some(found) => Err(format!("expected `{token}`, found `{found}`")),
            None => Err(format!("expected `{token}`, found the end of the line")),
        }
    }

    fn word(&mut self) -> Result<&'a str, String> {
        match self.next() {
            Some(token) if token.bytes().all(|byte| is_name_byte(byte) || byte == b'+') => Ok(token),
            Some(token) => Err(format!("expected a name or number, found `{token}`")),
            None => Err("expected a name or number, found the end of the line".to_owned()),
        }
    }

    /// `[a, b, c]`.
    fn words(&mut self) -> Result<Vec<&'a str>, String> {
        let mut words = Vec::new();
        self.expect("[")?;
        while !self.accept("]") {
            if !words.is_empty() {
                self.expect(",")?;
            }
            words.push(self.word()?);
        }
        Ok(words)
    }

    fn list<T: std::str::FromStr>(&mut self) -> Result<Vec<T>, String> {
        numbers(&self.words()?)
    }

    fn end(mut self) -> Result<(), String> {
        match self.next() {
            Some(token) => Err(format!("`{token}` is too much")),
            None => Ok(()),
        }
    }
}
