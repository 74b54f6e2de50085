//! The language against a table of examples and against a naive evaluator over random expressions.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::pipeline::environment::{Column, Derived, RowEnv};
use crate::row::{Cell, EventId, EventSchema, Field, FieldIndex, FieldType, Rows, RowsBuilder, Strictness, TimeSource};
use proptest::prelude::*;
use std::sync::Arc;

fn schema() -> Arc<EventSchema> {
    let field = |name: &str, kind| Field { name: name.into(), kind, optional: true };
    Arc::new(EventSchema {
        id: EventId(0),
        version: 1,
        name: "E".into(),
        fields: vec![
            field("i", FieldType::I64),
            field("f", FieldType::F64),
            field("s", FieldType::Str),
            field("t", FieldType::Bool),
            field("gone", FieldType::I64),
            field("d", FieldType::Datetime),
            field("a.b", FieldType::Str),
            field("j", FieldType::Json),
        ],
        time: TimeSource::Arrival,
        max_future_us: 0,
        cold_after_us: None,
        dedupe: None,
    })
}

/// One row: i = 7, f = 2.5, s = "Zürich", t = true, gone is absent, d = 1000 ms, a.b = "42", j = {}.
fn row() -> Rows {
    let mut builder = RowsBuilder::new(schema(), Strictness::Push);
    builder.begin();
    builder.int(FieldIndex(0), 7).unwrap();
    builder.float(FieldIndex(1), 2.5).unwrap();
    builder.str(FieldIndex(2), "Zürich").unwrap();
    builder.bool(FieldIndex(3), true).unwrap();
    builder.int(FieldIndex(5), 1000).unwrap();
    builder.str(FieldIndex(6), "42").unwrap();
    builder.json(FieldIndex(7), "{}").unwrap();
    builder.commit(0, None, false).unwrap();
    builder.finish()
}

fn compile(text: &str) -> Result<Compiled, ExpressionError> {
    let schema = schema();
    Expression::parse(text)?.compile(&|name| {
        let field = schema.field(name)?;
        Some(Resolved { column: Column::Field(field), kind: Some(schema.fields[usize::from(field.0)].kind) })
    })
}

fn show(cell: Cell<'_>) -> String {
    match cell {
        Cell::Str(bytes) => format!("'{}'", String::from_utf8_lossy(bytes)),
        Cell::I64(number) => number.to_string(),
        Cell::F64(number) => format!("{number:?}"),
        Cell::Bool(truth) => truth.to_string(),
        Cell::Null => "null".into(),
        other => format!("{other:?}"),
    }
}

fn eval(text: &str) -> String {
    let compiled = compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (rows, schema, derived) = (row(), schema(), Derived::default());
    let env = RowEnv { rows: &rows, row: 0, schema: &schema, derived: &derived };
    let value = compiled.program.eval(&env);
    show(value.raw())
}

