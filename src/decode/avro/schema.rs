//! Writer schema text -> shapes, as lenient as a reader can be.
//!
//! What a writer declared for its own use is not looked at: defaults, aliases, order, docs, whether
//! names are letters. Names are compared, nothing else, so letters beyond ASCII and dashes are as good
//! as any. An `error` is a record. A logical type that does not go with its base is its base, as the
//! specification says. What is left over, bytes that cannot be told apart without knowing the type, is
//! refused: an unknown type, a name that nothing defines, a record without fields.
//!
//! apache-avro is the oracle (`tests`): on every schema that it takes, both read the same. Recursion is
//! bounded by the nesting that serde_json takes (128).

use super::shape::{DecimalForm, Shape, ShapeIndex, Shapes};
use crate::row::TimeUnit;
use serde_json::Value as Json;
use std::collections::HashMap;
use streamgauge_api::inlet::SchemaReference;

/// Parses a schema with those that it refers to, in any order; gives all shapes and that of the root.
///
/// # Errors
/// Why it is no Avro schema that records can be read by.
pub(super) fn parse(text: &str, references: &[SchemaReference]) -> Result<(Shapes, ShapeIndex), String> {
    let mut parser = Parser { shapes: Shapes::default(), named: HashMap::new(), wanted: Vec::new() };
    let json = |text: &str| serde_json::from_str::<Json>(text).map_err(|error| format!("it is no JSON: {error}"));
    for reference in references {
        parser.schema(&json(&reference.text)?, "")?;
    }
    let root = parser.schema(&json(text)?, "")?;
    parser.resolve()?;
    Ok((parser.shapes, root))
}

struct Parser {
    shapes: Shapes,
    /// Named types by full name.
    named: HashMap<String, ShapeIndex>,
    /// Names that were used before they were defined: the name as it stood, in which namespace, and the shape that waits for it.
    wanted: Vec<(String, String, ShapeIndex)>,
}

impl Parser {
    fn add(&mut self, shape: Shape) -> ShapeIndex {
        let free = matches!(shape, Shape::Null | Shape::Fixed(0));
        self.shapes.all.push(shape);
        self.shapes.free.push(free);
        self.shapes.names.push("".into());
        match u32::try_from(self.shapes.all.len() - 1) {
            Ok(index) => index,
            Err(_) => unreachable!("a schema text has far fewer than 2^32 types"),
        }
    }

