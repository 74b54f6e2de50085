//! The operators page, written from the signatures so that it cannot say anything else. Called by the tidy test, and by whoever writes the page anew.

use super::{FieldRule, Operator, Output, Param, ParamKind, Signature, WindowRule};
use std::fmt::Write;

const INTRODUCTION: &str = "# Operators

This page is generated from the operators' signatures; a test compares it with them. `where` may stand on every operator: only rows for which it is exactly
true are taken. A window is a duration (`30s`, `24h`); without one a feature covers the key's whole life. A number is a value of type `i64` or `f64`. *Empty* is what a known
key reads before any row matched, or when the window holds none; an unknown key reads `{}`.

Beside `window` may stand `resolution`: into how many buckets a grown key cuts the window, from 16 to 1,024
(64 when not given). A bucket enters and leaves the window as a whole, so a window of `1h` with
`resolution = 240` has edges 15 s wide, and its ring takes up to 240 buckets of memory for each grown key. A
bucket is never shorter than 1 ms, and a window is never cut into fewer buckets than asked: what has no room
is refused, with the number that fits. Without a window `resolution` is refused. Features of one window and
one resolution share a ring. Changing it starts the feature again (`force`, or `--rebuild TABLE.FEATURE`).
";

/// The page.
pub(super) fn document(operators: &[&dyn Operator]) -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n| operator | field | window | parameters | result |\n|---|---|---|---|---|\n");
    for signature in operators.iter().map(|operator| operator.signature()) {
        let names: Vec<String> = signature.params.iter().map(|param| format!("`{}`", param.name)).collect();
        let parameters = if names.is_empty() { "–".to_owned() } else { names.join(", ") };
        // Writing into a String cannot fail.
        let _written = writeln!(
            page,
            "| [`{name}`](#{name}) | {} | {} | {parameters} | {} |",
            field(signature.field),
            window(signature.window),
            output(signature.output),
            name = signature.name
        )
        .is_ok();
    }
    operators.iter().for_each(|operator| section(&mut page, operator.signature()));
    page
}

fn section(page: &mut String, signature: &Signature) {
    page.push_str(&format!("\n## {}\n\n{}\n", signature.name, signature.help));
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
        FieldRule::Optional => "optional",
        FieldRule::Required => "required",
    }
}

fn window(rule: WindowRule) -> &'static str {
    match rule {
        WindowRule::Allowed => "optional",
        WindowRule::Refused(_) => "–",
        WindowRule::Required => "required",
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
        ParamKind::Duration { required } => format!("duration{}", if required { ", must be given" } else { "" }),
        ParamKind::Bool { default } => format!("boolean, default {default}"),
        ParamKind::Edges { max } => format!("at most {max} finite numbers, strictly increasing"),
        ParamKind::Texts { max } => format!("at most {max} texts"),
        ParamKind::FieldName { default } => format!("name of a field, default `{default}`"),
    }
}
