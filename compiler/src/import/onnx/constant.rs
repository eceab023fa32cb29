//! Constants of an ONNX file, and the arithmetic on them that exporters leave in a graph: shapes
//! computed from shapes, weights transposed or dequantised.

use std::sync::Arc;

use rten_onnx::onnx::{DataLocation, DataType, TensorProto};

use super::translate::Attributes;
use crate::import::builder::{Problem, Tensor};
use crate::ir::shape::checked_len;

/// Elements that arithmetic may give: enough for any weights, and repeated concatenation cannot
/// exhaust the memory.
const MAX_FOLDED: usize = 1 << 24;
/// Dimensions that a tensor may have.
const MAX_RANK: usize = 8;

/// A constant. `f64` holds `f32` and every integer that can be a size exactly.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    pub dims: Vec<usize>,
    pub kind: DataType,
    pub data: Arc<Vec<f64>>,
}

impl Constant {
    /// Decodes an initialiser.
    pub(super) fn decode(proto: &TensorProto) -> Result<Constant, Problem> {
        let name = proto.name.as_deref().unwrap_or("unnamed");
        if proto.data_location == Some(DataLocation::EXTERNAL) {
            let problem = Problem::unsupported(format!("the data of `{name}` lies in another file"));
            return Err(problem.suggest("save the model as one file (onnx.save with save_as_external_data=False)"));
        }
        let dims = proto.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<usize>>>();
        let dims = dims.filter(|dims| dims.len() <= MAX_RANK);
        let dims = dims.ok_or_else(|| Problem::Invalid(format!("constant `{name}` has the shape {:?}", proto.dims)))?;
        let kind = proto.data_type.unwrap_or(DataType::UNDEFINED_KIND);
        let raw = proto.raw_data.as_ref().map(|raw| raw.borrow());
        let data = match raw.as_deref().filter(|raw| !raw.is_empty()) {
            Some(raw) => raw_numbers(kind, raw),
            None => typed_numbers(kind, proto),
        };
        let data =
            data.ok_or_else(|| Problem::unsupported(format!("constant `{name}` has elements of type {kind}")))?;
        if checked_len(&dims) != Some(data.len()) {
            let problem =
                format!("constant `{name}` has {} elements, its shape {dims:?} needs another number", data.len());
            return Err(Problem::Invalid(problem));
        }
        Ok(Constant { dims, kind, data: Arc::new(data) }.flat_if_empty())
    }

    /// Nothing has no shape: other dimensions beside a zero could be of any size.
    fn flat_if_empty(self) -> Constant {
        if self.data.is_empty() { Constant { dims: vec![0], ..self } } else { self }
    }

    /// A list of sizes, axes or the like.
    pub(super) fn integers(values: impl IntoIterator<Item = i64>) -> Constant {
        let data: Vec<f64> = values.into_iter().map(|value| value as f64).collect();
        Constant { dims: vec![data.len()], kind: DataType::INT64, data: Arc::new(data) }
    }

    /// As real numbers for the graph.
    pub(super) fn tensor(&self) -> Tensor {
        Tensor { shape: self.dims.clone(), data: Arc::new(self.data.iter().map(|&x| x as f32).collect()) }
    }

    /// As sizes or axes.
    pub(super) fn to_integers(&self) -> Vec<i64> {
        self.data.iter().map(|&x| x as i64).collect()
    }

    /// The number in a constant of one element.
    pub(super) fn scalar(&self) -> Option<f64> {
        match self.data.as_slice() {
            [x] => Some(*x),
            _ => None,
        }
    }

    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Constant {
        Constant { dims, ..self.clone() }
    }

    fn is_integer(&self) -> bool {
        lowest_and_highest(self.kind).is_some() || matches!(self.kind, DataType::INT64 | DataType::INT32)
    }

    /// The elements in the order of the permuted axes.
    pub(super) fn transposed(&self, perm: &[usize]) -> Option<Constant> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.dims.len()) {
            return None;
        }
        let strides = strides(&self.dims);
        let dims: Vec<usize> = perm.iter().filter_map(|&axis| self.dims.get(axis).copied()).collect();
        let steps: Vec<usize> = perm.iter().filter_map(|&axis| strides.get(axis).copied()).collect();
        let data = positions(&dims, &steps).filter_map(|at| self.data.get(at).copied()).collect();
        Some(Constant { dims, kind: self.kind, data: Arc::new(data) })
    }
}

