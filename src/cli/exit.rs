//! Exit codes: few, stable, and derived from the error's code.

use std::process::ExitCode;

use streamgauge_api::Code;

/// How the process ends. 134 ([`PANIC_EXIT`](crate::apply::PANIC_EXIT)) is not here: a broken belief aborts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Ok = 0,
    /// Done, and there is something to look at: `check` found problems, a key is missing.
    Finding = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// Damaged data.
    Damaged = 65,
    /// No server, broker or registry answers.
    Unreachable = 69,
    /// The same LSN fails on every start.
    CrashLoop = 70,
    /// A file or folder cannot be created or used.
    CannotCreate = 73,
    /// I/O or fsync failed.
    Io = 74,
    /// Temporary: try again.
    Temporary = 75,
    /// Permission or authentication.
    Denied = 77,
    /// The config is not valid.
    Config = 78,
}

impl Exit {
    /// The exit code that goes with an error's code.
    pub fn of(code: Code) -> Self {
        match code {
            Code::WalDamaged | Code::SnapshotDamaged | Code::SealDamaged | Code::FormatTooNew | Code::ArchiveDamaged => Self::Damaged,
            Code::CrashLoop => Self::CrashLoop,
            Code::ServerUnreachable | Code::BrokerUnreachable | Code::RegistryUnreachable => Self::Unreachable,
            Code::DataDirForeign => Self::CannotCreate,
            Code::IoFailed | Code::WalUnavailable | Code::StorageFull => Self::Io,
            Code::Forbidden => Self::Denied,
            Code::ConfigSyntax
            | Code::UnknownConfigKey
            | Code::InvalidConfigValue
            | Code::MissingConfigKey
            | Code::UnknownReference
            | Code::ExpressionTypeMismatch
            | Code::FixedClientSetting
            | Code::SecretInConfig
            | Code::SecretUnavailable
            | Code::UnsafeListenAddress
            | Code::ConfigChangeDestructive
            | Code::NotAvailable
            | Code::SourceConflict
            | Code::EventstoreSyntax
            | Code::EventstoreMultiple
            | Code::EventstoreUnknownKey
            | Code::EventstoreDuplicateKey
            | Code::EventstoreType
            | Code::EventstoreRange
            | Code::EventstoreAliasConflict
            | Code::EventstoreDurableRequired
            | Code::EventstoreKeyFixed
            | Code::EventstoreFeatureMissing
            | Code::ArchiveForeignLog
            | Code::ArchiveAheadOfLog => Self::Config,
            Code::DataDirLocked => Self::Temporary,
            code if code.retry() => Self::Temporary,
            _ => Self::Finding,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_end_the_process_as_documented() {
        for (code, exit) in [
            (Code::WalDamaged, 65),
            (Code::SealDamaged, 65),
            (Code::CrashLoop, 70),
            (Code::ServerUnreachable, 69),
            (Code::DataDirForeign, 73),
            (Code::IoFailed, 74),
            (Code::Recovering, 75),
            (Code::Overloaded, 75),
            (Code::Forbidden, 77),
            (Code::UnknownConfigKey, 78),
            (Code::EventstoreFeatureMissing, 78),
            (Code::ArchiveDamaged, 65),
            (Code::ConfigChangeDestructive, 78),
            (Code::KeyNotFound, 1),
        ] {
            assert_eq!(Exit::of(code) as u8, exit, "{code}");
        }
    }
}
