//! A panic ends the process: each case panics in a process of its own, which is this test binary with one
//! test, and what it left behind is looked at from outside.

use super::House;
use crate::apply::work::{InletId, Packet};
use crate::apply::{PanicNote, end_process_on_panic};
use crate::state::RowsContent;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use streamgauge_api::{Position, Slot};

/// Tells a child which case it is, and where its data folder is.
const CASE: &str = "STREAMGAUGE_TEST_PANIC";
const CHILD: &str = "apply::tests::panic::a_child_that_panics";
const SIGABRT: i32 = 6;

/// How a child ends that is still there after the panic.
const SURVIVED: i32 = 77;

/// A packet of a partition that nobody attached: applying it breaks a belief.
fn impossible() -> Packet {
    let content = RowsContent { positions: vec![(Slot(9), Position::default())], ..RowsContent::default() };
    Packet { inlet: InletId(0), content, records: Vec::new(), again: Vec::new(), oldest_ms: -1, bytes: 0 }
}

#[test]
fn a_child_that_panics() {
    let Some((case, folder)) = std::env::var(CASE).ok().and_then(|case| case.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
    else {
        return;
    };
    let house = House::build();
    let seat = house.seat;
    if case != "without-hook" {
        end_process_on_panic(Some(folder.into()));
    }
    // As a runtime would: it catches what a task panics, and goes on.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match case.as_str() {
        "elsewhere" => panic!("a decoder met its match"),
        _ => seat.with(|engine| engine.take_packet(impossible())),
    }));
    assert!(caught.is_err(), "nobody panicked");
    std::process::exit(SURVIVED);
}

fn child(case: &str, folder: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--nocapture", "--test-threads=1"]);
    command
        .env_remove("RUST_BACKTRACE")
        .env_remove("RUST_LIB_BACKTRACE")
        .env(CASE, format!("{case} {}", folder.display()))
        .output()
        .unwrap()
}

#[test]
fn whoever_panics_ends_the_process_and_leaves_a_note() {
    for (case, lsns, words) in [("on-the-seat", Some((2, 2)), "moves slot 9"), ("elsewhere", None, "a decoder met its match")] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(PanicNote::read(folder.path()).unwrap(), None);
        let ended = child(case, folder.path());
        assert_eq!(ended.status.signal(), Some(SIGABRT), "{case}: {ended:?}");
        let note = PanicNote::read(folder.path()).unwrap().unwrap_or_else(|| panic!("{case} left no note: {ended:?}"));
        assert_eq!((note.lsns, note.thread.as_str()), (lsns, CHILD), "{case}");
        assert!(note.message.contains(words) && note.place.contains(".rs:"), "{note:?}");
        PanicNote::remove(folder.path()).unwrap();
        assert_eq!(PanicNote::read(folder.path()).unwrap(), None);
    }
}

#[test]
fn the_seat_is_never_given_back_by_a_thread_that_unwinds() {
    let folder = tempfile::tempdir().unwrap();
    let ended = child("without-hook", folder.path());
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
}