/// What `rten-onnx` leaves out where a file names no type.
trait UndefinedKind {
    const UNDEFINED_KIND: DataType;
}

impl UndefinedKind for DataType {
    const UNDEFINED_KIND: DataType = DataType(0);
}

/// The codes of an 8- or 16-bit type; `None` for any other.
pub(super) fn lowest_and_highest(kind: DataType) -> Option<(f64, f64)> {
    match kind {
        DataType::UINT8 => Some((0.0, 255.0)),
        DataType::INT8 => Some((-128.0, 127.0)),
        DataType::UINT16 => Some((0.0, 65535.0)),
        DataType::INT16 => Some((-32768.0, 32767.0)),
        _ => None,
    }
}

/// The result of an operator on constants alone; `None` when it is not one that is folded.
pub(super) fn fold(
    op: &str,
    attributes: &Attributes<'_>,
    inputs: &[Option<Constant>],
) -> Result<Option<Constant>, Problem> {
    let operand = |i: usize| inputs.get(i).and_then(Option::as_ref);
    let Some(x) = operand(0) else { return Ok(None) };
    let folded = match op {
        "Identity" | "Dropout" => x.clone(),
        "Cast" => cast(x, DataType(i32::try_from(attributes.int("to", 1)).unwrap_or(0))),
        "Reshape" => {
            let wanted = operand(1).map(Constant::to_integers).unwrap_or_default();
            x.reshaped(reshape_dims(&x.dims, &wanted, attributes.int("allowzero", 0) != 0)?)
        }
        "Squeeze" | "Unsqueeze" => {
            let axes = operand(1).map(Constant::to_integers).or_else(|| attributes.ints("axes"));
            let dims = if op == "Squeeze" { squeezed(&x.dims, axes)? } else { unsqueezed(&x.dims, axes)? };
            x.reshaped(dims)
        }
        "Transpose" => {
            let reversed = || (0..x.dims.len() as i64).rev().collect();
            let perm = axes(&attributes.ints("perm").unwrap_or_else(reversed), x.dims.len())?;
            x.transposed(&perm).ok_or_else(|| Problem::Invalid(format!("permutation {perm:?} of {:?}", x.dims)))?
        }
        "Gather" => gather(x, operand(1), attributes.int("axis", 0))?,
        "Slice" => slice(x, attributes, &operand)?,
        "Concat" => concat(inputs, attributes.int("axis", 0))?,
        "Shape" => Constant::integers(x.dims.iter().map(|&d| d as i64)),
        "ConstantOfShape" => constant_of_shape(x, attributes)?,
        "Add" | "Sub" | "Mul" | "Div" => match operand(1) {
            Some(y) => arithmetic(op, x, y)?,
            None => return Ok(None),
        },
        "QuantizeLinear" => quantise(x, operand(1), operand(2), attributes.int("axis", 1))?,
        "DequantizeLinear" => dequantise(x, operand(1), operand(2), attributes.int("axis", 1))?,
        _ => return Ok(None),
    };
    match checked_len(&folded.dims) {
        Some(len) if len == folded.data.len() => Ok(Some(folded.flat_if_empty())),
        _ => Err(Problem::Invalid(format!("gives {} elements for the shape {:?}", folded.data.len(), folded.dims))),
    }
}

/// The shape that Reshape asks for: 0 copies a dimension, -1 takes what is left.
pub(super) fn reshape_dims(from: &[usize], wanted: &[i64], keep_zero: bool) -> Result<Vec<usize>, Problem> {
    let invalid = || Problem::Invalid(format!("reshapes {from:?} to {wanted:?}"));
    if wanted.len() > MAX_RANK {
        return Err(invalid());
    }
    let mut dims = Vec::new();
    let mut open = None;
    for (i, &d) in wanted.iter().enumerate() {
        match d {
            0 if !keep_zero => dims.push(from.get(i).copied().ok_or_else(invalid)?),
            -1 if open.replace(i).is_none() => dims.push(1),
            d => dims.push(usize::try_from(d).map_err(|_| invalid())?),
        }
    }
    let len = checked_len(from).ok_or_else(invalid)?;
    if let Some(d) = open.and_then(|i| dims.get_mut(i)) {
        *d = 0;
        let known = dims.iter().filter(|&&d| d > 0).try_fold(1usize, |a, &d| a.checked_mul(d)).ok_or_else(invalid)?;
        if let Some(d) = open.and_then(|i| dims.get_mut(i)) {
            *d = len / known;
        }
    }
    if checked_len(&dims) == Some(len) { Ok(dims) } else { Err(invalid()) }
}

