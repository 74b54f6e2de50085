//! MessagePack as it is answered: the twin of [`crate::value::write_json`].

use crate::Value;
use serde_json::Value as Json;

/// Appends `value` as MessagePack: integers and datetimes in their shortest form, floats as f64, a float that is not finite as nil, bytes as
/// bin, a verbatim JSON value as the same tree.
pub fn write_msgpack(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(flag) => out.push(if *flag { 0xc3 } else { 0xc2 }),
        Value::I64(number) | Value::Datetime(number) => write_int(out, *number),
        Value::F64(number) => write_float(out, *number),
        Value::Str(text) => write_msgpack_str(out, text),
        // Writing into a Vec cannot fail; the same below.
        Value::Bytes(bytes) => {
            let _written = rmp::encode::write_bin(out, bytes).is_ok();
        }
        Value::Json(text) => write_tree(out, &serde_json::from_str(text).unwrap_or(Json::Null)),
        Value::List(items) => {
            write_array_head(out, items.len());
            for item in items {
                write_msgpack(out, item);
            }
        }
        Value::Map(entries) => {
            write_map_head(out, entries.len());
            for (name, item) in entries {
                write_msgpack_str(out, name);
                write_msgpack(out, item);
            }
        }
    }
}

/// Appends a MessagePack string.
pub fn write_msgpack_str(out: &mut Vec<u8>, text: &str) {
    let _written = rmp::encode::write_str(out, text).is_ok();
}

/// Appends the head of a map with `entries` entries.
pub fn write_map_head(out: &mut Vec<u8>, entries: usize) {
    let _written = rmp::encode::write_map_len(out, u32::try_from(entries).unwrap_or(u32::MAX)).is_ok();
}

/// Appends the head of a list of `items` items.
pub fn write_array_head(out: &mut Vec<u8>, items: usize) {
    let _written = rmp::encode::write_array_len(out, u32::try_from(items).unwrap_or(u32::MAX)).is_ok();
}

/// Appends an integer in its shortest form.
pub fn write_int(out: &mut Vec<u8>, number: i64) {
    let _written = rmp::encode::write_sint(out, number).is_ok();
}

fn write_float(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        let _written = rmp::encode::write_f64(out, number).is_ok();
    } else {
        out.push(0xc0);
    }
}

/// Appends a JSON tree. Its depth is bounded by serde_json's own limit.
pub fn write_tree(out: &mut Vec<u8>, tree: &Json) {
    match tree {
        Json::Null => out.push(0xc0),
        Json::Bool(flag) => out.push(if *flag { 0xc3 } else { 0xc2 }),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => write_int(out, number),
            (None, Some(number)) => {
                let _written = rmp::encode::write_uint(out, number).is_ok();
            }
            (None, None) => write_float(out, number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => write_msgpack_str(out, text),
        Json::Array(items) => {
            write_array_head(out, items.len());
            items.iter().for_each(|item| write_tree(out, item));
        }
        Json::Object(entries) => {
            write_map_head(out, entries.len());
            for (name, item) in entries {
                write_msgpack_str(out, name);
                write_tree(out, item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bin() {
        let mut out = Vec::new();
        write_msgpack(&mut out, &Value::Bytes(Box::new([1, 2])));
        assert_eq!(out, [0xc4, 2, 1, 2]);
    }
}
