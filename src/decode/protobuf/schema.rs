//! Protobuf schemas as messages by number: from a descriptor set, from a registry's text with its references.
//!
//! protox compiles `.proto` text and prost-reflect links descriptors; what is read of them here is the arena that
//! plans and rendering walk, so that neither is asked while records are read. Imports that registries know by
//! themselves (`confluent/..`) and Google's well-known types need no reference.

use base64::Engine as _;
use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use std::collections::HashMap;
use streamgauge_api::did_you_mean;
use streamgauge_api::inlet::FetchedSchema;

/// Bytes of a schema with its references, at most, that are compiled.
const SCHEMA_BYTES_MAX: usize = 4 << 20;

/// Messages that one plan may reach.
const MESSAGES_MAX: usize = 10_000;

/// Messages that are named where one has to be chosen.
const NAMED_MAX: usize = 32;

/// What registries of Confluent's kind resolve without a reference.
const BUILT_IN: [(&str, &str); 2] = [
    (
        "confluent/meta.proto",
        "syntax = \"proto3\";\npackage confluent;\nimport \"google/protobuf/descriptor.proto\";\n\
         message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }\n\
         extend google.protobuf.FileOptions { Meta file_meta = 1088; }\n\
         extend google.protobuf.MessageOptions { Meta message_meta = 1088; }\n\
         extend google.protobuf.FieldOptions { Meta field_meta = 1088; }\n\
         extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }\n\
         extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }\n",
    ),
    (
        "confluent/type/decimal.proto",
        "syntax = \"proto3\";\npackage confluent.type;\n\
         message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }\n",
    ),
];

/// Number of a message in its arena.
pub(super) type MessageIndex = u32;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Double,
    Float,
    Int32,
    Int64,
    UInt32,
    UInt64,
    SInt32,
    SInt64,
    Fixed32,
    Fixed64,
    SFixed32,
    SFixed64,
    Bool,
    String,
    Bytes,
    /// By number in the arena's enums.
    Enum(u32),
    Message(MessageIndex),
}

impl Form {
    pub(super) fn wire(self) -> u8 {
        match self {
            Self::Double | Self::Fixed64 | Self::SFixed64 => super::wire::EIGHT,
            Self::Float | Self::Fixed32 | Self::SFixed32 => super::wire::FOUR,
            Self::String | Self::Bytes | Self::Message(_) => super::wire::BYTES,
            _ => super::wire::VARINT,
        }
    }
}

/// What a field has while no record says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unset {
    /// Null: its presence is told.
    Null,
    /// A record without it is bad (proto2).
    Required,
    Int(i64),
    Double(f64),
    Bool(bool),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Enum(i32),
}

/// How often a field stands in a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Times {
    Once {
        unset: Unset,
        oneof: Option<u16>,
    },
    Repeated,
    /// Entries are messages of key 1 and value 2.
    Map,
}

#[derive(Debug, Clone)]
pub(super) struct FieldShape {
    pub(super) number: u32,
    pub(super) name: Box<str>,
    pub(super) form: Form,
    pub(super) times: Times,
}

/// Messages whose value is more than their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Plain,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.StringValue` and its like: the value or null.
    Wrapper,
    /// `confluent.type.Decimal`.
    Decimal,
}

#[derive(Debug, Clone)]
pub(super) struct MessageShape {
    pub(super) name: Box<str>,
    /// By number, ascending.
    pub(super) fields: Box<[FieldShape]>,
    pub(super) known: Known,
}

impl MessageShape {
    pub(super) fn field(&self, number: u32) -> Option<&FieldShape> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok().and_then(|index| self.fields.get(index))
    }

    pub(super) fn named(&self, name: &str) -> Option<&FieldShape> {
        self.fields.iter().find(|field| *field.name == *name)
    }
}

/// Numbers of an enum with their symbols.
type Symbols = Box<[(i32, Box<str>)]>;

/// Every message that one message reaches.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    pub(super) messages: Vec<MessageShape>,
    enums: Vec<Symbols>,
}

impl Shapes {
    pub(super) fn message(&self, index: MessageIndex) -> &MessageShape {
        &self.messages[index as usize]
    }

    pub(super) fn symbol(&self, of: u32, number: i32) -> Option<&str> {
        let symbols = self.enums.get(of as usize)?;
        symbols.iter().find(|(known, _)| *known == number).map(|(_, name)| &**name)
    }

    /// The messages that a message reaches; its own number is 0.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn of(root: &MessageDescriptor) -> Result<Self, String> {
        let mut building = Building::default();
        building.message(root);
        let mut next = 0;
        while let Some(message) = building.pending.get(next).cloned() {
            if building.pending.len() > MESSAGES_MAX {
                return Err(format!("{} reaches more than {MESSAGES_MAX} messages", root.full_name()));
            }
            let mut fields = Vec::new();
            for field in message.fields() {
                fields.push(building.field(&message, &field)?);
            }
            fields.sort_by_key(|field: &FieldShape| field.number);
            let known = known(&message);
            building.shapes.messages.push(MessageShape { name: message.full_name().into(), fields: fields.into(), known });
            next += 1;
        }
        Ok(building.shapes)
    }
}

