//! The query of a target: parameters that the route knows, each once but for lists, or a refusal that names the nearest.
//!
//! A parameter that is ignored is a guard that is not there (`?max_stalenes=2s`), so none is. Pure.

use super::route::percent_decoded;
use crate::form::read::MEMBER_OF;
use streamgauge_api::{ApiError, Code, unknown_member};

/// The parameter that may stand several times: each adds to the list, as those do that begin with [`MEMBER_OF`].
const LIST: &str = "features";

/// Decoded parameters in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads what follows `?`; `place` is the route and `known` what it takes.
    pub(crate) fn parse(text: &str, place: &str, known: &[&str]) -> Result<Self, ApiError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let is_member_of = known.contains(&MEMBER_OF) && name.len() > MEMBER_OF.len() && name.starts_with(MEMBER_OF);
            if !is_member_of && (name == MEMBER_OF || !known.contains(&name.as_str())) {
                return Err(unknown_member("query parameter", &name, place, known));
            }
            if name != LIST && !is_member_of && pairs.iter().any(|(given, _)| *given == name) {
                return Err(ApiError::new(Code::InvalidRequest, format!("query parameter {name} stands twice")).at(name));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// Names with values, in order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// A parameter that is on or off; off when it is not given, on when it has no value.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str()) {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(other) => {
                let reason = format!("query parameter {name}={other} is not valid: 1, true, 0 or false is wanted");
                Err(ApiError::new(Code::InvalidRequest, reason).at(name))
            }
        }
    }
}

/// Percent-decoded; `+` is a space.
fn decoded(text: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::new(Code::InvalidRequest, "the query is not percent-encoded UTF-8");
    percent_decoded(&text.replace('+', " ")).map(|text| text.into_owned()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Query, ApiError> {
        Query::parse(text, "/tables", &["features", "as_of", "explain"])
    }

    #[test]
    fn parameters_are_decoded_and_lists_may_repeat() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = vec![pair("features", "a,b,c"), pair("as_of", "1 2"), pair("features", "d")];
        assert_eq!(parse("features=a%2Cb,c&as_of=1+2&&feat%75res=d").unwrap().pairs(), pairs);
    }

    #[test]
    fn parameters_that_the_route_does_not_take_are_refused_with_the_nearest_name() {
        for (text, code, path, hint) in [
            ("explian=1", Code::UnknownMember, "explian", Some("did you mean `explain`?")),
            ("features[]=a", Code::UnknownMember, "features[]", Some("did you mean `features`?")),
            ("as_of=1&x", Code::UnknownMember, "x", Some("known here: features, as_of, explain")),
            ("=1", Code::UnknownMember, "", Some("known here: features, as_of, explain")),
            ("as_of=1&as_of=2", Code::InvalidRequest, "as_of", None),
            ("as_of=%zz", Code::InvalidRequest, "", None),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.code, error.path.as_str(), error.hint.as_deref()), (code, path, hint), "{text}");
        }
    }

    #[test]
    fn a_flag_is_on_or_off_and_nothing_else() {
        for (text, on) in
            [("", Some(false)), ("explain", Some(true)), ("explain=true", Some(true)), ("explain=0", Some(false)), ("explain=yes", None)]
        {
            assert_eq!(parse(text).unwrap().flag("explain").ok(), on, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_survived(text in "[&=+%a-f0-9s_]{0,40}") {
            let _any_answer = parse(&text).is_ok();
        }
    }
}
