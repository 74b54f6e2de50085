//! The table of stable error codes, shared by HTTP, TCP, the command line, logs and docs.
//!
//! A code is snake_case, never renamed and never reused. Each has an HTTP status, a word on retrying, a title and an advice; `docs/ERRORS.md` and
//! `streamgauge errors` are generated from this table.

use serde_json::{Map, Value as Json};
use std::fmt;

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $retry:literal $title:literal $advice:literal;)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $title] $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code as it stands on the wire.
            pub fn as_str(self) -> &'static str { match self { $(Code::$variant => $text,)* } }

            /// HTTP status.
            pub fn status(self) -> u16 { match self { $(Code::$variant => $status,)* } }

            /// Whether the same request may succeed later.
            pub fn retry(self) -> bool { match self { $(Code::$variant => $retry,)* } }

            /// What happened, in a few words.
            pub fn title(self) -> &'static str { match self { $(Code::$variant => $title,)* } }

            /// What to try.
            pub fn advice(self) -> &'static str { match self { $(Code::$variant => $advice,)* } }
        }
    };
}

codes! {
    EventNotFound "event_not_found" 404 false "no such event" "register the event first, or check its spelling with GET /registry on the admin port";
    InvalidEvent "invalid_event" 400 false "the row does not fit its event" "send an object with the declared fields and types";
    UnknownFieldV0 "unknown_field_v0" 400 false "the row has a field that the event lacks" "declare the field, or leave it out of the row";
    UnknownFieldEventTimeV0 "unknown_field_event_time_v0" 400 false "event time is not a built-in field" "declare a field of your own and name it as the event's time source";
    UnknownFieldTolerateDelayV0 "unknown_field_tolerate_delay_v0" 400 false "there is no tolerate_delay" "late rows repair their bucket by themselves; leave the member out";
    ControlCharacterInString "control_character_in_string" 400 false "a pushed string holds a control character" "remove it, or set push.control_characters = \"allow\"";
    InvalidJsonBody "invalid_json_body" 400 false "the body is not valid JSON" "send one JSON value, nested at most 128 deep";
    MissingEventNameInBody "missing_event_name_in_body" 400 false "the body names no event" "add the member \"event\", or use POST /push/{event}";
    UnknownTable "unknown_table" 404 false "no such table" "check the spelling with GET /registry on the admin port";
    KeyParseFailure "key_parse_failure" 404 false "the key does not fit the table's key columns" "send one part per key column, typed as declared";
    KeyNotFound "key_not_found" 404 false "the table has no such key" "nothing to do if the key was never seen; else look at /status for why rows were not applied";
    FeatureNotFound "feature_not_found" 404 false "the table has no such feature" "check the spelling: GET /registry on the admin port lists every table with its features";
    UnsupportedRequestShape "unsupported_request_shape" 400 false "this request shape is not supported" "use {\"table\":..,\"key\":..,\"features\":[..]?}";
    InternalError "internal_error" 500 false "the request failed" "this is a bug of ours: look at the server's log, and report what it says";
    NotFound "not_found" 404 false "no such route" "docs/PROTOCOLS.md lists the routes";
    MethodNotAllowed "method_not_allowed" 405 false "wrong method for this route" "use the method that the Allow header names";
    UnsupportedMediaType "unsupported_media_type" 415 false "the request's media type is not accepted" "send Content-Type: application/json, with a Content-Encoding of gzip, zstd or none";
    ResetDisabledInProduction "reset_disabled_in_production" 403 false "reset works in test mode only" "start with --test-mode";
    InvalidRegistration "invalid_registration" 400 false "the declaration is not valid" "mend it at the named path; docs/PROTOCOLS.md has the form";
    InvalidExpression "invalid_expression" 400 false "an expression or chain step is not valid" "mend it at the named path; docs/WHERE.md has the expressions";
    AggregationOnTableNotSupported "aggregation_on_table_not_supported" 400 false "a table cannot be aggregated" "aggregate an event, or an event derivation";
    AggregationUnknownField "aggregation_unknown_field" 400 false "a feature names a field that does not exist" "check the field's spelling against the event after its chain";
    AggregationInvalidWhere "aggregation_invalid_where" 400 false "a feature's where is not valid" "mend the expression where parsing stopped; docs/OPERATORS.md has the expressions";
    AggregationInvalidWindow "aggregation_invalid_window" 400 false "a window is not valid here" "use digits and ms, s, m, h or d, at most 3650d";
    AggregationInvalidParam "aggregation_invalid_param" 400 false "an operator parameter is out of its range" "keep the parameter within its bounds: docs/OPERATORS.md lists them by operator";
    AggregationUnknownOp "aggregation_unknown_op" 400 false "no such operator" "docs/OPERATORS.md lists all operators";
    AggregationGroupKeyCollidesWithFeature "aggregation_group_key_collides_with_feature" 400 false "a feature has the name of a key column" "rename the feature";
    AggregationFeatureNameCollisionAcrossAggregations "aggregation_feature_name_collision_across_aggregations" 400 false "two features share a name" "rename one of them";
    InvalidPercentileQ "invalid_percentile_q" 400 false "q is out of range" "0 < q < 1";
    InvalidTopKK "invalid_top_k_k" 400 false "k is out of range" "1 to 1024";
    InvalidBloomFpr "invalid_bloom_fpr" 400 false "target_fpr is out of range" "0.000001 to 0.5";
    WindowNotSupported "window_not_supported" 400 false "this operator takes no window" "leave the window out: what the operator keeps is of the key's whole life";
    UnboundedOpInLifetimeMode "unbounded_op_in_lifetime_mode" 400 false "this operator needs a bound over a lifetime" "give a window, or the parameter that bounds it: docs/OPERATORS.md lists them by operator";
    UnsupportedNodeKind "unsupported_node_kind" 400 false "a node is neither event nor derivation" "use kind event or derivation";
    FeatureRemovedNoJoinsV0 "feature_removed_no_joins_v0" 400 false "there are no joins" "enrich before Kafka, or key two tables alike";
    FeatureRemovedNoUnionsV0 "feature_removed_no_unions_v0" 400 false "there are no unions" "feed several sources into one event";
    ForceRequired "force_required" 409 false "the change would lose or reinterpret state" "look at `diff`; repeat with force, or rename";
    WalUnavailable "wal_unavailable" 503 true "the write-ahead log does not accept writes" "look at /ready and the log for the I/O error";
    FrameTooLarge "frame_too_large" 413 false "a frame is larger than the limit" "send at most `limit` bytes";
    UnsupportedContentType "unsupported_content_type" 400 false "this operation takes no such encoding" "use JSON";
    UnknownOp "unknown_op" 400 false "no such opcode" "docs/PROTOCOLS.md lists the opcodes";
    FrameError "frame_error" 400 false "the frame is malformed" "length counts opcode, content type and payload: at least 3";
    HttpProtocolError "http_protocol_error" 400 false "the request is not valid HTTP/1.1" "send HTTP/1.1 as RFC 9112 has it; the connection is closed";
    InvalidRequest "invalid_request" 400 false "the request is not valid" "docs/PROTOCOLS.md has every route with its parameters and body";
    UnknownMember "unknown_member" 400 false "the request has a member or query parameter that is not known there" "leave it out, or correct its name: docs/PROTOCOLS.md has every member and parameter";
    Forbidden "forbidden" 403 false "the token lacks the scope" "use a client that may do this";
    RequestTimeout "request_timeout" 408 true "the request did not arrive in time" "send head within 5 s and body within 30 s";
    PayloadTooLarge "payload_too_large" 413 false "the body is larger than the limit" "send at most limits.body bytes (4 MiB by default), or split the batch";
    BatchTooLarge "batch_too_large" 413 false "too many entries in one request" "at most 65,536; split it";
    RowTooLarge "row_too_large" 413 false "the row is larger than a row may be" "declare fewer or shorter fields: at most 16 MiB of a row are kept";
    ResponseTooLarge "response_too_large" 413 false "the answer would be larger than the limit" "ask for fewer keys or features";
    HeadersTooLarge "headers_too_large" 431 false "too many or too large headers" "at most 64 headers and 8 KiB";
    Overloaded "overloaded" 503 true "too much is in flight" "retry after a short pause";
    Recovering "recovering" 503 true "state is being rebuilt" "wait for GET /ready to answer 200";
    Draining "draining" 503 true "the server is stopping" "retry against the restarted server";
    Stale "stale" 503 true "the table is further behind than max_staleness" "retry later, or accept an older value";
    SourceStopped "source_stopped" 503 true "an incident stops a source before it has caught up" "`warnings` of /ready names it, /status says what to do";
    MinLsnNotReached "min_lsn_not_reached" 503 true "the asked LSN is not applied yet" "retry, or give a larger wait_ms";
    PositionExpired "position_expired" 410 false "the log begins behind that LSN" "begin at `earliest_lsn`; what is before it is in the tables alone";
    LogChanged "log_changed" 409 false "the LSN is of another log" "begin anew: from=earliest gives what this log has, and what came of the other one is in the tables alone";
    SubscribeAllExcludesEvents "subscribe_all_excludes_events" 400 false "there is no subscription to all events" "name the events: /subscribe/payments,logins";
    SubscriptionInvalidated "subscription_invalidated" 409 false "the event was declared anew and the filter does not fit it" "subscribe again after `last_lsn`, with a filter over the fields that there are";
    SlowConsumer "slow_consumer" 503 true "the client takes its messages more slowly than they come" "subscribe again after `last_lsn`; with on_slow=catch_up the log is read at the client's pace";
    TooManySubscribers "too_many_subscribers" 503 true "as many subscribers are connected as may be" "close some, or subscribe to several events at once";
    ServerStopping "server_stopping" 503 true "the server is stopping" "subscribe again after `last_lsn`; nothing is left out";
    PositionAhead "position_ahead" 409 false "that LSN was not written to this log" "begin at `durable_lsn` + 1 or before; a data folder that was put back from a copy counts its LSNs from there";
    AsOfOutOfReach "as_of_out_of_reach" 409 false "rows of that time are gone, or later ones are in" "ask for `earliest_ms` or later, or add approximate=1";
    StorageFull "storage_full" 507 true "the disk is full" "free space; pushes resume by themselves";
    TableMemoryExceeded "table_memory_exceeded" 507 false "the memory limit is reached: what needs room is refused" "raise limits.memory, delete keys, or remove tables and features that nobody reads";
    EventNotReadable "event_not_readable" 400 false "events cannot be read by key" "read a table that aggregates the event";
    KindChange "kind_change" 409 false "the name exists as the other kind" "drop it first, or choose another name";
    NotAvailable "not_available" 400 false "this part does not exist yet" "leave the key out; docs/CONFIG.md lists what works";
    DecodeFraming "decode_framing" 400 false "the record lacks the declared framing" "check `framing` of the source: confluent expects 0x00 and a 4-byte schema id";
    DecodeTypeMismatch "decode_type_mismatch" 400 false "a record's field does not fit the declared type" "check the writer schema against the event's fields";
    DecodeMalformed "decode_malformed" 400 false "the record's bytes are not valid in the declared format" "look at the bytes with `streamgauge rejects list`";
    DecodeTrailingBytes "decode_trailing_bytes" 400 false "bytes are left after the record" "check that the writer schema id is the one the record was written with";
    DecodeMissingField "decode_missing_field" 400 false "a required field is missing or null" "make the field optional with `?`, or fix the producer";
    DecodeOutOfRange "decode_out_of_range" 400 false "a number does not fit the declared type" "widen the declared type, or fix the producer";
    TombstoneUnexpected "tombstone_unexpected" 400 false "a record has no value" "set tombstone = \"ignore\", \"delete_key\" or \"row\"";
    TimeOutOfRange "time_out_of_range" 400 false "the row's time is too far ahead" "check the producer's clock, or raise max_future";
    TimeUnit "time_unit" 400 false "the row's time can hardly be in milliseconds" "declare time = { field = \"..\", unit = \"s\" }, or \"ms\" if it is meant";
    KeyTooLong "key_too_long" 400 false "the key is longer than 4 KiB" "group by a shorter field";
    SchemaMissing "schema_missing" 400 false "the registry does not know the schema id" "check that producer and config name the same registry";
    SchemaUnusable "schema_unusable" 400 false "the writer schema cannot serve the event" "compare the writer schema with the event's fields; a field with `?` may be missing";
    DecisionRefused "decision_refused" 409 false "this cannot be decided about the partition as it stands" "`streamgauge incident` shows the incident and its ways on";
    SourceConflict "source_conflict" 409 false "two sources feed one event from one partition" "remove one of them";
    ConfigSyntax "config_syntax" 400 false "the config file is not valid TOML" "mend the named line; TOML 1.0 is described at toml.io";
    UnknownConfigKey "unknown_config_key" 400 false "unknown key" "docs/CONFIG.md lists every key";
    InvalidConfigValue "invalid_config_value" 400 false "a value is of the wrong type or out of range" "docs/CONFIG.md has the type and the range of every key";
    MissingConfigKey "missing_config_key" 400 false "a required key is missing" "add it";
    UnknownReference "unknown_reference" 400 false "a name refers to nothing declared" "declare it, or fix the spelling";
    ExpressionTypeMismatch "expression_type_mismatch" 400 false "an expression compares or computes with unlike types" "give both sides one type: numbers, texts or booleans";
    FixedClientSetting "fixed_client_setting" 400 false "this Kafka client setting is fixed" "leave the key out: it keeps positions honest, and Streamgauge sets it";
    SecretInConfig "secret_in_config" 400 false "a secret stands in the file" "write { env = \"NAME\" } or { file = \"/path\" }";
    SecretUnavailable "secret_unavailable" 400 false "a secret's environment variable or file is missing" "set it, or fix the name";
    UnsafeListenAddress "unsafe_listen_address" 400 false "a listener without authentication is not on loopback" "listen on 127.0.0.1, or pass --insecure-no-auth";
    ConfigChangeDestructive "config_change_destructive" 409 false "the changed config would lose state" "look at the difference; allow it with the --rebuild that it names, or undo the change (docs/CONFIG.md)";
    Incomplete "incomplete" 503 true "a feature lacks rows that its window reaches back to" "ask again when its window begins behind `complete_since_ms`, or without complete";
    TableFilling "table_filling" 503 true "the table is being filled from history" "ask again later: GET /backfills on the admin port says how far it is";
    BackfillNoHistory "backfill_no_history" 400 false "the event has no history to read" "leave backfill out: the table begins empty now";
    BackfillNotFound "backfill_not_found" 404 false "no such backfill" "GET /backfills on the admin port lists those that are open";
    SealDamaged "seal_damaged" 500 false "the file of a table that was filled from history is missing or damaged; nothing was changed" "put a copy of the file back, or move the data folder away and start with an empty one: sources are read again from their `start`, pushed events are not";
    ConfigOwned "config_owned" 409 false "this name is declared in the config file" "change the file and restart";
    BrokerUnreachable "broker_unreachable" 503 true "no broker answers" "check brokers, network, TLS and SASL settings";
    TopicNotFound "topic_not_found" 404 false "the topic does not exist or may not be seen" "check the name and the DESCRIBE permission";
    RegistryUnreachable "registry_unreachable" 503 true "the schema registry does not answer" "check url, network and credentials";
    DataDirLocked "data_dir_locked" 409 false "another process uses the data folder" "stop it, or give another --data-dir";
    DataDirForeign "data_dir_foreign" 400 false "the folder holds files of another program" "give an empty folder";
    WalDamaged "wal_damaged" 500 false "the WAL is damaged; nothing was changed" "put a copy of the damaged file back, or move the data folder away and start with an empty one: sources are read again from their `start`, pushed events are not";
    SnapshotDamaged "snapshot_damaged" 500 false "no sound snapshot reaches the WAL; nothing was changed" "put a copy of a sound snapshot back, or move the data folder away and start with an empty one: sources are read again from their `start`, pushed events are not";
    CrashLoop "crash_loop" 500 false "a frame of the log ends every start" "run a version that applies the frame, or leave its rows out: streamgauge wal skip LSN --data-dir DIR";
    FormatTooNew "format_too_new" 500 false "a file is of a newer format than this program" "run the newer program";
    IoFailed "io_failed" 500 false "a file operation failed" "look at the disk, the file's permissions and the kernel's messages (dmesg)";
    ArchiveDamaged "archive_damaged" 500 false "a manifest of the archive is not as it was written" "put a copy of the manifest back, or give the store another durable.path";
    ArchiveFenced "archive_fenced" 409 false "another writer has taken the archive" "let one server alone write to a durable.path; restart the one that is to";
    ArchiveForeignLog "archive_foreign_log" 409 false "the archive is of another log" "give the store another durable.path, or start with the data folder that the archive is of";
    ArchiveAheadOfLog "archive_ahead_of_log" 409 false "the archive has rows that the log does not" "the data folder is an older copy: put the newer one back, or give the store another durable.path";
    EventstoreSyntax "eventstore_syntax" 400 false "the declaration of the event store is not valid" "mend it where reading stopped; docs/EVENTSTORE.md has the form";
    EventstoreMultiple "eventstore_multiple" 400 false "there is more than one event store" "declare one";
    EventstoreUnknownKey "eventstore_unknown_key" 400 false "the event store has no such key" "docs/EVENTSTORE.md lists every key";
    EventstoreDuplicateKey "eventstore_duplicate_key" 400 false "a key of the event store is declared twice" "leave one out";
    EventstoreType "eventstore_type" 400 false "a value of the event store is of the wrong type" "docs/EVENTSTORE.md has the type of every key";
    EventstoreRange "eventstore_range" 400 false "a value of the event store is out of its range" "docs/EVENTSTORE.md has the values of every key";
    EventstoreAliasConflict "eventstore_alias_conflict" 400 false "two keys that mean the same have unlike values" "give both one value, or leave one out";
    EventstoreDurableRequired "eventstore_durable_required" 400 false "durable.type and durable.path are required" "add them";
    EventstoreKeyFixed "eventstore_key_fixed" 409 false "this key cannot be changed once the archive has a file" "put it back, or begin another archive at another path";
    EventstoreFeatureMissing "eventstore_feature_missing" 400 false "this build does not do what a key of the event store asks for" "leave the key out; docs/EVENTSTORE.md says which values are served";
    ServerUnreachable "server_unreachable" 503 true "no server answers at this address" "start it with `streamgauge run`, or name another address with --admin or --http";
}

