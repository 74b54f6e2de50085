//! A strict JSON scanner over text that is already known to be UTF-8: finds where values end and what they are, without building anything.
//!
//! Everything is validated, also what is skipped: escapes and their surrogate pairs, number grammar, control bytes in strings, literals, commas, depth. Nothing
//! recurses: skipping keeps one bit per open container, so input of any nesting is refused, never a stack overflow. Knows no fields; `super` projects.

/// What broke. One byte, so that a result with it stays in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No value begins like this, or the text ends where one should begin.
    Value,
    /// A member name is missing.
    Name,
    /// A colon is missing.
    Colon,
    /// A comma or closing bracket is missing.
    Comma,
    /// An unknown literal.
    Literal,
    /// A malformed number.
    Number,
    /// A string without an end.
    Unended,
    /// An unescaped control byte in a string.
    ControlByte,
    /// An unknown or cut escape.
    Escape,
    /// Half of a surrogate pair.
    Surrogate,
    /// Deeper than the limit.
    TooDeep,
    /// A number beyond every double.
    Range,
    /// A control character in a string, where the policy refuses them.
    Control,
}

impl Fault {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Value => "a value is missing or malformed",
            Self::Name => "a member name is missing",
            Self::Colon => "a colon is missing",
            Self::Comma => "a comma or closing bracket is missing",
            Self::Literal => "an unknown literal",
            Self::Number => "a malformed number",
            Self::Unended => "a string without an end",
            Self::ControlByte => "an unescaped control byte in a string",
            Self::Escape => "an unknown or cut escape",
            Self::Surrogate => "half of a surrogate pair",
            Self::TooDeep => "nesting deeper than the limit",
            Self::Range => "a number out of range of a double",
            Self::Control => "a control character in a string",
        }
    }
}

/// A number as it stood in the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number<'a> {
    /// A whole number of i64.
    Int(i64),
    /// A whole number beyond i64: the nearest double and the text.
    Big(f64, &'a str),
    /// Anything with a fraction or exponent, and -0.
    Float(f64),
}

/// A cursor over one text.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub(super) text: &'a str,
    pub(super) pos: usize,
    /// Deepest nesting taken, at most 128.
    depth_max: u32,
    /// Whether control characters are refused.
    refuse_control: bool,
    /// Whether the text holds one unescaped anywhere (below 0x20 is no JSON anyway).
    has_raw_control: bool,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// Marks bytes that are a quote, a backslash or below 0x20; the lowest mark is exact, those above it may be false.
