//! The operators page, written from the signatures so that it cannot say anything else. Called by the tidy test, and by whoever writes the page anew.

use super::{Family, FieldRule, Operator, Output, Param, ParamKind, Signature, WindowRule};
use std::fmt::Write;

const INTRODUCTION: &str = "# Operators

This page is generated from the operators' signatures; a test compares it with them. `where` may stand on every operator: only rows for which it is exactly
true are taken. A window is a duration (`30s`, `24h`); without one a feature covers the key's whole life. A number is a value of type `i64` or `f64`. Bytes read as base64 text in JSON, as `bin` in MessagePack. *Empty* is what a known
key reads before any row matched, or when the window holds none; an unknown key reads `{}`.

Beside `window` may stand `resolution`: into how many buckets a grown key cuts the window, from 16 to 1,024
(64 when not given). What the window's edge leaves open is one bucket: a window of `1h` with
`resolution = 240` has edges 15 s wide, and its ring takes up to 241 buckets of memory for each grown key. A
bucket is never shorter than 1 ms, and a window is never cut into fewer buckets than asked: what has no room
is refused, with the number that fits. Without a window `resolution` is refused. Features of one window and
one resolution share a ring. Changing it starts the feature again (`force`, or `--rebuild TABLE.FEATURE`).
";

const EXPRESSIONS: &str = "
## Expressions

`where`, computed fields and chain steps are expressions over the event's fields. From loose to tight: `or`; `and`; `not`; one comparison
(`==` `!=` `<` `<=` `>` `>=`); `+` `-`; `*` `/`; parentheses. A text stands in single or double quotes, and there are `true`, `false`, `null`,
`isnull(x)` and `cast(x, int)` (`str`, `int`, `float`, `bool`): `amount > 10 and country == 'DE'`. Both sides of a comparison are of one type:
numbers, texts or booleans. What is computed with a null is null, but `==` and `!=` tell whether it is one; a row whose `where`
is null is left out.
";

const ACCURACY: &str = "
## Exact values and bounds

A key begins as a list of its rows. While it is a list every window is exact, to the microsecond. A key whose
list is full of rows that a window still needs grows: from then on each window is a ring of `resolution` time
buckets, 64 where the feature names no other number. A window at a time T is `(T - window, T]`. It holds the
buckets that are wholly inside and a part of those that its edges cut: the bucket at the old edge, and, when
it has rows later than T, the one that holds T. Which rows of a cut bucket are inside is not known. The value
takes that bucket in by its share of time; each operator says below how, and between which bounds the answer
then is. Where a cut bucket holds no row on the window's side of its edge, the value of a grown key is exact
too. Features without a window have no edges: they read the same in both forms.

When the longest window and one bucket of it have passed over all rows of a key, their memory is given back: the
key's next row begins a list again, and at the memory limit it happens by itself. What is read at that time or later
does not change by it. A time of the past at which a window would have held such rows is refused
(`as_of_out_of_reach`).

A finer `resolution` cuts narrower buckets, so that less is open, for as many more buckets of memory. It also
shortens what a fast clock may be ahead: a grown key's window has room for 64 of its buckets beyond the key's edge,
which is the window's own length at 64 buckets and a sixteenth of it at 1,024. Rows further ahead are left out of
that window for good, counted (`ahead_refused`) and told (`RowsAhead`). `explain=1`
says how much is open at one key. Each feature then reads as a map:

| member | means |
|---|---|
| `value` | what is read without `explain` |
| `exact` | true: the value is what all rows of the window give, up to the rounding of doubles. Then only `value` stands beside it |
| `bound` | `[least, largest]`, both included: the answer of all rows is one of these. `null` at one end: open there; `null` in place of both: nothing is known, since the window may lack rows (refused as too far ahead, gone and asked for with `approximate=1`, or from before the feature was added), holds values of several kinds (`min`, `max`), cuts a bucket of an operator that says no bound of it is known, or since a row came after a later one where the operator says that this matters. For `top_k` two lists with the least and the largest count of each value that is listed |
| `error` | of all x within the bound, the largest distance between `value` and x, divided by the size of x where that is above 1; `null` where that is no number |
| `nullable` | true: the answer may also be null, since the window may hold nothing |
| `confidence` | 0.95: the bound is statistical and holds 19 of 20 answers (`n_unique` and `entropy` beyond 1,024 values). Without it the bound always holds |
";

