//! Verbs against a server of canned answers on a real socket: what is asked, what is printed, how the process ends.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value as Json;

use super::*;

/// Answers one request per entry, in order, and reports each request line.
fn serve(answers: &[(u16, &str, &str)]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers: Vec<String> = answers
        .iter()
        .map(|(status, headers, body)| {
            format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        })
        .collect();
    let (seen, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream).lines();
            seen.send(lines.next().unwrap().unwrap()).unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, requests)
}

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

fn run(line: &str, stdin: &str) -> Ran {
    let command = parse(line.split(' ').map(OsString::from)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err, command.json());
    let outcome = match &command {
        Command::Get(args) => get::run(args, &mut stdin.as_bytes(), &mut console),
        command => {
            let handlers = Handlers {
                run: &|_, _| Ok(Exit::Ok),
                check: &|_, _| Ok(Exit::Finding),
                sample: &|_, _| Ok(Exit::Ok),
                demo: &|_, _| Ok(Exit::Ok),
                wal_skip: &|_, _| Ok(Exit::Ok),
                verify: &|_, _| Ok(Exit::Ok),
            };
            dispatch(command, &handlers, &mut console)
        }
    };
    let exit = finish(outcome, &mut console);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { exit, out: text(out), err: text(err) }
}

#[test]
fn get_prints_each_key_and_goes_on_past_a_missing_one() {
    let fresh = "X-Streamgauge-As-Of: 2026-11-20T03:41:07.120Z\r\nX-Streamgauge-Lag-Ms: 180\r\nX-Streamgauge-Lsn: 918221\r\n";
    let missing = r#"{"error":{"code":"key_not_found","reason":"table 't' has no key 'b'","hint":"h","retry":false}}"#;
    let (at, requests) = serve(&[
        (200, fresh, r#"{"n_1h":3,"sum_24h":18.0}"#),
        (404, "", missing),
        (200, "", r#"{"n_1h":null,"sum_24h":"170141183460469231731687303715884105727"}"#),
    ]);
    let ran = run(&format!("streamgauge get t a - --http {at}"), "b\n\nc d\n");
    assert_eq!(ran.exit, Exit::Finding);
    assert_eq!(
        ran.out,
        "\
t a   (as of 2026-11-20T03:41:07.120Z, lag 180 ms, LSN 918221)
  n_1h     3
  sum_24h  18.0
t c d
  n_1h     null
  sum_24h  \"170141183460469231731687303715884105727\"
"
    );
    assert_eq!(ran.err, "error[key_not_found]: table 't' has no key 'b'\n  hint  h   (streamgauge errors key_not_found)\n");
    let lines: Vec<String> = requests.try_iter().collect();
    assert_eq!(lines, ["GET /tables/t/a HTTP/1.1", "GET /tables/t/b HTTP/1.1", "GET /tables/t/c%20d HTTP/1.1"]);
}

#[test]
fn get_as_json_is_one_object_per_key() {
    let (at, _requests) =
        serve(&[(200, "X-Streamgauge-Lsn: 7\r\n", r#"{"n":1}"#), (404, "", r#"{"error":{"code":"key_not_found","reason":"r"}}"#)]);
    let ran = run(&format!("streamgauge get t a b --json --http http://{at}/"), "");
    let lines: Vec<Json> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["features"]["n"].as_i64(), lines[0]["lsn"].as_i64(), lines[0]["key"].as_str()), (Some(1), Some(7), Some("a")));
    assert_eq!((lines[1]["error"]["code"].as_str(), lines[1]["key"].as_str()), (Some("key_not_found"), Some("b")));
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Finding, ""));
}

#[test]
fn an_unknown_table_ends_get_at_once() {
    let (at, _requests) = serve(&[(404, "", r#"{"error":{"code":"unknown_table","reason":"no table 't'","hint":"did you mean 'u'?"}}"#)]);
    let ran = run(&format!("streamgauge get t a b c --http {at}"), "");
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Finding, ""));
    assert_eq!(ran.err, "error[unknown_table]: no table 't'\n  hint  did you mean 'u'?   (streamgauge errors unknown_table)\n");
}

#[test]
fn the_exit_code_says_what_kind_of_failure_it_was() {
    for (status, body, exit) in [
        (503, r#"{"code":"overloaded","detail":"busy"}"#, Exit::Temporary),
        (403, r#"{"code":"forbidden","detail":"no"}"#, Exit::Denied),
        (200, "not json", Exit::Finding),
        (502, "", Exit::Finding),
    ] {
        let (at, _requests) = serve(&[(status, "", body)]);
        assert_eq!(run(&format!("streamgauge lag --admin {at}"), "").exit, exit, "{status} {body}");
    }
    let unreachable = run("streamgauge lag --admin 127.0.0.1:1", "");
    assert_eq!(unreachable.exit, Exit::Unreachable);
    assert!(unreachable.err.contains("give --admin URL"), "{}", unreachable.err);
    let json = run("streamgauge lag --json --admin 127.0.0.1:1", "");
    let error: Json = serde_json::from_str(&json.out).unwrap();
    assert_eq!((error["error"]["code"].as_str(), json.err.as_str()), (Some("server_unreachable"), ""));
}

#[test]
fn status_ready_is_a_health_check() {
    for (status, body, exit, out) in [
        (200, r#"{"status":"ready"}"#, Exit::Ok, "ready\n"),
        (
            503,
            r#"{"status":"recovering","progress":0.5,"eta_s":3.0,"reasons":["recovering"]}"#,
            Exit::Temporary,
            "recovering 50 %, 3 s left\n",
        ),
    ] {
        let (at, requests) = serve(&[(status, "", body)]);
        let ran = run(&format!("streamgauge status --ready --admin {at}"), "");
        assert_eq!((ran.exit, ran.out.as_str()), (exit, out));
        assert_eq!(requests.recv().unwrap(), "GET /ready?verbose HTTP/1.1");
    }
}

#[test]
fn rejects_are_listed_page_by_page() {
    let reject = |lsn: u64| {
        format!(
            r#"{{"lsn":{lsn},"at_us":0,"event":"E","source":"s","topic":"t","partition":0,"offset":{lsn},"code":"decode_malformed","reason":"\u001b[31m","schema_id":null,"timestamp_ms":-1,"key":null,"value":"eA==","value_len":1}}"#
        )
    };
    let first = format!(r#"{{"rejects":[{}],"next":"1.1"}}"#, reject(1));
    let last = format!(r#"{{"rejects":[{}],"next":null,"gone":40000}}"#, reject(2));
    let (at, requests) = serve(&[(200, "", &first), (200, "", &last)]);
    let ran = run(&format!("streamgauge rejects list --limit 300 --admin {at}"), "");
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert!(
        ran.out
            .starts_with("LSN 1  1970-01-01T00:00:00.000Z  s t/0 offset 1\n  decode_malformed: \\u{1b}[31m\n  value  x (1 bytes)\nLSN 2"),
        "{}",
        ran.out
    );
    assert_eq!(ran.err, "40 000 older ones fell out of this list, which is bounded\n");
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), ["GET /rejects?limit=200 HTTP/1.1", "GET /rejects?limit=200&after=1.1 HTTP/1.1"]);
    let (at, _requests) = serve(&[(200, "", &first)]);
    let ran = run(&format!("streamgauge rejects list --limit 1 --admin {at}"), "");
    assert_eq!(ran.err, "there are more: streamgauge rejects list --after 1.1\n");
}

#[test]
fn the_log_is_followed_over_a_restart_and_never_into_another_log() {
    let page = |log: &str, lsns: &[u64], next_lsn: u64| {
        let frame =
            |lsn: &u64| format!(r#"{{"first_lsn":{lsn},"last_lsn":{lsn},"kind":"mark","at_us":0,"bytes":56,"rows":[],"positions":[]}}"#);
        let frames: Vec<String> = lsns.iter().map(frame).collect();
        let frames = frames.join(",");
        format!(r#"{{"log_id":"{log}","earliest_lsn":1,"durable_lsn":8,"frames":[{frames}],"next_lsn":{next_lsn}}}"#)
    };
    let (one, two, other) = (page("aa", &[7], 8), page("aa", &[8, 9], 10), page("bb", &[], 10));
    let recovering = r#"{"code":"recovering","detail":"state is being rebuilt"}"#;
    let (at, requests) = serve(&[(200, "", &one), (503, "", recovering), (200, "", &two), (200, "", &other)]);
    let ran = run(&format!("streamgauge wal tail --from 7 --follow --admin {at}"), "");
    let lines: Vec<&str> = ran.out.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(lines, ["LSN 7", "LSN 8", "LSN 9"]);
    assert!(ran.err.contains("going on from LSN 8") && ran.err.contains("another log"), "{}", ran.err);
    assert!(ran.exit != Exit::Ok);
    let asked: Vec<String> = requests.try_iter().collect();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[1], "GET /wal?limit=1000&from=8&wait_ms=10000 HTTP/1.1");
    assert_eq!(asked[1], asked[2]);
    // Without --follow it ends where the log does, and begins near that.
    let (at, requests) = serve(&[(200, "", &page("aa", &[], 9)), (200, "", &page("aa", &[8], 9))]);
    let ran = run(&format!("streamgauge wal tail --json --admin {at}"), "");
    assert_eq!((ran.exit, ran.out.lines().count()), (Exit::Ok, 1));
    assert_eq!(requests.try_iter().nth(1).unwrap(), "GET /wal?limit=1000&from=1 HTTP/1.1");
}

#[test]
fn errors_lists_explains_and_corrects() {
    let all: Json = serde_json::from_str(&run("streamgauge errors --json", "").out).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(Code::ALL.len()));
    let listed = run("streamgauge errors", "");
    assert_eq!(listed.out.lines().count(), Code::ALL.len() + 1);
    assert!(run("streamgauge errors key_not_found", "").out.starts_with("key_not_found: the table has no such key\n"));
    let typo = run("streamgauge errors key_not_foud", "");
    assert_eq!((typo.exit, typo.out.as_str()), (Exit::Usage, ""));
    assert!(typo.err.contains("did you mean key_not_found?"), "{}", typo.err);
}

#[test]
fn verbs_of_the_engine_go_to_their_handlers() {
    assert_eq!(run("streamgauge check", "").exit, Exit::Finding);
    assert_eq!(run("streamgauge --config /dev/null", "").exit, Exit::Ok);
    assert_eq!(run("streamgauge demo", "").exit, Exit::Ok);
}

/// A follower that was ahead of the new log was told so, and not that it is another one.
#[test]
fn a_follower_of_a_log_that_began_anew_is_told_so() {
    let page =
        |log: &str, next: u64| format!(r#"{{"log_id":"{log}","earliest_lsn":1,"durable_lsn":{next},"frames":[],"next_lsn":{next}}}"#);
    let (first, other) = (page("a", 900), page("b", 3));
    let ahead = r#"{"error":{"code":"position_ahead","reason":"LSN 900 was not written"}}"#;
    let line = |address: SocketAddr| format!("streamgauge wal tail --follow --from 900 --admin {address}");
    let (address, _requests) = serve(&[(200, "", &first), (409, "", ahead), (200, "", &other)]);
    let ran = run(&line(address), "");
    assert!(ran.err.contains("log_changed") && ran.err.contains("another log by now: b, and a was read"), "{}", ran.err);
    // Who never read of that log only asked for too much.
    let (address, _requests) = serve(&[(409, "", ahead)]);
    let ran = run(&line(address), "");
    assert!(ran.err.contains("position_ahead"), "{}", ran.err);
}