    /// A schema that stands in this namespace.
    fn schema(&mut self, schema: &Json, namespace: &str) -> Result<ShapeIndex, String> {
        match schema {
            Json::String(name) => self.by_name(name, namespace),
            Json::Array(branches) => {
                let mut shapes = Vec::with_capacity(branches.len());
                for branch in branches {
                    if branch.is_array() {
                        return Err("a union stands in a union".into());
                    }
                    shapes.push(self.schema(branch, namespace)?);
                }
                Ok(self.add(Shape::Union(shapes.into_boxed_slice())))
            }
            Json::Object(_) => self.object(schema, namespace),
            other => Err(format!("{other} is no type")),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<ShapeIndex, String> {
        if let Some(shape) = primitive(name) {
            return Ok(self.add(shape));
        }
        if let Some(known) = self.known(name, namespace) {
            return Ok(known);
        }
        let waiting = self.add(Shape::Null);
        self.shapes.free[waiting as usize] = false;
        self.wanted.push((name.to_owned(), namespace.to_owned(), waiting));
        Ok(waiting)
    }

    /// A name means the type of its namespace, or else one of none.
    fn known(&self, name: &str, namespace: &str) -> Option<ShapeIndex> {
        let (_, full) = full_name(name, None, namespace);
        self.named.get(&full).or_else(|| self.named.get(name.trim_start_matches('.'))).copied()
    }

    fn object(&mut self, schema: &Json, namespace: &str) -> Result<ShapeIndex, String> {
        let kind = match schema.get("type") {
            Some(Json::String(kind)) => kind.as_str(),
            // A type in a type: what stands around it may say more of it.
            Some(inner @ (Json::Object(_) | Json::Array(_))) => {
                let index = self.schema(inner, namespace)?;
                if let Some(shape) = logical(&self.shapes.all[index as usize], schema) {
                    self.shapes.all[index as usize] = shape;
                }
                return Ok(index);
            }
            _ => return Err("an object without a \"type\" is no type".into()),
        };
        match kind {
            "record" | "error" => self.record(schema, namespace),
            "enum" => {
                let symbols = schema.get("symbols").and_then(Json::as_array).ok_or("an enum has no symbols")?;
                let symbols: Option<Box<[Box<str>]>> = symbols.iter().map(|symbol| symbol.as_str().map(Into::into)).collect();
                let shape = Shape::Enum(symbols.ok_or("an enum has a symbol that is no text")?);
                self.define(schema, namespace, shape).map(|(index, _)| index)
            }
            "fixed" => {
                let size = schema.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
                let shape = Shape::Fixed(size.ok_or("a fixed has no size")?);
                let shape = logical(&shape, schema).unwrap_or(shape);
                self.define(schema, namespace, shape).map(|(index, _)| index)
            }
            "array" => {
                let items = self.schema(schema.get("items").ok_or("an array has no \"items\"")?, namespace)?;
                Ok(self.add(Shape::Array(items)))
            }
            "map" => {
                let values = self.schema(schema.get("values").ok_or("a map has no \"values\"")?, namespace)?;
                Ok(self.add(Shape::Map(values)))
            }
            name => match primitive(name) {
                Some(shape) => {
                    let shape = logical(&shape, schema).unwrap_or(shape);
                    Ok(self.add(shape))
                }
                None => self.by_name(name, namespace),
            },
        }
    }

    fn record(&mut self, schema: &Json, namespace: &str) -> Result<ShapeIndex, String> {
        let declared = schema.get("fields").and_then(Json::as_array).ok_or("a record has no fields")?;
        // Known before its fields are: a recursive record finds itself.
        let (index, inside) = self.define(schema, namespace, Shape::Record(Box::new([])))?;
        let mut fields: Vec<(Box<str>, ShapeIndex)> = Vec::with_capacity(declared.len());
        for field in declared {
            let name = field.get("name").and_then(Json::as_str).ok_or("a field has no name")?;
            if fields.iter().any(|(known, _)| **known == *name) {
                return Err(format!("field \"{name}\" stands twice in a record"));
            }
            let shape = self.schema(field.get("type").ok_or_else(|| format!("field \"{name}\" has no type"))?, &inside)?;
            fields.push((name.into(), shape));
        }
        self.shapes.free[index as usize] = fields.iter().all(|&(_, shape)| self.shapes.is_free(shape));
        self.shapes.all[index as usize] = Shape::Record(fields.into_boxed_slice());
        Ok(index)
    }

    /// Gives a named type its number; also the namespace inside of it.
    fn define(&mut self, schema: &Json, enclosing: &str, shape: Shape) -> Result<(ShapeIndex, String), String> {
        let name = schema.get("name").and_then(Json::as_str).filter(|name| !name.is_empty()).ok_or("a named type has no name")?;
        let (namespace, full) = full_name(name, schema.get("namespace").and_then(Json::as_str), enclosing);
        let index = self.add(shape);
        self.shapes.names[index as usize] = name.into();
        self.named.insert(full, index);
        Ok((index, namespace))
    }

    /// Names that were used first and defined later.
    fn resolve(&mut self) -> Result<(), String> {
        for (name, namespace, waiting) in std::mem::take(&mut self.wanted) {
            let Some(known) = self.known(&name, &namespace) else {
                let (_, full) = full_name(&name, None, &namespace);
                return Err(format!("it refers to \"{full}\", which neither it nor its references define"));
            };
            let (waiting, known) = (waiting as usize, known as usize);
            self.shapes.all[waiting] = self.shapes.all[known].clone();
            self.shapes.names[waiting] = self.shapes.names[known].clone();
        }
        Ok(())
    }
}

/// Namespace and full name of a type.
fn full_name(name: &str, declared: Option<&str>, enclosing: &str) -> (String, String) {
    match name.rsplit_once('.') {
        Some(("", last)) => (String::new(), last.to_owned()),
        Some((namespace, _)) => (namespace.to_owned(), name.to_owned()),
        None => match declared.unwrap_or(enclosing) {
            "" => (String::new(), name.to_owned()),
            namespace => (namespace.to_owned(), format!("{namespace}.{name}")),
        },
    }
}

fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "null" => Shape::Null,
        "boolean" => Shape::Bool,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "string" => Shape::String,
        _ => return None,
    })
}

/// What a logical type makes of its base; none when there is none, or it does not go with it.
fn logical(base: &Shape, schema: &Json) -> Option<Shape> {
    let name = schema.get("logicalType")?.as_str()?;
    let number = |key: &str| schema.get(key).map_or(Some(0), |number| number.as_u64().and_then(|number| usize::try_from(number).ok()));
    let scale = || {
        let (precision, scale) = (number("precision")?, number("scale")?);
        (precision > 0 && scale <= precision).then_some(scale)
    };
    Some(match (base, name) {
        (Shape::Int, "date") => Shape::Date,
        (Shape::Int, "time-millis") => Shape::TimeInt,
        (Shape::Long, "time-micros") => Shape::TimeLong,
        (Shape::Long, "timestamp-millis" | "local-timestamp-millis") => Shape::Time(TimeUnit::Millis),
        (Shape::Long, "timestamp-micros" | "local-timestamp-micros") => Shape::Time(TimeUnit::Micros),
        (Shape::Long, "timestamp-nanos" | "local-timestamp-nanos") => Shape::Time(TimeUnit::Nanos),
        (Shape::String, "uuid") => Shape::Uuid,
        (Shape::Fixed(16), "uuid") => Shape::UuidFixed,
        (Shape::Bytes, "decimal") => Shape::Decimal(DecimalForm::Bytes(scale()?)),
        (Shape::Fixed(size), "decimal") => Shape::Decimal(DecimalForm::Fixed(*size, scale()?)),
        (Shape::Bytes, "big-decimal") => Shape::Decimal(DecimalForm::Big),
        _ => return None,
    })
}
