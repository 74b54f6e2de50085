//! The log moved and an operator decides: shown first, done once, and read on from there.

use super::House;
use crate::MockKafka;
use std::time::{Duration, Instant};
use streamgauge_api::decision::{BeginAt, Decision, DecisionRequest, Place};
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Code, Position};

/// A house that stands at offset 99 of a log that ends at 20.
fn beyond_the_end() -> House {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..20);
    house.start();
    house.until("all", |engine| engine.seen.len() == 20);
    house.stop();
    {
        let mut engine = house.engine.lock();
        let key = engine.state.keys().next().cloned().unwrap();
        engine.state.insert(key, Position { after: 99, record_time_ms: 0, ..Position::start(99) });
    }
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    house
}

#[test]
fn an_accepted_gap_goes_on_at_the_log_start_and_a_dry_run_changes_nothing() {
    let mut house = House::overtaken();
    let shown = house.decide("s/0", Decision::AcceptGap, true).unwrap();
    assert!(house.open_incident().is_some() && house.engine.lock().decided.is_empty(), "a dry run only shows");
    let low = shown[0].to_offset.unwrap();
    assert_eq!((shown[0].from_offset, shown[0].to_read), (Some(10), Some(90 - low)));
    assert_eq!(shown[0].lost, format!("offsets 10 to {} ({} offsets)", low - 1, low - 10));
    assert_eq!(shown[0].counted_again, "nothing");
    let done = house.decide("s/0", Decision::AcceptGap, false).unwrap();
    assert_eq!(done, shown, "what was shown is what happens");
    house.until("the rest", |engine| engine.seen.len() as i64 == 10 + 90 - low);
    assert_eq!(house.offsets("t", 0)[10..], (low..90).collect::<Vec<i64>>());
    assert_eq!(house.open_incident(), None);
    assert_eq!(house.engine.lock().decided[0].lost.as_ref(), Some(&done[0].lost));
    // Decided once; there is nothing left to decide.
    let again = house.decide("s/0", Decision::AcceptGap, false).unwrap_err();
    assert_eq!(again.code, Code::DecisionRefused);
    house.stop();
}

#[test]
fn a_log_that_ends_before_the_position_goes_on_behind_its_end_or_begins_anew() {
    let mut house = beyond_the_end();
    house.produce("t", 0, 20..23);
    let done = house.decide("s", Decision::AcceptGap, false).unwrap();
    assert_eq!(done[0].to_offset, Some(20), "records that came behind the cut were never read");
    assert!(done[0].lost.contains("offsets 20 to 98 (79 offsets) stay in the tables"), "{done:?}");
    house.until("the new ones", |engine| engine.seen.len() == 23);
    house.stop();

    let mut house = beyond_the_end();
    let done = house.decide("s", Decision::Begin(BeginAt::Earliest), false).unwrap();
    assert_eq!(done[0].counted_again, "offsets 0 to 19 (20 offsets)");
    house.until("all of them again", |engine| engine.seen.len() == 40);
    house.stop();

    let mut house = beyond_the_end();
    let done = house.decide("s", Decision::Begin(BeginAt::Latest), false).unwrap();
    assert_eq!((done[0].to_offset, done[0].to_read), (Some(20), Some(0)));
    house.produce("t", 0, 20..25);
    house.until("what came since", |engine| engine.seen.len() == 25);
    house.stop();
}

#[test]
fn a_recreated_topic_is_begun_under_its_own_name_and_a_restart_goes_on_in_it() {
    let mut house = House::new(&[("t", 1)]);
    house.learn_id("t");
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10);
    house.stop();
    house.mock = MockKafka::start(&[("t", 1)]).unwrap();
    house.source.brokers = vec![house.mock.bootstrap().to_owned()];
    let now = house.learn_id("t");
    house.produce("t", 0, 0..30);
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    assert_eq!(house.decide("s/0", Decision::AcceptGap, false).unwrap_err().code, Code::DecisionRefused);
    let done = house.decide("s/t/0", Decision::Begin(BeginAt::Earliest), false).unwrap();
    assert_eq!((done[0].incident.as_str(), done[0].to_offset, done[0].to_read), ("Recreated", Some(0), Some(30)));
    house.until("the new topic", |engine| engine.seen.len() == 40);
    assert!(house.engine.lock().state.keys().all(|key| key.topic_id == now), "the position is of the new topic");
    house.stop();
    house.produce("t", 0, 30..35);
    house.start();
    house.until("and on", |engine| engine.seen.len() == 45);
    assert_eq!(house.open_incident(), None);
    house.stop();
}

