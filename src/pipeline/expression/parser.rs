//! Tokens -> syntax tree, by operator precedence with an explicit stack.
//!
//! From loose to tight: `or`, `and`, `not`, one comparison (they do not chain), `+ -`, `* /`. Nesting of parentheses, calls and `not` is bounded by
//! [`DEPTH_MAX`]; nothing here recurses.

use super::lexer::{Lexer, Token};
use super::program::{Arithmetic, CastTo, Comparison, Constant};
use super::syntax::{Expression, Node, NodeIndex, NodeKind};
use super::{ExpressionError, foreign};
use std::ops::Range;

/// Nested parentheses, calls and `not`s.
pub const DEPTH_MAX: usize = 512;

/// Bytes of one expression.
pub const EXPRESSION_BYTES_MAX: usize = 256 * 1024;

/// An infix operator waiting for its right side.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Infix {
    Or,
    And,
    Compare(Comparison),
    Compute(Arithmetic),
}

impl Infix {
    fn of(token: &Token) -> Option<Self> {
        Some(match token {
            Token::Name(name) if &**name == "or" => Self::Or,
            Token::Name(name) if &**name == "and" => Self::And,
            Token::Sign("==") => Self::Compare(Comparison::Equal),
            Token::Sign("!=") => Self::Compare(Comparison::Unequal),
            Token::Sign("<") => Self::Compare(Comparison::Less),
            Token::Sign("<=") => Self::Compare(Comparison::LessOrEqual),
            Token::Sign(">") => Self::Compare(Comparison::Greater),
            Token::Sign(">=") => Self::Compare(Comparison::GreaterOrEqual),
            Token::Sign("+") => Self::Compute(Arithmetic::Add),
            Token::Sign("-") => Self::Compute(Arithmetic::Subtract),
            Token::Sign("*") => Self::Compute(Arithmetic::Multiply),
            Token::Sign("/") => Self::Compute(Arithmetic::Divide),
            _ => return None,
        })
    }

    fn binds(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Compare(_) => 4,
            Self::Compute(Arithmetic::Add | Arithmetic::Subtract) => 5,
            Self::Compute(_) => 6,
        }
    }
}

/// `not` binds between `and` and comparisons.
const NOT_BINDS: u8 = 3;

/// Functions by name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Cast,
    IsNull,
    Quadkey,
}

impl Function {
    const NAMES: &'static [&'static str] = &["cast", "isnull", "quadkey"];

    fn of(name: &str) -> Option<Self> {
        match name {
            "cast" => Some(Self::Cast),
            "isnull" => Some(Self::IsNull),
            "quadkey" => Some(Self::Quadkey),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cast => "cast",
            Self::IsNull => "isnull",
            Self::Quadkey => "quadkey",
        }
    }

    fn arity(self) -> usize {
        match self {
            Self::IsNull => 1,
            Self::Cast => 2,
            Self::Quadkey => 3,
        }
    }
}

