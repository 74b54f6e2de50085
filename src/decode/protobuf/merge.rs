//! A body in which a message stands twice in one field, rewritten as one in which it stands once.
//!
//! The encoding says that such messages are merged, which is what their bytes one behind the other mean. No writer makes
//! them; a body that was put together of two may have them. Done for the whole body, at any depth, before it is read again.

use super::run::DEPTH_MAX;
use super::schema::{Form, MessageIndex, Shapes, Times};
use super::wire::Wire;
use crate::decode::error::BadRow;

/// The body with each message once per field.
pub(super) fn merged(shapes: &Shapes, body: &[u8]) -> Result<Vec<u8>, Box<BadRow>> {
    message(shapes, 0, body, 1)
}

fn message(shapes: &Shapes, index: MessageIndex, body: &[u8], depth: u32) -> Result<Vec<u8>, Box<BadRow>> {
    let mut from = Wire::new(body);
    if depth > DEPTH_MAX {
        return Err(from.malformed(&format!("nesting deeper than {DEPTH_MAX}")));
    }
    let shape = shapes.message(index);
    let mut out = Vec::with_capacity(body.len());
    let mut once: Vec<(u32, MessageIndex, Option<u16>, Vec<u8>)> = Vec::new();
    while !from.at_end() {
        let start = from.pos;
        let (number, wire) = from.tag()?;
        let field = shape.field(number).filter(|field| field.form.wire() == wire);
        if let Some(Times::Once { oneof: Some(oneof), .. }) = field.map(|field| &field.times) {
            once.retain(|(known, _, of, _)| *of != Some(*oneof) || *known == number);
        }
        match field.map(|field| (field.form, &field.times)) {
            Some((Form::Message(inner), Times::Once { oneof, .. })) => {
                let part = from.bytes()?;
                match once.iter_mut().find(|(known, ..)| *known == number) {
                    Some((.., bytes)) => bytes.extend_from_slice(part),
                    None => once.push((number, inner, *oneof, part.to_vec())),
                }
            }
            Some((Form::Message(inner), _)) => push(&mut out, number, &message(shapes, inner, from.bytes()?, depth + 1)?),
            _ => {
                from.skip(wire)?;
                out.extend_from_slice(from.since(start));
            }
        }
    }
    for (number, inner, _, bytes) in once {
        push(&mut out, number, &message(shapes, inner, &bytes, depth + 1)?);
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | u64::from(super::wire::BYTES));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
