//! What a file says of records that stand in files of their own: schemas, their imports, and paths into them.

use super::*;

/// A config in a folder with these files, and what is wrong with it.
fn found(files: &[(&str, &str)], config: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let outside = Outside { env: &super::env, names: &Vec::new, client: ClientRules::NONE };
    Config::parse(config, Some(&folder.path().join("streamgauge.toml")), &Flags::default(), &outside)
        .map_err(|problems| problems.to_string())
}

fn config(source: &str, fields: &str) -> String {
    format!(
        "[events.E]\nfields = {{ id = \"str\", n = \"i64?\" }}\n[sources.s]\nevent = \"E\"\n{source}\nfields = {{ {fields} }}\n\
         kafka = {{ brokers = [\"b:1\"], topic = \"t\" }}\n"
    )
}

const ORDER: (&str, &str) = (
    "proto/shop/order.proto",
    "syntax = \"proto3\"; package shop;\nimport \"shop/common.proto\";\nimport \"google/protobuf/timestamp.proto\";\n\
     message Order { string id = 1; Customer customer = 2; google.protobuf.Timestamp at = 3; }\n",
);
const COMMON: (&str, &str) = (
    "proto/shop/common.proto",
    "syntax = \"proto3\"; package shop;\nimport \"deep.proto\";\nmessage Customer { int64 n = 1; deep.Leaf leaf = 2; }\n",
);
const DEEP: (&str, &str) = ("proto/deep.proto", "syntax = \"proto3\"; package deep;\nmessage Leaf { int64 n = 1; }\n");
const PROTOBUF: &str = "format = \"protobuf\"\nschema = \"proto/shop/order.proto\"";

#[test]
fn what_a_proto_file_imports_is_read_from_its_folders() {
    let both = [ORDER, COMMON, DEEP];
    let loaded = found(&both, &config(PROTOBUF, "n = \"customer.leaf.n\"")).unwrap_or_else(|problems| panic!("{problems}"));
    let references = &loaded.sources[0].schema.as_ref().unwrap().references;
    assert_eq!(references.iter().map(|reference| reference.name.as_str()).collect::<Vec<_>>(), ["shop/common.proto", "deep.proto"]);
    let told = found(&[ORDER, COMMON], &config(PROTOBUF, "")).unwrap_err();
    assert!(told.contains("the schema file is no Protobuf schema") && told.contains("deep.proto"), "{told}");
}

/// `custmer.n` was null in every record without a word.
#[test]
fn a_path_that_the_schema_does_not_have_is_found() {
    let files = [ORDER, COMMON, DEEP, ("order.avsc", r#"{"type":"record","name":"O","fields":[{"name":"id","type":"string"}]}"#)];
    let avro = "format = \"avro\"\nframing = \"none\"\nschema = \"order.avsc\"";
    for (source, path) in [(PROTOBUF, "custmer.n"), (PROTOBUF, "customer.m"), (PROTOBUF, "id.x"), (avro, "customer.n")] {
        let told = found(&files, &config(source, &format!("n = \"{path}\""))).unwrap_err();
        assert!(told.contains(&format!("the schema has no {path}, so that n is null in every record")), "{told}");
        // A field by its own name may be of another writer.
        found(&files, &config(source, "")).unwrap_or_else(|problems| panic!("{problems}"));
        let list = found(&files, &config(source, &format!("n = [\"{path}\", \"at\"]")));
        assert_eq!(list.is_ok(), source == PROTOBUF, "one of them is there: {:?}", list.err());
    }
}