#[test]
fn what_cannot_be_decided_is_refused_and_changes_nothing() {
    let mut house = House::overtaken();
    for (place, decision, code) in [
        ("s/1", Decision::AcceptGap, Code::UnknownReference),
        ("s/other/0", Decision::AcceptGap, Code::UnknownReference),
        ("s/0", Decision::Forget, Code::DecisionRefused),
    ] {
        for dry_run in [true, false] {
            assert_eq!(house.decide(place, decision, dry_run).unwrap_err().code, code, "{place} {decision:?}");
        }
    }
    assert_eq!(house.open_incident().map(|open| open.kind), Some(IncidentKind::SourceGap));
    // Nobody waits for this one any longer.
    let (reply, replies) = std::sync::mpsc::sync_channel(1);
    let (place, deadline) = (Place::parse("s/0").unwrap(), Instant::now());
    house.board.decide(DecisionRequest { place, decision: Decision::AcceptGap, dry_run: false, deadline, reply });
    assert!(replies.recv_timeout(Duration::from_secs(10)).is_err(), "it is dropped unanswered");
    assert!(house.engine.lock().decided.is_empty());
    house.stop();
}

/// What waits lies in front of what was read: the gap said that rows were lost which are in the tables, and the cut was not
/// seen at all.
#[test]
fn a_log_that_lost_what_waits_says_how_much_and_goes_on_with_the_rest() {
    let mut house = House::overtaken_with(|engine| engine.waits(4, 9, vec![(5, 7), (8, 9)]));
    let incident = house.open_incident().unwrap();
    assert_eq!(incident.kind, IncidentKind::SourceGap);
    let low = incident.resume_offset.unwrap();
    let unread = format!("offsets 9 to {} ({} offsets)", low - 1, low - 9);
    let told = format!("{unread}, deleted before they were read; 3 records in front of offset {low} that waited for room");
    assert_eq!(incident.lost, told);
    let done = house.decide("s/0", Decision::AcceptGap, false).unwrap();
    assert_eq!(done[0].lost, format!("{unread}; 3 records that waited for room"));
    assert_eq!(house.engine.lock().decided[0].reached, None, "nothing of what waits is in the log");
    house.stop();

    // Some of what waits is in the log still.
    let mut house = House::overtaken_with(|engine| engine.waits(4, 85, vec![(5, 7), (8, 9), (80, 82)]));
    let incident = house.open_incident().unwrap();
    let low = incident.resume_offset.unwrap();
    assert_eq!(incident.lost, format!("3 records in front of offset {low} that waited for room"));
    let done = house.decide("s/0", Decision::AcceptGap, false).unwrap();
    assert_eq!(
        (done[0].to_offset, done[0].lost.as_str(), done[0].counted_again.as_str()),
        (Some(low), "3 records that waited for room", "nothing")
    );
    assert_eq!(house.engine.lock().decided[0].reached.map(|reached| reached.offset), Some(85));
    house.stop();

    // All that waits is gone, and the log was read beyond where it begins now: nothing of it counts again.
    let mut house = House::overtaken_with(|engine| engine.waits(4, 85, vec![(5, 7)]));
    let low = house.open_incident().unwrap().resume_offset.unwrap();
    assert!(low < 85, "the log begins in what was read");
    let done = house.decide("s/0", Decision::AcceptGap, false).unwrap();
    assert_eq!(
        (done[0].to_offset, done[0].lost.as_str(), done[0].counted_again.as_str()),
        (Some(85), "2 records that waited for room", "nothing")
    );
    assert_eq!(house.engine.lock().decided[0].reached, None);
    house.until("the rest", |engine| engine.seen.len() == 10 + 5);
    assert_eq!(house.offsets("t", 0)[10..], (85..90).collect::<Vec<i64>>());
    house.stop();
}