/// The page.
pub(super) fn document(operators: &[&dyn Operator]) -> String {
    let mut page = String::from(INTRODUCTION);
    for family in families(operators) {
        table(&mut page, family, operators);
    }
    page.push_str(EXPRESSIONS);
    page.push_str(ACCURACY);
    operators.iter().for_each(|operator| section(&mut page, operator.signature()));
    page
}

/// The families that there are operators of, in their order.
fn families(operators: &[&dyn Operator]) -> std::collections::BTreeSet<Family> {
    operators.iter().map(|operator| operator.signature().family).collect()
}

/// A family's operators by the question that each answers.
fn table(page: &mut String, family: Family, operators: &[&dyn Operator]) {
    page.push_str(&format!("\n**{}**\n", family.as_str()));
    page.push_str("\n| asks | operator | field | window | parameters | result |\n|---|---|---|---|---|---|\n");
    for signature in operators.iter().map(|operator| operator.signature()).filter(|signature| signature.family == family) {
        let names: Vec<String> = signature.params.iter().map(|param| format!("`{}`", param.name)).collect();
        let parameters = if names.is_empty() { "–".to_owned() } else { names.join(", ") };
        // Writing into a String cannot fail.
        let _written = writeln!(
            page,
            "| {} | [`{name}`](#{name}) | {} | {} | {parameters} | {} |",
            signature.asks,
            field(signature.field),
            window(signature.window),
            output(signature.output),
            name = signature.name
        )
        .is_ok();
    }
}

fn section(page: &mut String, signature: &Signature) {
    page.push_str(&format!("\n## {}\n\n{}\n", signature.name, signature.help));
    if !signature.grown.is_empty() {
        page.push_str(&format!("\nAt a grown key: {}\n", signature.grown));
    }
    if !signature.aliases.is_empty() {
        page.push_str(&format!("\nAlso written `{}`.\n", signature.aliases.join("`, `")));
    }
    if !signature.params.is_empty() {
        page.push_str("\n| parameter | value | meaning | code when wrong |\n|---|---|---|---|\n");
    }
    for param in signature.params {
        let names = [param.name].iter().chain(param.aliases).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        page.push_str(&format!("| {names} | {} | {} | `{}` |\n", values(param), param.help, param.code.as_str()));
    }
    if let Some(bound) = signature.lifetime_bound {
        page.push_str(&format!("\nWithout a window `{bound}` must be given.\n"));
    }
}

fn field(rule: FieldRule) -> &'static str {
    match rule {
        FieldRule::None => "–",
        FieldRule::Condition => "as `where`",
        FieldRule::Optional => "optional",
        FieldRule::Required => "required",
    }
}

fn window(rule: WindowRule) -> &'static str {
    match rule {
        WindowRule::Allowed => "optional",
        WindowRule::Refused(_) => "–",
        WindowRule::Span => "required",
    }
}

fn output(output: Output) -> &'static str {
    match output {
        Output::Is(kind) => kind.as_str(),
        Output::OfField => "the field's type",
    }
}

fn values(param: &Param) -> String {
    let default = |default: Option<String>| default.map_or(", must be given".to_owned(), |default| format!(", default {default}"));
    match param.kind {
        ParamKind::Int { min, max, default: given } => {
            format!("integer, {min} to {max}{}", default(given.map(|number| number.to_string())))
        }
        ParamKind::Float { above, below, default: given } => {
            format!("number above {above} and below {below}{}", default(given.map(|number| number.to_string())))
        }
        ParamKind::Window => "duration or `forever`".to_owned(),
        ParamKind::Duration { required } => format!("duration{}", if required { ", must be given" } else { "" }),
        ParamKind::Bool { default } => format!("boolean, default {default}"),
        ParamKind::Edges { max } => format!("at most {max} finite numbers, strictly increasing"),
        ParamKind::Texts { max } => format!("at most {max} texts"),
        ParamKind::FieldName { default } => format!("name of a field, default `{default}`"),
    }
}
