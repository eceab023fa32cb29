//! Everything that can be wrong with a blob or an arena.

use core::fmt;

use crate::kernels::Isa;

/// Why bytes are not a blob this runtime can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The magic is not `PARE`, or there are fewer bytes than a header.
    NotABlob,
    /// Another format version.
    Version(u16),
    /// A weight layout this runtime does not know.
    Layout(u16),
    /// The address is not a multiple of 4.
    Misaligned,
    /// Fewer bytes than the header states.
    Length {
        /// Bytes in the header.
        stated: u32,
        /// Bytes at hand.
        given: usize,
    },
    /// The checksum does not match: the blob was damaged.
    Checksum,
    /// This reaches beyond the end.
    Truncated(Detail),
    /// A section does not start at a multiple of 4.
    Section,
    /// This makes no sense.
    Layer(Detail),
    /// The operator is unknown.
    UnknownOp(u8),
    /// The network wants kernels that are not [linked](crate::kernels::KernelSet::LINKED).
    NotLinked,
    /// A tensor record makes no sense.
    Tensor(u16),
    /// The layer's tensors or scratch overlap or lie outside the arena.
    Arena {
        /// Which layer.
        layer: u16,
    },
    /// The layers of a stage, or their rows in the arena, do not fit together.
    Stage {
        /// Its first layer.
        layer: u16,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FormatError::NotABlob => write!(f, "not a Pare blob: the first bytes are not `PARE`"),
            FormatError::Version(version) => {
                write!(f, "blob format version {version}, but this runtime reads version {}", crate::format::VERSION)
            }
            FormatError::Layout(layout) => {
                write!(f, "weight layout {layout} belongs to another target: compile the model for this one")
            }
            FormatError::Misaligned => write!(f, "the blob must start at an address divisible by 4 (64 is fastest)"),
            FormatError::Length { stated, given } => {
                write!(f, "the blob states {stated} bytes but {given} are given: it was cut or padded")
            }
            FormatError::Checksum => write!(f, "the blob's checksum does not match: it was damaged"),
            FormatError::Truncated(part) => write!(f, "damaged blob: {part} end early"),
            FormatError::Section => write!(f, "damaged blob: a section does not start at a multiple of 4"),
            FormatError::Layer(part) => write!(f, "damaged blob: {part}: out of bounds"),
            FormatError::UnknownOp(op) => {
                write!(f, "operator {op} is unknown to this runtime: update it or recompile the model")
            }
            FormatError::NotLinked => {
                write!(f, "this program has the kernels of other networks alone: name this one too in PARE_NETWORKS")
            }
            FormatError::Tensor(index) => write!(f, "damaged blob: tensor {index} is out of bounds"),
            FormatError::Stage { layer } => {
                write!(f, "damaged blob: the stage from layer {layer} on does not fit together")
            }
            FormatError::Arena { layer } => write!(f, "damaged blob: the memory of layer {layer} overlaps"),
        }
    }
}

impl core::error::Error for FormatError {}

/// Names details of a blob once, for code and for people.
macro_rules! details {
    ($($name:ident $text:literal,)*) => {
        /// A part of a blob that an error is about: a byte, of which programs without a screen never link the text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Detail {
            $(#[doc = $text] $name,)*
        }

        impl fmt::Display for Detail {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Detail::$name => $text,)*
                })
            }
        }
    };
}

details! {
    TensorRecords "the tensor records",
    IoIndices "the input and output indices",
    LayerRecords "the layer records",
    Tables "the tables",
    Channels "the biases and multipliers",
    Weights "the weights",
    Metadata "the metadata",
    LayerRecord "a layer record",
    Operands "the number of operands or the record's length",
    TensorIndex "a tensor index",
    ConvGeometry "the geometry of a Conv",
    BiasIndex "the bias index of a Conv",
    Requantisation "a requantisation",
    Residual "the residual of a Conv",
    WeightGroup "a weight group",
    GroupChannels "the channel counts of the weight groups",
    WeightPadding "the padding of weights of 8 bits",
    PlanePadding "the padding of bit planes",
    SparsePositions "the positions of sparse weights",
    Add "an Add",
    PoolGeometry "the geometry of a pool",
    MaxPoolRange "the range of a MaxPool",
    LutShapes "the shapes of a Lut",
    LutTable "a look-up table",
    LutCode "a code in a look-up table",
    SoftmaxShapes "the shapes of a Softmax",
    Concat "a Concat",
    Pad "a Pad",
    Transpose "a Transpose",
    Resize "a Resize",
    ResizeTable "a table of a Resize",
    DepthToSpace "a DepthToSpace",
}

/// Why a session cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The arena is too small.
    Arena {
        /// Bytes the model needs.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// This processor lacks the instruction set.
    Isa(Isa),
    /// The scratch that the kernels of this instruction set want is more than the blob's plan holds.
    Scratch {
        /// Which layer.
        layer: u16,
        /// The instruction set.
        isa: Isa,
    },
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SetupError::Arena { need, have } => write!(f, "the arena has {have} bytes but the model needs {need}"),
            SetupError::Isa(isa) => write!(f, "this processor cannot run the {isa} kernels"),
            SetupError::Scratch { layer, isa } => write!(
                f,
                "layer {layer} has too little scratch for the {isa} kernels: recompile the model with this version"
            ),
        }
    }
}

impl core::error::Error for SetupError {}
