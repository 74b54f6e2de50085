//! An event's declaration merged with what is registered under its name.
//!
//! Slots of fields are never reused: a new field is appended, a removed or retyped one leaves a retired slot behind. So a batch of any earlier version reads
//! correctly with the newest declaration, and batches in flight need no care.

use super::definition::KeyKind;
use super::diff::{Diff, Difference};
use super::node::{DedupeSpec, EventSpec, TimeSpec, canonical_event, is_retired, retired_name};
use super::problem::Problems;
use crate::row::{Dedupe, EventId, EventSchema, Field, FieldIndex, TimeSource};
use serde_json::json;
use std::collections::BTreeSet;
use streamgauge_api::Code;

/// A new event.
pub(super) fn declare(spec: &EventSpec, id: EventId) -> Option<EventSchema> {
    let time = time_source(&spec.time_or_default(), &spec.fields)?;
    Some(EventSchema {
        id,
        version: 1,
        name: spec.name.as_str().into(),
        fields: spec.fields.clone(),
        time,
        max_future_us: spec.max_future_us_or_default(),
        cold_after_us: spec.cold_after_us.given(),
        dedupe: dedupe(&spec.dedupe.over(None), &spec.fields),
    })
}

/// The registered event changed to what the node says; `diff` gets one entry per difference. Options that the node leaves out stay. Fields of `renewed` get another
/// slot though their type is the same, so that what read the former one begins anew.
pub(super) fn merge(
    old: &EventSchema,
    spec: &EventSpec,
    renewed: &BTreeSet<String>,
    diff: &mut Diff,
    problems: &mut Problems,
) -> Option<EventSchema> {
    let name = &*old.name;
    let option_change = |option: String, from, to| Difference::OptionChange { event: name.to_owned(), option, from, to };
    let mut fields = old.fields.clone();
    for (index, slot) in fields.iter_mut().enumerate().filter(|(_, field)| !is_retired(&field.name)) {
        let kept = spec.fields.iter().find(|field| field.name == slot.name);
        let retyped = kept.is_none_or(|field| field.kind != slot.kind);
        if !retyped && !renewed.contains(&*slot.name) {
            continue;
        }
        if retyped {
            let (from, to) = (slot.kind.as_str(), kept.map(|field| field.kind.as_str()));
            let Ok(number) = u16::try_from(index) else { unreachable!("an event has at most 65,535 slots") };
            let (event, field) = (name.to_owned(), slot.name.to_string());
            diff.destructive.push(Difference::TypeChange { event, field, slot: FieldIndex(number), from, to });
        }
        *slot = Field { name: retired_name(index), kind: slot.kind, optional: true };
    }
    for field in &spec.fields {
        match fields.iter_mut().find(|slot| slot.name == field.name) {
            Some(slot) if slot.optional == field.optional => {}
            Some(slot) => {
                let option = format!("optional_fields.{}", field.name);
                diff.additive.push(option_change(option, slot.optional.into(), field.optional.into()));
                slot.optional = field.optional;
            }
            None => {
                if old.field(&field.name).is_none() {
                    let (event, kind) = (name.to_owned(), field.kind.as_str());
                    diff.additive.push(Difference::NewField { event, field: field.name.to_string(), kind });
                }
                fields.push(field.clone());
            }
        }
    }
    let old_time = TimeSpec::of(old.time, &old.fields);
    let time_spec = spec.time.clone().unwrap_or_else(|| old_time.clone());
    if time_spec != old_time {
        let change = option_change("time".to_owned(), old_time.canonical(), time_spec.canonical());
        let list = if time_spec.is_the_same_time(&old_time) { &mut diff.additive } else { &mut diff.destructive };
        list.push(change);
    }
    let max_future_us = spec.max_future_us.unwrap_or(old.max_future_us);
    if max_future_us != old.max_future_us {
        let (from, to) = (json!(old.max_future_us / 1_000), json!(max_future_us / 1_000));
        diff.additive.push(option_change("max_future_ms".to_owned(), from, to));
    }
    let cold_after_us = spec.cold_after_us.over(old.cold_after_us);
    if cold_after_us != old.cold_after_us {
        let ms = |us: Option<i64>| json!(us.map(|us| us / 1_000));
        diff.additive.push(option_change("cold_after_ms".to_owned(), ms(old.cold_after_us), ms(cold_after_us)));
    }
    let before = DedupeSpec::of(old.dedupe, &old.fields);
    let dedupe_spec = spec.dedupe.over(before.clone());
    if dedupe_spec != before {
        let (from, to) = (DedupeSpec::canonical(before.as_ref()), DedupeSpec::canonical(dedupe_spec.as_ref()));
        diff.additive.push(option_change("dedupe".to_owned(), from, to));
    }
    let ids = dedupe(&dedupe_spec, &fields);
    if ids.is_none()
        && let Some((field, _)) = &dedupe_spec
    {
        let reason = format!("the field \"{field}\" that tells repetitions of {name} is removed or of a type that is no id");
        problems.error(Code::InvalidRegistration, format!("{}.dedupe_key", spec.path), reason);
        return None;
    }
    let Some(time) = time_source(&time_spec, &fields) else {
        problems.error(
            Code::InvalidRegistration,
            format!("{}.time", spec.path),
            format!("the time field of {name} is removed or has no time in it"),
        );
        return None;
    };
    if u16::try_from(fields.len()).is_err() {
        problems.error(
            Code::InvalidRegistration,
            format!("{}.schema.fields", spec.path),
            format!("{name} has had 65,535 fields; register it under another name"),
        );
        return None;
    }
    let mut merged =
        EventSchema { id: old.id, version: old.version, name: old.name.clone(), fields, time, max_future_us, cold_after_us, dedupe: ids };
    if merged != *old {
        merged.version += 1;
    }
    Some(merged)
}

/// The canonical node of an event.
pub(super) fn canonical(schema: &EventSchema) -> serde_json::Value {
    let mut node = canonical_event(&schema.name, &schema.fields, &TimeSpec::of(schema.time, &schema.fields), schema.max_future_us);
    if let Some(us) = schema.cold_after_us {
        node["cold_after_ms"] = json!(us / 1_000);
    }
    if let Some((field, window_us)) = DedupeSpec::of(schema.dedupe, &schema.fields) {
        node["dedupe_key"] = field.into();
        node["dedupe_window_ms"] = json!(window_us / 1_000);
    }
    node
}

/// The field and window by which repetitions are told; none where they are not, or where the field cannot hold an id.
fn dedupe(spec: &Option<(String, i64)>, fields: &[Field]) -> Option<Dedupe> {
    let (name, window_us) = spec.as_ref()?;
    let index = fields.iter().position(|field| *field.name == **name && KeyKind::of(field.kind).is_some())?;
    u16::try_from(index).ok().map(|index| Dedupe { field: FieldIndex(index), window_us: *window_us })
}

fn time_source(spec: &TimeSpec, fields: &[Field]) -> Option<TimeSource> {
    use crate::row::FieldType::{Datetime, I64};
    match spec {
        TimeSpec::Arrival => Some(TimeSource::Arrival),
        TimeSpec::Record => Some(TimeSource::Record),
        TimeSpec::Field(name, unit) => {
            let index = fields.iter().position(|field| *field.name == **name && matches!(field.kind, Datetime | I64))?;
            let index = u16::try_from(index).ok().map(FieldIndex)?;
            Some(unit.map_or(TimeSource::Field(index), |unit| TimeSource::FieldIn(index, unit)))
        }
    }
}
