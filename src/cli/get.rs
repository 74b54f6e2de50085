//! `get`: features by key from the data plane, once or again and again.
//!
//! A key that cannot be read does not stop the others: it is told, and the exit code is 1. Everything that would hit every key (no server, no such table)
//! ends the verb.

use std::io::BufRead;

use serde_json::{Map, Value as Json, json};
use streamgauge_api::{ApiError, Code};

use super::args::GetArgs;
use super::client::{Answer, Client, encoded};
use super::{Console, Exit, Failure};

/// Longest line of keys on stdin; a key has at most 4 KiB.
const KEY_LINE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn run(args: &GetArgs, stdin: &mut dyn BufRead, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let reader = Reader { client: Client::new(&args.server.http, "--http"), args };
    let Some(interval) = args.watch else { return reader.read_all(stdin, console) };
    if args.keys.iter().any(|key| key == "-") {
        return Err(ApiError::new(Code::InvalidRequest, "--watch cannot read keys from stdin again and again")
            .hint("name the keys")
            .into());
    }
    loop {
        // A key may appear later, and a server may come back: watching goes on through refusals.
        let outcome = reader.read_all(stdin, console);
        match outcome {
            Err(Failure::Refused(error)) => console.refusal(&error)?,
            other => {
                other?;
            }
        }
        console.out.flush()?;
        std::thread::sleep(interval);
    }
}

struct Reader<'a> {
    client: Client,
    args: &'a GetArgs,
}

