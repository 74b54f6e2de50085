//! A server from bind to close: ports answer `recovering` at once, then the state is rebuilt, then sources begin where it stands.
//!
//! The only place that names concrete connectors. Order of a stop: no new requests, sources stop at a batch edge, what is queued is applied, a last snapshot, the log closes
//! with a frame that says so.

use crate::apply::panic::PanicNote;
use crate::apply::{
    CatchUp, Engine, EngineClock, EngineControl, EngineInlet, EngineOptions, EnginePort, Facts, News, Parts, Phase, Seat, SeatSlot,
    Settings, SnapshotOptions, Snapshotter, SourceSetup,
};
use crate::archive::{self, Archiver, ArchiverOptions};
use crate::config::Eventstore;
use crate::eventstore::Store;
use crate::history::{Historian, HistoryParts, Pins};
use crate::recovery::{Attempts, Recovered, RecoveryError, Report, recover};
use crate::state::State;
use crate::storage::{DataFolder, Disk, FolderLock, RESERVE_BYTES, Reserve, Storage};
use crate::subscribe::Subscriptions;
use crate::wal::{FIRST_LSN, LogIdentity, Start, SyncEvent, TailEnd, WalHandle, WalOptions, WalSyncer, WalWriter};
use parking_lot::Mutex;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_admin::{AdminOptions, AdminServer, RunningAdmin};
use streamgauge_api::metrics::Metrics;
use streamgauge_api::source::SourceBoard;
use streamgauge_api::{ApiError, Clock, Code, Control, Cors, Inlet, Port, SystemClock};
use streamgauge_kafka::{KafkaHandle, KafkaPast, KafkaSource};
use streamgauge_native::{NativeConfig, Running, Server as DataPlane};

/// Everything that a server needs to know, checked.
pub struct ServerOptions {
    /// Data plane.
    pub native: NativeConfig,
    /// Control plane; none = no admin port.
    pub admin: Option<SocketAddr>,
    /// Data folder; none = level `memory`.
    pub data_dir: Option<PathBuf>,
    /// Bounds and promises of the engine.
    pub engine: EngineOptions,
    /// The log.
    pub wal: WalOptions,
    /// Snapshots kept.
    pub snapshots_kept: usize,
    /// Refuse control characters in pushed text.
    pub refuse_control: bool,
    /// Ready only when no source is further behind than this.
    pub max_staleness: Option<Duration>,
    /// Ready only after the first catch-up.
    pub wait_for_catch_up: bool,
    /// Kafka sources.
    pub sources: Vec<KafkaSource>,
    /// Their engine side, by the same names.
    pub setups: Vec<SourceSetup>,
    /// Name of this instance in client and group ids.
    pub instance: String,
    /// Bytes for Kafka clients.
    pub kafka_memory_bytes: u64,
    /// What the config declares, applied to the recovered registry before any source starts.
    pub declare: Declare,
    /// Name of the acknowledgement level.
    pub durability: &'static str,
    /// The event store, with its declaration.
    pub store: Option<(Store, Eventstore)>,
}

/// Brings what the config declares into a recovered state: the next registry with its effects, or nothing to do.
/// Asked again where the log had no room for it.
pub type Declare = Box<dyn Send + Fn(&State) -> Result<Option<Declared>, ApiError>>;

/// A registry to put in force.
pub struct Declared {
    /// The registry.
    pub registry: Arc<crate::pipeline::Registry>,
    /// What it does to tables.
    pub effects: Vec<crate::pipeline::TableEffect>,
}

/// Ports that are bound and answer `recovering`.
pub struct Bound {
    options: ServerOptions,
    plane: Running,
    admin: Option<RunningAdmin>,
    http: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    shared: Shared,
}

/// What every part shares.
#[derive(Clone)]
struct Shared {
    seat: SeatSlot,
    facts: Arc<Facts>,
    board: Arc<SourceBoard>,
    clock: Arc<dyn Clock>,
    /// The same clock, for the engine that sets it.
    engine_clock: Arc<EngineClock>,
    metrics: Arc<Metrics>,
    wal: Arc<OnceLock<WalHandle<Disk>>>,
    control: Arc<EngineControl>,
}

