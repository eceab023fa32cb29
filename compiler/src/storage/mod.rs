//! A blob as it is stored and sent: the same bytes, coded by how likely they are.
//!
//! Deep Compression (Han et al. 2016, section 4) stores weights that were pruned and share values by Huffman codes of
//! values and of runs of zeros. Arithmetic coding with probabilities that adapt (as DeepCABAC, Wiedemann et al. 2020) needs
//! no tables, spends less than a bit where a weight is likely missing, and knows where it is by the weights around it.
//!
//! [`encode`] takes any blob; [`decode`] gives the same bytes back, whatever layouts it has. What is stored is one
//! stream: the magic, then, coded, the blob's length, where its words and codes lie, and all bytes in the order of the blob:
//! codes in the order of output channels, whatever their layout.

mod coder;
mod model;

use pare_runtime::Model as Blob;
use pare_runtime::bits::{code_of, read_code, write_code};
use pare_runtime::format::{
    CODEBOOK_BYTES, Conv, HEADER_BYTES, Header, LayerOp, Layout, WeightFormat, WeightGroup, crc32,
};
use pare_runtime::sparse::Packing;

use self::coder::{Coder, Decoder, Encoder};
use self::model::Model;

/// First bytes of every stored blob; the last is the version.
pub const MAGIC: [u8; 5] = *b"PARZ\x01";

/// The longest blob that is decoded.
const LONGEST: usize = 1 << 26;
/// Weights that a byte of a blob stands for, at most: sparse ones take less than a bit.
const MOST_WEIGHTS: usize = 32;

/// Why stored bytes are no blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Something else.
    #[error("this is no stored blob: it does not begin with the magic of version 1")]
    Magic,
    /// Not what was written.
    #[error("the stored blob is damaged: fetch or write it again")]
    Damaged,
}

