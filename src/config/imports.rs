//! What a `.proto` file imports, read beside it: the references that a registry would have kept with its text.
//!
//! An import's name is a path from a folder of includes, which nobody names here: it is looked for in the folder of the
//! file and in those above it, up to that of the config. What is not found there (Google's well-known types, or
//! nothing at all) is left to whoever links the schema, who says what is missing.

use super::check::read_file;
use std::collections::BTreeSet;
use std::path::{Component, Path};
use streamgauge_api::inlet::SchemaReference;

/// Files that one schema may import, by way of others too.
const IMPORTS_MAX: usize = 256;

/// The files that a text imports, and those that they import.
///
/// # Errors
/// One is there and cannot be read, or there are too many.
pub(super) fn read(text: &str, file: &Path, config: &Path) -> Result<Vec<SchemaReference>, String> {
    let folders: Vec<&Path> = file.ancestors().skip(1).take_while(|folder| folder.starts_with(config)).collect();
    let folders = if folders.is_empty() { file.parent().into_iter().collect() } else { folders };
    let (mut known, mut found) = (BTreeSet::new(), Vec::new());
    let mut open: Vec<String> = names(text);
    while let Some(name) = open.pop() {
        // Outside of the folders stands nothing that belongs to the schema.
        let is_plain = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain || !known.insert(name.clone()) {
            continue;
        }
        let Some(path) = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file()) else { continue };
        if found.len() == IMPORTS_MAX {
            return Err(format!("it imports more than {IMPORTS_MAX} files"));
        }
        let text = read_file(&path).map_err(|error| format!("its import {name} cannot be read: {error}"))?;
        open.extend(names(&text));
        found.push(SchemaReference { name, text });
    }
    Ok(found)
}

/// The names in the import statements of a text.
fn names(text: &str) -> Vec<String> {
    let statement = r#"(?m)/\*[\s\S]*?\*/|//[^\n]*|^\s*import\s+(?:public\s+|weak\s+)?"([^"\n]+)"\s*;|"(?:\\.|[^"\\\n])*""#;
    let Ok(statement) = regex::Regex::new(statement) else { unreachable!("the pattern is a constant") };
    statement.captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_statements_and_neither_comments_nor_texts() {
        let text = "syntax = \"proto3\"; // import \"a.proto\";\n/* import \"b.proto\";\n import \"b2.proto\"; */\nimport \"c.proto\";\n\
                    import public \"d/e.proto\" ;\n  import weak \"f.proto\";\noption x = \"import \\\"g.proto\\\";\";\n";
        assert_eq!(names(text), ["c.proto", "d/e.proto", "f.proto"]);
    }
}
