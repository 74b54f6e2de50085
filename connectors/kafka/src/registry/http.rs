//! One GET against a list of registries.
//!
//! Answers are parsed leniently: the status and `error_code` count, the content type does not. Every call is bounded in time and size. Called on the
//! registry thread and by the reachability check.

use crate::config::{RegistryAuth, RegistryConfig};
use base64::Engine;
use serde_json::Value as Json;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const TOTAL_LIMIT: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: u64 = 8 << 20;
const REDIRECTS_MAX: u32 = 3;

/// Confluent's code for "schema not found", the only authoritative one for an id.
pub const SCHEMA_NOT_FOUND: &[i64] = &[40403];
/// Its codes for a reference whose subject, version or schema is gone.
pub const REFERENCE_NOT_FOUND: &[i64] = &[40401, 40402, 40403];

/// Its codes for a subject that is not there, and for one without versions.
pub const SUBJECT_NOT_FOUND: &[i64] = &[40401, 40402];

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The registry itself says that it has no such schema, or no whole one: a reference is not there,
    /// references form a circle, the text is beyond every bound.
    #[error("{0}")]
    Missing(String),
    /// Anything else: refused, timed out, 5xx, 401, 403, TLS, nonsense.
    #[error("{0}")]
    Down(String),
}

/// A client for one configured registry.
pub struct Http {
    agent: Agent,
    bases: Vec<String>,
    authorization: Option<String>,
}

impl Http {
    /// Reads certificates and prepares the client; connects to nothing.
    ///
    /// # Errors
    /// [`RegistryError::Down`] with what is wrong with a certificate or key.
    pub fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_global(Some(TOTAL_LIMIT))
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .proxy(None)
            .user_agent("streamgauge")
            .tls_config(tls(config)?)
            .build()
            .new_agent();
        let authorization = config.auth.as_ref().map(|auth| match auth {
            RegistryAuth::Basic { user, password } => {
                let pair = format!("{user}:{}", password.reveal());
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            RegistryAuth::Bearer(token) => format!("Bearer {}", token.reveal()),
        });
        Ok(Self { agent, bases: config.urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(), authorization })
    }

    /// The name that schemas carry: the first URL, without credentials.
    pub fn name(&self) -> String {
        self.bases.first().map(|base| without_credentials(base)).unwrap_or_default()
    }

    /// Asks each URL in turn until one answers. "Missing", which a 404 with one of these codes says, counts unless another URL has it.
    ///
    /// # Errors
    /// As [`RegistryError`]; the text names URL and status.
    pub fn get(&self, path: &str, not_found: &[i64]) -> Result<Json, RegistryError> {
        let mut missing = None;
        let mut down = Vec::new();
        for base in &self.bases {
            match self.get_from(base, path, not_found) {
                Ok(answer) => return Ok(answer),
                Err(RegistryError::Missing(text)) => missing = Some(text),
                Err(RegistryError::Down(text)) => down.push(text),
            }
        }
        Err(missing.map_or_else(|| RegistryError::Down(down.join("; ")), RegistryError::Missing))
    }

    fn get_from(&self, base: &str, path: &str, not_found: &[i64]) -> Result<Json, RegistryError> {
        let shown = without_credentials(base);
        let down = |what: String| RegistryError::Down(format!("{shown}{path}: {what}"));
        let mut request =
            self.agent.get(format!("{base}{path}")).header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.call().map_err(|error| down(error.to_string()))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => RegistryError::Missing(format!("{shown}{path}: larger than {BODY_BYTES_MAX} bytes")),
            error => down(format!("status {status}, but the body did not arrive: {error}")),
        })?;
        let json = serde_json::from_slice::<Json>(&body).ok();
        match (status, json) {
            (200..=299, Some(json)) => Ok(json),
            (200..=299, None) => Err(down(format!("status {status}, but the body is not JSON ({} bytes)", body.len()))),
            (_, json) => {
                let code = json.as_ref().and_then(|json| json.get("error_code")).and_then(Json::as_i64);
                match code {
                    Some(code) if status == 404 && not_found.contains(&code) => {
                        Err(RegistryError::Missing(format!("{shown}{path}: 404, error_code {code}")))
                    }
                    Some(code) => Err(down(format!("status {status}, error_code {code}"))),
                    None => Err(down(format!("status {status}"))),
                }
            }
        }
    }
}

/// A URL without `user:password@`.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((credentials, _)) => format!("{scheme}://{}", rest.get(credentials.len() + 1..).unwrap_or_default()),
        None => url.to_owned(),
    }
}

fn tls(config: &RegistryConfig) -> Result<TlsConfig, RegistryError> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &config.ca {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
    }
    match (&config.cert, &config.key) {
        (Some(path), Some(key)) => {
            let key = PrivateKey::from_pem(key.reveal().as_bytes())
                .map_err(|_error| RegistryError::Down("the registry's client key is not a PEM private key".to_owned()))?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&certificates(path)?, key)));
        }
        (None, None) => {}
        _ => return Err(RegistryError::Down("a client certificate needs its key, and a key its certificate".to_owned())),
    }
    Ok(tls.build())
}

fn certificates(path: &std::path::Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    let wrong = |what: &str| RegistryError::Down(format!("{}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(wrong("holds no PEM certificate")) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        for (url, shown) in [
            ("http://h:8081", "http://h:8081"),
            ("http://u:p@h:8081/apis/ccompat/v7", "http://h:8081/apis/ccompat/v7"),
            ("https://u:p%40@h/a@b", "https://h/a@b"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
