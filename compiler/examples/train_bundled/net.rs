//! The network: a 3x3 stem, depthwise-separable blocks (MobileNet, Howard et al. 2017) with residual
//! additions where the shape stays (ResNet, He et al. 2015), mean over space, one dense layer.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use pare::ir::{Clamp, Conv2d, Graph, Node, Op, Padding, Pool, Value, ValueId};
use pare::rng::Pcg32;

use crate::ops::{BatchNorm, Depthwise, Moments, patches};

/// Rows and columns of an image.
pub(crate) const EDGE: usize = 32;
/// Kinds of glyph.
pub(crate) const CLASSES: usize = 10;

const STEM: usize = 16;
/// Output channels and stride of each block.
const BLOCKS: [(usize, usize); 7] = [(32, 2), (32, 1), (64, 2), (64, 1), (64, 1), (96, 2), (96, 1)];

/// A convolution without bias, and the batch norm behind it.
pub(crate) struct Layer {
    name: String,
    /// `[taps, channels]` for the depthwise ones, else `[taps * c_in, c_out]`.
    weight: Var,
    gamma: Var,
    beta: Var,
    clamp: Clamp,
}

/// A depthwise and a pointwise layer.
struct Block {
    stride: usize,
    depthwise: Layer,
    pointwise: Layer,
    shortcut: Shortcut,
}

/// Whether a block adds its input to its output.
#[derive(PartialEq)]
enum Shortcut {
    Add,
    None,
}

/// The network under training.
pub(crate) struct Net {
    stem: Layer,
    blocks: Vec<Block>,
    classifier: Var,
    bias: Var,
}

/// What stands behind each convolution while the network runs: `rows` is its output, `[pixels, channels]`.
pub(crate) trait Norm {
    /// Normalises and clamps the output of `layer`.
    fn apply(&mut self, layer: &Layer, rows: &Tensor) -> Result<Tensor>;
}

/// Normalises by the statistics of the batch itself, as in training.
pub(crate) struct BatchStatistics;

impl Norm for BatchStatistics {
    fn apply(&mut self, layer: &Layer, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.apply_op3(&layer.gamma, &layer.beta, BatchNorm { clamp: layer.clamp })?)
    }
}

/// Each layer's batch norm as one factor and one shift a channel, in the order of the layers; while
/// running, the layers still to come.
#[derive(Clone)]
pub(crate) struct Folded {
    affine: std::collections::VecDeque<Affine>,
}

#[derive(Clone)]
struct Affine {
    factor: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    fn apply(&self, rows: &Tensor, clamp: Clamp) -> Result<Tensor> {
        let factor = Tensor::new(self.factor.as_slice(), &Device::Cpu)?;
        let shift = Tensor::new(self.shift.as_slice(), &Device::Cpu)?;
        Ok(rows.broadcast_mul(&factor)?.broadcast_add(&shift)?.clamp(clamp.min, clamp.max)?)
    }
}

impl Norm for Folded {
    fn apply(&mut self, layer: &Layer, rows: &Tensor) -> Result<Tensor> {
        let affine = self.affine.pop_front().ok_or_else(|| anyhow::anyhow!("{} was not folded", layer.name))?;
        affine.apply(rows, layer.clamp)
    }
}

/// Takes the statistics of each layer in turn, behind layers that are folded already.
struct Folding {
    affine: std::collections::VecDeque<Affine>,
}

impl Norm for Folding {
    fn apply(&mut self, layer: &Layer, rows: &Tensor) -> Result<Tensor> {
        let (gamma, beta) = (layer.gamma.to_vec1::<f32>()?, layer.beta.to_vec1::<f32>()?);
        let moments = Moments::of(&rows.flatten_all()?.to_vec1::<f32>()?, gamma.len());
        let factor: Vec<f32> = gamma.iter().zip(&moments.inverse_deviation).map(|(g, inverse)| g * inverse).collect();
        let shift = (0..gamma.len()).map(|c| beta[c] - moments.mean[c] * factor[c]).collect();
        let affine = Affine { factor, shift };
        let out = affine.apply(rows, layer.clamp)?;
        self.affine.push_back(affine);
        Ok(out)
    }
}