#[test]
fn a_log_that_ends_in_front_of_what_was_read_before_a_restart_stops_its_partition() {
    let waiting = |house: &mut House| {
        house.produce("t", 0, 0..20);
        house.start();
        house.until("all", |engine| engine.seen.len() == 20);
        house.stop();
        house.engine.lock().waits(5, 50, vec![(7, 9), (30, 31)]);
        house.start();
        house.until("the incident", |_engine| house.open_incident().is_some());
    };
    let mut house = House::new(&[("t", 1)]);
    waiting(&mut house);
    let incident = house.open_incident().unwrap();
    assert_eq!((incident.kind, incident.resume_offset), (IncidentKind::Regressed, Some(20)));
    assert!(incident.evidence.contains("read to 50 before, of which 3 records wait for room"), "{incident:?}");
    assert!(incident.lost.ends_with("; 1 of the records that wait for room are no more in the log"), "{incident:?}");
    let shown = house.decide("s/0", Decision::Begin(BeginAt::Earliest), true).unwrap();
    assert_eq!(shown[0].counted_again, "offsets 0 to 19 (20 offsets), but for 2 of them that wait for room");
    let done = house.decide("s/0", Decision::AcceptGap, false).unwrap();
    assert_eq!((done[0].to_offset, done[0].counted_again.as_str()), (Some(5), "nothing"), "what waits in front of the cut is read again");
    assert!(
        done[0].lost.ends_with("(30 offsets) stay in the tables though they are gone from the log; 1 records that waited for room"),
        "{done:?}"
    );
    assert_eq!(house.engine.lock().decided[0].reached.map(|reached| (reached.offset, reached.epoch)), Some((20, -1)));
    house.stop();
}

#[test]
fn an_end_in_front_of_what_was_read_before_is_asked_about() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..19);
    house.start();
    house.until("an end", |engine| engine.seen.len() == 19 && !engine.ends.is_empty());
    house.engine.lock().waits(19, 25, vec![(20, 21)]);
    house.produce("t", 0, 19..20);
    house.until("the incident", |_engine| house.open_incident().is_some());
    assert_eq!(house.open_incident().map(|open| (open.kind, open.resume_offset)), Some((IncidentKind::Regressed, Some(20))));
    house.stop();
}

/// The place of a cut was taken for the log's end, which others have moved on since: their records were in no table.
#[test]
fn a_log_that_was_cut_and_has_grown_below_the_position_goes_on_at_the_cut() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..20);
    house.mock.elect("t", 0);
    house.produce("t", 0, 20..30);
    house.start();
    house.until("all", |engine| engine.seen.len() == 30);
    house.stop();
    {
        let mut engine = house.engine.lock();
        let (key, old) = engine.state.iter().map(|(key, position)| (key.clone(), *position)).next().unwrap();
        assert_eq!(old.epoch, 1, "the mock has epochs");
        engine.state.insert(key, Position { offset: 99, after: 99, epoch: 0, ..old });
    }
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let incident = house.open_incident().unwrap();
    assert_eq!(incident.resume_offset, Some(20), "the leader epoch of what was read last ends there: {incident:?}");
    let done = house.decide("s", Decision::AcceptGap, false).unwrap();
    assert_eq!(done[0].to_offset, Some(20));
    assert_eq!(done[0].lost, "nothing; offsets 20 to 98 (79 offsets) stay in the tables though they are gone from the log");
    house.until("what came behind the cut", |engine| engine.seen.len() == 40);
    assert_eq!(house.offsets("t", 0)[30..], (20..30).collect::<Vec<i64>>());
    house.stop();
}

/// One start with the wrong `brokers` left no lossless way back.
#[test]
fn a_partition_whose_own_cluster_answers_again_goes_on_where_it_stood() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..10);
    let read = |house: &House, count: usize| house.until("all", |engine| engine.seen.len() == count);
    house.start();
    read(&house, 10);
    house.stop();
    let answers = |house: &House, cluster: &str| cluster.clone_into(&mut house.world.lock().cluster);
    answers(&house, "elsewhere");
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let incident = house.open_incident().unwrap();
    assert_eq!((incident.kind, incident.resume_offset), (IncidentKind::Recreated, Some(10)));
    let refused = house.decide("s/0", Decision::AcceptGap, false).unwrap_err();
    assert!(refused.code == Code::DecisionRefused && refused.reason.contains("in cluster elsewhere"), "{refused:?}");
    // The same process meets its own again: an operator may say so.
    answers(&house, "cluster");
    let done = house.decide("s/0", Decision::AcceptGap, true).unwrap();
    assert_eq!((done[0].to_offset, done[0].lost.as_str(), done[0].counted_again.as_str()), (Some(10), "nothing", "nothing"));
    house.stop();
    // The next one closes it by itself.
    house.produce("t", 0, 10..15);
    house.start();
    read(&house, 15);
    assert_eq!(house.open_incident(), None);
    assert!(house.engine.lock().open.is_empty() && house.engine.lock().decided.is_empty());
    // Another cluster while it runs: no cached id hides it, nor stands in the key of what is decided.
    answers(&house, "third");
    house.until("the incident", |_engine| house.open_incident().is_some());
    house.decide("s/0", Decision::Begin(BeginAt::Latest), false).unwrap();
    assert_eq!(house.engine.lock().state.keys().map(|key| key.cluster.clone()).collect::<Vec<_>>(), ["third"]);
    house.produce("t", 0, 15..18);
    read(&house, 18);
    house.stop();
    house.start();
    house.produce("t", 0, 18..20);
    read(&house, 20);
    assert_eq!(house.open_incident(), None);
    house.stop();
}

