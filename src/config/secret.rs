//! Secrets: named in the file, never in it. `{ env = "NAME" }` or `{ file = "/path" }`, resolved once; they never print.

use super::Surroundings;
use super::document::Item;
use super::report::Problem;
use std::fmt;
use std::path::Path;
use streamgauge_api::Code;

/// A resolved secret. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for whoever hands it to a client.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Reads a reference and what it refers to. Offline, a sound reference gives an empty secret.
pub(super) fn read(item: &Item, key: &str, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Option<Secret> {
    let reference = item.as_section().map(|section| section.entries.as_slice());
    let (entry, name) = match reference {
        Some([entry]) if matches!(entry.key.as_str(), "env" | "file") && entry.item.as_str().is_some() => {
            (entry, entry.item.as_str().unwrap_or_default())
        }
        _ => {
            let message = format!("`{key}` is a secret and does not stand in the file");
            let help = format!("write {key} = {{ env = \"NAME\" }} or {{ file = \"/path\" }}");
            problems.push(Problem::at(Code::SecretInConfig, item.span.clone(), message, "a reference is wanted").help(help));
            return None;
        }
    };
    if surroundings.offline {
        return Some(Secret(String::new()));
    }
    let found = if entry.key == "env" {
        surroundings.environment.get(name).cloned().ok_or_else(|| format!("the environment variable {name} is not set"))
    } else {
        (surroundings.read_file)(Path::new(name)).map_err(|error| format!("{name} cannot be read: {error}"))
    };
    match found {
        // A file usually ends with a line break that is not part of the secret.
        Ok(text) => Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(reason) => {
            problems.push(Problem::at(Code::SecretUnavailable, entry.item.span.clone(), format!("`{key}`: {reason}"), "not available"));
            None
        }
    }
}
