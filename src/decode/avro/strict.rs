//! What the specification has against a writer schema that is read all the same.
//!
//! [`schema`](super::schema) is as lenient as a reader can be; other readers of the topic may not be. `check` says where a
//! schema departs, in the words of apache-avro, which holds the specification strictly. Never asked while records are read.

use apache_avro::Schema;
use streamgauge_api::inlet::FetchedSchema;

/// Why a strict reader may refuse the schema; none when it is Avro to the letter.
pub fn departure(schema: &FetchedSchema) -> Option<String> {
    let references = schema.references.iter().map(|reference| reference.text.as_str());
    Schema::parse_str_with_list(&schema.text, references).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgauge_api::inlet::SchemaReference;

    #[test]
    fn what_other_readers_may_refuse_is_said_and_what_is_avro_is_not() {
        let said = |text: &str, references: &[&str]| {
            let references = references.iter().map(|text| SchemaReference { name: String::new(), text: (*text).to_owned() }).collect();
            departure(&FetchedSchema { registry: String::new(), id: 1.into(), kind: "AVRO".into(), text: text.into(), references })
        };
        let of = |field: &str| format!(r#"{{"type":"record","name":"R","fields":[{field}]}}"#);
        assert_eq!(said(&of(r#"{"name":"a","type":["null","string"],"default":null}"#), &[]), None);
        let other = r#"{"type":"record","name":"Other","fields":[{"name":"x","type":"long"}]}"#;
        assert_eq!(said(&of(r#"{"name":"a","type":"Other"}"#), &[other]), None);
        for field in
            [r#"{"name":"größe","type":"long"}"#, r#"{"name":"a","type":{"type":"enum","name":"S","symbols":["X"],"default":"Z"}}"#]
        {
            assert!(said(&of(field), &[]).is_some_and(|reason| !reason.is_empty()), "{field}");
        }
    }
}
