//! Features: `{"op","params"}` checked against the operator's signature and compiled.
//!
//! Nothing here knows an operator by its meaning; what an operator accepts stands in its [`Signature`]. The exceptions are the two tables of names at the head,
//! facts of the wire contract that are about names, not about operators.

use super::chain::{Scope, text_of};
use super::definition::FeatureDef;
use super::duration::{DurationError, format_duration, parse_duration};
use super::environment::Column;
use super::expression::{Expression, Program, Resolved};
use super::payload::{Tree, join};
use super::problem::{Problem, Problems};
use crate::operators::{
    BUCKET_US_MIN, FieldRule, Operator, Param, ParamKind, ParamValue, ParamValues, RESOLUTION, RESOLUTION_DEFAULT, Signature, WindowRule,
};
use crate::row::FieldType;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamgauge_api::{Code, did_you_mean};

/// The operators there are.
pub type Operators = &'static [&'static dyn Operator];

/// Names that exist in the SDK only, with what they are on the wire.
const SDK_ONLY: &[(&str, &str)] =
    &[("avg", "mean"), ("variance", "var"), ("stddev", "std"), ("count_distinct", "n_unique"), ("percentile", "quantile")];

/// Decay and velocity operators, whose window 0.0.6 ignores; `compat.velocity_window = "ignore"` does the same.
const WINDOW_IGNORED: &[&str] = &[
    "ewma",
    "ewvar",
    "ew_zscore",
    "decayed_sum",
    "decayed_count",
    "twa",
    "rate_of_change",
    "inter_arrival_stats",
    "burst_count",
    "delta_from_prev",
    "trend",
    "trend_residual",
    "outlier_count",
    "value_change_count",
    "z_score",
];

/// The operator of this wire name.
pub(super) fn find(operators: Operators, name: &str) -> Option<&'static dyn Operator> {
    operators.iter().copied().find(|operator| {
        let signature = operator.signature();
        signature.name == name || signature.aliases.contains(&name)
    })
}

/// What registration is asked to do besides compiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checks {
    /// Refuse lifetime features whose state has no bound.
    pub(super) lifetime_bound: bool,
    /// Drop the windows of [`WINDOW_IGNORED`].
    pub(super) ignore_velocity_windows: bool,
}

/// Refuses a feature whose state would grow without end. Runs before decoding, on the raw payload, as clients know it.
pub(super) fn check_lifetime(tree: &Tree, path: &str, operators: Operators, problems: &mut Problems) {
    let Some(name) = tree.get("op").and_then(Tree::as_str) else { return };
    let params = tree.get("params");
    let param = |name: &str| params.and_then(|params| params.get(name));
    if param("window").is_some_and(|window| window.as_str().is_some()) {
        return;
    }
    if let Some((_, wire)) = SDK_ONLY.iter().find(|(sdk, _)| *sdk == name) {
        let reason = format!("there is no operator \"{name}\" on the wire, and without a window it has no bound");
        let problem = Problem::new(Code::UnboundedOpInLifetimeMode, path, reason);
        problems.errors.push(problem.hint(Some(format!("use `{wire}`"))));
        return;
    }
    let Some(signature) = find(operators, name).map(|operator| operator.signature()) else { return };
    let Some(bound) = signature.lifetime_bound else { return };
    let aliases = signature.params.iter().find(|param| param.name == bound).map_or(&[][..], |param| param.aliases);
    if param(bound).is_none() && !aliases.iter().any(|alias| param(alias).is_some()) {
        problems.error(Code::UnboundedOpInLifetimeMode, path, format!("{name} over a lifetime needs \"{bound}\""));
    }
}

