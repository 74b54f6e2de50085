//! Writes JSON text: what list fields and json fields hold when the record was Avro or MessagePack.

/// Appends an integer.
pub(super) fn push_int(text: &mut String, number: i64) {
    text.push_str(itoa::Buffer::new().format(number));
}

/// Appends a finite double so that it reads back the same.
pub(super) fn push_float(text: &mut String, number: f64) {
    text.push_str(ryu::Buffer::new().format_finite(number));
}

/// Appends a string in quotes, escaped where JSON wants it.
pub(super) fn push_string(text: &mut String, value: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.push('"');
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, tail) = rest.split_at(at);
        text.push_str(plain);
        let Some(&byte) = tail.as_bytes().first() else { break };
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            _ => {
                text.push_str("\\u00");
                text.push(HEX[usize::from(byte >> 4)]);
                text.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    text.push_str(rest);
    text.push('"');
}
