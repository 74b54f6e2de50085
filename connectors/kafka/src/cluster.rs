//! Questions to a cluster that are not fetches: which topics, which ids, which log ends; and group commits.
//!
//! [`Cluster`] is the seam between the control thread and the brokers. Its real implementation is [`Brokers`], a client without an assignment, so that no
//! question queues behind a fetch. The second one, in tests, gives topics ids where the in-process mock cluster has none.
//! Called on the control thread only; every call is bounded by the limit that it is given.

use crate::ext::{self, Batch, Client, ClientError, GroupCommit, Inbox, Isolation, OffsetAnswer, OffsetSpec, TopicDescription};
use std::sync::Arc;
use std::time::Duration;

/// What the control thread asks.
pub trait Cluster: Send {
    /// The cluster's id; empty when the brokers have none.
    ///
    /// # Errors
    /// No broker answered in time.
    fn id(&mut self, limit: Duration) -> Result<String, ClientError>;

    /// Names of all topics.
    ///
    /// # Errors
    /// No broker answered in time.
    fn topics(&mut self, limit: Duration) -> Result<Vec<String>, ClientError>;

    /// Ids and partitions of the named topics, one entry each; a missing one has an error.
    ///
    /// # Errors
    /// No broker answered in time.
    fn describe(&mut self, names: &[&str], limit: Duration) -> Result<Vec<TopicDescription>, ClientError>;

    /// Ends of logs.
    ///
    /// # Errors
    /// No broker answered in time.
    fn offsets(
        &mut self,
        asked: &[(&str, i32, OffsetSpec)],
        isolation: Isolation,
        limit: Duration,
    ) -> Result<Vec<OffsetAnswer>, ClientError>;

    /// Commits to the group.
    ///
    /// # Errors
    /// The coordinator refused or did not answer in time.
    fn commit(&mut self, commits: &[GroupCommit], limit: Duration) -> Result<(), ClientError>;

    /// Serves the client's callbacks and returns the errors that it told of since.
    fn errors(&mut self) -> Vec<ClientError>;
}

/// Brokers through a control client.
pub struct Brokers {
    client: Client,
    topic_ids: bool,
}

impl Brokers {
    /// Creates the client; connects in the background. `topic_ids` says whether the brokers give topics ids.
    ///
    /// # Errors
    /// A setting that librdkafka refuses.
    pub fn new(settings: &[(String, String)], topic_ids: bool) -> Result<Self, ClientError> {
        Ok(Self { client: Client::new(settings, Arc::new(Inbox::default()))?, topic_ids })
    }
}

/// How long a broker has to say who is there after a question found nobody.
const REFRESH: Duration = Duration::from_millis(500);

impl Cluster for Brokers {
    fn id(&mut self, limit: Duration) -> Result<String, ClientError> {
        self.client.greet(limit)?;
        self.client
            .cluster_id(limit)
            .ok_or_else(|| ClientError { code: ext::code::TIMED_OUT, text: format!("no broker told its cluster's id within {limit:?}") })
    }

    fn topics(&mut self, limit: Duration) -> Result<Vec<String>, ClientError> {
        Ok(self.client.topics(limit)?.into_iter().filter(|topic| topic.error.is_none()).map(|topic| topic.name).collect())
    }

    fn describe(&mut self, names: &[&str], limit: Duration) -> Result<Vec<TopicDescription>, ClientError> {
        if self.topic_ids {
            return self.client.describe(names, limit).inspect_err(|error| {
                // It went to the broker that was last named as the controller, which may be gone: the client asks who is one now
                // with its next metadata only. Best effort: a broker that is away will be asked again.
                if error.code == ext::code::TIMED_OUT {
                    let _asked = self.client.greet(REFRESH);
                }
            });
        }
        let mut all = self.client.topics(limit)?;
        Ok(names
            .iter()
            .map(|name| match all.iter().position(|topic| topic.name == *name) {
                Some(index) => all.swap_remove(index),
                None => TopicDescription {
                    name: (*name).to_owned(),
                    id: streamgauge_api::TopicId::NONE,
                    partitions: Vec::new(),
                    error: Some(ClientError {
                        code: ext::code::UNKNOWN_TOPIC_OR_PART,
                        text: ext::code_text(ext::code::UNKNOWN_TOPIC_OR_PART),
                    }),
                },
            })
            .collect())
    }

    fn offsets(
        &mut self,
        asked: &[(&str, i32, OffsetSpec)],
        isolation: Isolation,
        limit: Duration,
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        self.client.offsets(asked, isolation, limit)
    }

    fn commit(&mut self, commits: &[GroupCommit], limit: Duration) -> Result<(), ClientError> {
        self.client.commit(commits, limit)
    }

    fn errors(&mut self) -> Vec<ClientError> {
        // A client without an assignment has no records; draining only serves its callbacks.
        self.client.drain(&mut Batch::new(), Duration::ZERO);
        self.client.inbox().take_errors()
    }
}