/// Something open.
#[derive(Debug)]
enum Pending {
    Parenthesis { start: usize },
    Call { function: Function, start: usize, operands_before: usize },
    Not { start: usize },
    Infix(Infix),
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    nodes: Vec<Node>,
    operands: Vec<NodeIndex>,
    pending: Vec<Pending>,
    depth: usize,
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// Says what is wrong and where; too deep nesting names the word `depth`.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(ExpressionError::syntax(
                format!("an expression of {} bytes is longer than {EXPRESSION_BYTES_MAX}", text.len()),
                0..0,
            ));
        }
        let mut parser = Parser { lexer: Lexer::new(text), nodes: Vec::new(), operands: Vec::new(), pending: Vec::new(), depth: 0 };
        parser.run()?;
        Ok(Self { nodes: parser.nodes })
    }
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), ExpressionError> {
        loop {
            while !self.operand()? {}
            loop {
                let (token, span) = self.lexer.next(false)?;
                match token {
                    Token::End => return self.finish(span.start),
                    Token::Sign(")") => self.close(&span)?,
                    Token::Sign(",") => {
                        self.comma(&span)?;
                        break;
                    }
                    other => {
                        self.infix(&other, &span)?;
                        break;
                    }
                }
            }
        }
    }

    /// Reads one token where an operand must stand; true when the operand is complete.
    fn operand(&mut self) -> Result<bool, ExpressionError> {
        let (token, span) = self.lexer.next(true)?;
        let literal = match token {
            Token::Int(number) => Constant::I64(number),
            Token::Float(number) => Constant::F64(number),
            Token::Str(text) => Constant::Str(text),
            Token::Name(name) => return self.name(name, span),
            Token::Sign("(") => {
                self.deeper(&span)?;
                self.pending.push(Pending::Parenthesis { start: span.start });
                return Ok(false);
            }
            Token::Sign(sign) => {
                // `<>` is read as two signs.
                let hint = if sign == ">" { self.lexer.before(&span).and_then(foreign::sign) } else { None };
                return Err(ExpressionError::syntax(format!("a value is missing before `{sign}`"), span).hint(hint));
            }
            Token::End => return Err(ExpressionError::syntax("the expression ends where a value must stand".to_owned(), span)),
        };
        self.push(NodeKind::Literal(literal), span);
        Ok(true)
    }

    fn name(&mut self, name: Box<str>, span: Range<usize>) -> Result<bool, ExpressionError> {
        let kind = match &*name {
            "true" => NodeKind::Literal(Constant::Bool(true)),
            "false" => NodeKind::Literal(Constant::Bool(false)),
            "null" => NodeKind::Literal(Constant::Null),
            "not" => {
                // A comparison or a sum cannot take a bare `not` as its right side: it would have to bind tighter than itself.
                if let Some(Pending::Infix(Infix::Compare(_) | Infix::Compute(_))) = self.pending.last() {
                    return Err(ExpressionError::syntax("put `not ...` into parentheses here".to_owned(), span));
                }
                self.deeper(&span)?;
                self.pending.push(Pending::Not { start: span.start });
                return Ok(false);
            }
            "and" | "or" => return Err(ExpressionError::syntax(format!("a value is missing before `{name}`"), span)),
            _ => {
                let mut ahead = Lexer::at(&self.lexer);
                if ahead.next(false)?.0 == Token::Sign("(") {
                    return self.call(&name, span);
                }
                NodeKind::Name(name)
            }
        };
        self.push(kind, span);
        Ok(true)
    }

    fn call(&mut self, name: &str, span: Range<usize>) -> Result<bool, ExpressionError> {
        let Some(function) = Function::of(name) else {
            let known = Function::NAMES.join(", ");
            let error = ExpressionError::syntax(format!("there is no function `{name}`; there are {known}"), span);
            let meant =
                Function::NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)).map(|known| format!("write `{known}` in lower case"));
            return Err(error.hint(meant.or_else(|| foreign::function(name).map(str::to_owned))));
        };
        self.deeper(&span)?;
        let _parenthesis = self.lexer.next(false)?;
        self.pending.push(Pending::Call { function, start: span.start, operands_before: self.operands.len() });
        Ok(false)
    }

    fn deeper(&mut self, span: &Range<usize>) -> Result<(), ExpressionError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ExpressionError::syntax(format!("nesting depth is beyond {DEPTH_MAX}"), span.clone()));
        }
        Ok(())
    }

    fn infix(&mut self, token: &Token, span: &Range<usize>) -> Result<(), ExpressionError> {
        let Some(infix) = Infix::of(token) else {
            let left = self.operands.last().map(|&left| self.lexer.text(&self.span(left)).to_owned()).unwrap_or_default();
            let hint = match token {
                Token::Name(name) => foreign::operator(name, &left, self.lexer.rest()).or_else(|| foreign::word(&left).map(str::to_owned)),
                _ => foreign::word(&left).map(str::to_owned),
            };
            return Err(ExpressionError::syntax("an operator must stand here".to_owned(), span.clone()).hint(hint));
        };
        if matches!(infix, Infix::Compare(_)) {
            self.reduce(infix.binds() + 1);
            if let Some(Pending::Infix(Infix::Compare(_))) = self.pending.last() {
                return Err(ExpressionError::syntax("comparisons do not chain; join two with `and`".to_owned(), span.clone()));
            }
        }
        self.reduce(infix.binds());
        self.pending.push(Pending::Infix(infix));
        Ok(())
    }

    fn comma(&mut self, span: &Range<usize>) -> Result<(), ExpressionError> {
        self.reduce(0);
        match self.pending.last() {
            Some(Pending::Call { .. }) => Ok(()),
            _ => Err(ExpressionError::syntax("a comma stands outside of a call".to_owned(), span.clone())),
        }
    }

    fn close(&mut self, span: &Range<usize>) -> Result<(), ExpressionError> {
        self.reduce(0);
        let closed = self.pending.pop();
        self.depth = self.depth.saturating_sub(1);
        match closed {
            Some(Pending::Parenthesis { start }) => {
                if let Some(node) = self.operands.last().and_then(|&index| self.nodes.get_mut(index)) {
                    node.span = start..span.end;
                }
                Ok(())
            }
            Some(Pending::Call { function, start, operands_before }) => {
                let arguments = self.operands.split_off(operands_before.min(self.operands.len()));
                self.finish_call(function, &arguments, start..span.end)
            }
            _ => Err(ExpressionError::syntax("`)` closes nothing".to_owned(), span.clone())),
        }
    }

    fn finish_call(&mut self, function: Function, arguments: &[NodeIndex], span: Range<usize>) -> Result<(), ExpressionError> {
        let kind = match (function, arguments) {
            (Function::IsNull, &[value]) => NodeKind::IsNull(value),
            (Function::Quadkey, &[lat, lon, zoom]) => {
                let constant = self.nodes.get(zoom).map(|node| &node.kind);
                if !matches!(constant, Some(NodeKind::Literal(Constant::I64(1..=24)))) {
                    return Err(ExpressionError::syntax("quadkey wants a zoom from 1 to 24 as its third argument".to_owned(), span));
                }
                NodeKind::Quadkey(lat, lon, zoom)
            }
            (Function::Cast, &[value, _]) => {
                // The type's name was the last thing read, so it is the last node; it is no value and leaves the tree.
                let target = match self.nodes.pop().map(|node| node.kind) {
                    Some(NodeKind::Name(name)) => cast_target(&name),
                    _ => None,
                };
                let Some(target) = target else {
                    return Err(ExpressionError::syntax("cast wants str, int, float or bool as its second argument".to_owned(), span));
                };
                NodeKind::Cast(value, target)
            }
            _ => {
                let (name, wanted) = (function.name(), function.arity());
                return Err(ExpressionError::syntax(format!("{name} takes {wanted} arguments, {} given", arguments.len()), span));
            }
        };
        self.push(kind, span);
        Ok(())
    }

    fn finish(&mut self, end: usize) -> Result<(), ExpressionError> {
        self.reduce(0);
        match self.pending.last() {
            None => Ok(()),
            Some(Pending::Parenthesis { start } | Pending::Call { start, .. }) => {
                Err(ExpressionError::syntax("a parenthesis is not closed".to_owned(), *start..end))
            }
            Some(_) => Err(ExpressionError::syntax("the expression is incomplete".to_owned(), 0..end)),
        }
    }

    /// Finishes every pending operator that binds at least as tightly as `least`, down to the innermost open parenthesis.
    fn reduce(&mut self, least: u8) {
        loop {
            match self.pending.last() {
                Some(Pending::Infix(infix)) if infix.binds() >= least => {
                    let infix = *infix;
                    self.pending.pop();
                    self.finish_infix(infix);
                }
                Some(Pending::Not { start }) if NOT_BINDS >= least => {
                    let start = *start;
                    self.pending.pop();
                    self.depth = self.depth.saturating_sub(1);
                    if let Some(child) = self.operands.pop() {
                        let end = self.span(child).end;
                        self.push(NodeKind::Not(child), start..end);
                    }
                }
                _ => return,
            }
        }
    }

    fn finish_infix(&mut self, infix: Infix) {
        let (Some(right), Some(left)) = (self.operands.pop(), self.operands.pop()) else { return };
        let span = self.span(left).start..self.span(right).end;
        let kind = match infix {
            Infix::Or => NodeKind::Or(left, right),
            Infix::And => NodeKind::And(left, right),
            Infix::Compare(comparison) => NodeKind::Compare(comparison, left, right),
            Infix::Compute(arithmetic) => NodeKind::Compute(arithmetic, left, right),
        };
        self.push(kind, span);
    }

    fn push(&mut self, kind: NodeKind, span: Range<usize>) {
        self.operands.push(self.nodes.len());
        self.nodes.push(Node { kind, span });
    }

    fn span(&self, index: NodeIndex) -> Range<usize> {
        self.nodes.get(index).map_or(0..0, |node| node.span.clone())
    }
}

/// The cast target of this name.
pub(crate) fn cast_target(name: &str) -> Option<CastTo> {
    match name {
        "str" => Some(CastTo::Str),
        "int" => Some(CastTo::Int),
        "float" => Some(CastTo::Float),
        "bool" => Some(CastTo::Bool),
        _ => None,
    }
}