impl Layer {
    fn new(name: String, taps: usize, c_in: usize, c_out: usize, clamp: Clamp, rng: &mut Pcg32) -> Result<Self> {
        let deviation = (2.0 / (taps * c_in) as f32).sqrt();
        let weight = Var::from_tensor(&random([taps * c_in, c_out], deviation, rng)?)?;
        let gamma = Var::from_tensor(&Tensor::new(vec![1f32; c_out], &Device::Cpu)?)?;
        let beta = Var::from_tensor(&Tensor::new(vec![0f32; c_out], &Device::Cpu)?)?;
        Ok(Layer { name, weight, gamma, beta, clamp })
    }

    fn parameters(&self) -> [Var; 3] {
        [self.weight.clone(), self.gamma.clone(), self.beta.clone()]
    }
}

/// Nearly normal numbers: the sum of twelve uniform ones.
fn random(shape: [usize; 2], deviation: f32, rng: &mut Pcg32) -> Result<Tensor> {
    let mut normal = || ((0..12).map(|_| rng.unit()).sum::<f32>() - 6.0) * deviation;
    let numbers: Vec<f32> = (0..shape[0] * shape[1]).map(|_| normal()).collect();
    Ok(Tensor::from_vec(numbers, (shape[0], shape[1]), &Device::Cpu)?)
}

impl Net {
    /// A network with random weights.
    pub(crate) fn new(rng: &mut Pcg32) -> Result<Self> {
        let stem = Layer::new("stem".to_owned(), 9, 1, STEM, Clamp::RELU, rng)?;
        let mut blocks = Vec::new();
        let mut c_in = STEM;
        for (i, (c_out, stride)) in BLOCKS.into_iter().enumerate() {
            let shortcut = if c_in == c_out && stride == 1 { Shortcut::Add } else { Shortcut::None };
            let clamp = if shortcut == Shortcut::Add { Clamp::NONE } else { Clamp::RELU };
            blocks.push(Block {
                stride,
                depthwise: Layer::new(format!("block{}.depthwise", i + 1), 9, 1, c_in, Clamp::RELU, rng)?,
                pointwise: Layer::new(format!("block{}.pointwise", i + 1), 1, c_in, c_out, clamp, rng)?,
                shortcut,
            });
            c_in = c_out;
        }
        let classifier = Var::from_tensor(&random([c_in, CLASSES], (1.0 / c_in as f32).sqrt(), rng)?)?;
        let bias = Var::from_tensor(&Tensor::new(vec![0f32; CLASSES], &Device::Cpu)?)?;
        Ok(Net { stem, blocks, classifier, bias })
    }

    /// Everything that is trained.
    pub(crate) fn parameters(&self) -> Vec<Var> {
        let layers = self.blocks.iter().flat_map(|block| [&block.depthwise, &block.pointwise]);
        let layers = std::iter::once(&self.stem).chain(layers);
        layers.flat_map(Layer::parameters).chain([self.classifier.clone(), self.bias.clone()]).collect()
    }

    /// Logits `[n, CLASSES]` of images `[n, EDGE, EDGE, 1]`.
    pub(crate) fn forward(&self, images: &Tensor, norm: &mut impl Norm) -> Result<Tensor> {
        let n = images.dim(0)?;
        let stem = norm.apply(&self.stem, &patches(images)?.matmul(&self.stem.weight)?)?;
        let mut x = stem.reshape((n, EDGE, EDGE, STEM))?;
        for block in &self.blocks {
            let filtered = x.apply_op2(&block.depthwise.weight, Depthwise { stride: block.stride })?;
            let (_, h, w, c_in) = filtered.dims4()?;
            let rows = norm.apply(&block.depthwise, &filtered.reshape((n * h * w, c_in))?)?;
            let rows = norm.apply(&block.pointwise, &rows.matmul(&block.pointwise.weight)?)?;
            let out = rows.reshape((n, h, w, rows.dim(1)?))?;
            x = match block.shortcut {
                Shortcut::Add => (x + out)?.relu()?,
                Shortcut::None => out,
            };
        }
        Ok(x.mean((1, 2))?.matmul(&self.classifier)?.broadcast_add(&self.bias)?)
    }

    /// Fixes the batch norms by the statistics of `images`.
    pub(crate) fn fold(&self, images: &Tensor) -> Result<Folded> {
        let mut folding = Folding { affine: Default::default() };
        self.forward(&images.detach(), &mut folding)?;
        Ok(Folded { affine: folding.affine })
    }

