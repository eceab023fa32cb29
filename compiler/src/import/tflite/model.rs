//! The tables of the schema, read into plain structures; field numbers are those of the schema
//! (tensorflow/lite/schema/schema.fbs, version 3).

use std::cell::Cell;
use std::sync::Arc;

use super::flatbuffer::{Malformed, Scalars, Table};
use crate::import::builder::{MAX_NODES, Problem, Tensor};
use crate::ir::shape::checked_len;

/// Tensors that a file may have.
const MAX_TENSORS: usize = 8 * MAX_NODES;
/// Dimensions that a tensor may have.
const MAX_RANK: usize = 8;
/// Bytes of a name that are read.
const MAX_NAME: usize = 1024;

/// The first subgraph of a file.
pub(super) struct Model<'a> {
    pub tensors: Vec<TensorInfo<'a>>,
    pub operators: Vec<Operator<'a>>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Elements that may still be decoded: several tensors may share bytes, so without a bound a
    /// small file could ask for any amount of memory.
    budget: Cell<usize>,
}

/// One operator.
pub(super) struct Operator<'a> {
    /// Its number in the schema.
    pub code: i32,
    /// The name of a custom operator.
    pub custom: String,
    /// Tensor numbers; `None` for an operand left out.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<Option<usize>>,
    /// The table of attributes, whichever it is.
    pub options: Table<'a>,
}

/// One tensor, its data not decoded yet.
pub(super) struct TensorInfo<'a> {
    pub name: String,
    pub shape: Vec<i32>,
    kind: Kind,
    /// Bytes of a constant; empty otherwise.
    data: &'a [u8],
    scales: Scalars<'a, 4>,
    zeros: Scalars<'a, 8>,
    axis: i32,
}

/// Element types, by their numbers in the schema.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Float32,
    Float16,
    Int32,
    Uint8,
    Int64,
    Int16,
    Int8,
    Int4,
    Other(i8),
}

impl<'a> Model<'a> {
    /// Reads everything but the constants' elements.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Model<'a>, Malformed> {
        let root = Table::root(bytes)?;
        let codes = root.tables(1, MAX_NODES)?;
        let buffers = root.tables(4, MAX_TENSORS)?;
        let subgraph = root.tables(2, MAX_NODES)?.first().copied().unwrap_or_else(Table::empty);
        let tensors = subgraph.tables(0, MAX_TENSORS)?;
        let operators = subgraph.tables(3, MAX_NODES)?;
        // Operators may share their lists of operands; ever the same long one would fill the memory.
        let mut operands = bytes.len();
        Ok(Model {
            tensors: tensors.iter().map(|table| TensorInfo::read(table, &buffers)).collect::<Result<_, _>>()?,
            operators: operators
                .iter()
                .map(|table| Operator::read(table, &codes, &mut operands))
                .collect::<Result<_, _>>()?,
            inputs: indices(&subgraph, 1, &mut bytes.len())?.into_iter().flatten().collect(),
            outputs: indices(&subgraph, 2, &mut bytes.len())?.into_iter().flatten().collect(),
            budget: Cell::new(bytes.len().saturating_mul(2).saturating_add(4096)),
        })
    }

    pub(super) fn tensor(&self, index: usize) -> Result<&TensorInfo<'a>, Problem> {
        self.tensors
            .get(index)
            .ok_or_else(|| Problem::Invalid(format!("refers to tensor {index}, which does not exist")))
    }

    /// The elements of a constant as real numbers; `None` when the tensor is no constant.
    pub(super) fn constant(&self, index: usize) -> Result<Option<Tensor>, Problem> {
        let tensor = self.tensor(index)?;
        if tensor.data.is_empty() {
            return Ok(None);
        }
        let data = tensor.real(self.spend(tensor)?)?;
        Ok(Some(Tensor { shape: tensor.dims()?, data: Arc::new(data) }))
    }

    /// The codes of a constant as they are stored: shapes, axes and paddings, and biases that
    /// bear no scale; `None` when the tensor is no constant.
    pub(super) fn integers(&self, index: usize) -> Result<Option<Vec<i64>>, Problem> {
        let tensor = self.tensor(index)?;
        if tensor.data.is_empty() {
            return Ok(None);
        }
        tensor.codes(self.spend(tensor)?).map(Some)
    }

    fn spend(&self, tensor: &TensorInfo<'_>) -> Result<usize, Problem> {
        let len = checked_len(&tensor.dims()?);
        let left = len.and_then(|len| self.budget.get().checked_sub(len));
        match (len, left) {
            (Some(len), Some(left)) => {
                self.budget.set(left);
                Ok(len)
            }
            _ => Err(Problem::Invalid(format!("constant `{}` is larger than the file", tensor.name))),
        }
    }
}