/// Compiles one feature; what is wrong goes into `problems`.
pub(super) fn compile(
    name: &str,
    tree: &Tree,
    path: &str,
    scope: &mut Scope,
    operators: Operators,
    checks: Checks,
    problems: &mut Problems,
) -> Option<FeatureDef> {
    let Some(op_name) = tree.get("op").and_then(Tree::as_str) else {
        problems.error(Code::InvalidRegistration, "<body>", format!("{path}.op: a string is wanted"));
        return None;
    };
    let Some(op) = find(operators, op_name) else {
        let names = operators.iter().map(|operator| operator.signature().name);
        let sdk = SDK_ONLY.iter().find(|(sdk, _)| *sdk == op_name).map(|(_, wire)| format!("use `{wire}`"));
        let problem = Problem::new(Code::AggregationUnknownOp, join(path, "op"), format!("there is no operator {op_name:?}"));
        problems.errors.push(problem.hint(sdk.or_else(|| did_you_mean(op_name, names))));
        return None;
    };
    let empty = Tree::Map(Vec::new());
    let given = tree.get("params").unwrap_or(&empty);
    if given.members().is_none() {
        problems.error(Code::InvalidRegistration, "<body>", format!("{path}.params: an object is wanted, found {}", given.kind()));
        return None;
    }
    let signature = op.signature();
    let before = problems.errors.len();
    let mut builder = Builder {
        name,
        op_name: signature.name,
        signature,
        given,
        path: join(path, "params"),
        scope,
        checks,
        problems,
        canonical: Map::new(),
        names: Map::new(),
        computed: None,
    };
    let window_us = builder.window();
    let mut params = builder.params();
    let window_us = builder.baseline(window_us, &mut params);
    let resolution = builder.resolution(window_us);
    builder.sub_window(window_us, &params);
    // What is out of its own bounds is not in `params`.
    let are_within = builder.problems.errors.len() == before;
    if let Some((param, reason)) = are_within.then(|| op.refuses(&params)).flatten() {
        builder.error(Code::AggregationInvalidParam, param, reason);
    }
    let field = builder.field();
    let filter = builder.filter();
    let more_fields = builder.more_fields(&params);
    builder.warn_of_unknown();
    let params_json = std::mem::take(&mut builder.canonical);
    let columns = json!({ "names": std::mem::take(&mut builder.names), "computed": builder.computed.map(text_of) });
    if problems.errors.len() > before {
        return None;
    }
    let (field, field_kind) = field.unzip();
    let node = json!({ "op": signature.name, "params": params_json, "columns": columns });
    Some(FeatureDef {
        name: name.into(),
        op,
        field,
        field_kind: field_kind.flatten(),
        more_fields,
        filter,
        window_us,
        resolution,
        params,
        node,
    })
}

struct Builder<'b> {
    name: &'b str,
    op_name: &'static str,
    signature: &'static Signature,
    given: &'b Tree,
    path: String,
    scope: &'b mut Scope,
    checks: Checks,
    problems: &'b mut Problems,
    canonical: Map<String, Json>,
    /// What the names in it stand for: name -> column and type.
    names: Map<String, Json>,
    /// The column of its computed field.
    computed: Option<Column>,
}

