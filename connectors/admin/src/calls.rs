//! Calls into the engine from the runtime: on blocking threads, bounded in number and in time.
//!
//! There are three lanes, so that sixteen slow scrapes cannot starve a liveness probe, and nobody who waits for the log a scrape. A call that outlives its limit is answered with `overloaded` and keeps its
//! place in the lane until it really returns: a stalled engine fills its lanes once and no further threads are started.

use std::sync::Arc;
use std::time::Duration;

use streamgauge_api::{ApiError, Code, Control};
use tokio::sync::Semaphore;

/// Calls in flight, by lane.
const PROBES_MAX: usize = 8;
const QUERIES_MAX: usize = 16;
const FOLLOWERS_MAX: usize = 8;
const SUBSCRIBES_MAX: usize = 8;

/// Blocking threads that the runtime needs for all lanes.
pub(crate) const BLOCKING_THREADS_MAX: usize = PROBES_MAX + QUERIES_MAX + FOLLOWERS_MAX + SUBSCRIBES_MAX;

/// What a call is for; decides its lane and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Health and readiness.
    Probe,
    /// A page, a list, a scrape.
    Query,
    /// A snapshot or a fingerprint: passes over the whole state.
    Long,
    /// Frames of the log, which may have to come first.
    Follow,
    /// The beginning of a subscription, for which much of the log may have to be read.
    Subscribe,
}

impl Kind {
    fn limit(self) -> Duration {
        match self {
            Self::Probe => Duration::from_secs(2),
            Self::Query => Duration::from_secs(10),
            Self::Long | Self::Subscribe => Duration::from_secs(120),
            Self::Follow => Duration::from_secs(20),
        }
    }
}

/// The engine as handlers call it.
#[derive(Clone)]
pub(crate) struct Calls {
    control: Arc<dyn Control>,
    probes: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    subscribes: Arc<Semaphore>,
}

impl Calls {
    pub(crate) fn new(control: Arc<dyn Control>) -> Self {
        let lane = |places| Arc::new(Semaphore::new(places));
        let (probes, queries) = (lane(PROBES_MAX), lane(QUERIES_MAX));
        Self { control, probes, queries, followers: lane(FOLLOWERS_MAX), subscribes: lane(SUBSCRIBES_MAX) }
    }

    /// Runs `call` on a blocking thread.
    ///
    /// # Errors
    /// `overloaded` when the lane is full or the engine does not answer in time, `internal_error` when it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        kind: Kind,
        call: impl FnOnce(&dyn Control) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (lane, places) = match kind {
            Kind::Probe => (&self.probes, PROBES_MAX),
            Kind::Query | Kind::Long => (&self.queries, QUERIES_MAX),
            Kind::Follow => (&self.followers, FOLLOWERS_MAX),
            Kind::Subscribe => (&self.subscribes, SUBSCRIBES_MAX),
        };
        let Ok(place) = Arc::clone(lane).try_acquire_owned() else {
            return Err(ApiError::new(Code::Overloaded, format!("{places} admin calls are in flight already")));
        };
        let control = Arc::clone(&self.control);
        let running = tokio::task::spawn_blocking(move || {
            let _place = place;
            call(control.as_ref())
        });
        match tokio::time::timeout(kind.limit(), running).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ApiError::new(Code::InternalError, "the engine panicked while it answered; see the log")),
            Err(_) => Err(ApiError::new(Code::Overloaded, format!("the engine did not answer within {} s", kind.limit().as_secs()))),
        }
    }
}
