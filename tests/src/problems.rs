//! Convolutions made to order, with weights packed by the definition of the layouts.
//!
//! One strategy feeds every kernel of every instruction set: a case added here runs everywhere.

use std::fmt;

use pare_runtime::Isa;
use pare_runtime::bits::{code_of, write_code};
use pare_runtime::format::{Add, CODEBOOK_BYTES, Conv, Layout, Requantise, SECTION_ALIGN, Shape, WeightFormat};
use pare_runtime::kernels::ConvKernel;
use pare_runtime::sparse::Packing;
use proptest::prelude::*;

/// All that a convolution is, apart from its numbers.
#[derive(Clone, Debug)]
pub struct ConvSpec {
    /// Extents of the input.
    pub input: Shape,
    /// Kernel rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Padding above and to the left.
    pub pad: [usize; 2],
    /// Padding below and to the right.
    pub pad_end: [usize; 2],
    /// Channel groups.
    pub groups: usize,
    /// Weight groups: format, layout, output channels.
    pub weights: Vec<(WeightFormat, Layout, usize)>,
    /// Width of the input's codes.
    pub bits_in: u8,
    /// Zero point of the input.
    pub zero_in: u8,
    /// From accumulator to code.
    pub requantise: Requantise,
    /// The sum that the code is the second operand of; the first is drawn.
    pub residual: Option<Add>,
    /// What the numbers are like.
    pub numbers: Numbers,
    /// Of the random numbers.
    pub seed: u64,
}

/// What weights and activations are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Anything.
    Random,
    /// The lowest level everywhere, the highest activation everywhere.
    Lowest,
    /// The highest level everywhere, the highest activation everywhere.
    Highest,
    /// Of sparse weights: one of so many is not 0. Of others, anything.
    OneOf(u8),
}

impl ConvSpec {
    /// A dense convolution with "same" padding and one weight group, for benches.
    pub fn dense(
        input: Shape,
        c_out: usize,
        kernel: usize,
        stride: usize,
        format: WeightFormat,
        layout: Layout,
    ) -> ConvSpec {
        ConvSpec {
            input,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [(kernel - 1) / 2; 2],
            pad_end: [kernel / 2; 2],
            groups: 1,
            weights: vec![(format, layout, c_out)],
            bits_in: 8,
            zero_in: 3,
            requantise: Requantise { pre: 8, zero: 9, lo: 0, hi: 255 },
            residual: None,
            numbers: Numbers::Random,
            seed: 1,
        }
    }

    /// A depthwise convolution with "same" padding and one weight group, for benches.
    pub fn depthwise(input: Shape, kernel: usize, stride: usize, format: WeightFormat, layout: Layout) -> ConvSpec {
        ConvSpec { groups: input.c, ..ConvSpec::dense(input, input.c, kernel, stride, format, layout) }
    }

    fn output(&self) -> Shape {
        let extent = |k: usize, size: usize| {
            let padded = size + self.pad[k] + self.pad_end[k];
            padded.saturating_sub((self.kernel[k] - 1) * self.dilation[k] + 1) / self.stride[k] + 1
        };
        let c = self.weights.iter().map(|&(_, _, channels)| channels).sum();
        Shape { h: extent(0, self.input.h), w: extent(1, self.input.w), c }
    }
}

/// A convolution with its numbers.
#[derive(Clone)]
pub struct ConvProblem {
    /// What it was made from.
    pub spec: ConvSpec,
    /// Codes of the input.
    pub input: Vec<u8>,
    /// One an output channel.
    pub bias: Vec<i32>,
    /// One an output channel.
    pub mult: Vec<i32>,
    /// Records of the weight groups, as in a blob.
    pub records: Vec<u8>,
    /// The weights section.
    pub weights: Vec<u8>,
}

impl ConvProblem {
    /// Draws the numbers and packs the weights.
    pub fn new(spec: ConvSpec) -> ConvProblem {
        let mut random = Random(spec.seed);
        let output = spec.output();
        let highest = u8::MAX >> (8 - spec.bits_in);
        let mut input: Vec<u8> = (0..spec.input.len()).map(|_| random.next() as u8 & highest).collect();
        if matches!(spec.numbers, Numbers::Lowest | Numbers::Highest) {
            input.fill(highest);
        }
        // Of the size that compiled networks have; in every other problem, one of four is anything.
        let anything = !spec.seed.is_multiple_of(2);
        let mut number = |bits: u32| {
            let wide = random.next().is_multiple_of(4) && anything;
            (random.next() as i32) >> if wide { 0 } else { 32 - bits }
        };
        let bias = (0..output.c).map(|_| number(16)).collect();
        let mult = (0..output.c).map(|_| number(24)).collect();
        let mut problem = ConvProblem { spec, input, bias, mult, records: vec![], weights: vec![] };
        problem.pack(&mut random);
        problem
    }

