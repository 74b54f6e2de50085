//! docs/EVENTSTORE.md: the page of keys, made from their table.

use super::keys::{Allowed, KEYS, Key, Served};
use std::fmt::Write as _;

const HEAD: &str = "\
# The event store

Generated from the table of keys (`src/eventstore/keys.rs`). Do not edit: `STREAMGAUGE_WRITE_DOCS=1 cargo test -p streamgauge --lib eventstore` writes it again.

An event store keeps every row of every event for as long as the disk has room: the write-ahead log flows into Parquet files below
`durable.path`, each row in exactly one of them, and any engine reads them. It is declared once, in a file or in the config:

```sql
CREATE EVENTSTORE payments WITH (
  durable.type = 'parquet',
  durable.path = '/var/lib/streamgauge/archive',
  durable.compression = 'zstd'
);
```

`streamgauge run --eventstore FILE`, or `[eventstore]` with `file = \"FILE\"` in `streamgauge.toml`, or the same keys there:

```toml
[eventstore]
name = \"payments\"
\"durable.type\" = \"parquet\"
\"durable.path\" = \"/var/lib/streamgauge/archive\"
```

`streamgauge check` says whether a declaration is valid. `run` and `check --runnable` also want that this build does what each
pair asks for: **a value that nothing would act on is refused by name** (`eventstore_feature_missing`), never taken and ignored.
`GET /eventstore` on the admin port, `streamgauge eventstore status`, shows each key's value, where it comes from, what holds, and how far the
archive is; `streamgauge eventstore now` archives everything that is written by now; `streamgauge eventstore verify PATH` reads every file, needs no
server, and names what is not as it was written.

## What is in a file

One file holds rows of one event at one version of its declaration, of one partition, of one range of LSNs. Its columns are the 14 of
the envelope (renamable), then `lsn`, `txn_lsn` (the last LSN of the frame that brought the row), `topic`, `partition`, `offset` (null
for pushes), then `_delete` (the row forgets its key), `_ahead_us` (how far its time was ahead of its clock; null for none), `_absent`
(JSON list of the fields that the row did not name; other nulls were said), then the declared fields: `str` and `json` as text, `i64`, `f64`,
`bool`, `bytes`, `datetime` as timestamp in milliseconds, UTC. A value that is not of its field's type stands in `data` as JSON under
the field's name. A field named like another column stands as `field_NAME`. A row's `event_id` is made of where it comes from (a record:
cluster, topic id, partition, offset; a push: log and LSN), so that it is the same whenever the row is archived.

```sh
duckdb -c \"select count(*), max(lsn) from read_parquet('ARCHIVE/**/*.parquet', hive_partitioning=true, union_by_name=true)\"
python -c \"import pyarrow.dataset as d; print(d.dataset('ARCHIVE', format='parquet', partitioning='hive').count_rows())\"
```

Only files that the newest manifest in `_manifests/` lists count; a process that died may have left others until the next start. Readers that
take all files by their names see such a file at worst, never a torn one.

## What it promises

- **Each LSN once.** A run settles a range of LSNs with one manifest, which exists whole or not at all. Whatever dies in between is
  swept at the next start, and the range is read again from the log.
- **The log is kept until it is archived.** The cursor `archive` in `/status` holds it firmly. An archive that cannot be written opens the incident
  `ArchiveBlocked` and is tried again; nothing else stops. The log grows meanwhile, and when the disk is full, pushes are refused
  (`storage_full`) and sources wait, as for any full disk. Nothing is dropped.
- **Live pays nothing.** The archiver reads durable frames from the log's files on a thread of its own. The seat knows nothing of it.
- **Bounded memory.** `archive.memory` in `streamgauge.toml` (256 MiB) bounds rows and the file beside them, whatever the rows say of their
  time: one file is written at a time, and a run commits as often as it has to.
- **One writer.** Who opens the archive takes the next epoch; a writer that finds a newer manifest than its own stops (`archive_fenced`). A
  folder of another log is refused (`archive_foreign_log`), and so is a data folder that is an older copy (`archive_ahead_of_log`).
- A store that is declared late begins at the first LSN that the log still has. LSNs that the log gave back while no store was declared are
  a gap, which the manifest and `GET /eventstore` name.

## Keys

*Change*: `fixed` once the archive has a file (`eventstore_key_fixed`), `restart`, or `live`. *Served* says which values do what they say.

";

fn allowed(key: &Key) -> String {
    match key.allowed {
        Allowed::Any => String::new(),
        Allowed::Ident => "a letter, then letters, digits, `_`".to_owned(),
        Allowed::Words(words) | Allowed::Members(words) => words.join(", "),
        Allowed::Range { min, max } => format!("{min} to {max}"),
        Allowed::Fraction => "between 0 and 1".to_owned(),
        Allowed::Columns => "columns of the envelope by their standard names, lsn".to_owned(),
        Allowed::Partitions => "dt, stream_type, tenant_id".to_owned(),
        Allowed::Triggers => "size_mb, time".to_owned(),
        Allowed::Place => "a path, file://, s3://, gs://, az://".to_owned(),
        Allowed::Pattern => "folders and a name with {file_seq}".to_owned(),
        Allowed::SegmentPattern => "a name with {segment}".to_owned(),
        Allowed::Cron => "five fields".to_owned(),
    }
}

fn served(key: &Key) -> String {
    match key.served {
        Served::All => "yes".to_owned(),
        Served::None => "not yet".to_owned(),
        Served::Only(values) => format!("only `{}`", values.join("`, `")),
        Served::Without(member) => format!("without `{member}`"),
        Served::Local => "paths of this machine".to_owned(),
    }
}

/// The whole page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    out.push_str("| Key | Type | Values | Default | Change | Served | What it does |\n|---|---|---|---|---|---|---|\n");
    for key in KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let Key { name, does, .. } = key;
        let (kind, change) = (key.kind.name(), key.change.name());
        let _written = writeln!(out, "| `{name}` | {kind} | {} | {default} | {change} | {} | {does} |", allowed(key), served(key));
    }
    let aliases = super::keys::ALIASES.iter().map(|(one, other)| format!("`{one}` and `{other}`"));
    let _written = writeln!(out, "\nPairs that mean the same: {}.", aliases.collect::<Vec<_>>().join("; "));
    out
}
