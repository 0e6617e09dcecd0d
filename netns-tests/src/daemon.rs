//! Programs that keep running on a host: started, awaited, killed, restarted, their log read.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::endpoint::Endpoint;
use crate::host::Host;
use crate::wait::eventually;

/// How long a daemon may take to become ready or to end.
pub const DAEMON_DEADLINE: Duration = Duration::from_secs(20);

/// What to start, kept for a restart.
#[derive(Clone, Debug)]
struct Recipe {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// A program running on a host; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    host: Host,
    recipe: Recipe,
    log: PathBuf,
    child: Child,
    notices: UnixDatagram,
    ready: bool,
}

impl Daemon {
    /// Starts `program` on `host`; standard output and error go to a log file, and what it tells systemd is heard.
    pub fn start<A: Into<OsString>>(
        host: &Host,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let recipe = Recipe {
            program: program.to_path_buf(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        };
        let log = host.scratch(&recipe.name(), "log");
        let (child, notices) = launch(host, &recipe, &log)?;
        Ok(Self {
            host: host.clone(),
            recipe,
            log,
            child,
            notices,
            ready: false,
        })
    }

    /// Waits until the program reports READY=1 as it does to systemd.
    pub fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{} on {} is ready", self.recipe.name(), self.host.name());
        eventually(&what, DAEMON_DEADLINE, || {
            // An ended program will never be ready: no need to wait for the deadline.
            let ended = self.child.try_wait()?;
            self.hear()?;
            ensure!(
                ended.is_some() || self.ready,
                "no READY=1; its log ends:\n{}",
                self.log_tail()
            );
            Ok(ended)
        })?
        .map_or(Ok(()), |status| {
            Err(anyhow!(
                "{what}: it ended with {status}; its log ends:\n{}",
                self.log_tail()
            ))
        })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).with_context(|| {
            format!(
                "{} on {} cannot be sent {signal}",
                self.recipe.name(),
                self.host.name()
            )
        })
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .context("the daemon cannot be killed")
    }

    /// SIGTERM, and waits until it is gone; its exit status.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_end()
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let what = format!("{} on {} ends", self.recipe.name(), self.host.name());
        eventually(&what, DAEMON_DEADLINE, || {
            self.child
                .try_wait()?
                .with_context(|| format!("it runs; its log ends:\n{}", self.log_tail()))
        })
    }

    /// Starts it again with the same arguments, after killing it if it still runs. The log goes on in the same file.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        (self.child, self.notices) = launch(&self.host, &self.recipe, &self.log)?;
        self.ready = false;
        Ok(())
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log contains `text`.
    pub fn wait_log(&self, text: &str) -> Result<()> {
        let what = format!(
            "{} on {} says {text:?}",
            self.recipe.name(),
            self.host.name()
        );
        eventually(&what, DAEMON_DEADLINE, || {
            ensure!(
                self.log().contains(text),
                "its log ends:\n{}",
                self.log_tail()
            );
            Ok(())
        })
    }

    fn hear(&mut self) -> Result<()> {
        let mut notice = [0; 4096];
        loop {
            match self.notices.recv(&mut notice) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&notice[..length]);
                    self.ready |= text.lines().any(|line| line == "READY=1");
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => bail!("the notify socket cannot be read: {error}"),
            }
        }
    }

    /// The last lines it wrote.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!(
                "--- log of {} on {}:\n{}",
                self.recipe.name(),
                self.host.name(),
                self.log_tail()
            );
        }
    }
}

impl Recipe {
    fn name(&self) -> String {
        self.program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

fn launch(host: &Host, recipe: &Recipe, log: &Path) -> Result<(Child, UnixDatagram)> {
    let open = || File::options().create(true).append(true).open(log);
    let output = open().with_context(|| format!("{} cannot be written", log.display()))?;
    let socket = host.scratch(&recipe.name(), "notify");
    let notices = UnixDatagram::bind(&socket).context("no notify socket")?;
    notices.set_nonblocking(true)?;
    let mut command = Command::new(&recipe.program);
    command
        .args(&recipe.arguments)
        .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
        .env("NOTIFY_SOCKET", socket)
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output);
    Ok((command::start(host.namespaces(), &mut command)?, notices))
}

/// Whether a status tells of this signal.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}
