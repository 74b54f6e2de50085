//! Open incidents that belong to no partition: of a table, of a source, of the server.
//!
//! Anybody who sees such a cause says so with [`Incidents::open`], again and again while it lasts,
//! and [`Incidents::close`] when it is over (or lets [`Incidents::close_unseen`] find that nobody
//! said it any more). A cause that comes and goes says [`Incidents::over`]: the incident closes then, but
//! one that opened again soon after it had closed stays until the cause stayed away for a while. Opening what is open refreshes its words, at most once a second, so callers
//! need not remember what they said. Reached through `Facts`: no seat is needed and nothing waits
//! but for one short lock; while nothing is open, reads do not even take that.
//!
//! An incident shows in `/status`, in `/ready` (as a reason or a warning, see
//! `IncidentKind::not_ready`), in `streamgauge_incidents_open`, in the header of reads of the tables
//! it touches, and in the log: one line when it opens and one when it closes.
//!
//! Not here: incidents of partitions. They are decisions that survive a restart, so they are in the
//! state and in the log (`State::incidents`). These are observations of this process: after a
//! restart the cause is seen anew, or it is gone.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use streamgauge_api::source::{Incident, IncidentKind};

/// Open incidents; what opens beyond is counted, but neither listed nor logged.
const OPEN_MAX: usize = 1024;
/// The words of an open incident are made again after this long.
const REFRESH_US: i64 = 1_000_000;
/// What opens again within this time after it closed comes and goes,
const AGAIN_US: i64 = 60_000_000;
/// and closes when its cause stayed away for this long.
const CALM_US: i64 = 30_000_000;
/// Incidents that closed lately and are remembered.
const CLOSED_MAX: usize = 1024;

/// Whom an incident is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The whole process: every table is touched.
    Server,
    /// A `[sources.x]` section: the tables of its event are touched.
    Source(String),
    /// One table.
    Table(String),
}

impl Subject {
    /// A table by name.
    pub fn table(name: &str) -> Self {
        Self::Table(name.to_owned())
    }

    /// A source by name.
    pub fn source(name: &str) -> Self {
        Self::Source(name.to_owned())
    }

    fn touches(&self, table: &str, sources: &[String]) -> bool {
        match self {
            Self::Server => true,
            Self::Source(name) => sources.contains(name),
            Self::Table(name) => name == table,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => out.write_str("server"),
            Self::Source(name) => write!(out, "source {name}"),
            Self::Table(name) => write!(out, "table {name}"),
        }
    }
}

/// What an incident says, in words with numbers; as the members of [`Incident`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncidentText {
    /// A finer word for the kind; may be empty.
    pub cause: String,
    /// What is lost; "nothing" when nothing is.
    pub lost: String,
    /// What still holds.
    pub holds: String,
    /// What was seen.
    pub evidence: String,
    /// What to type next.
    pub actions: Vec<String>,
}

#[derive(Debug)]
struct Open {
    incident: Incident,
    seen_us: i64,
    worded_us: i64,
    /// It opened soon after it had closed.
    again: bool,
    /// Since when its cause is away.
    over_us: Option<i64>,
}

#[derive(Debug, Default)]
struct Board {
    open: BTreeMap<(IncidentKind, Subject), Open>,
    /// When those closed lately whose cause was over.
    closed: BTreeMap<(IncidentKind, Subject), i64>,
    opened: BTreeMap<IncidentKind, u64>,
}

impl Board {
    /// Remembers when an incident closed whose cause may come again.
    fn remember(&mut self, place: (IncidentKind, Subject), now_us: i64) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.retain(|_, closed_us| now_us.saturating_sub(*closed_us) < AGAIN_US);
        }
        if self.closed.len() < CLOSED_MAX {
            self.closed.insert(place, now_us);
        }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Incidents {
    board: Mutex<Board>,
    /// How many are open, so that a read without any takes no lock.
    count: AtomicUsize,
}

