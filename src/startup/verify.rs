//! `eventstore verify`: whether an archive is what its manifests say. No server is asked and nothing is changed.

use crate::archive::{Report, verify};
use crate::cli::{Console, EventstoreVerifyArgs, Exit, Failure};
use crate::storage::Disk;
use serde_json::json;
use streamgauge_api::{ApiError, Code};

/// Reads an archive and says what is wrong with it.
///
/// # Errors
/// Manifests that cannot be read; a folder without any.
pub fn verify_archive(args: &EventstoreVerifyArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let manifests = args.manifests.clone().unwrap_or_else(|| args.root.join("_manifests"));
    let found = verify(&Disk, &args.root, &manifests).map_err(|error| ApiError::from(&error))?;
    let Some(Report { live, rows, findings, orphans }) = found else {
        let reason = format!("{} has no manifest", manifests.display());
        return Err(ApiError::new(Code::ArchiveDamaged, reason).at(manifests.display().to_string()).into());
    };
    let exit = if findings.is_empty() { Exit::Ok } else { Exit::Finding };
    if console.json {
        console.document(&json!({
            "ok": findings.is_empty(), "log_id": live.log_id, "manifest_version": live.version, "first_lsn": live.first_lsn,
            "archived_lsn": live.archived_lsn, "files": live.files.len(), "rows": rows, "gaps": live.gaps, "orphans": orphans, "findings": findings,
        }))?;
        return Ok(exit);
    }
    for finding in &findings {
        console.line(finding)?;
    }
    let files = live.files.len();
    console.line(&format!("LSN {} to {}: {rows} rows in {files} files, manifest {}", live.first_lsn, live.archived_lsn, live.version))?;
    for [first, last] in &live.gaps {
        console.line(&format!("LSN {first} to {last} were gone before they were archived"))?;
    }
    if orphans > 0 {
        console.line(&format!("{orphans} files that no manifest lists; the next start removes them"))?;
    }
    console.line(if findings.is_empty() { "ok" } else { "damaged" })?;
    Ok(exit)
}