/// A running server.
pub struct Server {
    shared: Shared,
    seat: Arc<Seat>,
    plane: Option<Running>,
    admin: Option<RunningAdmin>,
    kafka: Sources,
    apply: Option<JoinHandle<()>>,
    /// Begins what the start had to leave, then watches until sources have caught up.
    watcher: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    /// Why what the start had to leave cannot be done.
    late_failure: Arc<OnceLock<ApiError>>,
    syncer: Option<WalSyncer<Disk>>,
    snapshotter: Option<Snapshotter>,
    historian: Option<Historian>,
    archiver: Option<Arc<Archiver>>,
    log_failed: Arc<AtomicBool>,
    http: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    report: Report,
    _folder: Option<DataFolder>,
}

/// The running sources; none before they begin.
type Sources = Arc<Mutex<Option<KafkaHandle>>>;

/// File of the data folder that names the folder it has archived into.
const ARCHIVE_MARKER: &str = "archive.folder";
/// A run of the archiver that is asked for may take this long.
const ARCHIVE_NOW: Duration = Duration::from_secs(110);
/// How often what goes on beside a server that serves is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Sources end within this time at a stop: a client that waits for a broker is left to the end of the process.
const KAFKA_STOP: Duration = Duration::from_secs(2);

fn io(what: &str, error: &std::io::Error) -> ApiError {
    ApiError::new(Code::IoFailed, format!("{what}: {error}"))
}

/// An address that is not ours to listen on; the error names it.
fn unbound(what: &str, error: &std::io::Error) -> ApiError {
    let told = io(what, error);
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            told.hint("stop what listens there, or name another address: server.http, server.tcp, server.admin; port 0 is any")
        }
        std::io::ErrorKind::AddrNotAvailable => told.hint("no interface of this machine has the address"),
        std::io::ErrorKind::PermissionDenied => told.hint("ports below 1024 need a privilege; name another one"),
        _ => told,
    }
}