fn known(message: &MessageDescriptor) -> Known {
    match message.full_name() {
        "google.protobuf.Timestamp" => Known::Timestamp,
        "confluent.type.Decimal" => Known::Decimal,
        name => match name.strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value")) {
            Some("Double" | "Float" | "Int64" | "UInt64" | "Int32" | "UInt32" | "Bool" | "String" | "Bytes") => Known::Wrapper,
            _ => Known::Plain,
        },
    }
}

#[derive(Default)]
struct Building {
    shapes: Shapes,
    pending: Vec<MessageDescriptor>,
    by_name: HashMap<String, u32>,
    enums: HashMap<String, u32>,
}

impl Building {
    fn message(&mut self, message: &MessageDescriptor) -> MessageIndex {
        if let Some(&index) = self.by_name.get(message.full_name()) {
            return index;
        }
        let index = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
        self.by_name.insert(message.full_name().to_owned(), index);
        self.pending.push(message.clone());
        index
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> u32 {
        if let Some(&index) = self.enums.get(of.full_name()) {
            return index;
        }
        let index = u32::try_from(self.shapes.enums.len()).unwrap_or(u32::MAX);
        // Of aliases the first name is the symbol's.
        self.shapes.enums.push(of.values().map(|value| (value.number(), value.name().into())).collect());
        self.enums.insert(of.full_name().to_owned(), index);
        index
    }

    fn field(&mut self, message: &MessageDescriptor, field: &FieldDescriptor) -> Result<FieldShape, String> {
        if field.is_group() {
            return Err(format!("{}.{} is a group, which is not read", message.full_name(), field.name()));
        }
        let form = match field.kind() {
            Kind::Double => Form::Double,
            Kind::Float => Form::Float,
            Kind::Int32 => Form::Int32,
            Kind::Int64 => Form::Int64,
            Kind::Uint32 => Form::UInt32,
            Kind::Uint64 => Form::UInt64,
            Kind::Sint32 => Form::SInt32,
            Kind::Sint64 => Form::SInt64,
            Kind::Fixed32 => Form::Fixed32,
            Kind::Fixed64 => Form::Fixed64,
            Kind::Sfixed32 => Form::SFixed32,
            Kind::Sfixed64 => Form::SFixed64,
            Kind::Bool => Form::Bool,
            Kind::String => Form::String,
            Kind::Bytes => Form::Bytes,
            Kind::Enum(of) => Form::Enum(self.enumeration(&of)),
            Kind::Message(of) => Form::Message(self.message(&of)),
        };
        let times = if field.is_map() {
            Times::Map
        } else if field.is_list() {
            Times::Repeated
        } else {
            let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            let oneof = oneof.and_then(|oneof| message.oneofs().position(|other| other.name() == oneof.name()));
            Times::Once { unset: unset(field), oneof: oneof.and_then(|index| u16::try_from(index).ok()) }
        };
        Ok(FieldShape { number: field.number(), name: field.name().into(), form, times })
    }
}

fn unset(field: &FieldDescriptor) -> Unset {
    if field.cardinality() == Cardinality::Required {
        return Unset::Required;
    }
    let declared = field.field_descriptor_proto().default_value.is_some();
    if field.supports_presence() && !declared {
        return Unset::Null;
    }
    match field.default_value() {
        Value::Bool(truth) => Unset::Bool(truth),
        Value::I32(number) => Unset::Int(number.into()),
        Value::I64(number) => Unset::Int(number),
        Value::U32(number) => Unset::Int(number.into()),
        Value::U64(number) => i64::try_from(number).map_or(Unset::Null, Unset::Int),
        Value::F32(number) => Unset::Double(number.into()),
        Value::F64(number) => Unset::Double(number),
        Value::String(text) => Unset::Text(text.into()),
        Value::Bytes(bytes) => Unset::Bytes(bytes.to_vec().into()),
        Value::EnumNumber(number) => Unset::Enum(number),
        Value::Message(_) | Value::List(_) | Value::Map(_) => Unset::Null,
    }
}

/// A registry's schema or a file, linked; the last file's messages are those that a registry's records name.
pub(super) struct Linked {
    pool: DescriptorPool,
    file: String,
    /// The files of a descriptor set that no other one imports: what it was written for.
    roots: Vec<String>,
}

impl Linked {
    /// # Errors
    /// What is wrong with the schema.
    pub(super) fn parse(schema: &FetchedSchema) -> Result<Self, String> {
        let bytes = schema.text.len() + schema.references.iter().map(|reference| reference.text.len()).sum::<usize>();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(format!("it has {bytes} bytes with its references, at most {SCHEMA_BYTES_MAX} are compiled"));
        }
        // A `.proto` text has at least one character that base64 has not.
        match base64::engine::general_purpose::STANDARD.decode(schema.text.trim()) {
            Ok(bytes) => Self::of_descriptors(&bytes, schema),
            Err(_) => Self::of_text(schema),
        }
    }