impl Incidents {
    /// Says that this is so now. `text` is asked for when the incident opens and once a second
    /// while it lasts. True when it was not open.
    pub fn open(&self, kind: IncidentKind, subject: &Subject, now_us: i64, text: impl FnOnce() -> IncidentText) -> bool {
        let mut board = self.board.lock();
        if let Some(open) = board.open.get_mut(&(kind, subject.clone())) {
            assert_eq!(open.incident.kind, kind, "an incident stands under its kind");
            open.seen_us = open.seen_us.max(now_us);
            let was_over = open.over_us.take().is_some();
            if was_over || now_us.saturating_sub(open.worded_us) >= REFRESH_US {
                open.incident = said(kind, open.incident.opened_us, text());
                open.worded_us = now_us;
            }
            return false;
        }
        let incident = said(kind, now_us, text());
        *board.opened.entry(kind).or_default() += 1;
        if board.open.len() < OPEN_MAX {
            let (lost, evidence) = (&incident.lost, &incident.evidence);
            tracing::warn!(kind = "incident.opened", incident = kind.as_str(), %subject, lost, evidence, "an incident opened");
            let place = (kind, subject.clone());
            let again = board.closed.remove(&place).is_some_and(|closed_us| now_us.saturating_sub(closed_us) < AGAIN_US);
            board.open.insert(place, Open { incident, seen_us: now_us, worded_us: now_us, again, over_us: None });
        }
        assert!(board.open.len() <= OPEN_MAX, "{} incidents are open", board.open.len());
        self.count.store(board.open.len(), Ordering::Release);
        true
    }

    /// Says that this is over. True when it was open.
    pub fn close(&self, kind: IncidentKind, subject: &Subject) -> bool {
        self.close_where(|known, about, _| known == kind && about == subject) > 0
    }

    /// Says that the cause is away. What comes and goes closes only when it stayed away for a while
    /// ([`Incidents::close_calm`]). True when it closed now.
    pub fn over(&self, kind: IncidentKind, subject: &Subject, now_us: i64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let place = (kind, subject.clone());
        {
            let mut board = self.board.lock();
            let Some(open) = board.open.get_mut(&place) else { return false };
            if open.again {
                if open.over_us.is_none() {
                    open.over_us = Some(now_us);
                    open.incident.evidence = format!("over for now, it came and went: {}", open.incident.evidence);
                }
                return false;
            }
            board.remember(place, now_us);
        }
        self.close(kind, subject)
    }

    /// Says of all of a kind that their cause is away. They stay open until they are closed, and are not present meanwhile.
    pub(super) fn away(&self, kind: IncidentKind, now_us: i64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut board = self.board.lock();
        for (_, open) in board.open.iter_mut().filter(|((known, _), open)| *known == kind && open.over_us.is_none()) {
            open.over_us = Some(now_us);
            open.incident.evidence = format!("over for now: {}", open.incident.evidence);
        }
    }

    /// Closes those that came and went, and whose cause stayed away.
    pub fn close_calm(&self, now_us: i64) -> usize {
        if self.count.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let is_calm = |open: &Open| open.over_us.is_some_and(|over_us| now_us.saturating_sub(over_us) >= CALM_US);
        let calm: Vec<_> = {
            let mut board = self.board.lock();
            let calm: Vec<_> = board.open.iter().filter(|(_, open)| is_calm(open)).map(|(place, _)| place.clone()).collect();
            calm.iter().for_each(|place| board.remember(place.clone(), now_us));
            calm
        };
        calm.iter().filter(|(kind, subject)| self.close(*kind, subject)).count()
    }

    /// Whether this is open, and its cause is there.
    pub fn is_present(&self, kind: IncidentKind, subject: &Subject) -> bool {
        self.board.lock().open.get(&(kind, subject.clone())).is_some_and(|open| open.over_us.is_none())
    }

    /// Kinds of those whose cause is there.
    pub(super) fn present(&self) -> Vec<IncidentKind> {
        let board = self.board.lock();
        board.open.iter().filter(|(_, open)| open.over_us.is_none()).map(|((kind, _), _)| *kind).collect()
    }

    /// Closes those of a kind that nobody said since `before_us`: for causes that are seen only
    /// while somebody runs into them.
    pub fn close_unseen(&self, kind: IncidentKind, before_us: i64) -> usize {
        self.close_where(|known, _, seen_us| known == kind && seen_us < before_us)
    }

