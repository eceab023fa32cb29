//! What must hold of an ONNX file's bytes before `rten-onnx` decodes them.
//!
//! `rten-onnx` 0.27 is forgiving where a hostile file takes advantage of it: it adds lengths without
//! a check for overflow, allocates by a declared length before it looks whether the bytes are there,
//! seeks backwards over a length with the top bit set (and so never ends), descends into nested
//! graphs as deep as they go, and after a packed field with a ragged end it reads on out of step. None
//! of this can happen to bytes that pass [`check`], which walks the same messages by the same schema
//! and allocates nothing.

/// How deep messages may nest: model, graph, node, attribute, tensor and a few subgraphs.
const MAX_DEPTH: usize = 32;
/// Messages and repeated numbers in all: bounds the memory of what is decoded.
const MAX_FIELDS: usize = 1 << 20;

/// Messages of the schema that `rten-onnx` descends into.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    /// One with scalars and strings only.
    Leaf,
}

/// What the bytes of a length-delimited field are.
enum Content {
    Bytes,
    Message(Message),
    PackedVarints,
    PackedFixed(usize),
}

/// Checks the whole file; the error says what is wrong.
pub(super) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    walk(bytes, Message::Model, 0, &mut 0)
}

fn walk(mut bytes: &[u8], message: Message, depth: usize, fields: &mut usize) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("messages nest deeper than any model's");
    }
    while !bytes.is_empty() {
        *fields += 1;
        if *fields > MAX_FIELDS {
            return Err("more fields than any model for a small device has");
        }
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => {
                take(&mut bytes, 8)?;
            }
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).map_err(|_| TRUNCATED)?;
                let field = take(&mut bytes, len)?;
                match content(message, tag >> 3) {
                    Content::Bytes => {}
                    Content::Message(inner) => walk(field, inner, depth + 1, fields)?,
                    Content::PackedVarints => varints(field)?,
                    Content::PackedFixed(size) if len % size == 0 => {}
                    Content::PackedFixed(_) => return Err("a list of numbers ends within a number"),
                }
            }
            5 => {
                take(&mut bytes, 4)?;
            }
            _ => return Err("a field of unknown kind"),
        }
    }
    Ok(())
}

const TRUNCATED: &str = "a field is longer than what holds it";

/// Field numbers of onnx.proto.
fn content(message: Message, field: u64) -> Content {
    use Message::{Attribute, Graph, Leaf, Model, Node, SequenceType, Shape, Tensor, TensorType, Type, ValueInfo};
    let inner = match (message, field) {
        (Model, 7) | (Attribute, 6) => Graph,
        (Model, 8 | 14) | (Tensor, 13) | (Shape, 1) => Leaf,
        (Graph, 1) => Node,
        (Graph, 5) | (Attribute, 5) => Tensor,
        (Graph, 11..=13) => ValueInfo,
        (Node, 5) => Attribute,
        (ValueInfo, 2) | (SequenceType, 1) => Type,
        (Type, 1) => TensorType,
        (Type, 4) => SequenceType,
        (TensorType, 2) => Shape,
        (Tensor, 4) => return Content::PackedFixed(4),
        (Tensor, 10) => return Content::PackedFixed(8),
        (Tensor, 5 | 7) => return Content::PackedVarints,
        _ => return Content::Bytes,
    };
    Content::Message(inner)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], &'static str> {
    let (field, rest) = bytes.split_at_checked(len).ok_or(TRUNCATED)?;
    *bytes = rest;
    Ok(field)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(TRUNCATED)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits")
}

fn varints(mut bytes: &[u8]) -> Result<(), &'static str> {
    while !bytes.is_empty() {
        varint(&mut bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn lengths_beyond_the_file_are_refused() {
        // Field 7 (graph) of 2^63 bytes; of 5 bytes where 1 is left; nested graphs without end.
        let huge = [0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert!(check(&huge).is_err());
        assert!(check(&[0x3a, 5, 0]).is_err());
        assert!(check(&[0x3a, 0]).is_ok());
    }

    #[test]
    fn nesting_is_bounded() {
        // graph > node > attribute > graph > ...
        let mut bytes = Vec::new();
        for _ in 0..40 {
            for tag in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![tag, (bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8];
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        let mut model = vec![0x3a, (bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8];
        model.append(&mut bytes);
        assert_eq!(check(&model), Err("messages nest deeper than any model's"));
    }

    #[test]
    fn ragged_lists_are_refused() {
        // Model > graph > initialiser (5) > float_data (4) of three bytes.
        assert!(check(&[0x3a, 7, 0x2a, 5, 0x22, 3, 0, 0, 0]).is_err());
    }
}
