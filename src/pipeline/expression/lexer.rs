//! Text -> tokens with byte spans.
//!
//! Strings are UTF-8 in single or double quotes with the escapes of Python's `repr`; numbers may have an exponent without a point.

use super::{ExpressionError, foreign};
use std::ops::Range;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Int(i64),
    Float(f64),
    Str(Box<str>),
    /// A name or a keyword; dots included.
    Name(Box<str>),
    /// `(` `)` `,` or an operator.
    Sign(&'static str),
    End,
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: &[&str] = &["==", "!=", "<=", ">=", "(", ")", ",", "<", ">", "+", "-", "*", "/"];

/// Reads tokens from an expression.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// A second lexer at the same place, to look ahead with.
    pub(super) fn at(other: &Self) -> Self {
        Self { text: other.text, at: other.at }
    }

    /// The text of a span.
    pub(super) fn text(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The text from one byte before a span.
    pub(super) fn before(&self, span: &Range<usize>) -> Option<&'t str> {
        self.text.get(span.start.checked_sub(1)?..)
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token. Where an operand is expected, a minus directly before a digit belongs to the number.
    pub(super) fn next(&mut self, operand: bool) -> Result<(Token, Range<usize>), ExpressionError> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.at += blank;
        let start = self.at;
        let rest = self.rest();
        let mut letters = rest.chars();
        let token = match (letters.next(), letters.next()) {
            (None, _) => Token::End,
            (Some('\'' | '"'), _) => self.string()?,
            (Some('-'), Some('0'..='9')) if operand => self.number()?,
            (Some('0'..='9'), _) => self.number()?,
            (Some('A'..='Z' | 'a'..='z' | '_'), _) => self.name(),
            (Some(letter), _) => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    self.at += sign.len();
                    Token::Sign(sign)
                }
                None => {
                    let end = start + letter.len_utf8();
                    let error = ExpressionError::syntax(format!("unexpected {letter:?}"), start..end);
                    return Err(error.hint(foreign::sign(rest)));
                }
            },
        };
        Ok((token, start..self.at))
    }

    fn name(&mut self) -> Token {
        let rest = self.rest();
        let mut len = 0;
        let mut previous = '.';
        for letter in rest.chars() {
            let fits = match letter {
                'A'..='Z' | 'a'..='z' | '_' => true,
                '0'..='9' | '.' => previous != '.',
                _ => false,
            };
            if !fits {
                break;
            }
            previous = letter;
            len += 1;
        }
        let name = rest.get(..len).unwrap_or_default().trim_end_matches('.');
        self.at += name.len();
        Token::Name(name.into())
    }

    fn number(&mut self) -> Result<Token, ExpressionError> {
        let (start, bytes) = (self.at, self.rest().as_bytes());
        let digits = |from: usize| bytes.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let mut len = sign + digits(sign);
        let mut whole = true;
        if bytes.get(len) == Some(&b'.') && digits(len + 1) > 0 {
            len += 1 + digits(len + 1);
            whole = false;
        }
        if let Some(b'e' | b'E') = bytes.get(len) {
            let signed = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
            let exponent = digits(len + 1 + signed);
            if exponent > 0 {
                len += 1 + signed + exponent;
                whole = false;
            }
        }
        let text = self.rest().get(..len).unwrap_or_default();
        self.at += len;
        let span = start..self.at;
        if self.rest().starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.') {
            return Err(ExpressionError::syntax(format!("a number cannot go on like this: {}", shorten(text)), span));
        }
        if whole {
            return match text.parse() {
                Ok(number) => Ok(Token::Int(number)),
                Err(_) => Err(ExpressionError::syntax(format!("{} does not fit 64 bits", shorten(text)), span)),
            };
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Token::Float(number)),
            _ => Err(ExpressionError::syntax(format!("{} is beyond the largest double", shorten(text)), span)),
        }
    }

    fn string(&mut self) -> Result<Token, ExpressionError> {
        let start = self.at;
        let mut letters = self.rest().char_indices();
        let quote = letters.next().map_or('\'', |(_, quote)| quote);
        let mut text = String::new();
        while let Some((offset, letter)) = letters.next() {
            if letter == quote {
                self.at = start + offset + 1;
                return Ok(Token::Str(text.into()));
            }
            if letter != '\\' {
                text.push(letter);
                continue;
            }
            let escape = letters.next().map(|(_, escape)| escape);
            let digits = match escape {
                Some('\\' | '\'' | '"') => {
                    text.extend(escape);
                    continue;
                }
                Some('n') => Some('\n'),
                Some('t') => Some('\t'),
                Some('r') => Some('\r'),
                Some('x') => hex(&mut letters, 2),
                Some('u') => hex(&mut letters, 4),
                Some('U') => hex(&mut letters, 8),
                _ => None,
            };
            let Some(letter) = digits else {
                let span = start + offset..start + offset + 1;
                return Err(ExpressionError::syntax("unknown or incomplete escape in a string".to_owned(), span));
            };
            text.push(letter);
        }
        Err(ExpressionError::syntax("a string has no closing quote".to_owned(), start..self.text.len()))
    }
}

/// A character given by `count` hexadecimal digits; none for fewer digits and for surrogates.
fn hex(letters: &mut std::str::CharIndices<'_>, count: usize) -> Option<char> {
    let mut code = 0u32;
    for _ in 0..count {
        let (_, digit) = letters.next()?;
        code = code.checked_mul(16)?.checked_add(digit.to_digit(16)?)?;
    }
    char::from_u32(code)
}

/// Literals in messages are cut.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}
