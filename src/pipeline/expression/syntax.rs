//! The syntax tree: nodes in postfix order in one vector, children before parents.
//!
//! Every pass over a tree is a loop over that vector or over an explicit work list, so no depth of input can exhaust the call stack.

use super::program::{Arithmetic, CastTo, Comparison, Constant};
use std::ops::Range;

/// Index of a node in its tree.
pub(super) type NodeIndex = usize;

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeKind {
    Literal(Constant),
    Name(Box<str>),
    Not(NodeIndex),
    And(NodeIndex, NodeIndex),
    Or(NodeIndex, NodeIndex),
    Compare(Comparison, NodeIndex, NodeIndex),
    Compute(Arithmetic, NodeIndex, NodeIndex),
    Cast(NodeIndex, CastTo),
    IsNull(NodeIndex),
    Quadkey(NodeIndex, NodeIndex, NodeIndex),
}

/// One node and the bytes of the source text it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) span: Range<usize>,
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    pub(super) nodes: Vec<Node>,
}

/// How tightly a node binds; parentheses are printed where a child binds less tightly than its place asks for.
fn precedence(kind: &NodeKind) -> u8 {
    match kind {
        NodeKind::Or(..) => 1,
        NodeKind::And(..) => 2,
        NodeKind::Not(_) => 3,
        NodeKind::Compare(..) => 4,
        NodeKind::Compute(Arithmetic::Add | Arithmetic::Subtract, ..) => 5,
        NodeKind::Compute(..) => 6,
        _ => 7,
    }
}

/// What is left to print.
enum Todo {
    Text(&'static str),
    /// A node, at a place that asks for at least this precedence.
    Node(NodeIndex, u8),
}

impl Expression {
    /// The text with canonical spacing, quotes and parentheses. Parsing it gives an equal tree, and it nests no deeper than the source did.
    pub fn text(&self) -> String {
        self.text_by(&|name: &str| name.to_owned())
    }

    /// The same with names replaced.
    pub(super) fn text_by(&self, name_of: &dyn Fn(&str) -> String) -> String {
        let mut out = String::new();
        let Some(root) = self.nodes.len().checked_sub(1) else { return out };
        let mut todo = vec![Todo::Node(root, 0)];
        while let Some(next) = todo.pop() {
            match next {
                Todo::Text(text) => out.push_str(text),
                Todo::Node(index, wanted) => {
                    let Some(node) = self.nodes.get(index) else { continue };
                    let parts = parts_of(&node.kind, name_of, &mut out);
                    if precedence(&node.kind) < wanted {
                        out.push('(');
                        todo.push(Todo::Text(")"));
                    }
                    todo.extend(parts.into_iter().rev());
                }
            }
        }
        out
    }

    /// Every name in it, in order of appearance.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| if let NodeKind::Name(name) = &node.kind { Some(&**name) } else { None })
    }
}

/// Prints a leaf at once (a leaf never needs parentheses), or lists the parts of an inner node.
fn parts_of(kind: &NodeKind, name_of: &dyn Fn(&str) -> String, out: &mut String) -> Vec<Todo> {
    let infix = |left: NodeIndex, operator: &'static str, right: NodeIndex, left_wants: u8, right_wants: u8| {
        vec![Todo::Node(left, left_wants), Todo::Text(operator), Todo::Node(right, right_wants)]
    };
    match kind {
        NodeKind::Literal(constant) => {
            print_constant(constant, out);
            Vec::new()
        }
        NodeKind::Name(name) => {
            out.push_str(&name_of(name));
            Vec::new()
        }
        NodeKind::Or(left, right) => infix(*left, " or ", *right, 1, 2),
        NodeKind::And(left, right) => infix(*left, " and ", *right, 2, 3),
        NodeKind::Not(child) => vec![Todo::Text("not "), Todo::Node(*child, 3)],
        NodeKind::Compare(comparison, left, right) => {
            let operator = match comparison {
                Comparison::Equal => " == ",
                Comparison::Unequal => " != ",
                Comparison::Less => " < ",
                Comparison::LessOrEqual => " <= ",
                Comparison::Greater => " > ",
                Comparison::GreaterOrEqual => " >= ",
            };
            infix(*left, operator, *right, 5, 5)
        }
        NodeKind::Compute(arithmetic, left, right) => {
            let (operator, binds) = match arithmetic {
                Arithmetic::Add => (" + ", 5),
                Arithmetic::Subtract => (" - ", 5),
                Arithmetic::Multiply => (" * ", 6),
                Arithmetic::Divide => (" / ", 6),
            };
            infix(*left, operator, *right, binds, binds + 1)
        }
        NodeKind::Cast(child, target) => {
            let end = match target {
                CastTo::Str => ", str)",
                CastTo::Int => ", int)",
                CastTo::Float => ", float)",
                CastTo::Bool => ", bool)",
            };
            vec![Todo::Text("cast("), Todo::Node(*child, 0), Todo::Text(end)]
        }
        NodeKind::IsNull(child) => vec![Todo::Text("isnull("), Todo::Node(*child, 0), Todo::Text(")")],
        NodeKind::Quadkey(lat, lon, zoom) => vec![
            Todo::Text("quadkey("),
            Todo::Node(*lat, 0),
            Todo::Text(", "),
            Todo::Node(*lon, 0),
            Todo::Text(", "),
            Todo::Node(*zoom, 0),
            Todo::Text(")"),
        ],
    }
}

fn print_constant(constant: &Constant, out: &mut String) {
    match constant {
        Constant::Null => out.push_str("null"),
        Constant::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Constant::I64(number) => out.push_str(itoa::Buffer::new().format(*number)),
        Constant::F64(number) => out.push_str(ryu::Buffer::new().format(*number)),
        Constant::Str(text) => {
            out.push('\'');
            for letter in text.chars() {
                match letter {
                    '\'' => out.push_str("\\'"),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    _ => out.push(letter),
                }
            }
            out.push('\'');
        }
    }
}