    fn pack(&mut self, random: &mut Random) {
        for (format, layout, channels) in self.spec.weights.clone() {
            let mut codebook: Vec<u8> = (0..CODEBOOK_BYTES).map(|_| random.next() as u8).collect();
            if layout == Layout::Sparse {
                // Zeros are needed.
                codebook[random.next() as usize % (1 << format.bits().min(4))] = 0;
            }
            let levels: &[i8] = bytemuck::cast_slice(&codebook);
            let every = 0..=((1u32 << format.bits()) - 1) as u8;
            let lowest = every.clone().min_by_key(|&code| format.level(code, levels)).unwrap_or(0);
            let highest = every.max_by_key(|&code| format.level(code, levels)).unwrap_or(0);
            let shape = self.shape();
            let mut draw = || match self.spec.numbers {
                Numbers::Random => random.next() as u8,
                Numbers::Lowest => lowest,
                Numbers::Highest => highest,
                Numbers::OneOf(_) => random.next() as u8,
            };
            let codes: Vec<u8> = (0..channels * shape.depth()).map(|_| draw()).collect();
            let codes = match layout {
                Layout::Sparse => self.sparse(&codes, format, levels, random),
                _ => packed(&shape, &codes, format, layout),
            };
            self.weights.resize(self.weights.len().next_multiple_of(layout.alignment(format)), 0);
            self.records.extend([format.to_byte(), layout.number() as u8]);
            self.records.extend((channels as u16).to_le_bytes());
            self.records.extend((self.weights.len() as u32).to_le_bytes());
            if let WeightFormat::Codebook(_) = format {
                self.weights.extend(&codebook);
            }
            self.weights.extend(codes);
        }
    }

    /// The data of a sparse group with levels of these codes, most of them left out.
    fn sparse(&self, codes: &[u8], format: WeightFormat, codebook: &[i8], random: &mut Random) -> Vec<u8> {
        let one_of = match self.spec.numbers {
            Numbers::OneOf(n) => u64::from(n.max(1)),
            _ => 1,
        };
        let mask = ((1u32 << format.bits()) - 1) as u8;
        let mut level = |&code: &u8| match format.level(code & mask, codebook) {
            // Decoded, but never written.
            -2 if format == WeightFormat::Ternary => -1,
            level if random.next().is_multiple_of(one_of) => level,
            _ => 0,
        };
        let levels: Vec<i8> = codes.iter().map(&mut level).collect();
        let packing = Packing { levels: &levels, depth: self.shape().depth(), format, codebook };
        let mut data = vec![0; packing.bytes().expect("few weights")];
        packing.write(&mut data).expect("levels of the format");
        data
    }

    /// The same with its weights written out, channel after channel, if all of them are sparse.
    pub fn expanded(&self) -> ConvProblem {
        let conv = self.conv();
        let (mut records, mut weights, mut expanded) = (vec![], vec![], self.spec.clone());
        expanded.weights.clear();
        for group in conv.weight_groups() {
            if group.layout != Layout::Sparse {
                return self.clone();
            }
            let layout = Layout::Plain;
            let mut codes = vec![];
            for channel in 0..group.channels {
                let mut levels = vec![0i8; conv.depth()];
                group.sparse_weights(channel).for_each(|(k, level)| levels[k] += level);
                let code = |&level| code_of(group.format, level, group.codebook).expect("a level of the format");
                codes.extend(levels.iter().map(code));
            }
            let codes = packed(&self.shape(), &codes, group.format, layout);
            weights.resize(weights.len().next_multiple_of(SECTION_ALIGN), 0);
            records.extend([group.format.to_byte(), layout.number() as u8]);
            records.extend((group.channels as u16).to_le_bytes());
            records.extend((weights.len() as u32).to_le_bytes());
            weights.extend_from_slice(bytemuck::cast_slice(group.codebook));
            weights.extend(codes);
            expanded.weights.push((group.format, layout, group.channels));
        }
        ConvProblem {
            spec: expanded,
            input: self.input.clone(),
            bias: self.bias.clone(),
            mult: self.mult.clone(),
            records,
            weights,
        }
    }