/// Without the axes given, or without any of size 1.
pub(super) fn squeezed(dims: &[usize], given: Option<Vec<i64>>) -> Result<Vec<usize>, Problem> {
    let dropped = match given {
        Some(given) => axes(&given, dims.len())?,
        None => (0..dims.len()).filter(|&i| dims.get(i) == Some(&1)).collect(),
    };
    Ok(dims.iter().enumerate().filter(|(i, _)| !dropped.contains(i)).map(|(_, &d)| d).collect())
}

/// With axes of size 1 where the result shall have them.
pub(super) fn unsqueezed(dims: &[usize], given: Option<Vec<i64>>) -> Result<Vec<usize>, Problem> {
    let given = given.unwrap_or_default();
    let rank = dims.len() + given.len();
    if rank > MAX_RANK {
        return Err(Problem::Invalid(format!("gives {rank} dimensions")));
    }
    let added = axes(&given, rank)?;
    let mut old = dims.iter().copied();
    Ok((0..rank).filter_map(|i| if added.contains(&i) { Some(1) } else { old.next() }).collect())
}

/// Axes counted from the start.
pub(super) fn axes(given: &[i64], rank: usize) -> Result<Vec<usize>, Problem> {
    let from_start = |&axis: &i64| {
        let counted = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(counted).ok().filter(|&axis| axis < rank)
    };
    let axes = given.iter().map(from_start).collect::<Option<_>>();
    axes.ok_or_else(|| Problem::Invalid(format!("axes {given:?} of {rank} dimensions")))
}

fn cast(x: &Constant, kind: DataType) -> Constant {
    let data = match kind {
        DataType::FLOAT | DataType::FLOAT16 | DataType::DOUBLE => x.data.clone(),
        _ => Arc::new(x.data.iter().map(|x| x.trunc()).collect()),
    };
    Constant { dims: x.dims.clone(), kind, data }
}

fn gather(x: &Constant, indices: Option<&Constant>, axis: i64) -> Result<Constant, Problem> {
    let invalid = || Problem::Invalid("gathers outside its operand".to_owned());
    let indices = indices.ok_or_else(invalid)?;
    let axis = axes(&[axis], x.dims.len())?.first().copied().ok_or_else(invalid)?;
    let size = x.dims.get(axis).copied().ok_or_else(invalid)?;
    let inner: usize = x.dims.iter().skip(axis + 1).product();
    let outer: usize = x.dims.iter().take(axis).product();
    let picked = axes(&indices.to_integers(), size)?;
    let len = outer.checked_mul(picked.len()).and_then(|len| len.checked_mul(inner));
    if len.is_none_or(|len| len > MAX_FOLDED) {
        return Err(invalid());
    }
    let mut data = Vec::new();
    for o in 0..outer {
        for &i in &picked {
            let start = (o * size + i) * inner;
            data.extend_from_slice(x.data.get(start..start + inner).ok_or_else(invalid)?);
        }
    }
    let dims = x.dims.iter().take(axis).chain(&indices.dims).chain(x.dims.iter().skip(axis + 1)).copied().collect();
    Ok(Constant { dims, kind: x.kind, data: Arc::new(data) })
}

fn slice<'a>(
    x: &Constant,
    attributes: &Attributes<'_>,
    operand: &dyn Fn(usize) -> Option<&'a Constant>,
) -> Result<Constant, Problem> {
    let list = |i, name| operand(i).map(Constant::to_integers).or_else(|| attributes.ints(name));
    let (starts, ends) = (list(1, "starts").unwrap_or_default(), list(2, "ends").unwrap_or_default());
    let along = list(3, "axes").unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps").unwrap_or_else(|| vec![1; starts.len()]);
    let mut result = x.clone();
    for (i, axis) in axes(&along, x.dims.len())?.into_iter().enumerate() {
        let size = result.dims.get(axis).copied().unwrap_or(0) as i64;
        let bound = |list: &[i64]| {
            let at = list.get(i).copied().unwrap_or(0);
            if at < 0 { at.saturating_add(size) } else { at }.clamp(0, size)
        };
        if steps.get(i) != Some(&1) {
            return Err(Problem::unsupported("a slice of a constant with a step"));
        }
        let picked = Constant::integers(bound(&starts)..bound(&ends));
        result = gather(&result, Some(&picked), axis as i64)?;
    }
    Ok(result)
}