#[inline]
fn string_marks(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    (zero(quote) | zero(slash) | (word.wrapping_sub(ONES * 0x20) & !word)) & HIGHS
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str, depth_max: u32, refuse_control: bool) -> Self {
        let has_raw_control = refuse_control && text.chars().any(char::is_control);
        Self { text, pos: 0, depth_max: depth_max.min(128), refuse_control, has_raw_control }
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The byte here, 0 at the end (a zero byte is no JSON outside of strings, so it needs no case of its own).
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.bytes().get(self.pos).copied().unwrap_or(0)
    }

    /// Skips whitespace and gives the byte behind it.
    #[inline]
    pub(super) fn token(&mut self) -> u8 {
        loop {
            let byte = self.peek();
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return byte;
            }
            self.pos += 1;
        }
    }

    pub(super) fn at_end(&self) -> bool {
        self.pos >= self.text.len()
    }

    #[inline]
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.pos).unwrap_or_default()
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, fault: Fault) -> Result<(), Fault> {
        if self.token() != byte {
            return Err(fault);
        }
        self.pos += 1;
        Ok(())
    }

    #[inline]
    pub(super) fn literal(&mut self, word: &'static str) -> Result<(), Fault> {
        if self.bytes().get(self.pos..self.pos + word.len()) != Some(word.as_bytes()) {
            return Err(Fault::Literal);
        }
        self.pos += word.len();
        Ok(())
    }

    pub(super) fn check_depth(&self, depth: u32) -> Result<(), Fault> {
        if depth > self.depth_max { Err(Fault::TooDeep) } else { Ok(()) }
    }

    /// A string without escapes, position at its opening quote; `None` leaves it to the careful way.
    #[inline(always)]
    fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.pos + 1;
        let stop = string_stop(self.bytes(), start);
        if self.bytes().get(stop) != Some(&b'"') || self.has_raw_control {
            return None;
        }
        self.pos = stop + 1;
        self.text.get(start..stop)
    }

    /// A string, position at its opening quote. Borrowed when it has no escapes, else written into `scratch`.
    #[inline(always)]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, Fault>
    where
        'a: 's,
    {
        if let Some(plain) = self.plain_string() {
            return Ok(plain);
        }
        scratch.clear();
        self.escaped_string(Some(scratch))?;
        Ok(scratch)
    }

    /// Walks a string that is not needed.
    #[inline(always)]
    pub(super) fn skip_string(&mut self) -> Result<(), Fault> {
        if self.plain_string().is_some() { Ok(()) } else { self.escaped_string(None) }
    }

    /// A string with escapes or control characters, position at its opening quote.
    #[inline(never)]
    fn escaped_string(&mut self, mut out: Option<&mut String>) -> Result<(), Fault> {
        let mut start = self.pos + 1;
        let mut stop = string_stop(self.bytes(), start);
        loop {
            let plain = self.text.get(start..stop).unwrap_or_default();
            if self.has_raw_control && plain.chars().any(char::is_control) {
                return Err(Fault::Control);
            }
            if let Some(out) = out.as_deref_mut() {
                out.push_str(plain);
            }
            self.pos = stop;
            match self.bytes().get(stop) {
                Some(b'"') => {
                    self.pos = stop + 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.pos = stop + 1;
                    let decoded = self.escape()?;
                    if self.refuse_control && decoded.is_control() {
                        return Err(Fault::Control);
                    }
                    if let Some(out) = out.as_deref_mut() {
                        out.push(decoded);
                    }
                    start = self.pos;
                    stop = string_stop(self.bytes(), start);
                }
                Some(_) => return Err(Fault::ControlByte),
                None => return Err(Fault::Unended),
            }
        }
    }

    /// One escape, position behind its backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let kind = self.peek();
        self.pos += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex_four()?;
                let scalar = if (0xD800..0xDC00).contains(&first) {
                    if self.bytes().get(self.pos..self.pos + 2) != Some(b"\\u") {
                        return Err(Fault::Surrogate);
                    }
                    self.pos += 2;
                    let second = self.hex_four()?;
                    if !(0xDC00..0xE000).contains(&second) {
                        return Err(Fault::Surrogate);
                    }
                    0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                } else {
                    first
                };
                char::from_u32(scalar).ok_or(Fault::Surrogate)?
            }
            _ => return Err(Fault::Escape),
        })
    }

    fn hex_four(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes().get(self.pos..self.pos + 4).ok_or(Fault::Escape)?;
        let mut scalar = 0;
        for &digit in digits {
            let nibble = char::from(digit).to_digit(16).ok_or(Fault::Escape)?;
            scalar = scalar << 4 | nibble;
        }
        self.pos += 4;
        Ok(scalar)
    }

    /// Digits from `pos` on, into a mantissa that may wrap; their count.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let start = self.pos;
        let bytes = self.bytes();
        while let Some(&byte) = bytes.get(self.pos) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.pos += 1;
        }
        self.pos - start
    }

    /// A number, position at its first byte.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>, Fault> {
        let start = self.pos;
        let negative = self.peek() == b'-';
        self.pos += usize::from(negative);
        let mut mantissa = 0u64;
        let leading_zero = self.peek() == b'0';
        let whole = self.digits(&mut mantissa);
        if whole == 0 || leading_zero && whole > 1 {
            return Err(Fault::Number);
        }
        let mut fraction = 0;
        let mut exponent = 0i32;
        let mut plain = true;
        if self.peek() == b'.' {
            plain = false;
            self.pos += 1;
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return Err(Fault::Number);
            }
        }
        if self.peek() | 0x20 == b'e' {
            plain = false;
            self.pos += 1;
            let down = self.peek() == b'-';
            self.pos += usize::from(down || self.peek() == b'+');
            let mut digits = 0u64;
            let count = self.digits(&mut digits);
            if count == 0 {
                return Err(Fault::Number);
            }
            let size = if count > 6 { 1_000_000 } else { i32::try_from(digits).unwrap_or(1_000_000) };
            exponent = if down { -size } else { size };
        }
        // Up to 18 digits the mantissa has not wrapped.
        let exact = whole + fraction <= 18;
        if plain && exact && !(negative && mantissa == 0) {
            let number = mantissa.cast_signed();
            return Ok(Number::Int(if negative { -number } else { number }));
        }
        if exact && mantissa <= 1 << 53 && fraction <= 22 {
            let power = exponent - i32::try_from(fraction).unwrap_or(0);
            if let Some(&scale) = POWERS.get(power.unsigned_abs() as usize) {
                // Both operands are exact, so the one rounding is the right one (Clinger 1990).
                #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
                let magnitude = if power < 0 { mantissa as f64 / scale } else { mantissa as f64 * scale };
                return Ok(Number::Float(if negative { -magnitude } else { magnitude }));
            }
        }
        let text = self.since(start);
        if plain
            && let Ok(number) = text.parse::<i64>()
            && !(negative && number == 0)
        {
            return Ok(Number::Int(number));
        }
        let number = text.parse::<f64>().map_err(|_| Fault::Number)?;
        if !number.is_finite() {
            return Err(Fault::Range);
        }
        Ok(if plain && number != 0.0 { Number::Big(number, text) } else { Number::Float(number) })
    }

    /// Passes a member's name and colon when it stands here exactly as `quoted`.
    #[inline]
    pub(super) fn pass_expected(&mut self, quoted: &str) -> bool {
        let here = self.bytes().get(self.pos..).is_some_and(|rest| rest.starts_with(quoted.as_bytes()));
        let passed = here && !quoted.is_empty();
        if passed {
            self.pos += quoted.len();
        }
        passed
    }

    /// Passes members of an object that nobody takes, from the start of a name on, as long as everything is plain: no space, no escape, no nesting. Gives the
    /// first name that `is_taken`, with the position at its value; `None` leaves the member at the position to the careful way.
    ///
    /// The position lives in a register here, which is what makes skipping cheap: most bytes of most records are passed in this loop.
    #[inline]
    pub(super) fn pass_plain_members(&mut self, is_taken: impl Fn(&str) -> bool) -> Option<&'a str> {
        let (text, bytes) = (self.text, self.bytes());
        let mut pos = self.pos;
        if self.has_raw_control {
            return None;
        }
        loop {
            // A member is passed whole or not at all: `self.pos` moves on only behind its comma.
            self.pos = pos;
            if bytes.get(pos) != Some(&b'"') {
                return None;
            }
            let stop = string_stop(bytes, pos + 1);
            let &[b'"', b':', byte, ..] = bytes.get(stop..)? else { return None };
            let name = text.get(pos + 1..stop)?;
            let value = stop + 2;
            if is_taken(name) {
                if byte <= b' ' {
                    return None;
                }
                self.pos = value;
                return Some(name);
            }
            let end = if byte == b'"' {
                let stop = string_stop(bytes, value + 1);
                if bytes.get(stop) != Some(&b'"') {
                    return None;
                }
                stop + 1
            } else {
                scalar_end(bytes, value, byte).ok()?
            };
            if bytes.get(end) != Some(&b',') {
                return None;
            }
            pos = end + 1;
        }
    }

    /// Walks one value of any shape. `depth` is the nesting that it stands in; `kept` says that its text is kept, so its numbers must be in range as well.
    #[inline]
    pub(super) fn skip(&mut self, depth: u32, kept: bool) -> Result<(), Fault> {
        match self.token() {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_nested(depth, kept),
            byte => self.skip_scalar(byte, kept),
        }
    }

    #[inline]
    fn skip_scalar(&mut self, byte: u8, kept: bool) -> Result<(), Fault> {
        if kept && (byte == b'-' || byte.is_ascii_digit()) {
            return self.number().map(|_| ());
        }
        self.pos = scalar_end(self.bytes(), self.pos, byte)?;
        Ok(())
    }

    fn skip_member_name(&mut self) -> Result<(), Fault> {
        if self.token() != b'"' {
            return Err(Fault::Name);
        }
        self.skip_string()?;
        self.expect(b':', Fault::Colon)
    }

    #[inline(never)]
    fn skip_nested(&mut self, depth: u32, kept: bool) -> Result<(), Fault> {
        // One bit per open container: set for objects. 128 levels fit because depth_max is at most 128.
        let mut objects = 0u128;
        let mut open = 0u32;
        loop {
            match self.token() {
                b'"' => self.skip_string()?,
                byte @ (b'{' | b'[') => {
                    open += 1;
                    self.check_depth(depth + open)?;
                    self.pos += 1;
                    let object = byte == b'{';
                    objects = objects << 1 | u128::from(object);
                    if self.token() != if object { b'}' } else { b']' } {
                        if object {
                            self.skip_member_name()?;
                        }
                        continue;
                    }
                    // Empty: the closing bracket is taken below.
                }
                byte => self.skip_scalar(byte, kept)?,
            }
            loop {
                let object = objects & 1 == 1;
                match self.token() {
                    b',' => {
                        self.pos += 1;
                        if object {
                            self.skip_member_name()?;
                        }
                        break;
                    }
                    b'}' if object => self.pos += 1,
                    b']' if !object => self.pos += 1,
                    _ => return Err(Fault::Comma),
                }
                objects >>= 1;
                open -= 1;
                if open == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Position of the next quote, backslash or control byte.
#[inline(always)]
fn string_stop(bytes: &[u8], mut pos: usize) -> usize {
    while let Some(eight) = bytes.get(pos..pos + 8) {
        let marks = string_marks(u64::from_le_bytes(eight.try_into().unwrap_or_default()));
        if marks != 0 {
            return pos + marks.trailing_zeros() as usize / 8;
        }
        pos += 8;
    }
    while let Some(&byte) = bytes.get(pos) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            return pos;
        }
        pos += 1;
    }
    pos
}

/// End of a number or literal that begins with `byte` at `pos`; grammar only.
#[inline]
fn scalar_end(bytes: &[u8], pos: usize, byte: u8) -> Result<usize, Fault> {
    match byte {
        b'-' | b'0'..=b'9' => number_end(bytes, pos),
        b't' => literal_end(bytes, pos, b"true"),
        b'f' => literal_end(bytes, pos, b"false"),
        b'n' => literal_end(bytes, pos, b"null"),
        _ => Err(Fault::Value),
    }
}

#[inline]
fn literal_end(bytes: &[u8], pos: usize, word: &[u8]) -> Result<usize, Fault> {
    let end = pos + word.len();
    if bytes.get(pos..end) == Some(word) { Ok(end) } else { Err(Fault::Literal) }
}

/// End of the digits at `pos`.
#[inline]
fn digits_end(bytes: &[u8], mut pos: usize) -> usize {
    while bytes.get(pos).is_some_and(u8::is_ascii_digit) {
        pos += 1;
    }
    pos
}

/// End of the number at `pos`; grammar only.
#[inline]
fn number_end(bytes: &[u8], pos: usize) -> Result<usize, Fault> {
    let at = |pos: usize| bytes.get(pos).copied().unwrap_or(0);
    let first = pos + usize::from(at(pos) == b'-');
    let mut end = digits_end(bytes, first);
    if end == first || at(first) == b'0' && end > first + 1 {
        return Err(Fault::Number);
    }
    if at(end) == b'.' {
        let fraction = end + 1;
        end = digits_end(bytes, fraction);
        if end == fraction {
            return Err(Fault::Number);
        }
    }
    if at(end) | 0x20 == b'e' {
        let exponent = end + 1 + usize::from(matches!(at(end + 1), b'-' | b'+'));
        end = digits_end(bytes, exponent);
        if end == exponent {
            return Err(Fault::Number);
        }
    }
    Ok(end)
}