    /// As the kernels take it.
    pub fn conv(&self) -> Conv<'_> {
        let mut conv = self.shape();
        (conv.bias, conv.mult) = (&self.bias, &self.mult);
        conv.with_weights(&self.records, &self.weights).expect("the groups were packed to fit")
    }

    fn shape(&self) -> Conv<'_> {
        let mut conv = Conv::EMPTY;
        (conv.input, conv.output) = (self.spec.input, self.spec.output());
        (conv.kernel, conv.stride, conv.dilation) = (self.spec.kernel, self.spec.stride, self.spec.dilation);
        (conv.pad, conv.groups, conv.zero_in) = (self.spec.pad, self.spec.groups, self.spec.zero_in);
        (conv.bits_in, conv.requantise, conv.residual) = (self.spec.bits_in, self.spec.requantise, self.spec.residual);
        conv
    }

    /// What is where the output will be: rubbish, or the first operand of the sum.
    pub fn residual(&self) -> Vec<u8> {
        let mut random = Random(!self.spec.seed);
        (0..self.spec.output().len()).map(|_| random.next() as u8).collect()
    }

    /// The output codes by the kernel of an instruction set, its scratch full of rubbish.
    pub fn run(&self, isa: Isa) -> Vec<u8> {
        let conv = self.conv();
        let kernel = ConvKernel::choose(isa, &conv);
        let mut output = self.residual();
        kernel.run(&conv, &self.input, &mut output, &mut vec![0x55; kernel.scratch_bytes(&conv)]);
        output
    }
}

/// Codes, one channel after another, in a layout.
fn packed(shape: &Conv<'_>, codes: &[u8], format: WeightFormat, layout: Layout) -> Vec<u8> {
    let depth = shape.depth();
    let mut packed = vec![0; shape.packed_bytes(codes.len() / depth, format, layout)];
    shape.clear(layout, format, &mut packed);
    for (i, code) in codes.iter().enumerate() {
        let at = shape.position(layout, format, i / depth, i % depth);
        write_code(&mut packed[at.offset..], format.bits(), at.index, code ^ at.inverted);
    }
    packed
}

impl fmt::Debug for ConvProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

/// SplitMix64: the numbers of a problem follow from its seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// What a convolution asks of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Every output channel reads every input channel, for many pixels.
    Dense,
    /// The same for one pixel, as fully connected layers have it.
    FullyConnected,
    /// Every channel by itself.
    Depthwise,
    /// Dense, of bit planes.
    Planes,
    /// All of the first three, weights in the layout of microcontrollers.
    Words,
    /// Dense in that layout, narrow weights.
    Narrow,
    /// Dense, weights channel after channel, half of them narrow.
    Plain,
    /// All of the first three, weights in the layout of microcontrollers with vectors.
    Vectors,
    /// All of the first two, weights without their zeros.
    Sparse,
    /// What the portable kernels alone take: groups, weights in several layouts.
    Portable,
}

/// How input and output channels hang together.
#[derive(Clone, Copy, Debug)]
enum Grouping {
    Dense,
    /// 1x1, deep.
    Pointwise,
    /// (rows, 1, k), so many rows at most, 1x1, deeper.
    Rows(usize),
    /// One window, whatever the input.
    SinglePixel,
    Depthwise,
    /// Dense, weights in the layout of bit planes, input codes of so many bits.
    Planes(u8),
    /// Narrow weights, input codes of so many bits.
    Narrow(u8),
    /// The same, the windows of neighbouring pixels overlapping by all but a column.
    NarrowInRows(u8),
    /// Whole blocks of input channels, input codes of so many bits.
    Blocks(u8),
    /// Groups, inputs and outputs of each.
    Grouped(usize, usize),
}

