//! The log moved: the partition stops, typed, and the others go on.

use super::House;
use crate::MockKafka;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{PartitionKey, Position, TopicId};

fn set_position(house: &House, partition: i32, offset: i64) {
    let mut engine = house.engine.lock();
    let key = engine.state.keys().find(|key| key.partition == partition).cloned().unwrap();
    engine.state.insert(key, Position { after: offset, record_time_ms: 0, ..Position::start(offset) });
}

#[test]
fn a_position_past_the_end_is_regressed_and_the_neighbour_reads_on() {
    let mut house = House::new(&[("t", 2)]);
    house.produce("t", 0, 0..20);
    house.produce("t", 1, 0..20);
    house.start();
    house.until("all", |engine| engine.seen.len() == 40);
    house.stop();
    set_position(&house, 0, 99);
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let incident = house.open_incident().unwrap();
    assert_eq!(incident.kind, IncidentKind::Regressed);
    assert!(incident.evidence.contains("99") && incident.evidence.contains("20"), "{incident:?}");
    house.produce("t", 0, 20..120);
    house.produce("t", 1, 20..25);
    house.until("the neighbour", |engine| engine.seen.len() == 45);
    assert_eq!(house.offsets("t", 0).len(), 20, "the log that grew past the position must not be read");
    house.stop();
}

#[test]
fn exactly_the_end_is_a_good_position() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..20);
    house.start();
    house.until("all", |engine| engine.seen.len() == 20);
    house.stop();
    house.start();
    house.produce("t", 0, 20..21);
    house.until("one more", |engine| engine.seen.len() == 21);
    assert_eq!(house.open_incident(), None);
    house.stop();
}

#[test]
fn retention_that_overtook_us_is_a_gap_with_its_size() {
    let mut house = House::overtaken();
    let incident = house.open_incident().unwrap();
    assert_eq!(incident.kind, IncidentKind::SourceGap);
    assert!(incident.lost.starts_with("offsets 10 to "), "{incident:?}");
    house.stop();
    assert_eq!(house.offsets("t", 0).len(), 10);
}

#[test]
fn a_topic_recreated_while_stopped_is_seen_by_its_id_even_when_the_position_lies_inside() {
    let mut house = House::new(&[("t", 1)]);
    house.learn_id("t");
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10);
    house.stop();
    // A second cluster with the same topic name, and more records than the position.
    house.mock = MockKafka::start(&[("t", 1)]).unwrap();
    house.source.brokers = vec![house.mock.bootstrap().to_owned()];
    let now = house.learn_id("t");
    house.produce("t", 0, 0..30);
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let incident = house.open_incident().unwrap();
    assert_eq!(incident.kind, IncidentKind::Recreated);
    assert!(incident.evidence.contains(&now.to_string()), "{incident:?}");
    house.stop();
    assert_eq!(house.offsets("t", 0).len(), 10, "nothing of the new topic was read");
}

#[test]
fn a_topic_recreated_while_running_is_seen_by_the_check_of_each_second() {
    let mut house = House::new(&[("t", 2)]);
    house.source.topic_ids = true;
    house.learn_id("t");
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10);
    house.ids.lock().insert("t".into(), TopicId([2; 16]));
    house.until("both partitions stop", |engine| {
        let recreated = |incident: &Option<_>| {
            incident.as_ref().is_some_and(|open: &streamgauge_api::source::Incident| open.kind == IncidentKind::Recreated)
        };
        engine.incidents.iter().filter(|(_, incident)| recreated(incident)).count() == 2
    });
    house.produce("t", 0, 10..20);
    std::thread::sleep(std::time::Duration::from_millis(500));
    house.stop();
    assert_eq!(house.offsets("t", 0).len(), 10);
}

#[test]
fn a_client_that_follows_another_id_is_fenced_before_its_first_record() {
    let mut house = House::new(&[("t", 1)]);
    house.ids.lock().insert("t".into(), TopicId([1; 16]));
    house.produce("t", 0, 0..10);
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    assert_eq!(house.open_incident().unwrap().kind, IncidentKind::Recreated);
    house.stop();
    assert_eq!(house.offsets("t", 0), [0i64; 0]);
}

#[test]
fn another_cluster_with_the_same_topic_is_not_read_on() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..30);
    let key = PartitionKey { event: "E".into(), cluster: "elsewhere".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
    house.engine.lock().state.insert(key, Position { after: 5, epoch: 0, record_time_ms: 0, ..Position::start(5) });
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    assert_eq!(house.open_incident().unwrap().kind, IncidentKind::Recreated);
    house.stop();
    assert_eq!(house.offsets("t", 0).len(), 0);
}

#[test]
fn a_missing_topic_is_said_and_read_from_its_first_record_when_it_comes() {
    let mut house = House::new(&[]);
    house.source.topics = crate::Topics::Named(vec!["later".into()]);
    house.source.start = crate::Start::Latest;
    house.start();
    house.until("the note", |_engine| house.board.notes().iter().any(|note| note.detail.contains("later")));
    house.mock.create_topic("later", 1);
    house.produce("later", 0, 0..3);
    house.until("its records", |engine| engine.seen.len() == 3);
    house.stop();
}
