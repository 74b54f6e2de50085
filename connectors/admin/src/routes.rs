//! The table of routes. The router, `/`, `/openapi.json` and the metrics of requests are all made from it.

use axum::Router;
use axum::routing::{get, post};
use streamgauge_api::Code;

use crate::handlers::{self, Admin};

/// One route as it is documented.
#[derive(Debug)]
pub(crate) struct RouteSpec {
    /// HTTP method, lower case as in OpenAPI.
    pub(crate) method: &'static str,
    /// Path template; axum and OpenAPI write it alike.
    pub(crate) path: &'static str,
    /// What it answers, in one sentence.
    pub(crate) summary: &'static str,
    /// Path and query parameters.
    pub(crate) parameters: &'static [Parameter],
    /// Media type of a 200.
    pub(crate) media_type: &'static str,
    /// Name of the schema of a JSON 200 in the OpenAPI document.
    pub(crate) schema: &'static str,
    /// Codes of its own refusals; every route may also refuse with [`COMMON_CODES`].
    pub(crate) codes: &'static [Code],
}

/// A parameter of a route.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// `path` or `query`.
    pub(crate) place: &'static str,
    /// `string`, `integer` or `boolean`.
    pub(crate) kind: &'static str,
    pub(crate) summary: &'static str,
}

/// Codes that every route may refuse with.
pub(crate) const COMMON_CODES: &[Code] =
    &[Code::InvalidRequest, Code::UnknownMember, Code::MethodNotAllowed, Code::InternalError, Code::Overloaded];

const JSON: &str = "application/json";

const fn query(name: &'static str, kind: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, place: "query", kind, summary }
}

const fn page(path: &'static str, summary: &'static str, schema: &'static str) -> RouteSpec {
    RouteSpec { method: "get", path, summary, parameters: &[], media_type: JSON, schema, codes: &[] }
}

const READY: RouteSpec = RouteSpec {
    parameters: &[query("verbose", "boolean", "Show phase and progress in a 200 too.")],
    codes: &[Code::Recovering, Code::Draining, Code::WalUnavailable, Code::StorageFull, Code::TableMemoryExceeded, Code::Stale],
    ..page("/ready", "200 when requests are served, else 503 with the reasons.", "Readiness")
};

const BACKFILL_ID: Parameter = Parameter { name: "id", place: "path", kind: "string", summary: "Number of the backfill." };

const HEALTH: RouteSpec = page("/health", "200 while the apply thread steps or idles, else 503.", "Health");

