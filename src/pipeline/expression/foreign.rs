//! What people write who know SQL, Python, C or JavaScript, and how it is written here.
//!
//! Only asked when something is wrong already, so a field may have any of these names. Pure.

/// The way to write what `sign` means elsewhere; `sign` begins the text.
pub(super) fn sign(text: &str) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("=<", "write `<=`"),
        ("=>", "write `>=`"),
        ("=", "write `==` to compare"),
        ("<>", "write `!=`"),
        ("&&", "write `and`"),
        ("||", "write `or`"),
        ("!", "write `not`, or `!=`"),
        ("%", "there is no remainder; compute the column before, or use `/` on integers"),
        ("`", "names stand without quotes"),
        ("[", "names stand without brackets; there are no lists"),
        ("$", "names stand without `$`"),
        (";", "leave `;` out"),
        ("\u{2018}", "strings stand in straight quotes: ' or \""),
        ("\u{2019}", "strings stand in straight quotes: ' or \""),
        ("\u{201c}", "strings stand in straight quotes: ' or \""),
        ("\u{201d}", "strings stand in straight quotes: ' or \""),
    ];
    SIGNS.iter().find(|(foreign, _)| text.starts_with(foreign)).map(|(_, ours)| *ours)
}

/// The way to write what a name means elsewhere, where it is no field.
pub(super) fn word(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "true" => "write `true` in lower case",
        "false" => "write `false` in lower case",
        "null" | "none" | "nil" | "undefined" => "write `null` in lower case",
        "and" => "write `and` in lower case",
        "or" => "write `or` in lower case",
        "not" => "write `not` in lower case",
        _ => return None,
    })
}

/// The way to write an operator that is a word elsewhere; `left` is what stands before it, as it is written, and `rest`
/// what follows it.
pub(super) fn operator(name: &str, left: &str, rest: &str) -> Option<String> {
    let left = if left.is_empty() { "x" } else { left };
    let negated = first_word(rest);
    Some(match name.to_ascii_lowercase().as_str() {
        "and" | "or" => format!("write `{}` in lower case", name.to_ascii_lowercase()),
        "in" => format!("there is no `in`; write `({left} == 'a' or {left} == 'b')`"),
        "not" if negated.eq_ignore_ascii_case("in") => format!("there is no `not in`; write `({left} != 'a' and {left} != 'b')`"),
        "not" => PATTERN.to_owned(),
        "is" if negated.eq_ignore_ascii_case("not") => format!("write `{left} != null`, or `not isnull({left})`"),
        "is" | "isnull" | "notnull" => format!("write `{left} == null`, or `isnull({left})`"),
        "like" | "ilike" | "rlike" | "regexp" | "matches" | "contains" | "startswith" | "endswith" => PATTERN.to_owned(),
        "between" => format!("write `{left} >= 1 and {left} <= 9`"),
        "mod" | "div" => "there is no remainder; `/` on integers cuts the fraction off".to_owned(),
        "eq" => "write `==`".to_owned(),
        "ne" => "write `!=`".to_owned(),
        _ => return None,
    })
}

const PATTERN: &str = "there are no patterns: compare whole texts with `==`, or have the producer send a field that says it";

/// The way to write what a function does elsewhere.
pub(super) fn function(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "is_null" | "ifnull" | "isnan" => "write `isnull(x)`",
        "coalesce" | "nvl" | "if" | "iff" | "case" => {
            "there is no choice between values; a comparison with a missing field is not true anyway"
        }
        "in" => "there is no `in`; write `(x == 'a' or x == 'b')`",
        "and" | "or" | "not" => "write it in lower case",
        "int" | "float" | "str" | "bool" | "to_int" | "to_str" => "write `cast(x, int)`, with str, int, float or bool",
        "lower" | "upper" | "trim" | "length" | "len" | "substr" | "substring" | "contains" | "startswith" | "starts_with" | "endswith"
        | "regexp_like" | "concat" => "there are no functions on texts: compare whole texts with `==`",
        "now" | "current_timestamp" | "unix_timestamp" => "a condition knows no clock; windows are by time (`window = \"1h\"`)",
        _ => return None,
    })
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    text.get(..text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(text.len())).unwrap_or_default()
}