#[test]
fn expressions_have_the_values_of_the_contract() {
    for (text, expected) in [
        // Literals.
        ("1", "1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.0e3", "1000.0"),
        ("1e3", "1000.0"),
        ("1e-05", "1e-5"),
        ("1e+16", "1e16"),
        ("'it\\'s \\\\ ok'", "'it's \\ ok'"),
        ("\"it's\"", "'it's'"),
        ("'\\x41\\u00fc\\U0001F600\\n'", "'Aü😀\n'"),
        ("(s == 'Zürich')", "true"),
        ("a.b", "'42'"),
        // Bare and parenthesised forms.
        ("i > 5", "true"),
        ("(i > 5)", "true"),
        ("t", "true"),
        ("isnull(gone)", "true"),
        ("i > 5 and f < 3 or t == false", "true"),
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 3 - 2", "5"),
        ("i -7", "0"),
        // Three values.
        ("gone > 1", "null"),
        ("gone > 1 or t", "true"),
        ("gone > 1 and t", "null"),
        ("gone > 1 and not t", "false"),
        ("not (gone > 1)", "null"),
        ("gone == null", "true"),
        ("null != gone", "false"),
        ("(i != null)", "true"),
        ("null == null", "true"),
        ("gone + 1", "null"),
        ("null + 1", "null"),
        ("null < 1", "null"),
        ("(not t)", "false"),
        ("(not t == false)", "true"),
        // Arithmetic.
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("7 / 0", "null"),
        ("7.0 / 0", "inf"),
        ("0.0 / 0", "NaN"),
        ("i + 0.5", "7.5"),
        ("9223372036854775807 + 1", "9223372036854775807"),
        ("-9223372036854775808 - 1", "-9223372036854775808"),
        ("-9223372036854775808 / -1", "9223372036854775807"),
        ("9223372036854775807 * -2", "-9223372036854775808"),
        ("s + 1", "null"),
        ("t + 1", "null"),
        // Comparisons.
        ("1 == 1.0", "true"),
        ("(0.0 / 0) != 1.0", "false"),
        ("(0.0 / 0) == (0.0 / 0)", "false"),
        ("s > 'A'", "true"),
        ("s == 1", "null"),
        ("t == true", "true"),
        ("d == d", "true"),
        ("d == 1000", "null"),
        ("j == j", "null"),
        // Casts.
        ("cast(2.9, int)", "2"),
        ("cast(-1e300, int)", "-9223372036854775808"),
        ("cast(0.0 / 0, int)", "null"),
        ("cast(t, int)", "1"),
        ("cast(a.b, int)", "42"),
        ("cast(s, int)", "null"),
        ("cast('1.5', float)", "1.5"),
        ("cast('inf', float)", "null"),
        ("cast(true, float)", "1.0"),
        ("cast('true', bool)", "true"),
        ("cast('True', bool)", "null"),
        ("cast(0, bool)", "false"),
        ("cast(0.5, bool)", "true"),
        ("cast(5.0, str)", "'5'"),
        ("cast(0.1, str)", "'0.1'"),
        ("cast(1e300, str)", "'1e300'"),
        ("cast(i, str) == '7'", "true"),
        ("cast(t, str)", "'true'"),
        ("cast(gone, str)", "null"),
        ("cast(d, int)", "1000"),
        // Quadkey.
        ("quadkey(0, 0, 1)", "3"),
        ("quadkey(90, 180, 24)", "281474976710655"),
        ("quadkey(-90, -180, 24)", "0"),
        ("quadkey(gone, 0, 7)", "null"),
        ("quadkey(s, 0, 7)", "null"),
    ] {
        assert_eq!(eval(text), expected, "{text}");
    }
}

#[test]
fn what_does_not_parse_says_why() {
    for (text, reason) in [
        ("", "ends where a value must stand"),
        ("(", "ends where a value must stand"),
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("i >", "ends where a value must stand"),
        ("i > 1 > 2", "do not chain"),
        ("i == 1 == 2", "do not chain"),
        ("i && t", "unexpected '&'"),
        ("i % 2", "unexpected '%'"),
        ("i in s", "an operator must stand here"),
        ("len(s)", "no function `len`"),
        ("isnull()", "a value is missing before `)`"),
        ("isnull(i, f)", "takes 1 arguments, 2 given"),
        ("quadkey(1, 2)", "takes 3 arguments, 2 given"),
        ("quadkey(1, 2, 25)", "zoom from 1 to 24"),
        ("quadkey(1, 2, i)", "zoom from 1 to 24"),
        ("cast(i, text)", "str, int, float or bool"),
        ("cast(i, (str))x", ""),
        ("cast(i, 1 + 1)", "str, int, float or bool"),
        ("'abc", "no closing quote"),
        ("'\\q'", "escape"),
        ("'\\ud800'", "escape"),
        ("'\\x4'", "escape"),
        ("9223372036854775808", "does not fit 64 bits"),
        ("1e999", "beyond the largest double"),
        ("1x", "cannot go on like this"),
        ("- i", "a value is missing before `-`"),
        ("1, 2", "outside of a call"),
        ("(1, 2)", "outside of a call"),
        ("and", "missing before `and`"),
        ("1 + not t", "into parentheses"),
        ("nosuch > 1", "no field \"nosuch\""),
    ] {
        let error = compile(text).map(|compiled| compiled.program.text().to_owned()).unwrap_err();
        assert!(error.reason.contains(reason), "{text}: {error}");
        assert!(error.span.end <= text.len().max(1), "{text}: {:?}", error.span);
    }
}