/// Every route of the admin port.
pub(crate) const ROUTES: &[RouteSpec] = &[
    RouteSpec { media_type: "text/html; charset=utf-8", ..page("/", "This list.", "Text") },
    HEALTH,
    RouteSpec { path: "/livez", ..HEALTH },
    READY,
    RouteSpec { path: "/readyz", ..READY },
    RouteSpec { codes: &[Code::Recovering], ..page("/startupz", "200 once recovery has finished.", "Readiness") },
    RouteSpec { media_type: handlers::METRICS_TYPE, ..page("/metrics", "All metrics in the Prometheus text format.", "Text") },
    page("/registry", "Events, tables and sources as declared, with node_count and version.", "Registry"),
    page("/sources", "Sources and their partitions: position, end, lag, rates, ETA, incidents.", "Sources"),
    RouteSpec {
        parameters: &[
            Parameter { name: "table", place: "path", kind: "string", summary: "Name of the table." },
            query("after", "string", "The member `next` of the page before."),
            query("limit", "integer", "Keys per page, 1 to 1000; 100 when absent."),
        ],
        codes: &[Code::UnknownTable, Code::Recovering],
        ..page("/tables/{table}/keys", "The keys of a table, page by page, in a stable order.", "KeysPage")
    },
    page("/status", "Versions, LSNs, durability, memory, what is given back, tables with their funnels, incidents, bottleneck.", "Status"),
    page("/incidents", "Open incidents with their ways on, and what tables lack by an operator's decision.", "Incidents"),
    RouteSpec {
        method: "post",
        parameters: &[
            Parameter {
                name: "id",
                place: "path",
                kind: "string",
                summary: "SOURCE, SOURCE/PARTITION or SOURCE/TOPIC/PARTITION, slashes encoded.",
            },
            Parameter { name: "decision", place: "path", kind: "string", summary: "accept-gap, begin or forget." },
            query("at", "string", "Where begin begins: earliest, latest, or a time in RFC 3339."),
            query("dry_run", "boolean", "Show the effect and change nothing."),
        ],
        codes: &[
            Code::UnknownReference,
            Code::DecisionRefused,
            Code::BrokerUnreachable,
            Code::Recovering,
            Code::Draining,
            Code::StorageFull,
            Code::WalUnavailable,
            Code::PayloadTooLarge,
            Code::RequestTimeout,
            Code::Forbidden,
        ],
        ..page("/incidents/{id}/{decision}", "Decides how partitions that an incident stopped go on.", "Decided")
    },
    page("/backfills", "Tables that are being filled from history, and how far each is.", "Backfills"),
    RouteSpec { parameters: &[BACKFILL_ID], codes: &[Code::BackfillNotFound], ..page("/backfills/{id}", "One of them.", "Backfill") },
    RouteSpec {
        method: "post",
        parameters: &[
            BACKFILL_ID,
            Parameter {
                name: "action",
                place: "path",
                kind: "string",
                summary: "pause, resume, or cancel: the table then begins empty now.",
            },
        ],
        codes: &[
            Code::BackfillNotFound,
            Code::Recovering,
            Code::Draining,
            Code::StorageFull,
            Code::WalUnavailable,
            Code::PayloadTooLarge,
            Code::RequestTimeout,
            Code::Forbidden,
        ],
        ..page("/backfills/{id}/{action}", "Holds a table that is being filled, lets it go on, or gives its history up.", "BackfillDone")
    },
    page("/limits", "Every named bound with its value and use.", "Limits"),
    RouteSpec {
        parameters: &[
            query("after", "string", "The member `next` of the page before, or an LSN."),
            query("limit", "integer", "Rejects per page, 1 to 200; 50 when absent."),
        ],
        ..page("/rejects", "Rejected records, oldest first, page by page.", "RejectsPage")
    },
    RouteSpec {
        method: "post",
        parameters: &[
            query("code", "string", "Rejects of this code alone."),
            query("source", "string", "Of this source alone."),
            query("event", "string", "Of this event alone."),
            query("lsn", "integer", "Of the frame at this LSN alone."),
            query("dry_run", "boolean", "Only say what would come of it."),
        ],
        codes: &[
            Code::UnknownReference,
            Code::TableFilling,
            Code::TableMemoryExceeded,
            Code::Recovering,
            Code::Draining,
            Code::StorageFull,
            Code::WalUnavailable,
            Code::Overloaded,
            Code::PayloadTooLarge,
            Code::RequestTimeout,
            Code::Forbidden,
        ],
        ..page("/rejects/retry", "Decodes rejects again and applies those that are rows now, each once.", "Retried")
    },
    RouteSpec {
        parameters: &[
            query("from", "integer", "The first LSN wanted; the next one to come when absent."),
            query("limit", "integer", "Frames per page, 1 to 1000; 100 when absent."),
            query("wait_ms", "integer", "How long to wait when there is no frame yet, 0 to 10000; 0 when absent."),
        ],
        codes: &[
            Code::PositionExpired,
            Code::PositionAhead,
            Code::NotAvailable,
            Code::Recovering,
            Code::WalUnavailable,
            Code::WalDamaged,
            Code::IoFailed,
        ],
        ..page("/wal", "Durable frames of the log from any LSN on: what each is, its rows by event, its positions.", "LogPage")
    },
    RouteSpec {
        parameters: &[
            Parameter { name: "events", place: "path", kind: "string", summary: "Names of events, separated by commas." },
            query("from", "string", "live (when absent), earliest, the first LSN wanted, or @TIME in RFC 3339."),
            query("after", "integer", "The last LSN that was had; Last-Event-ID says the same and wins."),
            query("log", "string", "The log that these LSNs are of: log_id of hello."),
            query("where", "string", "Which rows: an expression over the event's fields."),
            query("fields", "string", "Which fields of them, separated by commas; all when absent."),
            query("on_slow", "string", "close (when absent), or catch_up: a slow client reads the log at its own pace."),
        ],
        media_type: "text/event-stream",
        codes: &[
            Code::SubscribeAllExcludesEvents,
            Code::EventNotFound,
            Code::InvalidExpression,
            Code::ExpressionTypeMismatch,
            Code::LogChanged,
            Code::PositionExpired,
            Code::PositionAhead,
            Code::TooManySubscribers,
            Code::NotAvailable,
            Code::Recovering,
            Code::WalDamaged,
            Code::IoFailed,
        ],
        ..page(
            "/subscribe/{events}",
            "Rows of events, live or from any LSN on, a message per transaction: hello, txn, position, schema, close.",
            "Text",
        )
    },
    RouteSpec { codes: &[Code::Recovering], ..page("/fingerprint", "The 128-bit fingerprint of the state and its LSN.", "Fingerprint") },
    RouteSpec {
        method: "post",
        codes: &[
            Code::Recovering,
            Code::Draining,
            Code::StorageFull,
            Code::IoFailed,
            Code::PayloadTooLarge,
            Code::RequestTimeout,
            Code::Forbidden,
        ],
        ..page("/snapshots", "Takes a snapshot now and answers when it is verified.", "Snapshot")
    },
    RouteSpec {
        method: "post",
        codes: &[
            Code::Recovering,
            Code::Draining,
            Code::StorageFull,
            Code::WalUnavailable,
            Code::PayloadTooLarge,
            Code::RequestTimeout,
            Code::Forbidden,
        ],
        ..page("/clock/accept", "Says that the wall clock is right: sets the time of frames to it, back or ahead.", "ClockAccepted")
    },
    page("/eventstore", "The event store: each key with value, origin and effect, and how far the archive is.", "Eventstore"),
    RouteSpec {
        method: "post",
        codes: &[
            Code::NotAvailable,
            Code::Recovering,
            Code::Draining,
            Code::StorageFull,
            Code::IoFailed,
            Code::WalDamaged,
            Code::ArchiveDamaged,
            Code::ArchiveFenced,
            Code::PayloadTooLarge,
            Code::RequestTimeout,
            Code::Forbidden,
        ],
        ..page("/eventstore/now", "Archives everything that is durable, and answers as /eventstore once that is done.", "Eventstore")
    },
    page("/openapi.json", "This interface as OpenAPI 3.1.", "Document"),
];

