//! `eventstore`: how far a running server's archive is, what its keys come to, and a run on demand.

use super::args::EventstoreArgs;
use super::client::Client;
use super::layout::grouped;
use super::{Console, Exit, Failure};
use serde_json::Value as Json;

pub(super) fn status(args: &EventstoreArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let body = Client::new(&args.server.admin, "--admin").get("/eventstore")?.ok()?.body;
    show(&body, console)
}

pub(super) fn now(args: &EventstoreArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let body = Client::new(&args.server.admin, "--admin").post("/eventstore/now")?.ok()?.body;
    show(&body, console)
}

fn show(body: &Json, console: &mut Console<'_>) -> Result<Exit, Failure> {
    if console.json {
        console.document(body)?;
        return Ok(Exit::Ok);
    }
    lines(body).iter().try_for_each(|line| console.line(line))?;
    Ok(Exit::Ok)
}

fn lines(body: &Json) -> Vec<String> {
    if body["declared"] != true {
        return vec!["no event store is declared: rows stand in the log alone".to_owned()];
    }
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Json| grouped(value.as_i64().unwrap_or(0));
    let archive = &body["archive"];
    let mut lines = vec![
        format!("{} at {}: {}", text(&body["name"]), text(&body["path"]), text(&archive["state"])),
        format!(
            "archived up to LSN {}, durable {}, {} behind",
            number(&archive["archived_lsn"]),
            number(&archive["durable_lsn"]),
            number(&archive["lag_lsn"])
        ),
        format!(
            "{} rows in {} files, {} bytes; manifest {}",
            number(&archive["rows"]["archived"]),
            number(&archive["files"]),
            number(&archive["bytes"]),
            number(&archive["manifest_version"])
        ),
    ];
    for gap in archive["gaps"].as_array().into_iter().flatten() {
        lines.push(format!("LSN {} to {} were gone before they were archived", number(&gap[0]), number(&gap[1])));
    }
    if let Some(reason) = archive["failure"]["reason"].as_str() {
        lines.push(format!("it cannot go on: {reason}"));
    }
    let declared = body["keys"].as_array().into_iter().flatten().filter(|key| key["origin"] != "default");
    lines.extend(declared.map(|key| format!("  {} = {}  ({})", text(&key["key"]), text(&key["effective"]), text(&key["origin"]))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_archive_shows_how_far_it_is_and_why_it_stands() {
        assert_eq!(lines(&json!({"declared": false})).len(), 1);
        let body = json!({
            "declared": true, "name": "pay", "path": "/a",
            "archive": {
                "state": "blocked", "archived_lsn": 1200, "durable_lsn": 1300, "lag_lsn": 100, "rows": {"archived": 1000}, "files": 3,
                "bytes": 4096, "manifest_version": 7, "gaps": [[1, 9]], "failure": {"reason": "no room"},
            },
            "keys": [
                {"key": "durable.path", "effective": "'/a'", "origin": "x.toml:3"},
                {"key": "bloom.fpp", "effective": "0.01", "origin": "default"},
            ],
        });
        assert_eq!(
            lines(&body),
            [
                "pay at /a: blocked",
                "archived up to LSN 1 200, durable 1 300, 100 behind",
                "1 000 rows in 3 files, 4 096 bytes; manifest 7",
                "LSN 1 to 9 were gone before they were archived",
                "it cannot go on: no room",
                "  durable.path = '/a'  (x.toml:3)",
            ]
        );
    }
}