impl Family {
    fn groupings(self) -> BoxedStrategy<Grouping> {
        let dense =
            || prop_oneof![4 => Just(Grouping::Dense), 2 => Just(Grouping::Pointwise), 1 => Just(Grouping::Rows(3))];
        let single = || prop_oneof![Just(Grouping::Rows(1)), Just(Grouping::SinglePixel)];
        let grouped = (2..5usize, 1..4usize).prop_map(|(groups, inputs)| Grouping::Grouped(groups, inputs));
        match self {
            Family::Dense => dense().boxed(),
            Family::FullyConnected => single().boxed(),
            Family::Depthwise => Just(Grouping::Depthwise).boxed(),
            Family::Planes => (1..9u8).prop_map(Grouping::Planes).boxed(),
            Family::Narrow => prop_oneof![
                1 => (1..9u8).prop_map(Grouping::Narrow),
                2 => (1..9u8).prop_map(Grouping::NarrowInRows),
            ]
            .boxed(),
            Family::Words | Family::Vectors => {
                prop_oneof![3 => dense(), 1 => single(), 2 => Just(Grouping::Depthwise)].boxed()
            }
            Family::Sparse => prop_oneof![1 => dense(), 3 => single()].boxed(),
            Family::Plain => {
                prop_oneof![2 => dense(), 1 => single(), 1 => Just(Grouping::Depthwise), 4 => (1..9u8).prop_map(Grouping::Blocks)].boxed()
            }
            Family::Portable => prop_oneof![
                2 => dense(),
                1 => single(),
                1 => Just(Grouping::Depthwise),
                2 => grouped,
            ]
            .boxed(),
        }
    }

    /// Of one weight group: half of them such as the layout was made for.
    fn formats(self) -> BoxedStrategy<WeightFormat> {
        let any = proptest::sample::select(WeightFormat::ALL.to_vec());
        match self {
            Family::Words | Family::Vectors => prop_oneof![any, Just(WeightFormat::Linear(8))].boxed(),
            Family::Plain => prop_oneof![
                2 => any,
                2 => proptest::sample::select(WeightFormat::ALL.into_iter().filter(|format| format.bits() <= 4).collect::<Vec<_>>()),
                1 => Just(WeightFormat::Linear(8)),
            ]
            .boxed(),
            Family::Sparse => {
                let formats = WeightFormat::ALL.into_iter().filter(|format| format.has_zero()).collect::<Vec<_>>();
                proptest::sample::select(formats).boxed()
            }
            _ => any.boxed(),
        }
    }

    /// Of one weight group; bit planes have their own.
    fn layouts(self) -> BoxedStrategy<Layout> {
        match self {
            Family::Words | Family::Narrow => Just(Layout::Words).boxed(),
            Family::Plain => Just(Layout::Plain).boxed(),
            Family::Vectors => Just(Layout::Vectors).boxed(),
            Family::Sparse => prop_oneof![5 => Just(Layout::Sparse), 1 => Just(Layout::Plain)].boxed(),
            Family::Portable => {
                let layouts = [Layout::Plain, Layout::Panels, Layout::Words, Layout::Vectors];
                proptest::sample::select(layouts.to_vec()).boxed()
            }
            _ => Just(Layout::Panels).boxed(),
        }
    }
}

/// Convolutions of every family, geometry, grouping, format and layout.
pub fn conv_problems() -> impl Strategy<Value = ConvProblem> {
    prop_oneof![
        3 => conv_problems_of(Family::Dense),
        1 => conv_problems_of(Family::FullyConnected),
        2 => conv_problems_of(Family::Depthwise),
        2 => conv_problems_of(Family::Planes),
        2 => conv_problems_of(Family::Words),
        2 => conv_problems_of(Family::Narrow),
        2 => conv_problems_of(Family::Plain),
        2 => conv_problems_of(Family::Sparse),
        3 => conv_problems_of(Family::Portable),
    ]
}

/// Convolutions of one family: each reaches the kernels that an instruction set has for it.
pub fn conv_problems_of(family: Family) -> impl Strategy<Value = ConvProblem> {
    let window = (pair(1..6), pair(1..4), pair(1..4), pair(0..4), pair(0..4));
    let weights = proptest::collection::vec((family.formats(), family.layouts(), 1..40usize), 1..4);
    let numbers = prop_oneof![6 => Just(Numbers::Random), 1 => Just(Numbers::Lowest), 1 => Just(Numbers::Highest)];
    let numbers = match family {
        Family::Sparse => prop_oneof![1 => numbers, 4 => (1..40u8).prop_map(Numbers::OneOf)].boxed(),
        _ => numbers.boxed(),
    };
    let zero = || prop_oneof![Just(0u8), Just(255), any::<u8>()];
    let bounds = || {
        let any = (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b), a.max(b)));
        prop_oneof![Just((0u8, 255u8)), any]
    };
    let requantise = (0..32u8, zero(), bounds()).prop_map(|(pre, zero, (lo, hi))| Requantise { pre, zero, lo, hi });
    // As in compiled networks, and anything.
    let factors =
        || prop_oneof![(-1i32 << 15..1 << 15, -1i32 << 15..1 << 15, 10..22u8), (any::<i32>(), any::<i32>(), 1..32u8)];
    let zeros = (zero(), zero(), zero());
    let add = (factors(), zeros, bounds()).prop_map(|((ma, mb, shift), (zero_a, zero_b, zero), (lo, hi))| Add {
        ma,
        mb,
        zero_a,
        zero_b,
        zero,
        shift,
        lo,
        hi,
    });
    let residual = prop_oneof![3 => Just(None), 1 => add.prop_map(Some)];
    let extents = (1..12usize, 1..24usize, prop_oneof![1..8usize, 1..40usize, 60..70usize]);
    let code_in =
        (prop_oneof![Just(8u8), 1..9u8], zero()).prop_map(|(bits, zero)| (bits, zero & u8::MAX >> (8 - bits)));
    (family.groupings(), extents, window, weights, code_in, (requantise, residual), numbers, any::<u64>()).prop_map(
        |(
            grouping,
            (h, w, c),
            (kernel, stride, dilation, pad, pad_end),
            weights,
            (bits_in, zero_in),
            (requantise, residual),
            numbers,
            seed,
        )| {
            let input = Shape { h, w, c };
            let spec = ConvSpec {
                input,
                kernel,
                stride,
                dilation,
                pad,
                pad_end,
                groups: 1,
                weights,
                bits_in,
                zero_in,
                requantise,
                residual,
                numbers,
                seed,
            };
            ConvProblem::new(spec.regrouped(grouping))
        },
    )
}