    /// Time was set to `now_us`: nothing was seen later than that.
    pub(crate) fn set_back(&self, now_us: i64) {
        let mut board = self.board.lock();
        for open in board.open.values_mut() {
            open.seen_us = open.seen_us.min(now_us);
            open.worded_us = open.worded_us.min(now_us);
            open.over_us = open.over_us.map(|over_us| over_us.min(now_us));
        }
        board.closed.values_mut().for_each(|closed_us| *closed_us = now_us.min(*closed_us));
    }

    /// Closes those of tables that are gone.
    pub(crate) fn keep_tables(&self, exists: impl Fn(&str) -> bool) {
        self.close_where(|_, about, _| matches!(about, Subject::Table(name) if !exists(name)));
    }

    fn close_where(&self, over: impl Fn(IncidentKind, &Subject, i64) -> bool) -> usize {
        if self.count.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut board = self.board.lock();
        let before = board.open.len();
        board.open.retain(|(kind, subject), open| {
            let over = over(*kind, subject, open.seen_us);
            if over {
                let opened_us = open.incident.opened_us;
                tracing::info!(kind = "incident.closed", incident = kind.as_str(), %subject, opened_us, "an incident closed");
            }
            !over
        });
        let left = board.open.len();
        assert!(left <= before, "closing opens nothing");
        self.count.store(left, Ordering::Release);
        before - left
    }

    /// Whether this is open.
    pub fn is_open(&self, kind: IncidentKind, subject: &Subject) -> bool {
        self.board.lock().open.contains_key(&(kind, subject.clone()))
    }

    /// The incident, if it is open.
    pub fn get(&self, kind: IncidentKind, subject: &Subject) -> Option<Incident> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.board.lock().open.get(&(kind, subject.clone())).map(|open| open.incident.clone())
    }

    /// Everything that is open, by kind and subject.
    pub fn list(&self) -> Vec<(Subject, Incident)> {
        self.board.lock().open.iter().map(|((_, subject), open)| (subject.clone(), open.incident.clone())).collect()
    }

    /// The first open incident that touches a table which these sources feed.
    pub(crate) fn of_table(&self, table: &str, sources: &[String]) -> Option<IncidentKind> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.board.lock().open.keys().find(|(_, subject)| subject.touches(table, sources)).map(|(kind, _)| *kind)
    }

    /// How many opened since this was last asked, by kind.
    pub(crate) fn take_opened(&self) -> BTreeMap<IncidentKind, u64> {
        std::mem::take(&mut self.board.lock().opened)
    }
}