    /// The network as Pare's graph, batch norms folded into weights and biases, and a softmax behind.
    pub(crate) fn graph(&self, name: &str, folded: &Folded) -> Result<Graph> {
        let mut affine = folded.affine.iter();
        let mut builder = Builder { graph: Graph { name: name.to_owned(), ..Graph::default() } };
        let input = builder.activation("image", [1, EDGE, EDGE, 1]);
        builder.graph.inputs.push(input);
        let mut edge = EDGE;
        let mut x =
            builder.convolution(&self.stem, affine.next(), Form { kernel: 3, stride: 1, groups: 1 }, edge, input)?;
        let mut channels = STEM;
        for (i, block) in self.blocks.iter().enumerate() {
            edge /= block.stride;
            let form = Form { kernel: 3, stride: block.stride, groups: channels };
            let filtered = builder.convolution(&block.depthwise, affine.next(), form, edge, x)?;
            let form = Form { kernel: 1, stride: 1, groups: 1 };
            let out = builder.convolution(&block.pointwise, affine.next(), form, edge, filtered)?;
            channels = BLOCKS[i].0;
            x = match block.shortcut {
                Shortcut::Add => {
                    let op = Op::Add { clamp: Clamp::RELU };
                    builder.node(&format!("block{}.add", i + 1), op, vec![x, out], &[1, edge, edge, channels])
                }
                Shortcut::None => out,
            };
        }
        let pool = Pool { kernel: [edge; 2], stride: [edge; 2], pad: Padding::default(), clamp: Clamp::NONE };
        let mean = builder.node("mean", Op::AvgPool(pool), vec![x], &[1, 1, 1, channels]);
        let features = builder.node("features", Op::Reshape, vec![mean], &[1, channels]);
        let weights = transposed(&self.classifier.to_vec2::<f32>()?).concat();
        let weights = builder.constant("classifier.weights", &[CLASSES, channels], weights);
        let bias = builder.constant("classifier.bias", &[CLASSES], self.bias.to_vec1::<f32>()?);
        let dense = Op::FullyConnected { clamp: Clamp::NONE };
        let logits = builder.node("classifier", dense, vec![features, weights, bias], &[1, CLASSES]);
        let output = builder.node("softmax", Op::Softmax, vec![logits], &[1, CLASSES]);
        builder.graph.outputs.push(output);
        Ok(builder.graph)
    }
}

/// Geometry of a square convolution that halves the edge at stride 2.
struct Form {
    kernel: usize,
    stride: usize,
    groups: usize,
}

struct Builder {
    graph: Graph,
}

impl Builder {
    fn activation(&mut self, name: &str, shape: [usize; 4]) -> ValueId {
        self.graph.add_value(Value { name: name.to_owned(), shape: shape.to_vec(), data: None, range: None })
    }

    fn constant(&mut self, name: &str, shape: &[usize], data: Vec<f32>) -> ValueId {
        let data = Some(Arc::new(data));
        self.graph.add_value(Value { name: name.to_owned(), shape: shape.to_vec(), data, range: None })
    }

    fn node(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, shape: &[usize]) -> ValueId {
        let value = Value { name: name.to_owned(), shape: shape.to_vec(), data: None, range: None };
        let output = self.graph.add_value(value);
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, output });
        output
    }

    /// `edge` is that of the output.
    fn convolution(
        &mut self,
        layer: &Layer,
        affine: Option<&Affine>,
        Form { kernel, stride, groups }: Form,
        edge: usize,
        input: ValueId,
    ) -> Result<ValueId> {
        let affine = affine.ok_or_else(|| anyhow::anyhow!("{} was not folded", layer.name))?;
        let by_channel = transposed(&layer.weight.to_vec2::<f32>()?);
        let scaled =
            by_channel.iter().zip(&affine.factor).flat_map(|(row, factor)| row.iter().map(move |w| w * factor));
        let c_out = by_channel.len();
        let c_in = by_channel[0].len() / (kernel * kernel);
        let weights = scaled.collect();
        let weights = self.constant(&format!("{}.weights", layer.name), &[c_out, kernel, kernel, c_in], weights);
        let bias = self.constant(&format!("{}.bias", layer.name), &[c_out], affine.shift.clone());
        // One row and column in front; behind, only what the last window reaches.
        let (before, behind) = (kernel / 2, if stride == 1 { kernel / 2 } else { 0 });
        let conv = Conv2d {
            stride: [stride; 2],
            pad: Padding { top: before, bottom: behind, left: before, right: behind },
            dilation: [1; 2],
            groups,
            clamp: layer.clamp,
        };
        Ok(self.node(&layer.name, Op::Conv2d(conv), vec![input, weights, bias], &[1, edge, edge, c_out]))
    }
}

fn transposed(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}
