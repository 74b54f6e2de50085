//! `rejects`: the bounded log of records that could not become a row, page by page, and another try at them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use streamgauge_api::control::{Reject, Retried};
use streamgauge_api::{ApiError, Code};

use super::args::{RejectsListArgs, RejectsRetryArgs};
use super::client::{Client, encoded};
use super::layout::grouped;
use super::{Console, Exit, Failure};

/// What the server gives in one page.
const PAGE_MAX: u32 = 200;
/// Bytes of a value that are shown.
const SHOWN_BYTES: usize = 60;

#[derive(Debug, Deserialize)]
struct Page {
    rejects: Vec<Reject>,
    next: Option<String>,
    #[serde(default)]
    gone: u64,
}

pub(super) fn list(args: &RejectsListArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    let (mut left, mut after, mut collected, mut shown) = (args.limit, args.after.clone(), Vec::new(), false);
    let mut gone = 0;
    while left > 0 {
        let mut target = format!("/rejects?limit={}", left.min(PAGE_MAX));
        if let Some(after) = &after {
            target.push_str(&format!("&after={}", encoded(after)));
        }
        let body = client.get(&target)?.ok()?.body;
        let page: Page = serde_json::from_value(body)
            .map_err(|error| ApiError::new(Code::InternalError, format!("/rejects has another shape: {error}")))?;
        left = left.saturating_sub(u32::try_from(page.rejects.len()).unwrap_or(u32::MAX));
        shown |= !page.rejects.is_empty();
        if console.json {
            collected.extend(page.rejects);
        } else {
            for line in page.rejects.iter().flat_map(rendered) {
                console.line(&line)?;
            }
        }
        (after, gone) = (page.next, page.gone);
        if after.is_none() {
            break;
        }
    }
    if console.json {
        console.document(&json!({"rejects": collected, "next": after, "gone": gone}))?;
    } else {
        if let Some(after) = after {
            console.talk(&format!("there are more: streamgauge rejects list --after {after}"))?;
        } else if !shown {
            console.talk("no rejected records")?;
        }
        if gone > 0 {
            console.talk(&format!(
                "{} older ones fell out of this list, which is bounded",
                grouped(i64::try_from(gone).unwrap_or(i64::MAX))
            ))?;
        }
    }
    Ok(Exit::Ok)
}

pub(super) fn retry(args: &RejectsRetryArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    let mut target = format!("/rejects/retry?dry_run={}", args.dry_run);
    for (name, value) in &args.conditions {
        target.push_str(&format!("&{name}={}", encoded(value)));
    }
    let body = client.post(&target)?.ok()?.body;
    if console.json {
        console.document(&body)?;
        return Ok(Exit::Ok);
    }
    let Retried { chosen, rows, nothing, stays } = serde_json::from_value(body)
        .map_err(|error| ApiError::new(Code::InternalError, format!("/rejects/retry has another shape: {error}")))?;
    let (would, done) = if args.dry_run { ("would become", "would be") } else { ("became", "are") };
    console.line(&format!(
        "of {chosen} rejects {rows} {would} rows{}",
        match nothing {
            0 => String::new(),
            nothing => format!(", {nothing} {done} dropped, since their records mean nothing now"),
        }
    ))?;
    for (why, count) in &stays {
        console.line(&format!("  {count} stay: {why}"))?;
    }
    Ok(Exit::Ok)
}

fn rendered(reject: &Reject) -> Vec<String> {
    let place = if reject.source.is_empty() {
        format!("push to {}", reject.event)
    } else {
        format!("{} {}/{} offset {}", reject.source, reject.topic, reject.partition, grouped(reject.offset))
    };
    let at = jiff::Timestamp::from_microsecond(reject.at_us).map_or_else(|_| reject.at_us.to_string(), |at| format!("{at:.3}"));
    let mut lines = vec![format!("LSN {}  {at}  {place}", reject.lsn), format!("  {}: {}", reject.code, reject.reason)];
    lines.extend(reject.schema_id.map(|id| format!("  schema {id}")));
    lines.extend(reject.key.as_deref().map(|key| format!("  key    {}", preview(key))));
    lines.push(match reject.value.as_deref() {
        Some(value) => format!("  value  {} ({} bytes)", preview(value), reject.value_len),
        None => "  value  none".to_owned(),
    });
    lines
}

/// The first bytes of a base64 text, readable ones as they are.
fn preview(base64: &str) -> String {
    let Ok(bytes) = STANDARD.decode(base64) else { return "(not base64)".into() };
    let cut = bytes.get(..SHOWN_BYTES).unwrap_or(&bytes);
    let more = if cut.len() < bytes.len() { "..." } else { "" };
    format!("{}{more}", cut.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reject_shows_where_why_and_what() {
        let reject = Reject {
            lsn: 918_220,
            at_us: 1_763_610_062_120_000,
            event: "Payment".into(),
            source: "payments".into(),
            topic: "payments".into(),
            partition: 3,
            offset: 88_123,
            code: "decode_type_mismatch".into(),
            reason: "field \"amount\" is text, schema says f64".into(),
            schema_id: Some(17.into()),
            timestamp_ms: -1,
            key: Some(STANDARD.encode("4711")),
            value: Some(STANDARD.encode([&b"\x00\x00\x00\x00\x11{"[..], &[b'x'; 80]].concat())),
            value_len: 86,
        };
        assert_eq!(
            rendered(&reject).join("\n"),
            format!(
                "\
LSN 918220  2025-11-20T03:41:02.120Z  payments payments/3 offset 88 123
  decode_type_mismatch: field \"amount\" is text, schema says f64
  schema 17
  key    4711
  value  \\x00\\x00\\x00\\x00\\x11{{{}... (86 bytes)",
                "x".repeat(54)
            )
        );
        let pushed = Reject { source: String::new(), schema_id: None, key: None, value: None, ..reject };
        assert_eq!(rendered(&pushed).first().map(String::as_str), Some("LSN 918220  2025-11-20T03:41:02.120Z  push to Payment"));
    }
}
