//! What somebody meant who wrote a name that is not known: the nearest of those that are.
//!
//! Used wherever names come from outside: config keys, request members, query parameters, fields, operators. Pure; the
//! cost is bounded by [`NAME_BYTES_MAX`], since a name of a request may be as long as its body.

use crate::error::{ApiError, Code};

/// Longer names are near to nothing.
const NAME_BYTES_MAX: usize = 256;

/// Characters of an unknown name that a message shows.
const SHOWN_CHARS_MAX: usize = 64;

/// The nearest of the known names, when it is near enough to be meant.
pub fn nearest(name: &str, known: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let lower = name.to_lowercase();
    let longest_distance = 1 + name.chars().count() / 4;
    known
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.as_ref().to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= longest_distance)
        .min_by(|(left, left_name), (right, right_name)| (left, left_name.as_ref()).cmp(&(right, right_name.as_ref())))
        .map(|(_, candidate)| candidate.as_ref().to_owned())
}

/// The same as a hint.
pub fn did_you_mean(name: &str, known: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    nearest(name, known).map(|name| format!("did you mean `{name}`?"))
}

/// The refusal of a name that `place` does not know: `what` is "member" or "query parameter".
pub fn unknown_member(what: &str, name: &str, place: &str, known: &[&str]) -> ApiError {
    let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    let hint = did_you_mean(name, known.iter()).unwrap_or_else(|| match known {
        [] => format!("{place} takes no {what}"),
        known => format!("known here: {}", known.join(", ")),
    });
    ApiError::new(Code::UnknownMember, format!("{place} has no {what} \"{shown}\"")).at(shown).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_the_nearest_one() {
        let known = ["features", "max_staleness", "min_lsn"];
        for (name, hint) in [
            ("max_stalenes", "did you mean `max_staleness`?"),
            ("maxStaleness", "did you mean `max_staleness`?"),
            ("MAX_STALENESS", "did you mean `max_staleness`?"),
            ("feature", "did you mean `features`?"),
            ("colour", "known here: features, max_staleness, min_lsn"),
        ] {
            assert_eq!(unknown_member("member", name, "/get", &known).hint.as_deref(), Some(hint), "{name}");
        }
        assert_eq!(unknown_member("query parameter", "x", "/ping", &[]).hint.as_deref(), Some("/ping takes no query parameter"));
        let long = "x".repeat(4 << 20);
        assert_eq!(unknown_member("member", &long, "/get", &known).path.len(), SHOWN_CHARS_MAX);
    }
}
