//! Record paths as text: member names joined by dots, `[]` behind an array.
//!
//! ```text
//! customer.id    items[].price    attrs."user.id"    "a \\"b\\" c"[].d
//! ```
//!
//! A name that holds a dot, a bracket or a quote, or none at all, stands in quotes; inside of them `\\"`
//! is a quote and `\\\\` a backslash. In quotes a name means a member whatever it is, so `"key"` is one too.
//! Read once when a source is set up; nothing here runs per record.

/// One step of a path: a member, and how many arrays are gone through behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The member's name.
    pub(crate) name: String,
    /// Arrays behind it.
    pub(crate) arrays: usize,
}

/// The steps of a path.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (name, behind) = if let Some(quoted) = rest.strip_prefix('"') { unquote(quoted)? } else { bare(rest)? };
        let brackets = behind.trim_start_matches("[]");
        steps.push(Step { name, arrays: (behind.len() - brackets.len()) / 2 });
        if brackets.is_empty() {
            return Ok(steps);
        }
        match brackets.strip_prefix('.') {
            Some(next) => rest = next,
            None => return Err(format!("\"{brackets}\" where a dot or [] is wanted")),
        }
    }
}

fn bare(text: &str) -> Result<(String, &str), String> {
    let end = text.find(['.', '[', ']', '"']).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    match behind.chars().next() {
        _ if name.is_empty() => Err("an empty step".to_owned()),
        Some('"') => Err(format!("a quote in the middle of \"{text}\"")),
        _ => Ok((name.to_owned(), behind)),
    }
}

fn unquote(text: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut symbols = text.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '"' => return Ok((name, text.get(at + 1..).unwrap_or_default())),
            '\\' => match symbols.next() {
                Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                _ => return Err("a backslash that escapes neither a quote nor a backslash".to_owned()),
            },
            other => name.push(other),
        }
    }
    Err("a quote that is not closed".to_owned())
}

/// The path of a member of the record, in quotes where its name needs them.
pub(crate) fn of_member(name: &str) -> String {
    match bare(name) {
        Ok((_, "")) => name.to_owned(),
        _ => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_as_they_are_documented() {
        let cases: &[(&str, &[(&str, usize)])] = &[
            ("a", &[("a", 0)]),
            ("a.b.c", &[("a", 0), ("b", 0), ("c", 0)]),
            ("items[].price", &[("items", 1), ("price", 0)]),
            ("m[][]", &[("m", 2)]),
            (r#"attrs."user.id""#, &[("attrs", 0), ("user.id", 0)]),
            (r#""user.id""#, &[("user.id", 0)]),
            (r#""a.b"[]."c[]""#, &[("a.b", 1), ("c[]", 0)]),
            (r#""".x"#, &[("", 0), ("x", 0)]),
            (r#""a\"b\\c""#, &[("a\"b\\c", 0)]),
            ("@time stamp-1.größe", &[("@time stamp-1", 0), ("größe", 0)]),
            (r"back\slash", &[(r"back\slash", 0)]),
        ];
        for (path, expected) in cases {
            let expected: Vec<Step> = expected.iter().map(|(name, arrays)| Step { name: (*name).to_owned(), arrays: *arrays }).collect();
            assert_eq!(steps(path).as_ref(), Ok(&expected), "{path}");
        }
        for path in ["", ".", "a.", ".a", "a..b", "[]", "a[", "a]", "a[]b", "a[0]", r#"a"b"#, r#""a"#, r#""a"b"#, r#""a\n""#, r#""a\"#] {
            assert!(steps(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_name_has_a_path(name in any::<String>(), other in "[a.\\[\\]\"\\\\]{0,4}") {
            for name in [name, other] {
                let path = format!("x.{}[].{}", of_member(&name), of_member(&name));
                let steps = steps(&path).unwrap();
                prop_assert_eq!((steps.len(), &steps[1].name, steps[1].arrays, &steps[2].name), (3, &name, 1, &name));
            }
        }
    }
}
