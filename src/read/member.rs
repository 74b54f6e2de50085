//! Whether a key's feature has had a value: for features that keep a set, of which a plain read only says whether it is
//! empty.
//!
//! A value is what a push of it into the feature's field would have stored, so that 3 and 3.0 are the same where the
//! field is an integer or a double; a text stands for a number, a boolean or a time where the field has those, for a
//! query has nothing else. Null never came. Runs on the seat; changes nothing.

use super::key::parse_key;
use super::row::{Reader, find_table};
use crate::operators::Membership;
use crate::pipeline::FeatureDef;
use crate::row::{Cell, FieldType, parse_time_us};
use crate::state::{State, hash_cell};
use streamgauge_api::port::{MEMBER_VALUES_MAX, MemberRead};
use streamgauge_api::{ApiError, Code, Value};

/// Integers up to here are exact as doubles.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Reader {
    /// Whether each value came, and how often that is said of one that did not.
    ///
    /// # Errors
    /// `unknown_table`, `feature_not_found`, `key_parse_failure`; `invalid_request` for a feature that keeps no set, and
    /// for a value that its field cannot have.
    pub fn members(&mut self, state: &State, read: &MemberRead, now_us: i64) -> Result<(Vec<bool>, f64), ApiError> {
        assert!(read.values.len() <= MEMBER_VALUES_MAX, "the door bounds the values of a request");
        let table = find_table(state, &read.table)?;
        let plan = self.plan(state.registry(), table);
        let (Some(place), Some(def)) = (plan.place(&read.feature), table.def().feature(&read.feature)) else {
            let names = table.def().features.iter().map(|feature| &feature.name);
            let error = ApiError::new(Code::FeatureNotFound, format!("table \"{}\" has no feature \"{}\"", read.table, read.feature));
            return Err(match streamgauge_api::nearest(&read.feature, names) {
                Some(near) => error.at("feature").hint(format!("did you mean \"{near}\"?")),
                None => error.at("feature"),
            });
        };
        let membership = membership(def)?;
        let key = parse_key(&table.def().keys, &read.key).map_err(|refused| ApiError::new(Code::KeyParseFailure, refused.to_string()))?;
        let hashes = read.values.iter().enumerate().map(|(at, value)| {
            hash(def.field_kind, value).map_err(|kind| {
                let reason = format!("feature \"{}\" is of a field of type {kind}, which cannot have this value", read.feature);
                ApiError::new(Code::InvalidRequest, reason).at(format!("values[{at}]"))
            })
        });
        let hashes = hashes.collect::<Result<Vec<u64>, _>>()?;
        let found = match table.find(&key).filter(|&number| !table.is_cold(number, now_us)) {
            Some(number) => table.holds(number, place, &membership, &hashes, self.scratch()),
            None => vec![false; hashes.len()],
        };
        assert_eq!(found.len(), read.values.len(), "every value has an answer");
        Ok((found, membership.false_positives))
    }
}

fn membership(def: &FeatureDef) -> Result<Membership, ApiError> {
    def.op.membership(&def.params).ok_or_else(|| {
        let reason = format!("feature \"{}\" is {}, which keeps no set of values", def.name, def.op.signature().name);
        ApiError::new(Code::InvalidRequest, reason).at("feature").hint("ask a feature of bloom_member")
    })
}