/// Tensor numbers, charged to a budget; -1 stands for an operand left out.
fn indices(table: &Table<'_>, field: usize, budget: &mut usize) -> Result<Vec<Option<usize>>, Malformed> {
    let indices = table.scalars::<4>(field)?;
    let left = budget.checked_sub(indices.len());
    *budget = left.ok_or(Malformed { what: "more operands than the file has room for", at: 0 })?;
    Ok(indices.iter().map(|index| usize::try_from(i32::from_le_bytes(index)).ok()).collect())
}

impl<'a> Operator<'a> {
    fn read(table: &Table<'a>, codes: &[Table<'a>], operands: &mut usize) -> Result<Operator<'a>, Malformed> {
        let code = codes.get(table.u32(0)? as usize).copied();
        let code = code.ok_or(Malformed { what: "an operator without a code", at: 0 })?;
        Ok(Operator {
            // Old files have the number in a byte, new ones in a word; the larger counts.
            code: i32::from(code.i8(0, 0)?).max(code.i32(3, 0)?),
            custom: code.string(1, MAX_NAME)?,
            inputs: indices(table, 1, operands)?,
            outputs: indices(table, 2, operands)?,
            options: table.table(4)?,
        })
    }
}

impl<'a> TensorInfo<'a> {
    fn read(table: &Table<'a>, buffers: &[Table<'a>]) -> Result<TensorInfo<'a>, Malformed> {
        let shape = table.scalars::<4>(0)?;
        if shape.len() > MAX_RANK {
            return Err(Malformed { what: "a tensor of more than 8 dimensions", at: 0 });
        }
        let buffer = buffers.get(table.u32(2)? as usize).copied().unwrap_or_else(Table::empty);
        if buffer.u64(1)? > 1 {
            return Err(Malformed { what: "data outside the flatbuffer, which only models above 2 GiB have", at: 0 });
        }
        let quantisation = table.table(4)?;
        Ok(TensorInfo {
            name: table.string(3, MAX_NAME)?,
            shape: shape.iter().map(i32::from_le_bytes).collect(),
            kind: Kind::of(table.i8(1, 0)?),
            data: buffer.scalars::<1>(0)?.bytes(),
            scales: quantisation.scalars(2)?,
            zeros: quantisation.scalars(3)?,
            axis: quantisation.i32(6, 0)?,
        })
    }

    /// Whether a constant stands behind it.
    pub(super) fn is_constant(&self) -> bool {
        !self.data.is_empty()
    }

    /// Whether its elements are codes, which mean a number only with a scale.
    pub(super) fn is_integer(&self) -> bool {
        !matches!(self.kind, Kind::Float32 | Kind::Float16)
    }

    /// Whether the file says what its codes mean.
    pub(super) fn is_quantised(&self) -> bool {
        !self.scales.is_empty()
    }

    /// Its shape as the file declares it.
    pub(super) fn dims(&self) -> Result<Vec<usize>, Problem> {
        let dims = self.shape.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>();
        dims.map_err(|_| Problem::Invalid(format!("tensor `{}` has the shape {:?}", self.name, self.shape)))
    }

    /// Its scale for channel `i` of its quantised axis.
    pub(super) fn scale(&self, i: usize) -> Option<f32> {
        let i = if self.scales.len() == 1 { 0 } else { i };
        self.scales.get(i).map(f32::from_le_bytes)
    }

    fn zero(&self, i: usize) -> i64 {
        let i = if self.zeros.len() == 1 { 0 } else { i };
        self.zeros.get(i).map_or(0, i64::from_le_bytes)
    }

    /// The real numbers that the codes of an activation span; `None` for float tensors.
    pub(super) fn range(&self) -> Option<(f32, f32)> {
        let (lowest, highest) = match self.kind {
            Kind::Int8 => (-128, 127),
            Kind::Uint8 => (0, 255),
            Kind::Int16 => (-32768, 32767),
            _ => return None,
        };
        let scale = f64::from(self.scale(0).filter(|_| self.scales.len() == 1)?);
        let real = |code: i64| (scale * (code as f64 - self.zero(0) as f64)) as f32;
        Some((real(lowest), real(highest))).filter(|(min, max)| min.is_finite() && max.is_finite() && min <= max)
    }

    /// The stored integers.
    fn codes(&self, len: usize) -> Result<Vec<i64>, Problem> {
        let codes: Vec<i64> = match self.kind {
            Kind::Int8 => self.elements::<1>(len)?.map(|b| i8::from_le_bytes(b).into()).collect(),
            Kind::Uint8 => self.elements::<1>(len)?.map(|b| u8::from_le_bytes(b).into()).collect(),
            Kind::Int16 => self.elements::<2>(len)?.map(|b| i16::from_le_bytes(b).into()).collect(),
            Kind::Int32 => self.elements::<4>(len)?.map(|b| i32::from_le_bytes(b).into()).collect(),
            Kind::Int64 => self.elements::<8>(len)?.map(i64::from_le_bytes).collect(),
            Kind::Int4 => {
                self.check_bytes(len.div_ceil(2))?;
                let nibbles = self.data.iter().flat_map(|&byte| [(byte << 4) as i8 >> 4, byte as i8 >> 4]);
                nibbles.take(len).map(i64::from).collect()
            }
            Kind::Float32 | Kind::Float16 | Kind::Other(_) => {
                return Err(Problem::unsupported(format!(
                    "tensor `{}` has elements of type {:?}",
                    self.name, self.kind
                )));
            }
        };
        Ok(codes)
    }

    /// The real numbers: floats as they are, codes dequantised.
    fn real(&self, len: usize) -> Result<Vec<f32>, Problem> {
        match self.kind {
            Kind::Float32 => Ok(self.elements::<4>(len)?.map(f32::from_le_bytes).collect()),
            Kind::Float16 => Ok(self.elements::<2>(len)?.map(|b| half::f16::from_le_bytes(b).to_f32()).collect()),
            _ => {
                let codes = self.codes(len)?;
                let channel = self.channel_of()?;
                let real = |(i, code): (usize, &i64)| match self.scale(channel(i)) {
                    Some(scale) => (*code as f64 - self.zero(channel(i)) as f64) as f32 * scale,
                    None => *code as f32,
                };
                Ok(codes.iter().enumerate().map(real).collect())
            }
        }
    }

    /// Which scale the element at an index has.
    fn channel_of(&self) -> Result<impl Fn(usize) -> usize + use<>, Problem> {
        let dims = self.dims()?;
        let axis = usize::try_from(self.axis).unwrap_or(usize::MAX);
        let inner: usize = dims.iter().skip(axis.saturating_add(1)).product();
        let count = dims.get(axis).copied().unwrap_or(1);
        if self.scales.len() > 1 && self.scales.len() != count {
            let problem = format!("tensor `{}` has {} scales for {count} channels", self.name, self.scales.len());
            return Err(Problem::Invalid(problem));
        }
        Ok(move |i: usize| (i / inner.max(1)) % count.max(1))
    }

    fn elements<const N: usize>(&self, len: usize) -> Result<impl Iterator<Item = [u8; N]> + use<'_, N>, Problem> {
        self.check_bytes(len.saturating_mul(N))?;
        Ok(self.data.chunks_exact(N).filter_map(|bytes| bytes.try_into().ok()))
    }

    fn check_bytes(&self, expected: usize) -> Result<(), Problem> {
        if self.data.len() == expected {
            return Ok(());
        }
        let found = self.data.len();
        Err(Problem::Invalid(format!("constant `{}` has {found} bytes, its shape needs {expected}", self.name)))
    }
}

impl Kind {
    fn of(number: i8) -> Kind {
        match number {
            0 => Kind::Float32,
            1 => Kind::Float16,
            2 => Kind::Int32,
            3 => Kind::Uint8,
            4 => Kind::Int64,
            7 => Kind::Int16,
            9 => Kind::Int8,
            17 => Kind::Int4,
            other => Kind::Other(other),
        }
    }
}