/// The router over all of [`ROUTES`].
pub(crate) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(handlers::index))
        .route("/health", get(handlers::health))
        .route("/livez", get(handlers::health))
        .route("/ready", get(handlers::ready))
        .route("/readyz", get(handlers::ready))
        .route("/startupz", get(handlers::started))
        .route("/metrics", get(handlers::metrics))
        .route("/registry", get(handlers::registry))
        .route("/sources", get(handlers::sources))
        .route("/tables/{table}/keys", get(handlers::keys))
        .route("/status", get(handlers::status))
        .route("/incidents", get(handlers::incidents))
        .route("/incidents/{id}/{decision}", post(handlers::decide))
        .route("/backfills", get(handlers::backfills))
        .route("/backfills/{id}", get(handlers::backfill))
        .route("/backfills/{id}/{action}", post(handlers::act_on_backfill))
        .route("/limits", get(handlers::limits))
        .route("/rejects", get(handlers::rejects))
        .route("/rejects/retry", post(handlers::retry_rejects))
        .route("/wal", get(handlers::log))
        .route("/subscribe/{events}", get(crate::subscribe::subscribe))
        .route("/fingerprint", get(handlers::fingerprint))
        .route("/snapshots", post(handlers::take_snapshot))
        .route("/clock/accept", post(handlers::accept_clock))
        .route("/eventstore", get(handlers::eventstore))
        .route("/eventstore/now", post(handlers::archive_now))
        .route("/openapi.json", get(handlers::openapi))
        .with_state(admin)
}
