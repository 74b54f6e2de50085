//! The parts themselves: a broker that answers, survives a kill, and a registry that answers.
#![allow(clippy::unwrap_used, reason = "tests")]

use streamgauge_testing::broker::{Admin, unique};
use streamgauge_testing::{LocalKafka, broker, registry};

#[test]
fn the_chosen_broker_takes_a_topic_and_grows_it() {
    let admin = Admin::of(&broker().bootstrap);
    let topic = unique("parts");
    admin.create(&topic, 2).unwrap();
    admin.grow(&topic, 3).unwrap();
    assert_eq!(admin.ends(&topic).unwrap().into_iter().collect::<Vec<_>>(), [(0, 0), (1, 0), (2, 0)]);
    admin.delete(&topic).unwrap();
}

#[test]
fn a_killed_broker_comes_back_with_its_topics() {
    let mut kafka = LocalKafka::start().unwrap();
    let topic = unique("survivor");
    Admin::of(kafka.bootstrap()).create(&topic, 1).unwrap();
    kafka.kill9();
    kafka.go().unwrap();
    assert_eq!(Admin::of(kafka.bootstrap()).ends(&topic).unwrap().len(), 1);
    kafka.stop().unwrap();
}

#[test]
fn the_chosen_registry_answers() {
    assert!(registry().url.starts_with("http"));
}
