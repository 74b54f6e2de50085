//! The `process_*` families, read from `/proc/self` while the text is written.
//!
//! No system call beyond reading files, so no `unsafe`. Where a file is missing (not Linux, a hidden `/proc`) its families are left out. Called by the scrape
//! thread only; the parsers are pure and take the files' text.

use std::fs;

/// Kernel clock ticks per second as `/proc` shows them (`USER_HZ`): 100 on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// All families that could be read, with their values.
pub(super) fn read() -> Vec<(&'static str, f64)> {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut values = Vec::with_capacity(7);
    from_stat(&file("/proc/self/stat"), &file("/proc/stat"), &mut values);
    from_status(&file("/proc/self/status"), &mut values);
    if let Some(limit) = max_fds(&file("/proc/self/limits")) {
        values.push(("process_max_fds", limit));
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The folder's own descriptor is one of the entries.
        values.push(("process_open_fds", count(entries.count().saturating_sub(1))));
    }
    values
}

/// CPU time and start time. Fields of `/proc/self/stat` are counted after the last `)`: the program's name may hold anything.
fn from_stat(own: &str, system: &str, values: &mut Vec<(&'static str, f64)>) {
    let Some((_, rest)) = own.rsplit_once(')') else { return };
    let fields: Vec<f64> = rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    // `fields[0]` is field 4 (ppid) of proc(5): utime is field 14, stime 15, starttime 22.
    if let (Some(user), Some(kernel)) = (fields.get(10), fields.get(11)) {
        values.push(("process_cpu_seconds_total", (user + kernel) / TICKS_PER_SECOND));
    }
    let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let (Some(ticks), Some(boot)) = (fields.get(18), boot) {
        values.push(("process_start_time_seconds", boot + ticks / TICKS_PER_SECOND));
    }
}

/// Memory sizes (kB in the file) and the number of threads.
fn from_status(status: &str, values: &mut Vec<(&'static str, f64)>) {
    for (key, name, unit) in [
        ("VmSize:", "process_virtual_memory_bytes", 1024.0),
        ("VmRSS:", "process_resident_memory_bytes", 1024.0),
        ("Threads:", "process_threads", 1.0),
    ] {
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok());
        values.extend(value.map(|value| (name, value * unit)));
    }
}

fn max_fds(limits: &str) -> Option<f64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next())?;
    if soft == "unlimited" { Some(f64::INFINITY) } else { soft.parse().ok() }
}

#[expect(clippy::cast_precision_loss, reason = "a count of open files is far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_brackets() {
        let own = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 7 0 1000 123 456";
        let mut values = Vec::new();
        from_stat(own, "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n", &mut values);
        assert_eq!(values, [("process_cpu_seconds_total", 2.0), ("process_start_time_seconds", 1_700_000_010.0)]);
    }

    #[test]
    fn status_and_limits_are_read_in_base_units() {
        let mut values = Vec::new();
        from_status("Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n", &mut values);
        assert_eq!(
            values,
            [("process_virtual_memory_bytes", 2_097_152.0), ("process_resident_memory_bytes", 1_048_576.0), ("process_threads", 9.0)]
        );
        assert_eq!(max_fds("Limit  Soft Limit\nMax open files            1024                 4096                 files\n"), Some(1024.0));
        assert_eq!(max_fds("Max open files            unlimited            unlimited            files\n"), Some(f64::INFINITY));
    }

    #[test]
    fn missing_files_give_no_values() {
        let mut values = Vec::new();
        from_stat("", "", &mut values);
        from_status("", &mut values);
        assert!(values.is_empty());
        assert_eq!(max_fds(""), None);
    }

    #[test]
    fn this_process_has_all_seven() {
        if cfg!(target_os = "linux") {
            assert_eq!(read().len(), 7);
        }
    }
}
