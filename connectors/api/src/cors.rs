//! Which pages of other sites may read answers and act: the one rule of both HTTP ports (`server.cors`).
//!
//! Without origins no header of CORS is ever sent, so browsers keep other sites' pages out, as they do by default. The
//! rule says what the headers hold; writing them is each port's own.

use crate::{ApiError, Code};

/// Headers of answers that a page may read besides the plain ones.
pub const EXPOSED_HEADERS: &str = "X-Streamgauge-As-Of, X-Streamgauge-Lag-Ms, X-Streamgauge-Lsn, X-Streamgauge-Incident, X-Streamgauge-Gap-Since, X-Streamgauge-Complete-Since, X-Request-Id, Retry-After";

/// Headers that a page may send.
pub const REQUEST_HEADERS: &str = "Content-Type, Content-Encoding, Authorization";

/// How long a browser may believe a preflight, in seconds.
pub const MAX_AGE_SECONDS: u32 = 600;

/// The origins that may read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// A rule over origins as [`origin_problem`] accepts them.
    pub fn new(origins: Vec<String>) -> Self {
        assert!(origins.iter().all(|origin| origin_problem(origin).is_none()), "origins are checked where they are read: {origins:?}");
        assert!(u16::try_from(origins.len()).is_ok(), "an origin is remembered in 16 bits");
        Self { origins }
    }

    /// Whether no origin is named: nothing of CORS is sent.
    pub fn is_off(&self) -> bool {
        self.origins.is_empty()
    }

    /// Whether every origin may read.
    pub fn allows_all(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    /// What stands for `origin` in a reply: a number that is kept with a request until then; 0 when it may not read.
    pub fn number_of(&self, origin: &str) -> u16 {
        let place = self.origins.iter().position(|known| known == "*" || known.eq_ignore_ascii_case(origin));
        place.map_or(0, |place| place as u16 + 1)
    }

    /// The refusal of a request that changes something, when a page of another site made a browser send it: only our own
    /// pages, by the `Host` that they were asked from, and those that the config names may act. A browser sends some
    /// requests to any loopback port without asking first. Without an `Origin` no page is behind it. A name in `Host` makes
    /// no page ours: whoever owns the name may let it lead here (DNS rebinding).
    pub fn refusal(&self, origin: &str, host: &str) -> Option<ApiError> {
        let ours = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)) && is_address(host);
        if origin.is_empty() || ours || self.number_of(origin) != 0 {
            return None;
        }
        let error = ApiError::new(Code::Forbidden, format!("a page of {origin:?} may not act on this server"));
        Some(error.hint("use curl or the command line, or name the origin in server.cors"))
    }

    /// The value of `Access-Control-Allow-Origin` for the origin of this number; none for 0.
    pub fn allowed(&self, number: u16) -> Option<&str> {
        let place = usize::from(number).checked_sub(1)?;
        let Some(origin) = self.origins.get(place) else { unreachable!("number {number} was never given out") };
        Some(if self.allows_all() { "*" } else { origin })
    }
}

/// Whether a `Host` is an address or `localhost`, with or without a port.
fn is_address(host: &str) -> bool {
    let is_ip = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    is_ip(host) || is_ip(name) || name.eq_ignore_ascii_case("localhost")
}

/// Why this text cannot be an origin.
pub fn origin_problem(text: &str) -> Option<String> {
    if text == "*" {
        return None;
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        None => Some(format!("{text:?} is no origin: http:// or https:// and a host are wanted, or \"*\"")),
        Some("") => Some(format!("{text:?} names no host")),
        Some(host) if host.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'/' | b'?' | b'#' | b'@' | b',' | b'*')) => {
            Some(format!("{text:?} is more than an origin: scheme, host and port alone are wanted"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_origins_may_read() {
        let cors = Cors::new(vec!["https://a.example".into(), "http://localhost:3000".into()]);
        for (origin, allowed) in [
            ("https://a.example", Some("https://a.example")),
            ("HTTPS://A.example", Some("https://a.example")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://localhost:3001", None),
            ("http://a.example", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(cors.allowed(cors.number_of(origin)), allowed, "{origin}");
        }
        let all = Cors::new(vec!["*".into()]);
        assert_eq!(all.allowed(all.number_of("https://b.example")), Some("*"));
        assert!(Cors::default().is_off() && Cors::default().number_of("https://a.example") == 0);
    }

    #[test]
    fn only_our_own_pages_and_the_named_ones_may_act() {
        let cors = Cors::new(vec!["https://a.example".into()]);
        for (origin, refused) in [
            ("", false),
            ("http://127.0.0.1:8080", false),
            ("https://a.example", false),
            ("https://evil.example", true),
            ("http://127.0.0.1:8081", true),
            ("null", true),
        ] {
            assert_eq!(cors.refusal(origin, "127.0.0.1:8080").is_some(), refused, "{origin}");
        }
        for (host, refused) in [("localhost:8080", false), ("[::1]:8080", false), ("10.0.0.7", false), ("evil.example:8080", true)] {
            assert_eq!(cors.refusal(&format!("http://{host}"), host).is_some(), refused, "{host}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, sound) in [
            ("*", true),
            ("https://a.example", true),
            ("http://127.0.0.1:3000", true),
            ("http://[::1]:3000", true),
            ("a.example", false),
            ("https://", false),
            ("https://a.example/", false),
            ("https://a.example/app", false),
            ("https://*.example", false),
            ("https://a b", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(origin_problem(text).is_none(), sound, "{text}");
        }
    }
}