    fn of_text(schema: &FetchedSchema) -> Result<Self, String> {
        const ROOT: &str = "\u{1}schema.proto";
        let mut texts: HashMap<String, String> = BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        texts.extend(schema.references.iter().map(|reference| (reference.name.clone(), reference.text.clone())));
        texts.insert(ROOT.to_owned(), schema.text.clone());
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(texts));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler.open_file(ROOT).map_err(|error| plain(&error))?;
        Ok(Self { pool: compiler.descriptor_pool(), file: ROOT.to_owned(), roots: vec![ROOT.to_owned()] })
    }

    /// A descriptor set as protoc writes it, or one file's descriptor as registries serialize it.
    fn of_descriptors(bytes: &[u8], schema: &FetchedSchema) -> Result<Self, String> {
        use prost_reflect::prost::Message as _;
        use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
        let mut set = match FileDescriptorSet::decode(bytes) {
            Ok(set) if set.file.iter().all(|file| !file.message_type.is_empty() || file.name.is_some()) && !set.file.is_empty() => set,
            _ => FileDescriptorSet { file: vec![FileDescriptorProto::decode(bytes).map_err(|error| error.to_string())?] },
        };
        let Some(last) = set.file.last_mut() else { return Err("the descriptor set is empty".to_owned()) };
        let file = last.name.get_or_insert_with(|| "schema.proto".to_owned()).clone();
        let mut pool = DescriptorPool::global();
        let has = |set: &FileDescriptorSet, name: &str| set.file.iter().any(|file| file.name.as_deref() == Some(name));
        for reference in &schema.references {
            let linked = Self::parse(&FetchedSchema { text: reference.text.clone(), references: Vec::new(), ..schema.clone() })?;
            let Some(proto) = linked.pool.get_file_by_name(&linked.file) else { unreachable!("it was just linked") };
            let mut proto = proto.file_descriptor_proto().clone();
            proto.name = Some(reference.name.clone());
            if !has(&set, &reference.name) {
                set.file.insert(0, proto);
            }
        }
        let is_imported = |name: &String| set.file.iter().any(|file| file.dependency.contains(name));
        let mut roots: Vec<String> = set.file.iter().filter_map(|file| file.name.clone()).filter(|name| !is_imported(name)).collect();
        if !roots.contains(&file) {
            roots.push(file.clone());
        }
        set.file.retain(|file| file.name.as_deref().is_none_or(|name| pool.get_file_by_name(name).is_none()));
        pool.add_file_descriptor_set(set).map_err(|error| error.to_string())?;
        Ok(Self { pool, file, roots })
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The message of this name, or the only one that the file has when none is given.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn message(&self, name: Option<&str>) -> Result<MessageDescriptor, String> {
        let files = self.roots.iter().filter_map(|file| self.pool.get_file_by_name(file));
        let top: Vec<MessageDescriptor> = files.flat_map(|file| file.messages().collect::<Vec<_>>()).collect();
        let names = || {
            let named = top.iter().take(NAMED_MAX).map(|message| message.full_name().to_owned());
            let more = top.len().checked_sub(NAMED_MAX).filter(|more| *more > 0).map(|more| format!("and {more} more"));
            named.chain(more).collect::<Vec<_>>().join(", ")
        };
        match name {
            Some(name) => self.pool.get_message_by_name(name).ok_or_else(|| {
                let near =
                    did_you_mean(name, top.iter().map(MessageDescriptor::full_name)).map_or_else(String::new, |near| format!(" ({near})"));
                format!("there is no message {name}{near}; there are {}", names())
            }),
            None => match top.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err("it has no message".to_owned()),
                _ => Err(format!("it has several messages, say message = \"..\" with one of {}", names())),
            },
        }
    }

    /// The message that a list of indexes leads to: the file's, then inside of it.
    pub(super) fn by_indexes(&self, indexes: &[i64]) -> Option<MessageDescriptor> {
        let (first, rest) = indexes.split_first()?;
        let top = self.top().into_iter().nth(usize::try_from(*first).ok()?)?;
        rest.iter().try_fold(top, |message, index| message.child_messages().nth(usize::try_from(*index).ok()?))
    }

    /// Top-level messages in the order of the file.
    pub(super) fn top(&self) -> Vec<MessageDescriptor> {
        let Some(file) = self.pool.get_file_by_name(&self.file) else { return Vec::new() };
        file.messages().collect()
    }
}

/// Imports by name.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// An error's text with its causes, on one line.
fn plain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text.replace('\u{1}', "").replace('\n', " ")
}