impl Builder<'_> {
    fn at(&self, param: &str) -> String {
        join(&self.path, param)
    }

    fn error(&mut self, code: Code, param: &str, reason: String) {
        let at = self.at(param);
        self.problems.error(code, at, reason);
    }

    /// What a name stands for, remembered.
    fn resolve(&mut self, name: &str) -> Option<Resolved> {
        let resolved = self.scope.resolve(name)?;
        self.names.insert(name.to_owned(), json!([text_of(resolved.column), resolved.kind.map(FieldType::as_str)]));
        Some(resolved)
    }

    fn inert(&mut self, param: &str, reason: String) {
        let at = self.at(param);
        self.problems.warning(Code::AggregationInvalidParam, at, reason);
    }

    /// The window in microseconds; none for a lifetime.
    fn window(&mut self) -> Option<i64> {
        let rule = self.signature.window;
        let op = self.op_name;
        let Some(given) = self.given.get("window") else {
            if rule == WindowRule::Span {
                self.error(Code::AggregationInvalidWindow, "window", format!("{op} needs a window"));
            }
            return None;
        };
        if let WindowRule::Refused(code) = rule {
            self.error(code, "window", format!("{op} takes no window"));
            return None;
        }
        let Some(text) = given.as_str() else {
            self.error(Code::AggregationInvalidWindow, "window", format!("a window is a string such as \"1h\", found {}", given.kind()));
            return None;
        };
        if self.checks.ignore_velocity_windows && WINDOW_IGNORED.contains(&op) {
            self.inert("window", format!("the window of {op} is ignored (compat.velocity_window = \"ignore\")"));
            return None;
        }
        if text == "forever" {
            // Where a window is a parameter of the meaning, its absence is not the same as a lifetime.
            if rule == WindowRule::Span {
                self.canonical.insert("window".into(), "forever".into());
            }
            return None;
        }
        match parse_duration(text) {
            Ok(us) => {
                self.canonical.insert("window".into(), format_duration(us).into());
                Some(us)
            }
            Err(error) => {
                self.error(Code::AggregationInvalidWindow, "window", format!("window {text:?} {error}"));
                None
            }
        }
    }

    fn params(&mut self) -> ParamValues {
        let mut values = BTreeMap::new();
        for param in self.signature.params {
            let mut names = std::iter::once(param.name).chain(param.aliases.iter().copied()).filter(|name| self.given.get(name).is_some());
            let first = names.next();
            if let (Some(one), Some(other)) = (first, names.next()) {
                self.error(Code::AggregationInvalidParam, other, format!("\"{one}\" and \"{other}\" are the same parameter"));
                continue;
            }
            let given = first.and_then(|name| Some((name, self.given.get(name)?)));
            match self.value(param, given) {
                Ok(Some(value)) => {
                    self.canonical.insert(param.name.to_owned(), canonical_value(&value));
                    values.insert(param.name, value);
                }
                Ok(None) => {}
                Err((code, reason)) => {
                    let name = first.unwrap_or(param.name);
                    self.error(code, name, reason);
                }
            }
        }
        ParamValues(values)
    }

    /// A parameter's value; its default when it is not given.
    fn value(&self, param: &Param, given: Option<(&str, &Tree)>) -> Result<Option<ParamValue>, (Code, String)> {
        let op = self.op_name;
        let Some((name, tree)) = given else {
            let missing = |code| Err((code, format!("{op} needs \"{}\"", param.name)));
            return match param.kind {
                ParamKind::Int { default: Some(number), .. } => Ok(Some(ParamValue::Int(number))),
                ParamKind::Float { default: Some(number), .. } => Ok(Some(ParamValue::Float(number))),
                ParamKind::Int { default: None, .. } | ParamKind::Float { default: None, .. } => missing(param.code),
                ParamKind::Duration { required: true } => missing(Code::InvalidRegistration),
                ParamKind::Duration { required: false } | ParamKind::Window => Ok(None),
                ParamKind::Bool { default } => Ok(Some(ParamValue::Bool(default))),
                ParamKind::Edges { .. } => Ok(Some(ParamValue::Edges(Vec::new()))),
                ParamKind::Texts { .. } => Ok(None),
                ParamKind::FieldName { default } => Ok(Some(ParamValue::FieldName(default.to_owned()))),
            };
        };
        let wrong = |bound: String| Err((param.code, format!("{op}: {name} is {}; {bound}", shorten(&tree.to_json().to_string()))));
        match (param.kind, tree) {
            (ParamKind::Int { min, max, .. }, Tree::Int(number)) if (min..=max).contains(number) => Ok(Some(ParamValue::Int(*number))),
            (ParamKind::Int { min, max, .. }, _) => wrong(format!("an integer from {min} to {max} is wanted")),
            (ParamKind::Float { above, below, .. }, Tree::Int(_) | Tree::Float(_)) => {
                #[expect(clippy::cast_precision_loss, reason = "bounds of real-valued parameters are far below 2^53")]
                let number = if let Tree::Int(number) = tree {
                    *number as f64
                } else if let Tree::Float(number) = tree {
                    *number
                } else {
                    f64::NAN
                };
                if number > above && number < below { Ok(Some(ParamValue::Float(number))) } else { wrong(between(above, below)) }
            }
            (ParamKind::Float { above, below, .. }, _) => wrong(between(above, below)),
            (ParamKind::Window, Tree::Str(text)) if text == "forever" => Ok(None),
            (ParamKind::Duration { .. } | ParamKind::Window, Tree::Str(text)) => match parse_duration(text) {
                Ok(us) => Ok(Some(ParamValue::DurationUs(us))),
                Err(DurationError::Form) if text == "forever" => wrong("it cannot last for ever".to_owned()),
                Err(error) => wrong(format!("it {error}")),
            },
            (ParamKind::Duration { .. } | ParamKind::Window, _) => wrong("a duration such as \"5m\" is wanted".to_owned()),
            (ParamKind::Bool { .. }, Tree::Bool(truth)) => Ok(Some(ParamValue::Bool(*truth))),
            (ParamKind::Bool { .. }, _) => wrong("true or false is wanted".to_owned()),
            (ParamKind::Edges { max }, _) => match edges(tree, max) {
                Some(edges) => Ok(Some(ParamValue::Edges(edges))),
                None => wrong(format!("1 to {max} finite numbers in strictly increasing order are wanted")),
            },
            (ParamKind::Texts { max }, _) => match tree.texts() {
                Some(texts) if texts.len() <= max => Ok(Some(ParamValue::Texts(texts.into_iter().map(str::to_owned).collect()))),
                _ => wrong(format!("at most {max} strings are wanted")),
            },
            (ParamKind::FieldName { .. }, Tree::Str(text)) => Ok(Some(ParamValue::FieldName(text.clone()))),
            (ParamKind::FieldName { .. }, _) => wrong("the name of a field is wanted".to_owned()),
        }
    }

    /// A `baseline_window` is the window, when no other is given. Ignored, it leaves the declaration, so that a stored one compiles the same under any rules.
    fn baseline(&mut self, window_us: Option<i64>, params: &mut ParamValues) -> Option<i64> {
        let us = params.duration_us("baseline_window");
        if us > 0 && self.checks.ignore_velocity_windows {
            params.0.remove("baseline_window");
            self.canonical.remove("baseline_window");
            self.inert("baseline_window", "baseline_window is ignored (compat.velocity_window = \"ignore\")".to_owned());
            return window_us;
        }
        if us > 0 && self.given.get("window").is_some() && window_us != Some(us) {
            self.error(
                Code::AggregationInvalidParam,
                "baseline_window",
                "\"window\" and \"baseline_window\" are the same parameter".to_owned(),
            );
        }
        window_us.or((us > 0).then_some(us))
    }

    /// Buckets of the window. The default is not part of the declaration, so that naming it changes nothing.
    fn resolution(&mut self, window_us: Option<i64>) -> u32 {
        let name = RESOLUTION.name;
        let given = self.given.get(name).filter(|_| self.takes_window());
        let resolution = match (self.value(&RESOLUTION, given.map(|tree| (name, tree))), window_us) {
            (Err((code, reason)), _) => {
                self.error(code, name, reason);
                RESOLUTION_DEFAULT
            }
            (Ok(Some(ParamValue::Int(resolution))), Some(window_us)) => {
                let room = window_us / BUCKET_US_MIN;
                if given.is_some() && resolution > room {
                    let window = format_duration(window_us);
                    let reason = format!("resolution {resolution} of window {window}: a bucket is at least 1 ms, so {room} fit");
                    self.error(RESOLUTION.code, name, reason);
                }
                resolution
            }
            (Ok(_), _) => {
                if given.is_some() {
                    self.resolution_without_window();
                }
                RESOLUTION_DEFAULT
            }
        };
        if resolution != RESOLUTION_DEFAULT {
            self.canonical.insert(name.to_owned(), resolution.into());
        }
        let Ok(resolution) = u32::try_from(resolution) else { unreachable!("{name} was checked to be within its bounds") };
        resolution
    }

    fn takes_window(&self) -> bool {
        self.signature.window == WindowRule::Allowed
    }

    fn resolution_without_window(&mut self) {
        let lifetime = self.given.get("window").is_none_or(|window| window.as_str() == Some("forever"));
        let (op, name) = (self.op_name, RESOLUTION.name);
        if self.checks.ignore_velocity_windows && WINDOW_IGNORED.contains(&op) {
            self.inert(name, format!("the window of {op} is ignored, so {name} has no effect"));
        } else if lifetime {
            self.error(RESOLUTION.code, name, format!("{name} cuts a window into buckets, and \"{}\" has none", self.name));
        }
        // Else the window is there and wrong, which is told already.
    }

    fn sub_window(&mut self, window_us: Option<i64>, params: &ParamValues) {
        let sub_us = params.duration_us("sub_window");
        if let Some(window_us) = window_us
            && sub_us > window_us
        {
            let (sub, window) = (format_duration(sub_us), format_duration(window_us));
            self.error(Code::AggregationInvalidParam, "sub_window", format!("sub_window {sub} is longer than window {window}"));
        }
    }

    /// The column that the operator aggregates, from `field` or `expr`.
    fn field(&mut self) -> Option<(Column, Option<FieldType>)> {
        let op = self.op_name;
        let (field, expr) = (self.given.get("field"), self.given.get("expr"));
        if matches!(self.signature.field, FieldRule::None | FieldRule::Condition) {
            if expr.is_some() {
                self.inert("expr", format!("{op} reads no field; expr has no effect"));
            }
            if field.is_some() && self.signature.field == FieldRule::None {
                self.inert("field", format!("{op} reads no field; field has no effect"));
            }
            return None;
        }
        match (field, expr) {
            (Some(_), Some(_)) => {
                self.error(Code::AggregationInvalidParam, "expr", "field and expr exclude each other".to_owned());
                None
            }
            (Some(Tree::Str(name)), None) => {
                let resolved = self.known_field("field", name)?;
                self.readable("field", &format!("field \"{name}\""), resolved.1);
                self.canonical.insert("field".into(), name.clone().into());
                Some((resolved.0, resolved.1))
            }
            (Some(other), None) => {
                self.error(Code::AggregationUnknownField, "field", format!("field is a name, found {}", other.kind()));
                None
            }
            (None, Some(expr)) => self.computed_field(expr),
            (None, None) if self.signature.field == FieldRule::Required => {
                self.error(Code::AggregationUnknownField, "field", format!("{op} needs a field"));
                None
            }
            (None, None) => {
                self.inert("field", format!("{op} has no field, so \"{}\" never has a value", self.name));
                None
            }
        }
    }

    fn known_field(&mut self, param: &str, name: &str) -> Option<(Column, Option<FieldType>)> {
        if let Some(resolved) = self.resolve(name) {
            return Some((resolved.column, resolved.kind));
        }
        let problem = Problem::new(Code::AggregationUnknownField, self.at(param), format!("there is no field \"{name}\" after the chain"));
        self.problems.errors.push(problem.hint(did_you_mean(name, self.scope.known())));
        None
    }

    fn computed_field(&mut self, expr: &Tree) -> Option<(Column, Option<FieldType>)> {
        let at = self.at("expr");
        let Some(text) = expr.as_str() else {
            self.error(Code::InvalidExpression, "expr", format!("expr is a string, found {}", expr.kind()));
            return None;
        };
        let expression = self.parse(text, Code::InvalidExpression, &at)?;
        let (program, kind) = self.scope.compile(&expression, false, Code::InvalidExpression, &at, self.problems)?;
        self.remember(&expression);
        let column = self.scope.compute(&expression, program, &at, self.problems)?;
        self.computed = Some(column);
        self.readable("expr", "its expression", kind);
        self.canonical.insert("expr".into(), expression.text().into());
        Some((column, kind))
    }

    /// Warns of a field whose values are all passed over: the feature would be empty for ever.
    fn readable(&mut self, param: &str, what: &str, kind: Option<FieldType>) {
        let reads = self.signature.reads;
        let Some(kind) = kind.filter(|kind| !reads.takes(*kind)) else { return };
        let (op, name) = (self.op_name, self.name);
        let hint = match kind {
            FieldType::Str => "declare the field as i64 or f64 if it is a number; `n_unique` and `top_k` take texts",
            FieldType::Bool => "count rows instead: { op = \"count\", where = \"FIELD\" }, or their share with `ratio`",
            FieldType::Datetime => "declare the field as i64 to compute with its milliseconds",
            FieldType::Bytes | FieldType::Json => "`n_unique`, `first` and `last` take values of every type",
            FieldType::I64 | FieldType::F64 => unreachable!("every operator takes numbers"),
        };
        let reason = format!("{op} takes {}, and {what} is {}, so \"{name}\" never has a value", reads.as_str(), kind.as_str());
        let problem = Problem::new(Code::AggregationInvalidParam, self.at(param), reason);
        self.problems.warnings.push(problem.hint(Some(hint.to_owned())));
    }

    fn remember(&mut self, expression: &Expression) {
        for name in expression.names() {
            self.resolve(name);
        }
    }

    fn parse(&mut self, text: &str, code: Code, path: &str) -> Option<Expression> {
        match Expression::parse(text) {
            Ok(expression) => Some(expression),
            Err(error) => {
                self.problems.errors.push(Problem::expression(code, path, &error, std::iter::empty()));
                None
            }
        }
    }

    fn filter(&mut self) -> Option<Arc<Program>> {
        let at = self.at("where");
        let expression = match self.given.get("where") {
            None => self.condition_field()?,
            Some(Tree::Str(text)) => {
                let expression = self.parse(text, Code::AggregationInvalidWhere, &at)?;
                if self.signature.field == FieldRule::Condition && self.given.get("field").is_some() {
                    self.inert("field", "field has no effect beside where".to_owned());
                }
                expression
            }
            Some(other) => {
                self.error(Code::AggregationInvalidWhere, "where", format!("where is a string, found {}", other.kind()));
                return None;
            }
        };
        let (program, _) = self.scope.compile(&expression, true, Code::AggregationInvalidWhere, &at, self.problems)?;
        self.remember(&expression);
        self.canonical.insert("where".into(), expression.text().into());
        Some(Arc::new(program))
    }

    /// `field` of a streak as the condition it stands for.
    fn condition_field(&mut self) -> Option<Expression> {
        let Some(Tree::Str(name)) = self.given.get("field").filter(|_| self.signature.field == FieldRule::Condition) else { return None };
        let kind = self.scope.resolve(name).and_then(|resolved| resolved.kind);
        let text = match kind {
            Some(FieldType::Bool) => format!("{name} == true"),
            Some(FieldType::I64 | FieldType::F64) => format!("{name} == 1"),
            _ => {
                self.inert("field", format!("field \"{name}\" is neither true/false nor 0/1, so it has no effect"));
                return None;
            }
        };
        Expression::parse(&text).ok()
    }

    /// Columns named by parameters; one that does not exist leaves the feature without values, as clients know it.
    fn more_fields(&mut self, params: &ParamValues) -> Vec<(&'static str, Column)> {
        let mut columns = Vec::new();
        for (param, value) in &params.0 {
            let ParamValue::FieldName(name) = value else { continue };
            match self.resolve(name) {
                Some(resolved) => columns.push((*param, resolved.column)),
                None => {
                    let problem = Problem::new(
                        Code::AggregationUnknownField,
                        self.at(param),
                        format!("there is no field \"{name}\", so \"{}\" never has a value", self.name),
                    );
                    self.problems.warnings.push(problem.hint(did_you_mean(name, self.scope.known())));
                }
            }
        }
        columns
    }

    fn warn_of_unknown(&mut self) {
        let known: Vec<&str> = ["field", "expr", "where", "window"]
            .into_iter()
            .chain(self.takes_window().then_some(RESOLUTION.name))
            .chain(self.signature.params.iter().flat_map(|param| std::iter::once(param.name).chain(param.aliases.iter().copied())))
            .collect();
        for (name, _) in self.given.members().unwrap_or_default() {
            if !known.contains(&name.as_str()) {
                let problem = Problem::new(Code::UnknownConfigKey, self.at(name), format!("not a parameter of `{}`", self.op_name));
                self.problems.warnings.push(problem.hint(did_you_mean(name, known.iter())));
            }
        }
    }
}