/// What SQL, Python and C write is refused with the way to write it here.
#[test]
fn what_other_languages_write_is_told_in_ours() {
    for (text, hint) in [
        ("s = 'a'", "write `==` to compare"),
        ("i =< 1", "write `<=`"),
        ("i => 1", "write `>=`"),
        ("i <> 1", "write `!=`"),
        ("t && t", "write `and`"),
        ("t || t", "write `or`"),
        ("!t", "write `not`, or `!=`"),
        ("i % 2 == 0", "there is no remainder"),
        ("i > 1 AND t", "write `and` in lower case"),
        ("i > 1 Or t", "write `or` in lower case"),
        ("NOT t", "write `not` in lower case"),
        ("Not (t)", "write it in lower case"),
        ("t == TRUE", "write `true` in lower case"),
        ("s == None", "write `null` in lower case"),
        ("s in ('a', 'b')", "write `(s == 'a' or s == 'b')`"),
        ("i > 1 and s IN ('a')", "write `(s == 'a' or s == 'b')`"),
        ("s not in ('a', 'b')", "write `(s != 'a' and s != 'b')`"),
        ("a.b is null", "write `a.b == null`"),
        ("s IS NOT NULL", "write `s != null`"),
        ("s like 'a%'", "there are no patterns"),
        ("s not like 'a%'", "there are no patterns"),
        ("i between 1 and 9", "write `i >= 1 and i <= 9`"),
        ("ISNULL(s)", "write `isnull` in lower case"),
        ("coalesce(i, 0) > 1", "there is no choice"),
        ("lower(s) == 'a'", "no functions on texts"),
        ("d > now()", "knows no clock"),
        ("`s` == 'a'", "without quotes"),
        ("s == \u{2018}a\u{2019}", "straight quotes"),
    ] {
        let error = compile(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(error.hint.as_deref().is_some_and(|told| told.contains(hint)), "{text}: {} {:?}", error.reason, error.hint);
    }
}

#[test]
fn a_field_may_have_any_name_that_is_no_word_of_the_language() {
    for name in ["AND", "In", "is", "like", "True", "not_", "between"] {
        Expression::parse(&format!("{name} > 1")).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The page for users: what it shows parses, and what it says is refused is.
#[test]
fn the_page_of_the_language_is_true() {
    let page = include_str!("../../../docs/WHERE.md");
    let examples = page.split("```where\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(examples.lines().count() >= 5);
    for text in examples.lines() {
        Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let table = page.split("| not | but |\n|---|---|\n").nth(1).unwrap();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        for theirs in code(cells[0]) {
            let error = Expression::parse(&theirs).err().unwrap_or_else(|| panic!("{theirs} is accepted"));
            assert!(error.hint.is_some(), "{theirs}: {error}");
        }
        for ours in code(cells[1]).iter().filter(|text| !text.contains("window")) {
            Expression::parse(ours).unwrap_or_else(|error| panic!("{ours}: {error}"));
        }
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| format!("{}i{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(eval(&nested(DEPTH_MAX)), "7");
    assert!(compile(&nested(DEPTH_MAX + 1)).unwrap_err().reason.contains("depth"));
    assert!(compile(&"(not ".repeat(100_000 / 5)).unwrap_err().reason.contains("depth"));
    assert!(compile(&"isnull(".repeat(30_000)).unwrap_err().reason.contains("depth"));
    assert!(compile(&"not ".repeat(60_000)).unwrap_err().reason.contains("depth"));
    // Right-nested operands are pending all at once; left-nested ones are not.
    let right = (0..DEPTH_MAX - 1).fold("i".to_owned(), |inner, _| format!("1 + ({inner})"));
    assert_eq!(eval(&right), (7 + DEPTH_MAX - 1).to_string());
    let long = vec!["i"; 20_000].join(" + ");
    assert_eq!(eval(&long), "140000");
    let normal = Expression::parse(&long).unwrap().text();
    assert_eq!(Expression::parse(&normal).unwrap().text(), normal);
    assert!(compile(&"i".repeat(EXPRESSION_BYTES_MAX + 1)).is_err());
}

#[test]
fn unlike_types_are_named_with_their_places() {
    for (text, reason, labels) in [
        ("f > '0'", "compares f64 with str", &["f", "'0'"][..]),
        ("s + i", "adds str and i64", &["s", "i"]),
        ("i and t", "`and` wants true or false", &["i"]),
        ("not s", "`not` wants true or false", &["s"]),
        ("quadkey(s, f, 3)", "quadkey wants numbers", &["s", "f"]),
        ("j == 1", "compares json with i64", &["j", "1"]),
        ("d > 1000", "compares datetime with i64", &["d", "1000"]),
    ] {
        let compiled = compile(text).unwrap();
        let mismatch = compiled.mismatches.first().unwrap_or_else(|| panic!("{text}"));
        assert_eq!(mismatch.reason, reason, "{text}");
        let places: Vec<&str> = mismatch.labels.iter().map(|(span, _)| &text[span.clone()]).collect();
        assert_eq!(places, labels, "{text}");
    }
    for (text, hint) in [
        ("f > '0'", Some("write 0 without quotes")),
        ("d > 1000", Some("compare milliseconds since 1970: cast(d, int) with 1000")),
        ("'2026-01-01T00:00:00Z' <= d", Some("compare milliseconds since 1970: cast(d, int) with 1767225600000")),
        ("d == 'soon'", None),
    ] {
        assert_eq!(compile(text).unwrap().mismatches[0].hint.as_deref(), hint, "{text}");
    }
    assert_eq!(compile("cast(d, int) > 1000").unwrap().mismatches, []);
    for text in ["f > 0", "gone == null", "null + 1", "j == null", "isnull(j)", "cast(s, int) + 1", "t and (i > 1)"] {
        assert_eq!(compile(text).unwrap().mismatches, [], "{text}");
    }
    let expression = Expression::parse("i + 1").unwrap();
    assert!(expression.wants_bool(&compile("i + 1").unwrap()).is_some());
}

/// An expression as the oracle holds it.
#[derive(Debug, Clone)]
enum Naive {
    Int(i64),
    Float(f64),
    Text(&'static str),
    Bool(bool),
    Null,
    Name(&'static str),
    Not(Box<Naive>),
    IsNull(Box<Naive>),
    Cast(Box<Naive>, &'static str),
    Infix(Box<Naive>, &'static str, Box<Naive>),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(i64),
}

impl Naive {
    /// As the SDK writes it: every operation in parentheses.
    fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Text(text) => format!("'{text}'"),
            Self::Bool(truth) => truth.to_string(),
            Self::Null => "null".into(),
            Self::Name(name) => (*name).into(),
            Self::Not(inner) => format!("(not {})", inner.text()),
            Self::IsNull(inner) => format!("isnull({})", inner.text()),
            Self::Cast(inner, target) => format!("cast({}, {target})", inner.text()),
            Self::Infix(left, operator, right) => format!("({} {operator} {})", left.text(), right.text()),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Int(number) => Value::Int(*number),
            Self::Float(number) => Value::Float(*number),
            Self::Text(text) => Value::Text((*text).into()),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Null => Value::Null,
            Self::Name(name) => match *name {
                "i" => Value::Int(7),
                "f" => Value::Float(2.5),
                "s" => Value::Text("Zürich".into()),
                "t" => Value::Bool(true),
                "d" => Value::Time(1000),
                "a.b" => Value::Text("42".into()),
                _ => Value::Null,
            },
            Self::Not(inner) => match inner.value() {
                Value::Bool(truth) => Value::Bool(!truth),
                _ => Value::Null,
            },
            Self::IsNull(inner) => Value::Bool(inner.value() == Value::Null),
            Self::Cast(inner, target) => naive_cast(inner.value(), target),
            Self::Infix(left, operator, right) => naive_infix(left, operator, right),
        }
    }
}

fn naive_infix(left: &Naive, operator: &str, right: &Naive) -> Value {
    let (a, b) = (left.value(), right.value());
    let literal_null = |side: &Naive| matches!(side, Naive::Null);
    match operator {
        "==" if literal_null(left) || literal_null(right) => {
            return Value::Bool(if literal_null(right) { a == Value::Null } else { b == Value::Null });
        }
        "!=" if literal_null(left) || literal_null(right) => {
            return Value::Bool(if literal_null(right) { a != Value::Null } else { b != Value::Null });
        }
        "and" | "or" => {
            let deciding = Value::Bool(operator == "or");
            return if a == deciding || b == deciding {
                deciding
            } else if matches!((&a, &b), (Value::Bool(_), Value::Bool(_))) {
                a
            } else {
                Value::Null
            };
        }
        _ => {}
    }
    let float = |value: &Value| match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    if let "+" | "-" | "*" | "/" = operator {
        return match (&a, &b, operator) {
            (Value::Int(a), Value::Int(b), "+") => Value::Int(clamp(i128::from(*a) + i128::from(*b))),
            (Value::Int(a), Value::Int(b), "-") => Value::Int(clamp(i128::from(*a) - i128::from(*b))),
            (Value::Int(a), Value::Int(b), "*") => Value::Int(clamp(i128::from(*a) * i128::from(*b))),
            (Value::Int(_), Value::Int(0), _) => Value::Null,
            (Value::Int(a), Value::Int(b), _) => Value::Int(clamp(i128::from(*a) / i128::from(*b))),
            _ => match (float(&a), float(&b), operator) {
                (Some(a), Some(b), "+") => Value::Float(a + b),
                (Some(a), Some(b), "-") => Value::Float(a - b),
                (Some(a), Some(b), "*") => Value::Float(a * b),
                (Some(a), Some(b), _) => Value::Float(a / b),
                _ => Value::Null,
            },
        };
    }
    let ordering = match (&a, &b) {
        (Value::Int(a), Value::Int(b)) | (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => match (float(&a), float(&b)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => return Value::Null,
        },
    };
    Value::Bool(ordering.is_some_and(|ordering| match operator {
        "==" => ordering.is_eq(),
        "!=" => ordering.is_ne(),
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        ">" => ordering.is_gt(),
        _ => ordering.is_ge(),
    }))
}

fn clamp(number: i128) -> i64 {
    i64::try_from(number.clamp(i128::from(i64::MIN), i128::from(i64::MAX))).unwrap()
}

fn naive_cast(value: Value, target: &str) -> Value {
    match (target, value) {
        (_, Value::Null) => Value::Null,
        ("int", Value::Int(number) | Value::Time(number)) => Value::Int(number),
        ("int", Value::Float(number)) if number.is_nan() => Value::Null,
        ("int", Value::Float(number)) => Value::Int(number as i64),
        ("int", Value::Bool(truth)) => Value::Int(truth.into()),
        ("int", Value::Text(text)) => text.parse().map_or(Value::Null, Value::Int),
        ("float", Value::Int(number) | Value::Time(number)) => Value::Float(number as f64),
        ("float", Value::Float(number)) => Value::Float(number),
        ("float", Value::Bool(truth)) => Value::Float(f64::from(u8::from(truth))),
        ("float", Value::Text(text)) => text.parse().ok().filter(|number: &f64| number.is_finite()).map_or(Value::Null, Value::Float),
        ("bool", Value::Bool(truth)) => Value::Bool(truth),
        ("bool", Value::Int(number)) => Value::Bool(number != 0),
        ("bool", Value::Float(number)) => Value::Bool(number != 0.0),
        ("bool", Value::Text(text)) => text.parse().map_or(Value::Null, Value::Bool),
        ("str", Value::Text(text)) => Value::Text(text),
        ("str", Value::Bool(truth)) => Value::Text(truth.to_string()),
        ("str", Value::Int(number) | Value::Time(number)) => Value::Text(number.to_string()),
        ("str", Value::Float(number)) => {
            let text = ryu::Buffer::new().format(number).to_owned();
            Value::Text(text.strip_suffix(".0").map(str::to_owned).unwrap_or(text))
        }
        _ => Value::Null,
    }
}

fn naive() -> impl Strategy<Value = Naive> {
    let leaf = prop_oneof![
        prop_oneof![any::<i64>(), -3i64..4].prop_map(Naive::Int),
        prop_oneof![-4.0f64..4.0, Just(1e300), Just(-0.0)].prop_map(Naive::Float),
        prop_oneof![Just("42"), Just("Zürich"), Just("true"), Just("")].prop_map(Naive::Text),
        any::<bool>().prop_map(Naive::Bool),
        Just(Naive::Null),
        prop_oneof![Just("i"), Just("f"), Just("s"), Just("t"), Just("gone"), Just("d"), Just("a.b")].prop_map(Naive::Name),
    ];
    let infix = prop_oneof![
        Just("+"),
        Just("-"),
        Just("*"),
        Just("/"),
        Just("=="),
        Just("!="),
        Just("<"),
        Just("<="),
        Just(">"),
        Just(">="),
        Just("and"),
        Just("or"),
        Just("and"),
        Just("or")
    ];
    leaf.prop_recursive(6, 64, 2, move |inner| {
        prop_oneof![
            6 => (inner.clone(), infix.clone(), inner.clone()).prop_map(|(left, operator, right)| Naive::Infix(Box::new(left), operator, Box::new(right))),
            1 => inner.clone().prop_map(|inner| Naive::Not(Box::new(inner))),
            1 => inner.clone().prop_map(|inner| Naive::IsNull(Box::new(inner))),
            1 => (inner, prop_oneof![Just("str"), Just("int"), Just("float"), Just("bool")]).prop_map(|(inner, target)| Naive::Cast(Box::new(inner), target)),
        ]
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => format!("'{text}'"),
        Value::Time(number) => format!("Datetime({number})"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn programs_agree_with_the_naive_evaluator(expression in naive()) {
        prop_assert_eq!(eval(&expression.text()), shown(&expression.value()), "{}", expression.text());
    }

    #[test]
    fn the_normal_form_means_the_same_and_is_its_own_normal_form(expression in naive()) {
        let text = expression.text();
        let normal = Expression::parse(&text).unwrap().text();
        prop_assert_eq!(eval(&normal), eval(&text), "{} -> {}", text, normal);
        prop_assert_eq!(Expression::parse(&normal).unwrap().text(), normal);
    }

    #[test]
    fn any_text_gets_an_answer(text in "[ ()a-z0-9'\"\\\\<>=!+*/,.-]{0,40}|\\PC{0,40}") {
        if let Ok(expression) = Expression::parse(&text) {
            let normal = expression.text();
            prop_assert_eq!(Expression::parse(&normal).unwrap().text(), normal);
        }
    }
}