/// The engine gives a key its slot again, and two tracks had one: what was said of the slot went to the forgotten one.
#[test]
fn a_forgotten_partition_that_comes_back_is_one_partition() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10 && !engine.ends.is_empty());
    house.stop();
    house.world.lock().gone.push("t".to_owned());
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let done = house.decide("s/0", Decision::Forget, false).unwrap();
    let again = "should it come back, it is read from its start and counted again";
    assert_eq!(done[0].lost, format!("what was written behind offset 10: how much that was is unknown; {again}"));
    assert_eq!(house.engine.lock().decided[0].lost.as_ref(), Some(&done[0].lost), "it leaves a gap");
    house.engine.lock().framed = true;
    house.world.lock().gone.clear();
    house.until("it is read as a new one", |engine| engine.seen.len() == 20);
    let mut producer = crate::Producer::new(house.mock.bootstrap(), &[]).unwrap();
    producer.send("t", Some(0), None, Some(&[0, 0, 0, 0, 7, 1]), None, &[]).unwrap();
    producer.flush(super::LIMIT).unwrap();
    house.produce("t", 0, 11..13);
    house.until("the incident of its slot", |_engine| house.open_incident().is_some_and(|open| open.cause == "schema"));
    assert_eq!(house.board.partitions().len(), 1);
    house.until("the note", |_engine| house.board.notes().iter().any(|note| note.detail.contains("1 of 1 partitions")));
    assert_eq!(house.offsets("t", 0)[10..], (0..10).collect::<Vec<i64>>(), "nothing behind the record that it waits for");
    house.stop();
}

#[test]
fn partitions_that_a_recreated_topic_has_more_begin_where_the_decision_says() {
    let mut house = House::new(&[("t", 1)]);
    house.learn_id("t");
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10);
    house.stop();
    house.mock = MockKafka::start(&[("t", 3)]).unwrap();
    house.source.brokers = vec![house.mock.bootstrap().to_owned()];
    house.learn_id("t");
    for partition in 0..3 {
        house.produce("t", partition, 0..30);
    }
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let shown = house.decide("s", Decision::Begin(BeginAt::Latest), true).unwrap();
    let of = |effect: &streamgauge_api::decision::Effect| (effect.id.clone(), effect.from_offset, effect.to_offset);
    let new = |partition: i32| (format!("s/t/{partition}"), None, Some(30));
    assert_eq!(shown.iter().map(of).collect::<Vec<_>>(), [("s/t/0".to_owned(), Some(10), Some(30)), new(1), new(2)]);
    assert_eq!(shown[1].lost, "offsets 0 to 29 (30 offsets)");
    // What cannot be carried out now begins nothing: the next decision may be another one.
    house.engine.lock().room = Some(0);
    assert_eq!(house.decide("s", Decision::Begin(BeginAt::Earliest), false).unwrap_err().code, Code::Overloaded);
    assert_eq!(house.engine.lock().attached.len(), 1);
    house.engine.lock().room = None;
    assert_eq!(house.decide("s", Decision::Begin(BeginAt::Latest), false).unwrap(), shown);
    let gaps: Vec<Option<String>> = house.engine.lock().decided.iter().map(|decided| decided.lost.clone()).collect();
    assert_eq!(gaps[..2], [Some(shown[1].lost.clone()), Some(shown[2].lost.clone())], "what a new partition skips is a gap");
    for partition in 0..3 {
        house.produce("t", partition, 30..35);
    }
    house.until("what came since", |engine| engine.seen.len() == 25);
    for partition in 0..3 {
        assert!(house.offsets("t", partition).ends_with(&[30, 31, 32, 33, 34]));
    }
    house.stop();
}

#[test]
fn a_number_that_several_topics_have_names_no_partition() {
    let mut house = House::new(&[("a", 1), ("b", 1)]);
    house.produce("a", 0, 0..5);
    house.start();
    house.until("all", |engine| engine.seen.len() == 5 && engine.attached.len() == 2);
    let refused = house.decide("s/0", Decision::Begin(BeginAt::Latest), false).unwrap_err();
    assert!(refused.code == Code::UnknownReference && refused.reason.contains("s/a/0, s/b/0"), "{refused:?}");
    assert_eq!(house.decide("s/a/0", Decision::Begin(BeginAt::Latest), false).unwrap_err().code, Code::DecisionRefused);
    house.stop();
}