fn said(kind: IncidentKind, opened_us: i64, text: IncidentText) -> Incident {
    let IncidentText { cause, lost, holds, evidence, actions } = text;
    Incident { kind, cause, opened_us, lost, holds, evidence, actions, resume_offset: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn seen(evidence: &str) -> IncidentText {
        IncidentText { evidence: evidence.to_owned(), ..IncidentText::default() }
    }

    #[test]
    fn what_is_open_opens_once_and_its_words_follow_the_cause() {
        let incidents = Incidents::default();
        let table = Subject::table("cards");
        assert!(incidents.open(IncidentKind::MemoryLimit, &table, SECOND_US, || seen("1 row")));
        assert!(!incidents.open(IncidentKind::MemoryLimit, &table, SECOND_US + 1, || panic!("asked within a second")));
        assert!(!incidents.open(IncidentKind::MemoryLimit, &table, 2 * SECOND_US, || seen("2 rows")));
        let [(subject, incident)] = incidents.list().try_into().unwrap();
        assert_eq!((subject, incident.opened_us, &*incident.evidence), (table, SECOND_US, "2 rows"));
        assert_eq!(incidents.take_opened(), [(IncidentKind::MemoryLimit, 1)].into());
        assert_eq!(incidents.take_opened(), BTreeMap::new());
    }

    #[test]
    fn what_is_closed_may_open_again() {
        let incidents = Incidents::default();
        let server = Subject::Server;
        assert!(!incidents.close(IncidentKind::ClockJump, &server));
        for _ in 0..2 {
            assert!(incidents.open(IncidentKind::ClockJump, &server, 1, IncidentText::default));
            assert!(incidents.is_open(IncidentKind::ClockJump, &server));
            assert!(incidents.close(IncidentKind::ClockJump, &server));
            assert!(incidents.list().is_empty());
        }
        assert_eq!(incidents.take_opened(), [(IncidentKind::ClockJump, 2)].into());
    }

    /// Little room that comes free again and again opened and closed one twice a second.
    #[test]
    fn what_comes_and_goes_opens_twice_and_closes_when_it_stays_away() {
        let incidents = Incidents::default();
        let (kind, source) = (IncidentKind::WriteStall, Subject::source("clicks"));
        let mut now_us = 0;
        for _ in 0..100 {
            incidents.open(kind, &source, now_us, || seen("rows wait"));
            now_us += SECOND_US / 2;
            incidents.over(kind, &source, now_us);
            incidents.close_calm(now_us);
            now_us += SECOND_US / 2;
        }
        assert_eq!(incidents.take_opened(), [(kind, 2)].into());
        assert!(incidents.is_open(kind, &source) && !incidents.is_present(kind, &source));
        assert_eq!(incidents.close_calm(now_us + CALM_US - SECOND_US), 0);
        assert_eq!(incidents.close_calm(now_us + CALM_US), 1);
        // What comes after a long while is news, and closes at once.
        now_us += CALM_US + AGAIN_US;
        assert!(incidents.open(kind, &source, now_us, || seen("rows wait")));
        assert!(incidents.over(kind, &source, now_us + 1) && !incidents.is_open(kind, &source));
    }

    #[test]
    fn an_incident_that_nobody_sees_any_more_closes() {
        let incidents = Incidents::default();
        let (stays, goes) = (Subject::table("a"), Subject::table("b"));
        for table in [&stays, &goes] {
            incidents.open(IncidentKind::RowsAhead, table, SECOND_US, IncidentText::default);
        }
        incidents.open(IncidentKind::RowsAhead, &stays, 9 * SECOND_US, IncidentText::default);
        assert_eq!(incidents.close_unseen(IncidentKind::MemoryLimit, 5 * SECOND_US), 0);
        assert_eq!(incidents.close_unseen(IncidentKind::RowsAhead, 5 * SECOND_US), 1);
        assert!(incidents.is_open(IncidentKind::RowsAhead, &stays));
    }

    #[test]
    fn a_table_that_is_dropped_takes_its_incidents_with_it() {
        let incidents = Incidents::default();
        for subject in [Subject::table("kept"), Subject::table("gone"), Subject::source("gone"), Subject::Server] {
            incidents.open(IncidentKind::WriteStall, &subject, 1, IncidentText::default);
        }
        incidents.keep_tables(|name| name == "kept");
        let left: Vec<String> = incidents.list().into_iter().map(|(subject, _)| subject.to_string()).collect();
        assert_eq!(left, ["server", "source gone", "table kept"]);
    }

    #[test]
    fn a_table_is_touched_by_its_own_its_sources_and_the_servers_incidents() {
        let sources = ["clicks".to_owned()];
        for (subject, touched) in [
            (Subject::Server, true),
            (Subject::source("clicks"), true),
            (Subject::source("other"), false),
            (Subject::table("cards"), true),
            (Subject::table("other"), false),
        ] {
            let incidents = Incidents::default();
            assert_eq!(incidents.of_table("cards", &sources), None);
            incidents.open(IncidentKind::WriteStall, &subject, 1, IncidentText::default);
            assert_eq!(incidents.of_table("cards", &sources), touched.then_some(IncidentKind::WriteStall), "{subject}");
        }
    }

    #[test]
    fn a_flood_of_incidents_is_bounded_and_counted() {
        let incidents = Incidents::default();
        for number in 0..OPEN_MAX + 10 {
            incidents.open(IncidentKind::RowsAhead, &Subject::table(&number.to_string()), 1, IncidentText::default);
        }
        assert_eq!(incidents.list().len(), OPEN_MAX);
        assert_eq!(incidents.take_opened(), [(IncidentKind::RowsAhead, OPEN_MAX as u64 + 10)].into());
    }
}
