//! `CREATE EVENTSTORE name WITH (key = value, ..)` as text.
//!
//! ```text
//! statement = CREATE EVENTSTORE ident WITH "(" pair { "," pair } [ "," ] ")" [ ";" ]
//! value     = 'text' | 1_000 | -0.5e3 | true | ( scalar, .. )        '' inside of a text is a quote
//! ident     = letter { letter | digit | _ }                         -- a comment goes to the end of its line
//! ```
//! Keywords and booleans ignore case; keys and texts do not. Everything else is refused with its
//! place: a bad digit, a number that does not fit, a text without end, an empty list, a second
//! statement. What keys mean is not known here.

use super::declaration::{Declaration, Pair};
use super::keys::Literal;
use super::problem::Problem;
use std::ops::Range;
use streamgauge_api::Code;

/// Longest statement that is read.
const BYTES_MAX: usize = 1 << 20;

/// Reads a statement. Keys are not looked at.
///
/// # Errors
/// The first thing that is no statement, `eventstore_multiple` for a second one.
pub fn parse(text: &str) -> Result<Declaration, Problem> {
    if text.len() > BYTES_MAX {
        return Err(wrong(format!("{} bytes of a statement; at most {BYTES_MAX} are read", text.len()), 0..0));
    }
    let mut reader = Reader { text, at: 0 };
    reader.word("CREATE")?;
    reader.word("EVENTSTORE")?;
    let (name, _) = reader.ident("a name")?;
    reader.word("WITH")?;
    reader.sign("(")?;
    let mut pairs = Vec::new();
    loop {
        let pair = reader.pair()?;
        pairs.push(pair);
        let more = reader.takes(",");
        reader.blank();
        match (more, reader.takes(")")) {
            (_, true) => break,
            (true, false) => {}
            (false, false) => return Err(reader.unexpected("a comma or a closing parenthesis")),
        }
    }
    reader.blank();
    let _ended = reader.takes(";");
    reader.blank();
    if reader.at < text.len() {
        let rest = reader.rest();
        let again = rest.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("create"));
        let span = reader.at..reader.at + rest.chars().next().map_or(0, char::len_utf8);
        return Err(match again {
            true => Problem::new(Code::EventstoreMultiple, "a second statement: a data folder has one event store", span),
            false => reader.unexpected("the end of the statement"),
        });
    }
    Ok(Declaration { name: Some(name), pairs })
}

fn wrong(message: impl Into<String>, span: Range<usize>) -> Problem {
    Problem::new(Code::EventstoreSyntax, message, span)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphabetic()
}

fn is_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Passes blanks and comments.
    fn blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("--") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let found: String = self.rest().chars().take_while(|letter| !letter.is_whitespace()).take(20).collect();
        let end = self.at + found.chars().next().map_or(0, char::len_utf8);
        let found = if found.is_empty() { "the end of the text".to_owned() } else { format!("`{found}`") };
        wrong(format!("{wanted} is wanted, found {found}"), self.at..end)
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.blank();
        let there = self.rest().starts_with(sign);
        self.at += if there { sign.len() } else { 0 };
        there
    }

    fn sign(&mut self, sign: &str) -> Result<(), Problem> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn word(&mut self, keyword: &str) -> Result<(), Problem> {
        self.blank();
        let word: String = self.rest().chars().take_while(|letter| is_part(*letter)).collect();
        if !word.eq_ignore_ascii_case(keyword) {
            return Err(self.unexpected(keyword));
        }
        self.at += word.len();
        Ok(())
    }

    fn ident(&mut self, what: &str) -> Result<(String, Range<usize>), Problem> {
        self.blank();
        let start = self.at;
        let word: &str = self.rest().split(|letter| !is_part(letter)).next().unwrap_or_default();
        if !word.starts_with(is_letter) {
            return Err(self.unexpected(what));
        }
        self.at += word.len();
        Ok((word.to_owned(), start..self.at))
    }

    fn pair(&mut self) -> Result<Pair, Problem> {
        let (mut key, mut span) = self.ident("a key")?;
        while self.rest().starts_with('.') {
            self.at += 1;
            if !self.rest().starts_with(is_letter) {
                return Err(self.unexpected("the rest of the key"));
            }
            let (part, place) = self.ident("the rest of the key")?;
            key = format!("{key}.{part}");
            span.end = place.end;
        }
        self.sign("=")?;
        self.blank();
        let start = self.at;
        let value = if self.rest().starts_with('(') { self.list()? } else { self.scalar()? };
        Ok(Pair { key, value, key_span: span, value_span: start..self.at })
    }

    fn list(&mut self) -> Result<Literal, Problem> {
        let start = self.at;
        self.at += 1;
        if self.takes(")") {
            return Err(wrong("an empty list: one element at least is wanted", start..self.at));
        }
        let mut items = Vec::new();
        loop {
            self.blank();
            if self.rest().starts_with('(') {
                return Err(self.unexpected("a text, a number or a boolean"));
            }
            items.push(self.scalar()?);
            let more = self.takes(",");
            match (more, self.takes(")")) {
                (_, true) => return Ok(Literal::List(items)),
                (true, false) => {}
                (false, false) => return Err(self.unexpected("a comma or a closing parenthesis")),
            }
        }
    }

    fn scalar(&mut self) -> Result<Literal, Problem> {
        let rest = self.rest();
        match rest.chars().next() {
            Some('\'') => self.text_literal(),
            Some('-' | '0'..='9') => self.number(),
            Some(letter) if is_letter(letter) => {
                let word: &str = rest.split(|letter| !is_part(letter)).next().unwrap_or_default();
                let flag = match word.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(self.unexpected("a value: a text in single quotes, a number, true, false or a list")),
                };
                self.at += word.len();
                Ok(Literal::Flag(flag))
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn text_literal(&mut self) -> Result<Literal, Problem> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(quote) = rest.find('\'') else {
                return Err(wrong("a text without end: a closing quote is missing", start..start + 1));
            };
            text.push_str(&rest[..quote]);
            self.at += quote + 1;
            if !self.rest().starts_with('\'') {
                return Ok(Literal::Text(text));
            }
            text.push('\'');
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Literal, Problem> {
        let start = self.at;
        let is_number = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-' | '+');
        let written: &str = self.rest().split(|letter| !is_number(letter)).next().unwrap_or_default();
        self.at += written.len();
        let bad = |why: &str| wrong(format!("`{written}` is no number: {why}"), start..start + written.len());
        let digits = written.strip_prefix('-').unwrap_or(written);
        let sound = digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if sound {
            let plain = written.replace('_', "");
            return plain.parse().map(Literal::Int).map_err(|_| bad("it does not fit 64 bits"));
        }
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => (&digits[..at], Some(&digits[at + 1..])),
            None => (digits, None),
        };
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let point = mantissa.split_once('.').is_some_and(|(whole, part)| all_digits(whole) && all_digits(part));
        let exponent = exponent.is_none_or(|text| all_digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
        if !(point && exponent) {
            return Err(bad("digits, single underscores between them, and a point with digits on both sides"));
        }
        match written.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Literal::Float(number)),
            _ => Err(bad("it does not fit a double")),
        }
    }
}