fn concat(inputs: &[Option<Constant>], axis: i64) -> Result<Constant, Problem> {
    let invalid = || Problem::Invalid("joins constants that do not fit".to_owned());
    let parts: Vec<&Constant> = inputs.iter().flatten().collect();
    let first = parts.first().ok_or_else(invalid)?;
    let axis = axes(&[axis], first.dims.len())?.first().copied().ok_or_else(invalid)?;
    let total = parts.iter().map(|part| part.data.len()).sum::<usize>();
    let outer: usize = first.dims.iter().take(axis).product();
    if total > MAX_FOLDED || parts.iter().any(|part| part.dims.len() != first.dims.len()) {
        return Err(invalid());
    }
    let mut data = Vec::with_capacity(total);
    for o in 0..outer {
        for part in &parts {
            let inner: usize = part.dims.iter().skip(axis).product();
            data.extend_from_slice(part.data.get(o * inner..(o + 1) * inner).ok_or_else(invalid)?);
        }
    }
    let mut dims = first.dims.clone();
    if let Some(d) = dims.get_mut(axis) {
        *d = parts.iter().filter_map(|part| part.dims.get(axis)).sum();
    }
    Ok(Constant { dims, kind: first.kind, data: Arc::new(data) })
}

fn constant_of_shape(shape: &Constant, attributes: &Attributes<'_>) -> Result<Constant, Problem> {
    let value = attributes.tensor("value")?;
    let dims = shape.data.iter().map(|&d| d as usize).collect::<Vec<_>>();
    let len = checked_len(&dims).filter(|&len| len <= MAX_FOLDED && dims.len() <= MAX_RANK);
    let len = len.ok_or_else(|| Problem::Invalid(format!("a constant of the shape {dims:?}")))?;
    let kind = value.as_ref().map_or(DataType::FLOAT, |value| value.kind);
    let filler = value.and_then(|value| value.scalar()).unwrap_or(0.0);
    Ok(Constant { dims, kind, data: Arc::new(vec![filler; len]) })
}

fn arithmetic(op: &str, x: &Constant, y: &Constant) -> Result<Constant, Problem> {
    let apply = |a: f64, b: f64| match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        _ if x.is_integer() => (a / b).trunc(),
        _ => a / b,
    };
    let (dims, data) = if x.dims == y.dims {
        (&x.dims, x.data.iter().zip(y.data.iter()).map(|(&a, &b)| apply(a, b)).collect())
    } else if let Some(b) = y.scalar() {
        (&x.dims, x.data.iter().map(|&a| apply(a, b)).collect())
    } else if let Some(a) = x.scalar() {
        (&y.dims, y.data.iter().map(|&b| apply(a, b)).collect())
    } else {
        let problem = Problem::unsupported(format!("{op} of constants of shapes {:?}, {:?}", x.dims, y.dims));
        return Err(problem.suggest("fold constants before export (onnxsim)"));
    };
    Ok(Constant { dims: dims.clone(), kind: x.kind, data: Arc::new(data) })
}

/// Applies scale and zero-point, one a tensor or one for each index of `axis`.
fn per_axis(
    x: &Constant,
    scale: Option<&Constant>,
    zero: Option<&Constant>,
    axis: i64,
    apply: impl Fn(f64, f64, f64) -> f64,
) -> Result<Vec<f64>, Problem> {
    let scale = scale.ok_or_else(|| Problem::Invalid("it has no scale".to_owned()))?;
    let channel: Box<dyn Fn(usize) -> usize> = if scale.data.len() == 1 {
        Box::new(|_| 0)
    } else {
        let axis = axes(&[axis], x.dims.len())?.first().copied().unwrap_or(0);
        let inner: usize = x.dims.iter().skip(axis + 1).product();
        let size = x.dims.get(axis).copied().unwrap_or(0);
        if scale.data.len() != size {
            let problem = Problem::unsupported(format!("{} scales for {size} channels", scale.data.len()));
            return Err(problem.suggest("quantise for each channel or tensor, not in blocks"));
        }
        Box::new(move |i| (i / inner.max(1)) % size.max(1))
    };
    let at = |list: &Constant, i: usize| list.data.get(if list.data.len() == 1 { 0 } else { i }).copied();
    let element = |(i, &value): (usize, &f64)| {
        let c = channel(i);
        apply(value, at(scale, c).unwrap_or(0.0), zero.and_then(|zero| at(zero, c)).unwrap_or(0.0))
    };
    Ok(x.data.iter().enumerate().map(element).collect())
}