/// The incident did not say that another cluster answers, and led to giving the partition up: all of it counted again.
#[test]
fn a_partition_whose_topic_another_cluster_lacks_is_not_given_up() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10);
    house.stop();
    "elsewhere".clone_into(&mut house.world.lock().cluster);
    house.world.lock().gone.push("t".to_owned());
    house.start();
    let told = |house: &House| house.open_incident().filter(|open| open.cause == "topic_missing");
    house.until("the incident", |_engine| told(&house).is_some());
    let incident = told(&house).unwrap();
    assert!(incident.evidence.contains("cluster id was \"cluster\", is \"elsewhere\""), "{incident:?}");
    let refused = house.decide("s/0", Decision::Forget, false).unwrap_err();
    assert!(refused.code == Code::DecisionRefused && refused.hint.is_some_and(|hint| hint.contains("`brokers`")), "{}", refused.reason);
    house.stop();
    *house.world.lock() = super::World::default();
    house.produce("t", 0, 10..15);
    house.start();
    house.until("the rest", |engine| engine.seen.len() == 15);
    house.until("nothing stands still", |engine| house.open_incident().is_none() && engine.decided.is_empty());
    house.stop();
}

/// A pattern finds no topic that is gone, so that nothing was said and nothing could be decided.
#[test]
fn a_topic_of_a_pattern_that_went_away_between_two_runs_is_told_and_may_be_given_up() {
    let mut house = House::new(&[("t", 1), ("u", 1)]);
    house.source.topics = crate::config::Topics::matching("^[tu]$").unwrap();
    house.produce("t", 0, 0..10);
    house.start();
    house.until("all", |engine| engine.seen.len() == 10 && engine.attached.len() == 2);
    house.stop();
    house.world.lock().gone.push("t".to_owned());
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some_and(|open| open.cause == "topic_missing"));
    assert_eq!(house.decide("s/t/0", Decision::Forget, false).unwrap().len(), 1);
    house.stop();
}

/// Its number is of the other cluster's topic: with `brokers` corrected all of it counted again.
#[test]
fn a_partition_that_another_cluster_lacks_is_given_up_only_when_its_topic_is_read_there() {
    let mut house = House::new(&[("t", 2)]);
    for partition in 0..2 {
        house.produce("t", partition, 0..10);
    }
    house.start();
    house.until("all", |engine| engine.seen.len() == 20);
    house.stop();
    "elsewhere".clone_into(&mut house.world.lock().cluster);
    house.world.lock().partitions = 1;
    house.start();
    let stopped = |house: &House| house.board.partitions().iter().filter(|shown| shown.incident().is_some()).count();
    house.until("both incidents", |_engine| stopped(&house) == 2);
    let refused = house.decide("s/t/1", Decision::Forget, false).unwrap_err();
    assert!(refused.code == Code::DecisionRefused && refused.hint.is_some_and(|hint| hint.contains("`brokers`")), "{}", refused.reason);
    house.decide("s/t/0", Decision::Begin(BeginAt::Latest), false).unwrap();
    assert_eq!(house.decide("s/t/1", Decision::Forget, false).unwrap()[0].to_offset, None);
    house.stop();
}

/// What brokers say may be anything: a topic that was made anew under them without ids ended the process.
#[test]
fn a_log_that_ends_in_front_of_what_was_read_by_the_time_of_the_decision_is_refused() {
    let mut house = House::overtaken();
    // Brokers that tell ids by now say nothing of a position that has none.
    house.ids.lock().insert("t".to_owned(), streamgauge_api::TopicId([3; 16]));
    assert_eq!(house.decide("s/0", Decision::AcceptGap, true).unwrap()[0].counted_again, "nothing");
    house.ids.lock().clear();
    house.stop();
    house.mock = MockKafka::start(&[("t", 1)]).unwrap();
    house.source.brokers = vec![house.mock.bootstrap().to_owned()];
    house.produce("t", 0, 0..3);
    house.start();
    house.until("the incident", |_engine| house.open_incident().is_some());
    let refused = house.decide("s/0", Decision::AcceptGap, true).unwrap_err();
    assert!(refused.code == Code::DecisionRefused && refused.reason.contains("ends at 3 by now"), "{}", refused.reason);
    assert_eq!(house.decide("s/0", Decision::Begin(BeginAt::Earliest), true).unwrap()[0].to_offset, Some(0));
    house.stop();
}
