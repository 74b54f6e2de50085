//! `errors`: the table of stable codes, or one of them in full.

use serde_json::{Value as Json, json};
use streamgauge_api::Code;

use super::args::ErrorsArgs;
use super::exit::Exit;
use super::layout::{self, Column, Line, Side};
use super::{Console, Failure};

/// How alike a name must be to be offered, 0 to 1.
const LIKENESS_MIN: f64 = 0.75;

const COLUMNS: &[Column] = &[
    Column { head: "CODE", side: Side::Left, room: 24 },
    Column { head: "HTTP", side: Side::Right, room: 5 },
    Column { head: "RETRY", side: Side::Right, room: 7 },
    Column { head: "MEANING", side: Side::Left, room: 9 },
];

pub(super) fn run(args: &ErrorsArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let Some(name) = &args.code else {
        if console.json {
            console.document(&Code::ALL.iter().map(|code| document(*code)).collect())?;
            return Ok(Exit::Ok);
        }
        let lines: Vec<Line> = Code::ALL
            .iter()
            .map(|code| Line::Cells(vec![code.to_string(), code.status().to_string(), yes_no(*code).into(), code.title().into()]))
            .collect();
        for line in layout::table(COLUMNS, &lines) {
            console.line(&line)?;
        }
        return Ok(Exit::Ok);
    };
    let Some(code) = Code::parse(name) else {
        if console.json {
            console.document(
                &json!({"error": {"code": "not_found", "reason": format!("there is no code {name:?}"), "nearest": nearest(name)}}),
            )?;
        } else {
            console.talk(&format!("there is no code {name:?}"))?;
            let hint = nearest(name).map_or_else(|| "`streamgauge errors` lists all codes".into(), |near| format!("did you mean {near}?"));
            console.talk(&format!("  hint  {hint}"))?;
        }
        return Ok(Exit::Usage);
    };
    if console.json {
        console.document(&document(code))?;
    } else {
        for line in explained(code) {
            console.line(&line)?;
        }
    }
    Ok(Exit::Ok)
}

fn explained(code: Code) -> [String; 6] {
    let again = if code.retry() { "yes, the same request may succeed later" } else { "no, the same request fails again" };
    [
        format!("{code}: {}", code.title()),
        String::new(),
        format!("  what to try    {}", code.advice()),
        format!("  HTTP status    {}", code.status()),
        format!("  retry          {again}"),
        format!("  exit code      {}", Exit::of(code) as u8),
    ]
}

fn document(code: Code) -> Json {
    json!({
        "code": code.as_str(), "title": code.title(), "advice": code.advice(), "status": code.status(), "retry": code.retry(),
        "exit_code": Exit::of(code) as u8,
    })
}

fn yes_no(code: Code) -> &'static str {
    if code.retry() { "yes" } else { "no" }
}

fn nearest(name: &str) -> Option<&'static str> {
    let likeness = |code: &Code| strsim::jaro_winkler(code.as_str(), name);
    let near = Code::ALL.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&near) >= LIKENESS_MIN).then(|| near.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_in_words() {
        assert_eq!(
            explained(Code::Overloaded).join("\n"),
            "\
overloaded: too much is in flight

  what to try    retry after a short pause
  HTTP status    503
  retry          yes, the same request may succeed later
  exit code      75"
        );
    }

    #[test]
    fn typos_find_their_code() {
        for (typo, code) in [("key_not_foud", Some("key_not_found")), ("unkown_table", Some("unknown_table")), ("zzz", None), ("", None)] {
            assert_eq!(nearest(typo), code);
        }
    }
}