fn dequantise(x: &Constant, scale: Option<&Constant>, zero: Option<&Constant>, axis: i64) -> Result<Constant, Problem> {
    let data = per_axis(x, scale, zero, axis, |code, scale, zero| f64::from(((code - zero) as f32) * (scale as f32)))?;
    Ok(Constant { dims: x.dims.clone(), kind: DataType::FLOAT, data: Arc::new(data) })
}

fn quantise(x: &Constant, scale: Option<&Constant>, zero: Option<&Constant>, axis: i64) -> Result<Constant, Problem> {
    let kind = zero.map_or(DataType::UINT8, |zero| zero.kind);
    let (lowest, highest) =
        lowest_and_highest(kind).ok_or_else(|| Problem::unsupported(format!("quantises to codes of type {kind}")))?;
    let code = |x: f64, scale: f64, zero: f64| ((x / scale).round_ties_even() + zero).clamp(lowest, highest);
    let data = per_axis(x, scale, zero, axis, code)?;
    Ok(Constant { dims: x.dims.clone(), kind, data: Arc::new(data) })
}

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// Offsets of all elements of a box of `dims`, one `step` apart along each axis, in row-major order.
fn positions(dims: &[usize], steps: &[usize]) -> impl Iterator<Item = usize> {
    let len = dims.iter().product::<usize>();
    (0..len).map(move |index| {
        let mut rest = index;
        let mut at = 0;
        for (&d, &step) in dims.iter().zip(steps).rev() {
            at += (rest % d) * step;
            rest /= d;
        }
        at
    })
}

fn chunks<const N: usize>(raw: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    raw.chunks_exact(N).filter_map(|bytes| bytes.try_into().ok()).map(number).collect()
}

fn raw_numbers(kind: DataType, raw: &[u8]) -> Option<Vec<f64>> {
    Some(match kind {
        DataType::FLOAT => chunks(raw, |b| f32::from_le_bytes(b).into()),
        DataType::DOUBLE => chunks(raw, f64::from_le_bytes),
        DataType::FLOAT16 => chunks(raw, |b| half::f16::from_le_bytes(b).into()),
        DataType::BFLOAT16 => chunks(raw, |b| half::bf16::from_le_bytes(b).into()),
        DataType::UINT8 | DataType::BOOL => chunks(raw, |b| u8::from_le_bytes(b).into()),
        DataType::INT8 => chunks(raw, |b| i8::from_le_bytes(b).into()),
        DataType::UINT16 => chunks(raw, |b| u16::from_le_bytes(b).into()),
        DataType::INT16 => chunks(raw, |b| i16::from_le_bytes(b).into()),
        DataType::INT32 => chunks(raw, |b| i32::from_le_bytes(b).into()),
        DataType::INT64 => chunks(raw, |b| i64::from_le_bytes(b) as f64),
        _ => return None,
    })
}

fn typed_numbers(kind: DataType, proto: &TensorProto) -> Option<Vec<f64>> {
    let small = || proto.int32_data.iter();
    Some(match kind {
        DataType::FLOAT => proto.float_data.iter().map(|&x| x.into()).collect(),
        DataType::DOUBLE => proto.double_data.clone(),
        DataType::INT64 => proto.int64_data.iter().map(|&x| x as f64).collect(),
        DataType::FLOAT16 => small().map(|&x| half::f16::from_bits(x as u16).into()).collect(),
        DataType::BFLOAT16 => small().map(|&x| half::bf16::from_bits(x as u16).into()).collect(),
        DataType::UINT8 | DataType::INT8 | DataType::UINT16 | DataType::INT16 | DataType::INT32 | DataType::BOOL => {
            small().map(|&x| x.into()).collect()
        }
        _ => return None,
    })
}