/// Whether bytes claim to be a stored blob.
pub fn is_stored(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The blob in its stored form; `None` for what is no blob.
pub fn encode(blob: &[u8]) -> Option<Vec<u8>> {
    // Where weights are not as the compiler writes them, they are bytes.
    [pieces(blob)?, Vec::new()].into_iter().find_map(|pieces| {
        let mut coder = Encoder::new(MAGIC.to_vec());
        // Both sides run the same code; this one changes nothing.
        code(&mut coder, blob.len(), pieces, &mut blob.to_vec())?;
        let stored = coder.finish(MAGIC.len());
        (decode(&stored).as_deref() == Ok(blob)).then_some(stored)
    })
}

/// The blob that was stored.
///
/// # Errors
/// See [`StorageError`]; that the blob is sound is for [`Model::parse`](pare_runtime::Model::parse) to say.
pub fn decode(stored: &[u8]) -> Result<Vec<u8>, StorageError> {
    let rest = stored.strip_prefix(&MAGIC).ok_or(StorageError::Magic)?;
    let mut blob = Vec::new();
    code(&mut Decoder::new(rest), 0, Vec::new(), &mut blob).ok_or(StorageError::Damaged)?;
    let header = Header::read(&blob).ok_or(StorageError::Damaged)?;
    if blob.len() < HEADER_BYTES || crc32(&blob[16..]) != header.crc32 {
        return Err(StorageError::Damaged);
    }
    Ok(blob)
}

/// A part of a blob that is more than bytes.
#[derive(Clone, Debug, Default)]
struct Piece {
    at: usize,
    bytes: usize,
    /// All 0 for words; else what the codes mean and where they lie.
    codes: [u32; FIELDS],
}

/// Format, layout, channels, kernel, dilation of columns, input and output channels, channel groups.
const FIELDS: usize = 9;

impl Piece {
    fn of(blob: &[u8], conv: &Conv<'_>, group: &WeightGroup<'_>) -> Piece {
        let fields = [
            usize::from(group.format.to_byte()),
            usize::from(group.layout.number()),
            group.channels,
            conv.kernel[0],
            conv.kernel[1],
            conv.dilation[1],
            conv.input.c,
            conv.output.c,
            conv.groups,
        ];
        Piece {
            at: group.codes.as_ptr() as usize - blob.as_ptr() as usize,
            bytes: group.codes.len(),
            codes: fields.map(|field| field as u32),
        }
    }

    /// The convolution as far as its layout depends on it, and its weights' coding; `None` if there is no such thing.
    fn group(&self) -> Option<(Conv<'static>, WeightFormat, Layout, usize)> {
        let [format, layout, channels, kh, kw, dilation, c_in, c_out, groups] = self.codes.map(|field| field as usize);
        let format = WeightFormat::from_byte(u8::try_from(format).ok()?)?;
        let layout = Layout::from_number(u16::try_from(layout).ok()?)?;
        let mut conv = Conv::EMPTY;
        (conv.kernel, conv.dilation[1], conv.groups) = ([kh, kw], dilation, groups);
        (conv.input.c, conv.output.c) = (c_in, c_out);
        let weights = conv.depth().checked_mul(channels)?;
        let fits = match layout {
            Layout::Plain => true,
            Layout::Planes => groups == 1 && format.has_planes(),
            Layout::Sparse => groups == 1 && format.has_zero(),
            _ => groups == 1 || conv.is_depthwise(),
        };
        let stands = weights > 0 && groups > 0 && groups <= c_in && weights <= self.bytes.checked_mul(MOST_WEIGHTS)?;
        let length = layout == Layout::Sparse || conv.packed_bytes(channels, format, layout) == self.bytes;
        (fits && stands && length).then_some((conv, format, layout, channels))
    }
}

/// Biases and multipliers, and the weight groups, in the order of the blob.
fn pieces(blob: &[u8]) -> Option<Vec<Piece>> {
    let model = Blob::parse(blob).ok()?;
    let header = model.header();
    let (from, to) = (header.channels as usize, header.weights as usize);
    let mut pieces = vec![Piece { at: from, bytes: to.saturating_sub(from) & !3, ..Piece::default() }];
    for layer in model.layers() {
        if let LayerOp::Conv(conv) = &layer.op {
            pieces.extend(conv.weight_groups().map(|group| Piece::of(blob, conv, &group)));
        }
    }
    pieces.retain(|piece| piece.bytes > 0);
    pieces.sort_by_key(|piece| piece.at);
    pieces.dedup_by_key(|piece| piece.at);
    Some(pieces)
}

/// One pass over a blob, on either side.
fn code(coder: &mut impl Coder, len: usize, mut pieces: Vec<Piece>, blob: &mut Vec<u8>) -> Option<()> {
    let mut model = Model::new();
    let len = model.number(coder, len as u32) as usize;
    let count = model.number(coder, pieces.len() as u32) as usize;
    if len > LONGEST || count > len {
        return None;
    }
    pieces.resize(count, Piece::default());
    let mut end = 0;
    for piece in &mut pieces {
        piece.at = (model.number(coder, piece.at.saturating_sub(end) as u32) as usize).checked_add(end)?;
        piece.bytes = model.number(coder, piece.bytes as u32) as usize;
        end = piece.at.checked_add(piece.bytes).filter(|&end| end <= len)?;
        let [format, others @ ..] = &mut piece.codes;
        *format = model.number(coder, *format);
        if *format != 0 {
            others.iter_mut().for_each(|field| *field = model.number(coder, *field));
        }
    }
    blob.resize(len, 0);
    let mut at = 0;
    for piece in &pieces {
        model.bytes(coder, blob[at..piece.at].iter_mut());
        at = piece.at + piece.bytes;
        if piece.codes[0] == 0 {
            model.words(coder, blob[piece.at..at].as_chunks_mut().0);
        } else {
            code_group(coder, &mut model, piece, blob)?;
        }
    }
    model.bytes(coder, blob[at..].iter_mut());
    Some(())
}

/// The codes of a group, which lie behind its codebook.
fn code_group(coder: &mut impl Coder, model: &mut Model, piece: &Piece, blob: &mut [u8]) -> Option<()> {
    let (conv, format, layout, channels) = piece.group()?;
    let (bits, depth) = (format.bits(), conv.depth());
    let (before, data) = blob.split_at_mut(piece.at);
    let data = &mut data[..piece.bytes];
    let mut codebook = [0i8; CODEBOOK_BYTES];
    if let WeightFormat::Codebook(_) = format {
        let table = before.get(before.len().checked_sub(CODEBOOK_BYTES)?..)?;
        codebook.iter_mut().zip(table).for_each(|(level, &byte)| *level = byte as i8);
    }
    let zero = code_of(format, 0, &codebook);
    let mut codes = vec![zero.unwrap_or(0); depth * channels];
    if layout == Layout::Sparse {
        let group = WeightGroup { first: 0, channels, format, layout, codebook: &codebook, codes: data };
        for (channel, row) in codes.chunks_mut(depth).enumerate() {
            for (k, level) in group.sparse_weights(channel).filter(|&(_, level)| level != 0) {
                *row.get_mut(k)? = code_of(format, level, &codebook)?;
            }
        }
    } else {
        for (i, code) in codes.iter_mut().enumerate() {
            let place = conv.position(layout, format, i / depth, i % depth);
            *code = read_code(data.get(place.offset..)?, bits, place.index) ^ place.inverted;
        }
    }
    model.codes(coder, bits, zero, depth, &mut codes);
    if layout == Layout::Sparse {
        let levels: Vec<i8> = codes.iter().map(|&code| format.level(code, &codebook)).collect();
        let packing = Packing { levels: &levels, depth, format, codebook: &codebook };
        if packing.bytes() != Some(data.len()) {
            return None;
        }
        return packing.write(data).ok();
    }
    conv.clear(layout, format, data);
    for (i, &code) in codes.iter().enumerate() {
        let place = conv.position(layout, format, i / depth, i % depth);
        write_code(data.get_mut(place.offset..)?, bits, place.index, code ^ place.inverted);
    }
    Some(())
}
