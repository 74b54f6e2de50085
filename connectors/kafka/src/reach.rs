//! `streamgauge check`: do the brokers answer, do the topics exist, does the registry answer. Asks and changes nothing; each question is bounded.

use crate::cluster::{Brokers, Cluster};
use crate::config::{KafkaSource, Topics};
use crate::registry::{Http, RegistryError, SCHEMA_NOT_FOUND, fetch};
use crate::settings;
use std::time::Duration;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code};

/// Everything that stands against running this source now; empty when nothing does. `limit` bounds each question to the brokers.
pub fn check_reachable(source: &KafkaSource, limit: Duration) -> Vec<ApiError> {
    let mut problems = brokers(source, limit);
    problems.extend(registry(source));
    problems
}

fn brokers(source: &KafkaSource, limit: Duration) -> Vec<ApiError> {
    let path = format!("sources.{}.kafka", source.name);
    let unreachable = |text: String| {
        let reason = format!("no broker of {} answers: {text}", source.brokers.join(","));
        vec![ApiError::new(Code::BrokerUnreachable, reason).at(format!("{path}.brokers"))]
    };
    let mut brokers = match Brokers::new(&settings::control(source, "check"), source.topic_ids) {
        Ok(brokers) => brokers,
        Err(error) => return vec![ApiError::new(Code::InvalidConfigValue, error.text).at(path)],
    };
    if let Err(error) = brokers.id(limit) {
        // The client's own words (refused, TLS, login) say more than the time-out.
        let words: Vec<String> = brokers.errors().into_iter().map(|error| error.text).take(3).collect();
        return unreachable(if words.is_empty() { error.text } else { words.join("; ") });
    }
    let Topics::Named(names) = &source.topics else {
        return brokers.topics(limit).err().map(|error| unreachable(error.text)).unwrap_or_default();
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match brokers.describe(&names, limit) {
        Err(error) => unreachable(error.text),
        Ok(topics) => topics
            .into_iter()
            .filter_map(|topic| {
                let error = topic.error?;
                Some(ApiError::new(Code::TopicNotFound, format!("topic {}: {}", topic.name, error.text)).at(path.clone()))
            })
            .collect(),
    }
}

/// The newest schema that the registry has for values of each named topic, by the usual name of its subject
/// (`TOPIC-value`). Topics without such a subject are left out, and so are those of a pattern.
///
/// # Errors
/// The registry does not answer.
pub fn newest_schemas(source: &KafkaSource) -> Result<Vec<(String, FetchedSchema)>, ApiError> {
    let (Some(config), Topics::Named(names)) = (&source.registry, &source.topics) else { return Ok(Vec::new()) };
    let down =
        |error: RegistryError| ApiError::new(Code::RegistryUnreachable, error.to_string()).at(format!("sources.{}.registry", source.name));
    let http = Http::new(config).map_err(down)?;
    let mut schemas = Vec::with_capacity(names.len());
    for topic in names {
        let newest = fetch::latest(&http, &format!("{topic}-value")).map_err(down)?;
        schemas.extend(newest.map(|schema| (topic.clone(), schema)));
    }
    Ok(schemas)
}

fn registry(source: &KafkaSource) -> Option<ApiError> {
    let config = source.registry.as_ref()?;
    // Any answer about an id will do, also that there is no such id.
    let answer = Http::new(config).and_then(|http| http.get("/schemas/ids/1", SCHEMA_NOT_FOUND));
    match answer {
        Ok(_) | Err(RegistryError::Missing(_)) => None,
        Err(RegistryError::Down(text)) => {
            Some(ApiError::new(Code::RegistryUnreachable, text).at(format!("sources.{}.registry", source.name)))
        }
    }
}