impl Reader<'_> {
    /// Reads each key of the arguments once, those of stdin in the place of `-`.
    fn read_all(&self, stdin: &mut dyn BufRead, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut exit = Exit::Ok;
        if self.args.keys.is_empty() {
            return self.read(None, console);
        }
        for key in &self.args.keys {
            if key != "-" {
                exit = worse(exit, self.read(Some(key), console)?);
                continue;
            }
            while let Some(key) = next_line(stdin)? {
                exit = worse(exit, self.read(Some(&key), console)?);
            }
        }
        Ok(exit)
    }

    fn read(&self, key: Option<&str>, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let answer = self.client.get(&target(self.args, key))?;
        match answer.ok() {
            Ok(answer) => {
                if console.json {
                    console.document(&document(&self.args.table, key, &answer))?;
                } else {
                    for line in rendered(&self.args.table, key, &answer) {
                        console.line(&line)?;
                    }
                }
                Ok(Exit::Ok)
            }
            Err(error) if matches!(error.code, Code::KeyNotFound | Code::KeyParseFailure) => {
                if console.json {
                    console.document(&json!({"table": self.args.table, "key": key, "error": error.to_json()}))?;
                } else {
                    console.refusal(&error)?;
                }
                Ok(Exit::Finding)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn worse(a: Exit, b: Exit) -> Exit {
    if a == Exit::Ok { b } else { a }
}

/// The next non-empty line, without its end.
fn next_line(stdin: &mut dyn BufRead) -> Result<Option<String>, Failure> {
    loop {
        let mut line = String::new();
        let cannot = |reason: String| ApiError::new(Code::InvalidRequest, reason).hint("one key per line, UTF-8");
        let read = std::io::Read::take(&mut *stdin, KEY_LINE_BYTES_MAX)
            .read_line(&mut line)
            .map_err(|error| cannot(format!("cannot read keys from stdin: {error}")))?;
        if read as u64 == KEY_LINE_BYTES_MAX && !line.ends_with('\n') {
            return Err(cannot(format!("a line on stdin is longer than {KEY_LINE_BYTES_MAX} bytes")).into());
        }
        let key = line.trim_end_matches(['\n', '\r']);
        if read == 0 {
            return Ok(None);
        }
        if !key.is_empty() {
            return Ok(Some(key.to_owned()));
        }
    }
}

/// Path and query of one read. A JSON array is a composite key: one segment per part.
fn target(args: &GetArgs, key: Option<&str>) -> String {
    let mut target = format!("/tables/{}", encoded(&args.table));
    for part in key.map(parts).unwrap_or_default() {
        target.push('/');
        target.push_str(&encoded(&part));
    }
    let mut query = Vec::new();
    if !args.features.is_empty() {
        let features: Vec<String> = args.features.iter().map(|name| encoded(name)).collect();
        query.push(format!("features={}", features.join(",")));
    }
    query.extend(args.max_staleness.as_ref().map(|limit| format!("max_staleness={}", encoded(limit))));
    if !query.is_empty() {
        target.push('?');
        target.push_str(&query.join("&"));
    }
    target
}

fn parts(key: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<Json>>(key) {
        Ok(parts) if !parts.is_empty() => parts.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect(),
        _ => vec![key.to_owned()],
    }
}

fn document(table: &str, key: Option<&str>, answer: &Answer) -> Json {
    let number = |name: &str| answer.header(name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "table": table, "key": key, "features": answer.body,
        "as_of": answer.header("x-streamgauge-as-of"), "lag_ms": number("x-streamgauge-lag-ms"), "lsn": number("x-streamgauge-lsn"),
        "incident": answer.header("x-streamgauge-incident"),
    })
}

/// One block per key: name and freshness, then the features in the order in which they were asked for.
fn rendered(table: &str, key: Option<&str>, answer: &Answer) -> Vec<String> {
    let nothing = Map::new();
    let features = answer.body.as_object().unwrap_or(&nothing);
    let mut head = [table, key.unwrap_or("")].join(" ").trim_end().to_owned();
    let mut fresh = Vec::new();
    fresh.extend(answer.header("x-streamgauge-as-of").map(|at| format!("as of {at}")));
    fresh.extend(answer.header("x-streamgauge-lag-ms").map(|lag| format!("lag {lag} ms")));
    fresh.extend(answer.header("x-streamgauge-lsn").map(|lsn| format!("LSN {lsn}")));
    fresh.extend(answer.header("x-streamgauge-incident").map(|kind| format!("INCIDENT {kind}")));
    if !fresh.is_empty() {
        head.push_str(&format!("   ({})", fresh.join(", ")));
    }
    let widest = features.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let lines = features.iter().map(|(name, value)| format!("  {name}{}  {value}", " ".repeat(widest - name.chars().count())));
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::args::{Command, parse};
    use super::*;

    fn args(line: &str) -> GetArgs {
        let Command::Get(args) = parse(line.split(' ').map(Into::into)).unwrap() else { panic!("not get") };
        args
    }

    #[test]
    fn targets_name_table_key_and_options() {
        for (line, key, expected) in [
            ("sg get card_stats 4711", Some("4711"), "/tables/card_stats/4711"),
            ("sg get total", None, "/tables/total"),
            ("sg get t x --features n_1h,sum --max-staleness 2s", Some("a/b"), "/tables/t/a%2Fb?features=n_1h,sum&max_staleness=2s"),
            ("sg get t x", Some(r#"["de", 5, true]"#), "/tables/t/de/5/true"),
            ("sg get t x", Some("[]"), "/tables/t/%5B%5D"),
            ("sg get t x", Some("[not json"), "/tables/t/%5Bnot%20json"),
        ] {
            assert_eq!(target(&args(line), key), expected, "{line}");
        }
    }

    #[test]
    fn keys_on_stdin_are_lines() {
        let mut stdin: &[u8] = b"a\r\n\n b \nlast";
        let mut keys = Vec::new();
        while let Some(key) = next_line(&mut stdin).unwrap() {
            keys.push(key);
        }
        assert_eq!(keys, ["a", " b ", "last"]);
        let long = vec![b'x'; 70_000];
        assert!(next_line(&mut long.as_slice()).is_err());
        assert!(next_line(&mut b"\xff\n".as_slice()).is_err());
    }
}
