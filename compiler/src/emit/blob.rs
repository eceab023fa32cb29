//! The blob: records, tables and packed weights, as [`pare_runtime::format`] specifies.

use pare_runtime::format::{
    CODEBOOK_BYTES, HEADER_BYTES, Header, Layout, STAGE_BYTES, Tensor, VERSION, WeightFormat, crc32, op,
};
use sha2::{Digest, Sha256};

use crate::lower::{Plan, PlannedConv, PlannedLayer, PlannedOp, PlannedWindow};
use crate::pack::{PackError, pack};

/// A finished blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Bytes of packed weights among them, codebooks and alignment included.
    pub weight_bytes: usize,
}

impl Blob {
    /// SHA-256 of the bytes, in hexadecimal: equal for equal inputs and seeds.
    pub fn digest(&self) -> String {
        Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Why a plan does not fit the format.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// A number is too large for its field.
    #[error("the network is too large for blob format {VERSION}: {what}")]
    TooLarge {
        /// Which number.
        what: &'static str,
    },
    /// A level has no code.
    #[error("layer `{layer}`: {source}")]
    Weights {
        /// The layer.
        layer: String,
        /// What is wrong with it.
        source: PackError,
    },
}

/// Writes a plan as a blob; `metadata` is JSON for host tools, kept as it is.
///
/// # Errors
/// See [`EmitError`].
pub fn emit(plan: &Plan, metadata: &str) -> Result<Blob, EmitError> {
    let mut tables = Tables::default();
    let mut layers = Vec::new();
    for (index, layer) in plan.layers.iter().enumerate() {
        if let Some(stage) = plan.stages.iter().find(|stage| stage.first == index) {
            layers.extend([op::STAGE, small(stage.layers, "a stage")?]);
            layers.extend((STAGE_BYTES as u16).to_le_bytes());
            layers.extend(word(stage.rows)?.to_le_bytes());
        }
        layers.extend(record(plan, layer, &mut tables)?);
    }
    let mut bytes = vec![0; HEADER_BYTES];
    for tensor in &plan.tensors {
        let code = tensor.code;
        let record = Tensor {
            offset: tensor.offset,
            shape: tensor.shape,
            scale: code.scale,
            bits: code.bits,
            storage: 8,
            zero: code.zero,
            rank: tensor.rank,
        };
        bytes.extend(record.to_bytes().ok_or(EmitError::TooLarge { what: "a tensor's extents" })?);
    }
    let io = bytes.len();
    for &tensor in plan.inputs.iter().chain(&plan.outputs) {
        bytes.extend(short(tensor, "its number of tensors")?.to_le_bytes());
    }
    align(&mut bytes, 4);
    let layers_at = bytes.len();
    bytes.extend(layers);
    let names = bytes.len();
    for layer in &plan.layers {
        let name = &layer.name.as_bytes()[..layer.name.floor_char_boundary(255)];
        bytes.push(name.len() as u8);
        bytes.extend(name);
    }
    let meta = bytes.len();
    bytes.extend(metadata.as_bytes());
    align(&mut bytes, 4);
    let aux = bytes.len();
    bytes.extend(&tables.aux);
    align(&mut bytes, 4);
    let channels = bytes.len();
    bytes.extend(tables.channels.iter().flat_map(|n| n.to_le_bytes()));
    align(&mut bytes, tables.alignment);
    let weights = bytes.len();
    bytes.extend(&tables.weights);

    let header = Header {
        version: VERSION,
        layout: tables.layout as u16,
        blob_bytes: word(bytes.len())?,
        crc32: 0,
        arena_bytes: word(plan.arena_bytes)?,
        n_tensors: short(plan.tensors.len(), "its number of tensors")?,
        n_layers: short(plan.layers.len(), "its number of layers")?,
        n_inputs: short(plan.inputs.len(), "its number of inputs")?,
        n_outputs: short(plan.outputs.len(), "its number of outputs")?,
        io: word(io)?,
        layers: word(layers_at)?,
        names: word(names)?,
        aux: word(aux)?,
        channels: word(channels)?,
        weights: word(weights)?,
        meta: word(meta)?,
        meta_bytes: word(metadata.len())?,
    };
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let header = Header { crc32: crc32(&bytes[16..]), ..header };
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(Blob { bytes, weight_bytes: tables.weights.len() })
}

/// The sections that layer records point into.
struct Tables {
    aux: Vec<u8>,
    channels: Vec<i32>,
    weights: Vec<u8>,
    layout: Layout,
    /// What the most demanding weights want.
    alignment: usize,
}

impl Default for Tables {
    fn default() -> Self {
        Tables { aux: Vec::new(), channels: Vec::new(), weights: Vec::new(), layout: Layout::Plain, alignment: 4 }
    }
}

fn record(plan: &Plan, layer: &PlannedLayer, tables: &mut Tables) -> Result<Vec<u8>, EmitError> {
    let (code, fields) = fields(plan, layer, tables)?;
    let mut record = vec![code, small(layer.inputs.len(), "a concat of more than 255 values")?, 0, 0];
    record.extend(word(layer.scratch)?.to_le_bytes());
    for &tensor in [layer.output].iter().chain(&layer.inputs) {
        record.extend(short(tensor, "its number of tensors")?.to_le_bytes());
    }
    align(&mut record, 4);
    record.extend(fields);
    align(&mut record, 4);
    let len = short(record.len(), "a layer record")?;
    record[2..4].copy_from_slice(&len.to_le_bytes());
    Ok(record)
}

fn fields(plan: &Plan, layer: &PlannedLayer, tables: &mut Tables) -> Result<(u8, Vec<u8>), EmitError> {
    let mut f = Vec::new();
    let code = match &layer.op {
        PlannedOp::Conv(conv) => {
            f = conv_fields(plan, layer, conv, tables)?;
            op::CONV
        }
        PlannedOp::Add { ma, mb, shift, lo, hi } => {
            f.extend(ma.to_le_bytes());
            f.extend(mb.to_le_bytes());
            f.extend([*shift, *lo, *hi, 0]);
            op::ADD
        }
        PlannedOp::AvgPool { window, mult, requantise } => {
            f = window_fields(window)?;
            f.extend(mult.to_le_bytes());
            f.extend([requantise.pre, requantise.lo, requantise.hi, 0]);
            op::AVG_POOL
        }
        PlannedOp::MaxPool { window, lo, hi } => {
            f = window_fields(window)?;
            f.extend([*lo, *hi, 0, 0]);
            op::MAX_POOL
        }
        PlannedOp::Lut(table) => {
            f.extend(tables.aux(table.iter().copied())?);
            op::LUT
        }
        PlannedOp::Softmax(mult) => {
            f.extend(mult.to_le_bytes());
            op::SOFTMAX
        }
        PlannedOp::Concat { outer } => {
            f.extend(word(*outer)?.to_le_bytes());
            op::CONCAT
        }
        PlannedOp::Pad { top, left, front } => {
            for &n in [top, left, front] {
                f.extend(short(n, "a padding")?.to_le_bytes());
            }
            op::PAD
        }
        PlannedOp::Transpose(perm) => {
            f.extend(perm);
            op::TRANSPOSE
        }
        PlannedOp::ResizeNearest { rows, columns } => {
            for table in [rows, columns] {
                f.extend(tables.aux(table.iter().flat_map(|n| n.to_le_bytes()))?);
            }
            op::RESIZE_NEAREST
        }
        PlannedOp::ResizeBilinear { rows, columns } => {
            for table in [rows, columns] {
                f.extend(tables.aux(table.iter().flatten().flat_map(|n| n.to_le_bytes()))?);
            }
            op::RESIZE_BILINEAR
        }
        PlannedOp::DepthToSpace { block, order } => {
            f.extend([small(*block, "a block")?, *order]);
            op::DEPTH_TO_SPACE
        }
    };
    Ok((code, f))
}

fn conv_fields(
    plan: &Plan,
    layer: &PlannedLayer,
    conv: &PlannedConv,
    tables: &mut Tables,
) -> Result<Vec<u8>, EmitError> {
    let mut f = Vec::new();
    let [kernel, stride] = [conv.window.kernel, conv.window.stride];
    for n in kernel {
        f.extend(short(n, "a kernel")?.to_le_bytes());
    }
    for &n in stride.iter().chain(&conv.dilation).chain(&conv.window.pad) {
        f.push(small(n, "a stride, dilation or padding")?);
    }
    let r = conv.requantise;
    f.extend([r.pre, r.lo, r.hi, small(conv.weights.len(), "a layer's channel runs")?]);
    f.extend(short(conv.groups, "a layer's groups")?.to_le_bytes());
    f.extend(word(tables.channels.len())?.to_le_bytes());
    tables.channels.extend(&conv.bias);
    tables.channels.extend(&conv.mult);
    let geometry = conv.geometry(&plan.tensors[layer.inputs[0]], &plan.tensors[layer.output]);
    for group in &conv.weights {
        let format = WeightFormat::from(group.format);
        let packed =
            pack(&geometry, group).map_err(|source| EmitError::Weights { layer: layer.name.clone(), source })?;
        let alignment = group.layout.alignment(format);
        align(&mut tables.weights, alignment);
        tables.alignment = tables.alignment.max(alignment);
        f.extend([format.to_byte(), group.layout as u8]);
        f.extend(short(group.channels, "a layer's channels")?.to_le_bytes());
        f.extend(word(tables.weights.len())?.to_le_bytes());
        if let WeightFormat::Codebook(_) = format {
            let mut table = [0; CODEBOOK_BYTES];
            table.iter_mut().zip(&group.codebook).for_each(|(slot, &level)| *slot = level as u8);
            tables.weights.extend(table);
        }
        tables.weights.extend(packed);
        tables.layout = tables.layout.max(group.layout);
    }
    if let Some(add) = conv.residual {
        f.extend(add.ma.to_le_bytes());
        f.extend(add.mb.to_le_bytes());
        f.extend([add.shift, add.lo, add.hi, r.zero]);
    }
    Ok(f)
}

fn window_fields(window: &PlannedWindow) -> Result<Vec<u8>, EmitError> {
    let mut f = Vec::new();
    for n in window.kernel {
        f.extend(short(n, "a window")?.to_le_bytes());
    }
    for &n in window.stride.iter().chain(&window.pad) {
        f.push(small(n, "a stride or padding")?);
    }
    Ok(f)
}

impl Tables {
    /// Appends a table; returns the bytes of its offset.
    fn aux(&mut self, table: impl Iterator<Item = u8>) -> Result<[u8; 4], EmitError> {
        let at = word(self.aux.len())?;
        self.aux.extend(table);
        Ok(at.to_le_bytes())
    }
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn word(n: usize) -> Result<u32, EmitError> {
    u32::try_from(n).map_err(|_| EmitError::TooLarge { what: "more than 4 GiB" })
}

fn short(n: usize, what: &'static str) -> Result<u16, EmitError> {
    u16::try_from(n).map_err(|_| EmitError::TooLarge { what })
}

fn small(n: usize, what: &'static str) -> Result<u8, EmitError> {
    u8::try_from(n).map_err(|_| EmitError::TooLarge { what })
}