impl Bound {
    /// Binds all ports and serves them; every request but probes is answered `recovering`.
    ///
    /// # Errors
    /// `io_failed` with the address that cannot be bound.
    pub fn bind(options: ServerOptions) -> Result<Self, ApiError> {
        let engine_clock = EngineClock::over(Arc::new(SystemClock));
        let clock: Arc<dyn Clock> = Arc::clone(&engine_clock) as Arc<dyn Clock>;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("STREAMGAUGE_COMMIT").unwrap_or("unknown")));
        let facts = Arc::new(Facts::default());
        let board = Arc::new(SourceBoard::default());
        let seat: SeatSlot = Arc::default();
        let wal: Arc<OnceLock<WalHandle<Disk>>> = Arc::default();
        let settings = Settings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            durability: options.durability.to_owned(),
            memory_max_bytes: options.engine.memory_max_bytes,
            data_dir: options.data_dir.clone().unwrap_or_default(),
            max_staleness_ms: options.max_staleness.map(|most| i64::try_from(most.as_millis()).unwrap_or(i64::MAX)),
            limits: vec![
                ("http.body_bytes", options.native.body_max.into()),
                ("tcp.frame_bytes", options.native.frame_max.into()),
                ("connections", options.native.connections_max.into()),
                ("kafka.memory_bytes", options.kafka_memory_bytes.into()),
            ],
        };
        let control = Arc::new(EngineControl::new(
            Arc::clone(&seat),
            Arc::clone(&facts),
            Arc::clone(&board),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            Arc::clone(&wal),
            settings,
        ));
        let shared = Shared { seat, facts, board, clock, engine_clock, metrics, wal, control };
        let plane = DataPlane::bind(options.native.clone()).map_err(|error| unbound("cannot bind the data plane", &error))?;
        let (http, tcp) = (plane.http_addr(), plane.tcp_addr());
        let ports = (0..options.native.threads())
            .map(|_| {
                let port = EnginePort::new(
                    Arc::clone(&shared.seat),
                    Arc::clone(&shared.facts),
                    Arc::clone(&shared.clock),
                    Arc::clone(&shared.metrics),
                    options.refuse_control,
                );
                Box::new(port) as Box<dyn Port>
            })
            .collect();
        let probe = Arc::clone(&shared.control);
        let readiness = Arc::new(move || {
            let readiness = probe.readiness();
            (readiness.ready, readiness.body(false).to_string())
        });
        let plane = plane.start(ports, readiness, &shared.metrics).map_err(|error| io("cannot start the data plane", &error))?;
        let admin = options.admin.map(|address| start_admin(address, options.native.cors.clone(), &shared)).transpose()?;
        Ok(Self { options, plane, admin, http, tcp, shared })
    }

    /// Bound address of the HTTP data plane.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Bound address of the framed TCP data plane.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Bound address of the control plane.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(RunningAdmin::address)
    }

    /// The engine as operators see it, while it recovers.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.shared.control) as Arc<dyn Control>
    }

    /// Rebuilds the state, puts the config's declarations in force and starts the sources.
    ///
    /// # Errors
    /// What recovery, the log, the declarations or the Kafka clients refuse. Ports are closed then.
    pub fn start(self) -> Result<Server, ApiError> {
        let Self { mut options, plane, admin, http, tcp, shared } = self;
        shared.facts.set_phase(Phase::Recovering);
        let begun = Instant::now();
        let (folder, recovered, writer, handle) = open_log(&options, &shared)?;
        let Recovered { mut state, log, report, .. } = recovered;
        state.count_anew();
        // Before the snapshot thread lets go of anything.
        let pins = Pins::of(&handle, state.fills());
        let _first = shared.wal.set(handle.clone());
        shared.facts.durable_lsn.store(handle.durable_lsn(), Ordering::Release);
        shared.facts.snapshot_lsn.store(report.snapshot_lsn, Ordering::Release);
        shared.facts.snapshot_us.store(report.snapshot_us, Ordering::Release);
        shared.facts.snapshot_bytes.store(report.snapshot_bytes, Ordering::Release);
        let weak: Arc<OnceLock<std::sync::Weak<Seat>>> = Arc::default();
        let skipped: Arc<[u64]> = state.skips().iter().map(|skip| skip.first_lsn).collect();
        // Before anybody gives segments back that are not archived.
        let archiver = start_archiver(&mut options, &shared, &handle, &skipped)?;
        let snapshotter = options.data_dir.is_some().then(|| spawn_snapshotter(&options, &shared, &handle, log, &weak)).transpose()?;
        let stored = state.partitions().to_vec();
        let mut engine = Engine::new(Parts {
            state,
            writer,
            handle: handle.clone(),
            clock: Arc::clone(&shared.engine_clock),
            facts: Arc::clone(&shared.facts),
            metrics: Arc::clone(&shared.metrics),
            board: Arc::clone(&shared.board),
            options: options.engine.clone(),
            snapshots: snapshotter.as_ref().and_then(Snapshotter::sender),
        });
        let declare = std::mem::replace(&mut options.declare, Box::new(|_| Ok(None)));
        let declared = match declared(&mut engine, &declare) {
            Err(error) if error.code == Code::StorageFull => {
                shared.facts.undeclared.store(true, Ordering::Release);
                tracing::warn!(kind = "definitions.wait", %error, "the disk has no room for what the config changes: the server goes on as it was, and its sources begin when there is room");
                false
            }
            other => other.map(|()| true)?,
        };
        let seat = Seat::new(engine, Arc::clone(&shared.facts));
        let _first = weak.set(Arc::downgrade(&seat));
        let log_failed = Arc::new(AtomicBool::new(false));
        let syncer = spawn_syncer(&handle, &seat, &log_failed, &shared.metrics)?;
        let running = Arc::clone(&seat);
        let apply = spawn("apply", move || running.run())?;
        let _first = shared.seat.set(Arc::clone(&seat));
        shared.control.know_sources(options.setups.clone());
        let subscriptions = Subscriptions::new(handle.clone(), Arc::clone(&shared.facts), skipped);
        shared.control.open_subscriptions(Box::new(move |request, queue| subscriptions.begin(request, queue)));
        shared.metrics.recovery.record(begun.elapsed());
        let waits = options.wait_for_catch_up && !options.sources.is_empty();
        shared.facts.set_phase(if waits { Phase::CatchingUp } else { Phase::Ready });
        let historian =
            options.data_dir.as_ref().map(|data| spawn_historian(&options, &shared, &handle, (log, data), pins, &seat)).transpose()?;
        let (kafka, late_failure) = (Sources::default(), Arc::<OnceLock<ApiError>>::default());
        if declared {
            *kafka.lock() = start_sources(&options, &shared, &seat, &stored)?;
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let late = Late {
            shared: shared.clone(),
            seat: Arc::clone(&seat),
            stopping: Arc::clone(&stopping),
            kafka: Arc::clone(&kafka),
            failure: Arc::clone(&late_failure),
        };
        let watcher = (waits || !declared)
            .then(|| {
                spawn("late-start", move || {
                    if declared || late.begin(&options, &declare, &stored) {
                        late.watch_catch_up();
                    }
                })
            })
            .transpose()?;
        Ok(Server {
            shared,
            seat,
            plane: Some(plane),
            admin,
            kafka,
            apply: Some(apply),
            watcher,
            stopping,
            late_failure,
            syncer: Some(syncer),
            snapshotter,
            historian,
            archiver,
            log_failed,
            http,
            tcp,
            report,
            _folder: folder,
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ApiError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| io("cannot start a thread", &error))
}

fn start_admin(address: SocketAddr, cors: Cors, shared: &Shared) -> Result<RunningAdmin, ApiError> {
    let server = AdminServer::bind(address).map_err(|error| unbound(&format!("cannot bind the admin port {address}"), &error))?;
    let options = AdminOptions { version: env!("CARGO_PKG_VERSION").to_owned(), metrics: Arc::clone(&shared.metrics), cors };
    let control: Arc<dyn Control> = Arc::clone(&shared.control) as Arc<dyn Control>;
    server.start(control, options).map_err(|error| io("cannot start the admin port", &error))
}

/// A new data folder on a disk without room for its first segment: there is nothing to serve yet.
fn needs_room(mut error: ApiError, folder: &Path, wal: &WalOptions) -> ApiError {
    if error.code != Code::StorageFull {
        return error;
    }
    let wanted = wal.segment_bytes;
    error.reason.push_str(&format!("; a new data folder needs {wanted} bytes for the first segment of its log"));
    if let Ok(space) = Disk.space(folder) {
        error.reason.push_str(&format!(", the disk has {}", space.free_bytes));
        error = error.with("free_bytes", space.free_bytes.into());
    }
    error.with("needed_bytes", wanted.into()).hint(
        "free space and start again, or lower durability.wal.segment; only a new data folder needs room to start, one with a log needs no \
         free byte",
    )
}

type OpenedLog = (Option<DataFolder>, Recovered, WalWriter<Disk>, WalHandle<Disk>);

fn open_log(options: &ServerOptions, shared: &Shared) -> Result<OpenedLog, ApiError> {
    let now_us = shared.clock.now_us();
    let Some(path) = &options.data_dir else {
        let log = LogIdentity { log_id: 0, hash_seed: u64::from_le_bytes(crate::storage::random_bytes().map_err(ApiError::from)?) };
        let (writer, handle) = WalWriter::memory(FIRST_LSN, options.wal);
        let state = State::new(log.hash_seed);
        let start = Start::Fresh { log };
        let recovered = Recovered { state, start, log, report: Report::default(), damaged_snapshots: Vec::new() };
        return Ok((None, recovered, writer, handle));
    };
    let no_room = |error| needs_room(error, path, &options.wal);
    let folder = DataFolder::open(path).map_err(ApiError::from).map_err(no_room)?;
    // What a process said that died is worth reading, and no start.
    let note = PanicNote::read(path).unwrap_or_else(|error| {
        tracing::warn!(kind = "panic.note_unreadable", %error, "what the process before said cannot be read");
        None
    });
    if let Some(note) = &note {
        tracing::warn!(
            kind = "panic.before",
            at_us = note.at_us,
            thread = note.thread,
            place = note.place,
            first_lsn = note.lsns.map(|(first, _)| first),
            last_lsn = note.lsns.map(|(_, last)| last),
            "a process before ended in a panic (DATA/panic.json): {}",
            note.message
        );
    }
    let mut attempts = Attempts::open(&Disk, path, env!("CARGO_PKG_VERSION"));
    let mut recovered = recover(&Disk, &folder.wal(), &folder.snapshots(), &shared.facts, &mut attempts).map_err(|mut error| {
        if let RecoveryError::CrashLoop(frame) = &mut error {
            frame.heard(note);
        }
        error
    })?;
    let unfinished = crate::snapshot::remove_unfinished(&Disk, &folder.snapshots()).map_err(ApiError::from)?;
    if unfinished > 0 {
        tracing::info!(kind = "recovery.unfinished_snapshot", files = unfinished, "a snapshot that was not finished is removed");
    }
    let start = recovered.start.clone();
    if matches!(&start, Start::After(tail) if matches!(tail.end, TailEnd::Torn { .. })) {
        shared.metrics.wal_torn_tail.inc();
    }
    let (writer, handle) = WalWriter::start(Disk, &folder.wal(), start, options.wal, now_us).map_err(ApiError::from).map_err(no_room)?;
    if handle.status().full {
        start_without_room(&handle, &Reserve::new(Disk, path, RESERVE_BYTES))?;
        shared.facts.disk_full.store(true, Ordering::Relaxed);
    }
    for lsn in recovered.damaged_snapshots.drain(..) {
        match crate::snapshot::quarantine(&Disk, &folder.snapshots(), lsn) {
            // It stays under its name and is told again at the next start.
            Err(error) if error.full() => {
                tracing::warn!(kind = "recovery.not_put_aside", lsn, %error, "a damaged snapshot could not be put aside")
            }
            other => other.map_err(ApiError::from)?,
        }
    }
    let report = &recovered.report;
    tracing::info!(
        kind = "recovery.finished",
        snapshot_lsn = report.snapshot_lsn,
        keys = report.keys,
        frames = report.frames,
        rows = report.rows,
        skipped_rows = report.skipped_rows,
        lsn = recovered.state.lsn(),
        snapshot_ms = report.snapshot_took.as_millis(),
        replay_ms = report.replay_took.as_millis(),
        damaged_snapshots = report.damaged_snapshots,
        "state rebuilt"
    );
    Ok((Some(folder), recovered, writer, handle))
}

/// The disk has no room for a segment of ours, perhaps not even to make the end of the old one durable. The reserve helps with the latter,
/// since a snapshot, which lets space go, waits for that; frames never live on it. What is left to do is tried again while the server runs.
fn start_without_room(handle: &WalHandle<Disk>, reserve: &Reserve<Disk>) -> Result<(), ApiError> {
    let _held = handle.hold_room();
    let mut settled = handle.settle()?;
    if !settled && reserve.release()? {
        settled = handle.settle()?;
    }
    let status = handle.status();
    tracing::warn!(
        kind = "disk.full",
        settled,
        written_lsn = status.written_lsn,
        durable_lsn = status.durable_lsn,
        "the disk has no room for the log: reads are served, writes are refused until there is room"
    );
    Ok(())
}

fn start_archiver(
    options: &mut ServerOptions,
    shared: &Shared,
    handle: &WalHandle<Disk>,
    skipped: &Arc<[u64]>,
) -> Result<Option<Arc<Archiver>>, ApiError> {
    let Some((store, declared)) = options.store.take() else { return Ok(None) };
    let facts = json!({"declared": true, "name": store.name, "path": store.path.display().to_string()});
    let marker = options.data_dir.clone().unwrap_or_default().join(ARCHIVE_MARKER);
    let resumes = archive::resumes(&Disk, &marker, &store)?;
    let root = store.path.display().to_string();
    let lock = FolderLock::take(&store.manifests)?;
    let keys = declared.declaration.keys_json(&|span| declared.place(span));
    let archiver = Arc::new(Archiver::start(ArchiverOptions {
        storage: Disk,
        lock: Some(lock),
        store,
        wal: handle.clone(),
        skipped: Arc::clone(skipped),
        clock: Arc::clone(&shared.clock),
        facts: Arc::clone(&shared.facts),
        metrics: Arc::clone(&shared.metrics),
        resumes,
    })?);
    if !resumes {
        archive::note_place(&Disk, &marker, &root);
    }
    let door = Arc::clone(&archiver);
    shared.control.open_archive(Box::new(move |now| {
        let archive = if now { door.run_now(ARCHIVE_NOW)? } else { door.status() };
        let mut answer = facts.clone();
        answer["archive"] = archive;
        answer["keys"] = keys.clone();
        Ok(answer)
    }));
    Ok(Some(archiver))
}

fn spawn_snapshotter(
    options: &ServerOptions,
    shared: &Shared,
    handle: &WalHandle<Disk>,
    log: LogIdentity,
    seat: &Arc<OnceLock<std::sync::Weak<Seat>>>,
) -> Result<Snapshotter, ApiError> {
    let data = options.data_dir.clone().unwrap_or_default();
    let reserve = Reserve::new(Disk, &data, RESERVE_BYTES);
    let snapshots = SnapshotOptions { folder: data.join("snapshots"), keep: options.snapshots_kept, log, reserve };
    Snapshotter::spawn(
        snapshots,
        handle.clone(),
        Arc::clone(&shared.clock),
        Arc::clone(&shared.facts),
        Arc::clone(&shared.metrics),
        Arc::clone(seat),
    )
    .map_err(|error| io("cannot start the snapshot thread", &error))
}

/// The thread that fills tables from history.
fn spawn_historian(
    options: &ServerOptions,
    shared: &Shared,
    handle: &WalHandle<Disk>,
    (log, data): (LogIdentity, &Path),
    pins: Pins,
    seat: &Arc<Seat>,
) -> Result<Historian, ApiError> {
    let kafka = streamgauge_kafka::Options { instance: options.instance.clone(), memory_bytes: options.kafka_memory_bytes };
    let parts = HistoryParts {
        past: Arc::new(KafkaPast::new(options.sources.clone(), kafka)),
        setups: options.setups.clone(),
        handle: handle.clone(),
        log,
        folder: data.join("history"),
        facts: Arc::clone(&shared.facts),
        board: Arc::clone(&shared.board),
        clock: Arc::clone(&shared.clock),
    };
    Historian::spawn(parts, pins, seat).map_err(|error| io("cannot start a thread", &error))
}

fn spawn_syncer(
    handle: &WalHandle<Disk>,
    seat: &Arc<Seat>,
    failed: &Arc<AtomicBool>,
    metrics: &Metrics,
) -> Result<WalSyncer<Disk>, ApiError> {
    let fsync = Arc::clone(&metrics.wal_fsync);
    let seat = Arc::downgrade(seat);
    let failed = Arc::clone(failed);
    WalSyncer::spawn(handle, move |event| {
        let Some(seat) = seat.upgrade() else { return };
        match event {
            SyncEvent::Synced(took) => fsync.record(took),
            SyncEvent::Durable(lsn) => seat.post(News::Durable(lsn)),
            SyncEvent::Failed(error) => {
                failed.store(true, Ordering::Release);
                seat.post(News::LogFailed(error));
            }
        }
    })
    .map_err(|error| io("cannot start the WAL syncer", &error))
}

fn start_sources(
    options: &ServerOptions,
    shared: &Shared,
    seat: &Arc<Seat>,
    stored: &[streamgauge_api::StoredPosition],
) -> Result<Option<KafkaHandle>, ApiError> {
    if options.sources.is_empty() {
        return Ok(None);
    }
    let kafka = streamgauge_kafka::Options { instance: options.instance.clone(), memory_bytes: options.kafka_memory_bytes };
    let mut inlet = |source: &KafkaSource| {
        let setups = options.setups.iter().filter(|setup| setup.name == source.name).cloned().collect();
        let inlet =
            EngineInlet::new(Arc::clone(seat), Arc::clone(&shared.board), Arc::clone(&shared.clock), Arc::clone(&shared.metrics), setups);
        Box::new(inlet) as Box<dyn Inlet>
    };
    streamgauge_kafka::start(options.sources.clone(), stored, &kafka, &mut inlet, &shared.board, &shared.clock).map(Some)
}

/// Puts in force what the config declares.
fn declared(engine: &mut Engine, declare: &Declare) -> Result<(), ApiError> {
    match declare(engine.state())? {
        Some(declared) => engine.define(declared.registry, declared.effects).map(|_lsn| ()),
        None => Ok(()),
    }
}

/// What goes on beside a server that serves already.
struct Late {
    shared: Shared,
    seat: Arc<Seat>,
    stopping: Arc<AtomicBool>,
    kafka: Sources,
    failure: Arc<OnceLock<ApiError>>,
}

impl Late {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the log has room for what the config changes, then begins the sources. False when that ends otherwise.
    fn begin(&self, options: &ServerOptions, declare: &Declare, stored: &[streamgauge_api::StoredPosition]) -> bool {
        let facts = &self.shared.facts;
        while !self.is_stopping() {
            std::thread::sleep(LOOK_EVERY);
            if facts.disk_full.load(Ordering::Relaxed) {
                continue;
            }
            let began = match self.seat.with(|engine| declared(engine, declare)) {
                Err(error) if error.code == Code::StorageFull => continue,
                Err(error) => Err(error),
                Ok(()) => start_sources(options, &self.shared, &self.seat, stored),
            };
            match began {
                Ok(kafka) => *self.kafka.lock() = kafka,
                Err(error) => {
                    let _first = self.failure.set(error);
                    return false;
                }
            }
            facts.undeclared.store(false, Ordering::Release);
            tracing::info!(kind = "definitions.in_force", "what the config changes is in force, and its sources begin");
            return true;
        }
        false
    }

    /// Moves from catching up to ready once every partition was at an end that a broker told.
    fn watch_catch_up(&self) {
        let shared = &self.shared;
        while !self.is_stopping() && shared.facts.phase() == Phase::CatchingUp {
            if CatchUp::of(&shared.board, &shared.facts.incidents).is_done() {
                let partitions = shared.board.partitions().len();
                assert!(partitions > 0, "a source that knows its topics has partitions");
                tracing::info!(kind = "sources.caught_up", partitions, "every source has reached its end");
                shared.facts.set_phase(Phase::Ready);
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Server {
    /// Bound address of the HTTP data plane.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Bound address of the framed TCP data plane.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Bound address of the control plane.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(RunningAdmin::address)
    }

    /// What recovery did.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The engine as operators see it.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.shared.control) as Arc<dyn Control>
    }

    /// Whether the log has failed for good: the process is to end with exit code 74.
    pub fn log_failed(&self) -> bool {
        self.log_failed.load(Ordering::Acquire) || self.shared.facts.phase() == Phase::Failed
    }

    /// Why the server cannot go on: what its start had to leave for want of room is refused now that there is some.
    pub fn late_failure(&self) -> Option<&ApiError> {
        self.late_failure.get()
    }

    /// Stops within about `grace`: sources, ports, what is queued, a last snapshot, the log.
    ///
    /// # Errors
    /// The log's failure; nothing that was acknowledged is lost by it.
    pub fn stop(mut self, grace: Duration) -> Result<(), ApiError> {
        let failed = self.log_failed();
        if !failed {
            self.shared.facts.set_phase(Phase::Draining);
        }
        self.stopping.store(true, Ordering::Release);
        if let Some(plane) = &self.plane {
            plane.drain();
        }
        // It may be beginning sources just now.
        if let Some(late) = self.watcher.take()
            && late.join().is_err()
        {
            tracing::error!("a thread panicked");
        }
        if let Some(historian) = self.historian.take()
            && !historian.stop(KAFKA_STOP)
        {
            tracing::warn!("reading history did not end in time; a broker that does not answer holds it");
        }
        if let Some(kafka) = self.kafka.lock().take() {
            kafka.stop_reading();
            self.seat.settle(KAFKA_STOP);
            if !kafka.stop(KAFKA_STOP.min(grace)) {
                tracing::warn!("a Kafka client did not end in time; a broker that does not answer holds it");
            }
        }
        if let Some(plane) = self.plane.take() {
            plane.stop(grace / 4);
        }
        if let Some(archiver) = self.archiver.take() {
            archiver.stop();
        }
        self.seat.stop();
        if let Some(apply) = self.apply.take()
            && apply.join().is_err()
        {
            tracing::error!("a thread panicked");
        }
        self.seat.with(Engine::end_snapshots);
        let last = if failed { None } else { self.seat.with(|engine| engine.freeze_last()) };
        if let Some(snapshotter) = self.snapshotter.take() {
            let fresh = last.filter(|state| state.lsn() > self.shared.facts.snapshot_lsn.load(Ordering::Acquire));
            snapshotter.finish(fresh.as_deref());
        }
        let closed = if failed { Ok(0) } else { self.seat.with(Engine::close) };
        if let Some(syncer) = self.syncer.take() {
            syncer.stop();
        }
        if let Some(admin) = self.admin.take() {
            admin.stop(Duration::from_millis(500));
        }
        closed.map(|_| ()).map_err(ApiError::from)
    }
}