fn pair(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 2]> {
    (range.clone(), range).prop_map(|(a, b)| [a, b])
}

impl ConvSpec {
    /// Bends a dense specification into a grouping; the channels of its weight groups follow.
    fn regrouped(mut self, grouping: Grouping) -> ConvSpec {
        match grouping {
            Grouping::Dense => {}
            Grouping::Pointwise => {
                (self.kernel, self.pad, self.pad_end) = ([1; 2], [0; 2], [0; 2]);
                self.input.c *= 3;
            }
            Grouping::Rows(most) => {
                (self.kernel, self.pad, self.pad_end, self.stride) = ([1; 2], [0; 2], [0; 2], [1; 2]);
                self.input = Shape { h: self.input.h.min(most), w: 1, c: self.input.c * 10 };
            }
            Grouping::SinglePixel => {
                let Shape { h, w, .. } = self.input;
                self.stride = [h + self.pad[0] + self.pad_end[0], w + self.pad[1] + self.pad_end[1]];
            }
            Grouping::Depthwise => {
                let c = self.output().c;
                (self.input.c, self.groups) = (c, c);
            }
            Grouping::Blocks(bits) => {
                (self.bits_in, self.zero_in) = (bits, self.zero_in & u8::MAX >> (8 - bits));
                self.input.c = self.input.c.next_multiple_of(8);
                self.dilation[1] = 1;
            }
            Grouping::Planes(bits) => {
                (self.bits_in, self.zero_in) = (bits, self.zero_in & u8::MAX >> (8 - bits));
                self.input.h = self.input.h.div_ceil(2);
                let formats = [WeightFormat::Linear(1), WeightFormat::Linear(2), WeightFormat::Ternary];
                for (format, layout, channels) in &mut self.weights {
                    *format = formats[usize::from(format.to_byte()) % formats.len()];
                    *layout = Layout::Planes;
                    // As many panels as are multiplied together, or more.
                    *channels *= 2;
                }
            }
            Grouping::Narrow(bits) => {
                (self.bits_in, self.zero_in) = (bits, self.zero_in & u8::MAX >> (8 - bits));
                self.dilation[0] = 1;
                let formats = [1, 2, 3, 4].map(WeightFormat::Linear);
                for (format, ..) in &mut self.weights {
                    *format = *formats.get(usize::from(format.to_byte()) % 5).unwrap_or(&WeightFormat::Ternary);
                }
                // Every other input has the padding that needs no room.
                self.zero_in *= (self.seed % 2) as u8;
            }
            Grouping::NarrowInRows(bits) => {
                (self.stride[1], self.dilation[1]) = (1, 1);
                // Mostly as wide as networks have them.
                self.kernel[1] = if self.seed.is_multiple_of(4) { self.kernel[1] } else { 3 };
                return self.regrouped(Grouping::Narrow(bits));
            }
            Grouping::Grouped(groups, inputs) => {
                (self.input.c, self.groups) = (groups * inputs, groups);
                for (_, layout, channels) in &mut self.weights {
                    *layout = Layout::Plain;
                    *channels = channels.next_multiple_of(groups);
                }
            }
        }
        self
    }
}