fn between(above: f64, below: f64) -> String {
    if below.is_finite() {
        format!("a number above {above} and below {below} is wanted")
    } else {
        format!("a finite number above {above} is wanted")
    }
}

fn edges(tree: &Tree, max: usize) -> Option<Vec<f64>> {
    let items = tree.items()?;
    if items.is_empty() || items.len() > max {
        return None;
    }
    let mut edges = Vec::with_capacity(items.len());
    for item in items {
        #[expect(clippy::cast_precision_loss, reason = "an edge is a double")]
        let edge = match item {
            Tree::Int(number) => *number as f64,
            Tree::Float(number) => *number,
            _ => return None,
        };
        if !edge.is_finite() || edges.last().is_some_and(|last| *last >= edge) {
            return None;
        }
        edges.push(edge);
    }
    Some(edges)
}

fn canonical_value(value: &ParamValue) -> Json {
    match value {
        ParamValue::Int(number) => (*number).into(),
        ParamValue::Float(number) => (*number).into(),
        ParamValue::DurationUs(us) => format_duration(*us).into(),
        ParamValue::Bool(truth) => (*truth).into(),
        ParamValue::Edges(edges) => edges.clone().into(),
        ParamValue::Texts(texts) => texts.clone().into(),
        ParamValue::FieldName(name) => name.clone().into(),
    }
}

/// Values in messages are cut.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}