/// The hash of a value as a field of this type stores it, 0 for null; or the type that cannot have it.
fn hash(kind: Option<FieldType>, value: &Value) -> Result<u64, &'static str> {
    let text = if let Value::Str(text) = value { Some(&**text) } else { None };
    let number = match value {
        Value::I64(number) => Some(Number::Int(*number)),
        Value::F64(number) => Some(Number::of(*number)),
        _ => text.and_then(Number::parse),
    };
    let cell = match (kind, value) {
        (_, Value::Null) => return Ok(0),
        (Some(FieldType::Str), _) => text.map(|text| Cell::Str(text.as_bytes())),
        (Some(FieldType::I64), _) => number.map(Number::as_int),
        (Some(FieldType::F64), _) => number.map(Number::as_double),
        (Some(FieldType::Bool), Value::Bool(truth)) => Some(Cell::Bool(*truth)),
        (Some(FieldType::Bool), _) => text.and_then(|text| text.parse().ok()).map(Cell::Bool),
        (Some(FieldType::Datetime), Value::I64(ms) | Value::Datetime(ms)) => Some(Cell::Datetime(*ms)),
        (Some(FieldType::Datetime), _) => text.and_then(time_ms).map(Cell::Datetime),
        (Some(FieldType::Bytes | FieldType::Json), _) => None,
        // Of a computed value only the value itself says its type.
        (None, Value::Bool(truth)) => Some(Cell::Bool(*truth)),
        (None, Value::F64(number)) => Some(Cell::F64(*number)),
        (None, Value::I64(number)) => Some(Cell::I64(*number)),
        (None, _) => text.map(|text| Cell::Str(text.as_bytes())),
    };
    cell.map(hash_cell).ok_or_else(|| kind.map_or("no single type", FieldType::as_str))
}

fn time_ms(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| parse_time_us(text).ok().map(|us| us.div_euclid(1000)))
}

/// A number before a field's type is known.
#[derive(Debug, Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    /// A whole double is the integer that an integer field would store.
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53 is exact")]
    fn of(number: f64) -> Self {
        if number.fract() == 0.0 && number.abs() <= EXACT_MAX { Self::Int(number as i64) } else { Self::Double(number) }
    }

    fn parse(text: &str) -> Option<Self> {
        let double = || text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::of);
        text.parse().ok().map(Self::Int).or_else(double)
    }

    fn as_int(self) -> Cell<'static> {
        match self {
            Self::Int(number) => Cell::I64(number),
            Self::Double(number) => Cell::F64(number),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an integer in an f64 field is the nearest double, as documented")]
    fn as_double(self) -> Cell<'static> {
        match self {
            Self::Int(number) => Cell::F64(number as f64),
            Self::Double(number) => Cell::F64(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_its_field_would_have_stored() {
        let text = |text: &str| Value::Str(text.into());
        for (kind, value, expected) in [
            (FieldType::Str, text("7"), Some(Cell::Str(b"7"))),
            (FieldType::Str, Value::I64(7), None),
            (FieldType::I64, Value::I64(7), Some(Cell::I64(7))),
            (FieldType::I64, Value::F64(7.0), Some(Cell::I64(7))),
            (FieldType::I64, Value::F64(7.5), Some(Cell::F64(7.5))),
            (FieldType::I64, text("-7"), Some(Cell::I64(-7))),
            (FieldType::I64, text("seven"), None),
            (FieldType::I64, Value::Bool(true), None),
            (FieldType::F64, Value::I64(7), Some(Cell::F64(7.0))),
            (FieldType::F64, text("1e3"), Some(Cell::F64(1000.0))),
            (FieldType::F64, text("NaN"), None),
            (FieldType::Bool, text("true"), Some(Cell::Bool(true))),
            (FieldType::Bool, Value::I64(1), None),
            (FieldType::Datetime, Value::I64(5), Some(Cell::Datetime(5))),
            (FieldType::Datetime, text("1970-01-01T00:00:01Z"), Some(Cell::Datetime(1000))),
            (FieldType::Json, text("{}"), None),
        ] {
            let found = hash(Some(kind), &value);
            assert_eq!(found.ok(), expected.map(hash_cell), "{value:?} of {kind:?}");
        }
        assert_eq!(hash(None, &Value::F64(7.0)), Ok(hash_cell(Cell::F64(7.0))), "a computed value is what it is");
        assert_eq!(hash(Some(FieldType::I64), &Value::Null), Ok(0));
    }
}
