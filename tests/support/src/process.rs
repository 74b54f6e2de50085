//! Child processes that die with the test.
//!
//! Invariant: when the test process ends, for whatever reason (return, panic, Ctrl-C, SIGKILL), every [`Guarded`] child is killed by its pid. Statics are not
//! dropped and no exit hook survives SIGKILL, so each child gets a *watchdog*: a shell that reads from a pipe whose other end only the test process holds. End
//! of file on that pipe means the test is gone, and the watchdog kills the one process group it was told about.
//!
//! Used by everything here that starts a process, on the test's thread.

use crate::{Failure, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs a shell script once the test process is gone. Dropped in good order it does nothing.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Starts the watchdog; the script sees `argument` as `$1`.
    ///
    /// # Errors
    /// No shell could be started.
    pub fn new(script: &str, argument: &str) -> Outcome<Self> {
        Command::new("sh")
            .args(["-c", &format!("cat >/dev/null; {script}"), "watchdog", argument])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|error| format!("cannot start a watchdog: {error}"))
    }
}

/// A temporary folder that goes away with the test process, also when it is held by a static or the process is killed.
#[derive(Debug)]
pub struct Folder {
    // In this order: the sweeper is stopped, then the folder is removed in good order.
    _sweeper: Watchdog,
    folder: tempfile::TempDir,
}

impl Folder {
    /// Makes one whose name starts with `prefix`.
    ///
    /// # Errors
    /// The system's temporary folder cannot be written.
    pub fn new(prefix: &str) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        // The pause lets the processes that write into it die first.
        let sweeper = Watchdog::new("sleep 2; rm -rf -- \"$1\"", &folder.path().to_string_lossy())?;
        Ok(Self { _sweeper: sweeper, folder })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A child process in a group of its own, with its watchdog.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    name: String,
    watchdog: Option<Watchdog>,
}

impl Guarded {
    /// Starts the command. Its stdin, stdout and stderr are the caller's business.
    ///
    /// # Errors
    /// The command or the watchdog could not be started.
    pub fn spawn(name: &str, command: &mut Command) -> Outcome<Self> {
        let child = command.process_group(0).spawn().map_err(|error| format!("cannot start {name} ({command:?}): {error}"))?;
        let mut guarded = Self { child, name: name.to_owned(), watchdog: None };
        guarded.watchdog = Some(Watchdog::new("kill -s KILL -- -\"$1\"", &guarded.pid().to_string())?);
        Ok(guarded)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        // An error means that it has ended already, which is what was asked for.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{} has no pid", self.name))?;
        kill_process(pid, signal).map_err(|error| format!("cannot signal {}: {error}", self.name))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It has not ended within the time; it is then killed.
    pub fn terminate(&mut self, within: Duration) -> Outcome<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(within)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It has not ended within the time; it is then killed.
    pub fn wait(&mut self, within: Duration) -> Outcome<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill9();
        Err(format!("{} did not end within {:.1} s and was killed", self.name, within.as_secs_f64()))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Runs a command to its end and gives its stdout.
///
/// # Errors
/// It could not be started, failed (with the end of its stderr), or did not end within the time.
pub fn run(name: &str, command: &mut Command, within: Duration) -> Outcome<String> {
    run_reading(name, command, None, within)
}

/// The same, with a file as its stdin.
///
/// # Errors
/// As [`run`]; or the file cannot be read.
pub fn run_reading(name: &str, command: &mut Command, input: Option<&Path>, within: Duration) -> Outcome<String> {
    let stdin = match input {
        Some(path) => File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?.into(),
        None => Stdio::null(),
    };
    let mut guarded = Guarded::spawn(name, command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let mut out = guarded.child().stdout.take().ok_or("stdout is not a pipe")?;
    let mut err = guarded.child().stderr.take().ok_or("stderr is not a pipe")?;
    // Both pipes are drained while it runs, or a talkative command would block for ever.
    let readers = [
        std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        }),
        std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        }),
    ];
    let status = guarded.wait(within)?;
    let mut texts = readers.map(|reader| reader.join().ok().and_then(Result::ok).unwrap_or_default()).into_iter();
    let (stdout, stderr) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    if status.success() { Ok(stdout) } else { Err(format!("{name} ended with {status}: {}", last_lines(&stderr, 12))) }
}

/// A port that nobody listens on now. Somebody else may take it before it is used: the starters try again with another.
///
/// # Errors
/// The system has no free port.
pub fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

/// The end of a log file, for failure messages.
pub fn tail(path: &Path, lines: usize) -> String {
    std::fs::read(path).map_or_else(|error| format!("(no log: {error})"), |bytes| last_lines(&String::from_utf8_lossy(&bytes), lines))
}

/// Opens a log file for a child's output.
///
/// # Errors
/// The file cannot be opened.
pub fn log_file(path: &Path) -> Outcome<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error: std::io::Error| -> Failure { format!("cannot write {}: {error}", path.display()) })
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn output_and_failure_of_a_command_are_told() {
        let sh = |script: &str| run("sh", Command::new("sh").args(["-c", script]), Duration::from_secs(10));
        assert_eq!(sh("echo out; echo err >&2").unwrap(), "out\n");
        assert!(sh("echo broken >&2; exit 3").unwrap_err().contains("broken"));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let before = Instant::now();
        let failure = run("sleep", Command::new("sleep").arg("60"), Duration::from_millis(200)).unwrap_err();
        assert!(failure.contains("was killed"), "{failure}");
        assert!(before.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_watchdog_kills_when_its_pipe_closes() {
        let mut guarded = Guarded::spawn("sleep", Command::new("sleep").arg("60")).unwrap();
        drop(guarded.watchdog.as_mut().unwrap().0.stdin.take());
        assert!(!guarded.wait(Duration::from_secs(10)).unwrap().success());
    }
}
