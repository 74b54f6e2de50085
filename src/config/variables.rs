//! Variables of the environment that look like settings and are none: a misspelt `STREAMGAUGE_LIMITS_MEMROY` would be a
//! limit that is not there.
//!
//! A warning of `run`, since an environment is seldom one's own alone; a finding of `check`. Left alone are the variables
//! that the file names itself (`{ env = .. }`), those of the command line and of the tests, and the links that Kubernetes
//! sets for a service of that name.

use super::check::Check;
use super::document::{Node, Value};
use super::key;
use super::problem::ConfigProblem;
use streamgauge_api::{Code, did_you_mean};

const PREFIX: &str = "STREAMGAUGE_";

/// Variables with a meaning that is no setting: of the command line, of `./test` and of the tests.
const OTHERS: &[&str] = &[
    "STREAMGAUGE_HTTP",
    "STREAMGAUGE_ADMIN",
    "STREAMGAUGE_BINARY",
    "STREAMGAUGE_CACHE",
    "STREAMGAUGE_COMMIT",
    "STREAMGAUGE_CRAFTED",
    "STREAMGAUGE_LONG",
    "STREAMGAUGE_SEED",
    "STREAMGAUGE_TEST_PANIC",
    "STREAMGAUGE_WRITE_DOCS",
    "STREAMGAUGE_WRITE_GOLDEN",
];

/// Warns of each.
pub(super) fn unknown(check: &mut Check<'_>) {
    let mut named = Vec::new();
    named_by_file(check.root, &mut named);
    let settings: Vec<String> = key::settings().map(|key| key::variable(key.path)).collect();
    let mut names = (check.outside.names)();
    names.sort_unstable();
    for name in names.iter().filter(|name| name.starts_with(PREFIX)) {
        let known = settings.contains(name) || OTHERS.contains(&name.as_str()) || named.contains(name) || is_service_link(name);
        if known {
            continue;
        }
        let help = did_you_mean(name, settings.iter())
            .unwrap_or_else(|| "a setting's variable is its key in capitals: STREAMGAUGE_LIMITS_MEMORY for limits.memory".to_owned());
        let problem = ConfigProblem::new(Code::UnknownConfigKey, format!("the environment has {name}, which is no setting"));
        check.warnings.push(problem.from(format!("environment variable {name}")).help(help));
    }
}

/// Targets of `{ env = .. }`.
fn named_by_file(node: &Node, named: &mut Vec<String>) {
    match &node.value {
        Value::Table(members) => {
            for member in members {
                match member.node.text() {
                    Some(name) if member.key == "env" => named.push(name.to_owned()),
                    _ => named_by_file(&member.node, named),
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| named_by_file(item, named)),
        _ => {}
    }
}

/// Whether Kubernetes sets this for a service whose name begins with streamgauge: `STREAMGAUGE_SERVICE_HOST`,
/// `STREAMGAUGE_A_SERVICE_PORT_HTTP`, `STREAMGAUGE_PORT`, `STREAMGAUGE_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(number)
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
            && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, found)| name.get(at + found.len()..).is_some_and(of_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_kubernetes_are_no_settings_and_misspelt_settings_are_no_links() {
        for (name, link) in [
            ("STREAMGAUGE_SERVICE_HOST", true),
            ("STREAMGAUGE_SERVICE_PORT", true),
            ("STREAMGAUGE_DATA_SERVICE_PORT_HTTP", true),
            ("STREAMGAUGE_PORT", true),
            ("STREAMGAUGE_PORT_8080_TCP", true),
            ("STREAMGAUGE_PORT_8080_TCP_ADDR", true),
            ("STREAMGAUGE_PORT_8080_UDP_PORT", true),
            ("STREAMGAUGE_PORT_8080_TCP_X", false),
            ("STREAMGAUGE_PORT_HTTP", false),
            ("STREAMGAUGE_LIMITS_MEMROY", false),
            ("STREAMGAUGE_SERVER_HTPP", false),
        ] {
            assert_eq!(is_service_link(name), link, "{name}");
        }
    }
}
