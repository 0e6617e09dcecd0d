//! The namespaces one host or pod stands in, held open by file descriptors, and threads that work inside them.
//!
//! `setns` acts on a thread, so whatever happens inside happens on a thread of its own; a program started there inherits
//! the thread's namespaces.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// A network, a mount and a uts namespace.
#[derive(Clone, Debug)]
pub struct Namespaces {
    net: Arc<File>,
    mount: Arc<File>,
    uts: Arc<File>,
}

impl Namespaces {
    /// Makes three new namespaces and runs `furnish` inside them.
    pub(crate) fn build(furnish: impl FnOnce() -> Result<()> + Send) -> Result<Self> {
        let wanted = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        on_own_thread(|| {
            unshare(wanted).context("no new namespaces for a host")?;
            furnish()?;
            Self::of_this_thread()
        })?
    }

    /// Like this one, but with a new network namespace; runs `furnish` inside.
    pub(crate) fn with_new_network(
        &self,
        furnish: impl FnOnce() -> Result<()> + Send,
    ) -> Result<Self> {
        self.run(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("no new network namespace for a pod")?;
            furnish()?;
            let net = Arc::new(
                File::open("/proc/thread-self/ns/net")
                    .context("the new network namespace is gone")?,
            );
            Ok(Self {
                net,
                ..self.clone()
            })
        })?
    }

    /// Runs `work` inside, on a thread of its own, and returns its result.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| {
            self.enter()?;
            Ok(work())
        })?
    }

    /// Starts a thread inside that may outlive the caller.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let namespaces = self.clone();
        thread::spawn(move || {
            namespaces.enter()?;
            Ok(work())
        })
    }

    /// The network namespace as a path every process of the lab can open.
    pub fn net_path(&self) -> PathBuf {
        path_of(&self.net)
    }

    /// The mount namespace as a path every process of the lab can open.
    pub fn mount_path(&self) -> PathBuf {
        path_of(&self.mount)
    }

    /// The uts namespace as a path every process of the lab can open.
    pub fn uts_path(&self) -> PathBuf {
        path_of(&self.uts)
    }

    fn of_this_thread() -> Result<Self> {
        let open = |kind: &str| {
            let path = format!("/proc/thread-self/ns/{kind}");
            File::open(&path)
                .map(Arc::new)
                .with_context(|| format!("{path} cannot be opened"))
        };
        Ok(Self {
            net: open("net")?,
            mount: open("mnt")?,
            uts: open("uts")?,
        })
    }

    fn enter(&self) -> Result<()> {
        // A thread may change its mount namespace only when it shares root and working directory with nobody.
        unshare(CloneFlags::CLONE_FS)
            .context("the thread cannot have a working directory of its own")?;
        setns(&*self.mount, CloneFlags::CLONE_NEWNS)
            .context("the mount namespace cannot be entered")?;
        setns(&*self.uts, CloneFlags::CLONE_NEWUTS)
            .context("the uts namespace cannot be entered")?;
        setns(&*self.net, CloneFlags::CLONE_NEWNET)
            .context("the network namespace cannot be entered")
    }
}

fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        file.as_raw_fd()
    ))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|panic| anyhow!("a thread of the lab panicked: {}", panic_text(&*panic)))
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no text)")
}
