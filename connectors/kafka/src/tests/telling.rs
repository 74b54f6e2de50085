//! What a source says of itself when no partition is there to say it, or no broker is heard of.

use super::House;
use crate::config::Topics;

impl House {
    /// State and detail of the source's note.
    fn note(&self) -> (String, String) {
        self.board.notes().into_iter().next().map(|note| (note.state, note.detail)).unwrap_or_default()
    }

    /// Waits for the incident of the whole source; returns its evidence.
    fn trouble(&self, cause: &str) -> String {
        let is = |engine: &super::Engine| engine.source_incident.as_ref().is_some_and(|open| open.cause == cause);
        self.until(cause, is);
        self.engine.lock().source_incident.as_ref().map(|open| open.evidence.clone()).unwrap_or_default()
    }
}

/// Before, one line at INFO was all that told of a misspelt topic.
#[test]
fn a_topic_that_is_not_there_is_an_incident_of_its_source_until_it_comes() {
    let mut house = House::new(&[("other", 1)]);
    for topics in [Topics::Named(vec!["t".to_owned()]), Topics::matching("^t$").unwrap()] {
        house.source.topics = topics;
        house.engine.lock().source_incident = None;
        house.start();
        let evidence = house.trouble("topic_missing");
        assert!(evidence.contains('t'), "{evidence}");
        house.until("the note", |_engine| house.note() == ("waiting".to_owned(), evidence.clone()));
        assert!(house.board.is_awaited("E"), "how much there is to read is not known");
        house.stop();
    }
    house.source.topics = Topics::Named(vec!["t".to_owned()]);
    house.engine.lock().source_incident = None;
    house.start();
    house.trouble("topic_missing");
    house.mock.create_topic("t", 1);
    house.produce("t", 0, 0..3);
    house.until("the incident closes", |engine| engine.source_incident.is_none());
    house.until("all", |engine| engine.seen.len() == 3);
    house.until("it is known", |_engine| !house.board.is_awaited("E"));
    house.stop();
}

/// Before, a source that had never reached a broker had no incident.
#[test]
fn brokers_that_were_never_reached_are_an_incident_of_the_source() {
    let mut house = House::new(&[("t", 1)]);
    house.source.brokers = vec!["127.0.0.1:1".to_owned()];
    house.start();
    let evidence = house.trouble("broker_unreachable");
    assert!(evidence.starts_with("no broker of 127.0.0.1:1 answers"), "{evidence}");
    assert!(house.board.is_awaited("E"));
    assert_eq!(house.note().0, "waiting");
    house.stop();
}

/// Before, a source said `reading` for as long as its broker was away.
#[test]
fn a_source_says_that_no_broker_is_heard_of_before_its_partitions_are_stalled() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..3);
    house.start();
    house.until("all", |engine| engine.seen.len() == 3);
    house.until("it reads", |_engine| house.note().0 == "reading");
    house.mock.set_up(false);
    house.until("it says so", |_engine| {
        house.note().0 == "waiting" && house.note().1.starts_with("no broker is heard of for 1 of 1 partitions")
    });
    assert_eq!((house.open_incident(), house.engine.lock().source_incident.clone()), (None, None), "a broker that restarts is no incident");
    house.mock.set_up(true);
    house.until("it reads again", |_engine| house.note().0 == "reading");
    house.stop();
}
