//! One run of another program: bounded in time and in what it says, and never left behind.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Order;

/// More than this is no result.
const STDOUT_MAX: usize = 4 << 20;

/// A program that has closed its stdout mostly ends at once.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// How long a killed program may take to go; after that it hangs in the kernel, and goes when it can.
const GOING: Duration = Duration::from_millis(500);

/// What a program did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
}

/// Why there is no outcome. The program is gone.
#[derive(Debug)]
pub(super) enum Fault {
    Late,
    Start(io::Error),
    TooLong,
}

/// Runs a program by the protocol.
pub(super) fn run(path: &Path, order: &Order<'_>) -> Result<Outcome, Fault> {
    let end = Instant::now() + order.limit;
    let mut child = start(path, order, end)?;
    let outcome = converse(&mut child, end);
    if outcome.is_err() {
        kill(&mut child);
    }
    outcome
}

fn start(path: &Path, order: &Order<'_>, end: Instant) -> Result<Child, Fault> {
    let text = serde_json::to_vec(order.config).map_err(|error| Fault::Start(error.into()))?;
    let mut command = Command::new(path);
    command
        .env("CNI_COMMAND", order.verb.as_str())
        // A group of its own, so that what it starts can be killed with it.
        .process_group(0)
        .stdout(Stdio::piped());
    if let Some(target) = order.target {
        command
            .env("CNI_CONTAINERID", &target.container_id)
            .env("CNI_IFNAME", &target.ifname);
        match &target.netns {
            Some(netns) => command.env("CNI_NETNS", netns),
            None => command.env_remove("CNI_NETNS"),
        };
    }
    loop {
        command.stdin(stdin(&text).map_err(Fault::Start)?);
        match command.spawn() {
            // Somebody is just installing it, or starts another program while he does (libcni tries again as well).
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end =>
            {
                thread::sleep(LONGEST_PAUSE);
            }
            started => return started.map_err(Fault::Start),
        }
    }
}

/// A file, since a program that does not read would make the writer of a pipe wait.
fn stdin(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("cni-config", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// Takes in what the program says until it ends.
fn converse(child: &mut Child, end: Instant) -> Result<Outcome, Fault> {
    let mut speech = Speech {
        pipe: child.stdout.take(),
        said: Vec::new(),
    };
    let mut pause = SHORTEST_PAUSE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::Late);
        }
        if speech.listen(pause.min(left))? {
            continue;
        }
        if let Some(status) = child.try_wait().map_err(Fault::Start)? {
            // What it wrote before its end is in the pipe by now, which others that it started may hold open.
            while speech.listen(Duration::ZERO)? {}
            return Ok(Outcome {
                status,
                stdout: speech.said,
            });
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Speech {
    pipe: Option<ChildStdout>,
    said: Vec<u8>,
}

impl Speech {
    /// Waits at most this long for more; whether there was some.
    fn listen(&mut self, wait: Duration) -> Result<bool, Fault> {
        let Some(pipe) = &mut self.pipe else {
            thread::sleep(wait);
            return Ok(false);
        };
        if !is_readable(pipe, wait).map_err(Fault::Start)? {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        let read = pipe.read(&mut buffer).map_err(Fault::Start)?;
        if read == 0 {
            self.pipe = None;
            return Ok(false);
        }
        self.said.extend_from_slice(&buffer[..read]);
        if self.said.len() > STDOUT_MAX {
            return Err(Fault::TooLong);
        }
        Ok(true)
    }
}

fn is_readable(pipe: &ChildStdout, wait: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    // Whole milliseconds only; none would not let the program run at all.
    let millis = if wait.is_zero() {
        0
    } else {
        wait.as_millis().max(1)
    };
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(&mut polled, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Kills a program with all that it has started, unless that has left its group.
fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let end = Instant::now() + GOING;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
        thread::sleep(SHORTEST_PAUSE);
    }
}
