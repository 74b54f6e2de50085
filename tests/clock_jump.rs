//! A wall clock that is set while the server runs: windows keep their rows, everybody is told, and the operator decides.
//!
//! The host's clock is not touched: the process is started with a few lines of C in front of `clock_gettime`, which add what a file says to the
//! wall clock and leave every other clock alone.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use streamgauge_testing::{Setup, Sidecar, wait_for};

const WITHIN: Duration = Duration::from_secs(60);
const YEAR_S: i64 = 365 * 86_400;
const STEPS: &str = "[events.Step]\nfields = { walker = \"str\" }\n[tables.walkers]\nfrom = \"Step\"\nkey = [\"walker\"]\n\
                     [tables.walkers.features]\nall = { op = \"count\" }\nrecent = { op = \"count\", window = \"1h\" }\n";

const SHIM: &str = r"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int answer = syscall(SYS_clock_gettime, clock, time);
    if (answer != 0 || clock != CLOCK_REALTIME) return answer;
    char text[32] = {0};
    int file = open(OFFSET_FILE, O_RDONLY);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
        close(file);
    }
    return answer;
}
";

/// A setup whose processes see a wall clock that the test sets.
struct Wall {
    setup: Setup,
    offset: PathBuf,
}

impl Wall {
    fn build() -> Self {
        let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), STEPS).unwrap();
        let place = |name: &str| setup.config().with_file_name(name);
        let (source, library, offset) = (place("wall.c"), place("wall.so"), place("wall"));
        std::fs::write(&source, SHIM).unwrap();
        let file = format!("-DOFFSET_FILE=\"{}\"", offset.display());
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", &file, "-o"]).args([&library, &source]).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let script = format!("#!/bin/sh\nLD_PRELOAD={} exec \"$BINARY\" \"$@\"\n", library.display());
        let setup = setup.through("with-wall", &script).unwrap();
        let wall = Self { setup, offset };
        wall.set(0);
        wall
    }

    /// The wall clock is this far off, in one step.
    fn set(&self, seconds: i64) {
        let next = self.offset.with_extension("next");
        std::fs::write(&next, seconds.to_string()).unwrap();
        std::fs::rename(next, &self.offset).unwrap();
    }
}

fn push(sidecar: &Sidecar, walker: &str) {
    assert_eq!(sidecar.data_post("/push/Step", &json!({ "walker": walker })).unwrap().status, 200);
}

fn counts(sidecar: &Sidecar, walker: &str) -> (u64, u64) {
    let row = sidecar.get("walkers", walker).unwrap().unwrap();
    (row["all"].as_u64().unwrap(), row["recent"].as_u64().unwrap())
}

/// The cause of the open incident about the clock.
fn finding(sidecar: &Sidecar) -> Option<String> {
    let status = sidecar.status().unwrap();
    let open = status["incidents"].as_array().unwrap().iter().find(|incident| incident["kind"] == "ClockJump").cloned();
    open.map(|incident| incident["cause"].as_str().unwrap().to_owned())
}

fn wait_finding(sidecar: &Sidecar, cause: Option<&str>) {
    wait_for("the finding about the clock", WITHIN, || match finding(sidecar) {
        found if found.as_deref() == cause => Ok(()),
        found => Err(format!("{found:?} where {cause:?} is wanted")),
    })
    .unwrap();
}

fn accept(wall: &Wall, sidecar: &Sidecar) -> String {
    let output = wall.setup.command("clock").args(["accept", "--admin", &format!("http://{}", sidecar.admin)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_wall_clock_that_jumps_ahead_empties_no_window_until_the_operator_accepts_it() {
    let wall = Wall::build();
    let sidecar = wall.setup.start().unwrap();
    (0..5).for_each(|_| push(&sidecar, "w"));
    assert_eq!((counts(&sidecar, "w"), finding(&sidecar)), ((5, 5), None));
    wall.set(YEAR_S);
    wait_finding(&sidecar, Some("ahead"));
    push(&sidecar, "w");
    assert_eq!(counts(&sidecar, "w"), (6, 6));
    // The next process does not believe it either: the log says that it was not believed.
    sidecar.kill9();
    let sidecar = wall.setup.start().unwrap();
    assert_eq!(counts(&sidecar, "w"), (6, 6));
    wait_finding(&sidecar, Some("ahead"));
    // Somebody sets the host's clock right: it is over by itself.
    wall.set(0);
    wait_finding(&sidecar, None);
    push(&sidecar, "w");
    assert_eq!(counts(&sidecar, "w"), (7, 7));
    // Or says that it is right: then a year has passed.
    wall.set(YEAR_S);
    wait_finding(&sidecar, Some("ahead"));
    assert!(accept(&wall, &sidecar).contains("s ahead"));
    push(&sidecar, "w");
    assert_eq!((counts(&sidecar, "w"), finding(&sidecar)), ((8, 1), None));
}

#[test]
fn frames_of_a_time_that_never_was_are_a_finding_at_the_start_and_accepting_sets_the_time_back() {
    let wall = Wall::build();
    // A host that boots with a wrong clock, and is set right later.
    wall.set(YEAR_S);
    let sidecar = wall.setup.start().unwrap();
    push(&sidecar, "early");
    sidecar.kill9();
    wall.set(0);
    let sidecar = wall.setup.start().unwrap();
    wait_finding(&sidecar, Some("behind"));
    push(&sidecar, "before");
    assert!(accept(&wall, &sidecar).contains("s back"));
    push(&sidecar, "after");
    assert_eq!((counts(&sidecar, "after"), finding(&sidecar)), ((1, 1), None));
    // That was the operator's word, and it is in the log.
    sidecar.kill9();
    let sidecar = wall.setup.start().unwrap();
    push(&sidecar, "after");
    assert_eq!((counts(&sidecar, "after"), finding(&sidecar)), ((2, 2), None));
    assert_eq!(counts(&sidecar, "early").0, 1, "nothing of what was counted is lost");
}