impl Code {
    /// The code of this name.
    pub fn parse(text: &str) -> Option<Code> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A refusal: a code, what failed with names and numbers, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The stable code.
    pub code: Code,
    /// A sentence with names and numbers.
    pub reason: String,
    /// Where in the request or the config, e.g. `nodes[1].ops[0]` or a field name; empty when it is the whole.
    pub path: String,
    /// What to try, when it is more specific than the code's advice.
    pub hint: Option<String>,
    /// Further members of the error object (`diff`, `limit`, `declared`, `op`, `errors`, ...).
    pub more: Map<String, Json>,
}

impl ApiError {
    /// A refusal with a reason.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), path: String::new(), hint: None, more: Map::new() }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The same, with a hint of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with one more member in the error object.
    #[must_use]
    pub fn with(mut self, name: &str, value: Json) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    /// The error object as it stands in replies: `{"code","reason","hint","retry",...}`.
    pub fn to_json(&self) -> Json {
        let mut object = Map::new();
        object.insert("code".into(), self.code.as_str().into());
        if !self.path.is_empty() {
            object.insert("path".into(), self.path.clone().into());
        }
        object.insert("reason".into(), self.reason.clone().into());
        object.insert("hint".into(), self.hint.as_deref().unwrap_or(self.code.advice()).into());
        object.insert("retry".into(), self.code.retry().into());
        for (name, value) in &self.more {
            object.insert(name.clone(), value.clone());
        }
        Json::Object(object)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.reason)?;
        if !self.path.is_empty() {
            write!(out, " ({})", self.path)?;
        }
        Ok(())
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_an_answer_and_points_to_none() {
        for code in Code::ALL {
            let advice = code.advice();
            assert!(!advice.starts_with("see "), "{code}: {advice}");
            // What one door calls `reason` or `path`, another one prints without a name.
            assert!(!["`reason`", "`path`", "the hint", "are printed"].iter().any(|word| advice.contains(word)), "{code}: {advice}");
        }
    }

    #[test]
    fn codes_are_unique_and_parse_back() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} stands twice");
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(!code.title().is_empty() && !code.advice().is_empty(), "{code}");
        }
    }
}
