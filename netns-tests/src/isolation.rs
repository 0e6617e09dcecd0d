//! A process in namespaces of its own: user (for an ordinary user), pid, mount, net, uts and ipc, on a root file
//! system that is private where the network software writes.
//!
//! Three processes take part. The *caller* starts the same executable again as the *outer* process, which leaves the
//! machine's namespaces, builds the root file system and starts the executable a third time as the *inner* process:
//! pid 1 of the new pid namespace, which does the work. Whoever of them dies takes the rest along: each asks the kernel to
//! be killed with its parent, and with pid 1 the kernel kills everything inside. Nothing has a name on the machine, so
//! nothing can be left behind.

pub(crate) mod root;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getgid, getuid};

/// First argument of the outer process; the caller's pid follows.
const OUTER: &str = "--isolation-outer";
/// First argument of the inner process; the outer's pid follows.
const INNER: &str = "--isolation-inner";

/// Exit status of the outer process when the namespaces could not be made.
pub const REFUSED: i32 = 125;

/// Why a process ends at once that is started too late.
const GONE: &str = "the process that wanted these namespaces is gone";

/// A directory that exists only inside, and with the namespaces goes.
pub const PRIVATE_DIRECTORY: &str = root::LAB;

/// Where this process stands.
#[derive(Debug)]
pub enum Side {
    /// An ordinary process of the machine.
    Outside,
    /// The inner process: pid 1 in its own namespaces, with the arguments the caller gave.
    Inside(Vec<OsString>),
}

/// Whether this process is the inner one of its namespaces.
pub fn is_inside() -> bool {
    process::id() == 1 && Path::new(root::LAB).is_dir()
}

/// To be called first thing in `main`, while there is but one thread: becomes the outer process (and then never
/// returns) or the inner one when the arguments say so.
pub fn side() -> Side {
    let mut arguments = env::args_os().skip(1);
    let role = arguments.next().unwrap_or_default();
    if role != OUTER && role != INNER {
        return Side::Outside;
    }
    let parent = arguments
        .next()
        .and_then(|pid| pid.to_str()?.parse().ok())
        .unwrap_or(0);
    let arguments: Vec<OsString> = arguments.collect();
    if role == OUTER {
        let code = outer(parent, &arguments).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            REFUSED
        });
        process::exit(code);
    }
    if let Err(error) = become_inner(parent) {
        eprintln!("{error:#}");
        process::exit(REFUSED);
    }
    Side::Inside(arguments)
}

/// The same file or directory of the machine from here: inside, where a private directory hides it, by the way that is left.
pub fn visible(path: &Path) -> PathBuf {
    if is_inside() && !path.exists() {
        return root::in_machine(path);
    }
    path.to_path_buf()
}

/// The command that runs this executable with `arguments` as the inner process of new namespaces.
///
/// The thread that spawns it has to outlive it: the kernel sends the death signal when that thread ends.
pub fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Command> {
    let executable =
        env::current_exe().context("the path of the running program cannot be read")?;
    let mut command = Command::new(executable);
    command
        .arg(OUTER)
        .arg(process::id().to_string())
        .args(arguments);
    Ok(command)
}

/// Replaces this single-threaded process's place in the machine by new namespaces and waits for the work done inside;
/// returns the status the inner process ended with. For programs whose whole run is isolated.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<i32> {
    let executable =
        env::current_exe().context("the path of the running program cannot be read")?;
    let directory = env::current_dir().context("the working directory cannot be read")?;
    let pid = process::id();
    leave_the_machine()?;
    root::assemble(&root::directories_to_keep(&executable, &directory)).with_context(advice)?;
    let status = Command::new(&executable)
        .arg(INNER)
        .arg(pid.to_string())
        .args(arguments)
        .current_dir(if directory.exists() {
            directory
        } else {
            PathBuf::from("/")
        })
        .env("LC_ALL", "C")
        .env("PATH", search_path())
        .env("TMPDIR", "/tmp")
        .status()
        .with_context(|| {
            format!(
                "{} cannot be started in its namespaces",
                executable.display()
            )
        })?;
    Ok(code_of(status))
}

fn outer(parent: u32, arguments: &[OsString]) -> Result<i32> {
    die_with(parent)?;
    if !getuid().is_root() {
        enter_user_namespace().with_context(advice)?;
        // A change of credentials clears the death signal.
        die_with(parent)?;
    }
    run(arguments)
}

/// The status a shell would report.
fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn leave_the_machine() -> Result<()> {
    if !getuid().is_root() {
        enter_user_namespace().with_context(advice)?;
    }
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(namespaces)
        .context("new namespaces are refused")
        .with_context(advice)
}

/// Makes an ordinary user root in a namespace where that harms nobody.
fn enter_user_namespace() -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).context("a user namespace is refused")?;
    // Without a helper an ordinary user may map one id only, and only after giving up setgroups (user_namespaces(7)).
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(Path::new("/proc/self").join(file), content)
            .with_context(|| format!("{file} of the user namespace cannot be written"))?;
    }
    Ok(())
}

/// What to do where the kernel refuses.
fn advice() -> &'static str {
    "Namespaces of its own are what this needs. Run it as root (sudo; a container has to be privileged), or let ordinary \
     users have them: kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0, \
     kernel.apparmor_restrict_unprivileged_userns=0"
}

fn become_inner(outer: u32) -> Result<()> {
    set_death_signal()?;
    // getppid() is 0 from inside the new pid namespace; the old /proc, mounted until the next line, still knows better.
    let status = fs::read_to_string("/proc/self/status")
        .context("the state of the own process cannot be read")?;
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .map(str::trim);
    if parent != Some(outer.to_string().as_str()) {
        bail!(GONE);
    }
    root::mount_proc()
}

/// Has the kernel kill this process with its parent, unless that is gone already.
fn die_with(parent: u32) -> Result<()> {
    set_death_signal()?;
    ensure!(parent_id() == parent, GONE);
    Ok(())
}

fn set_death_signal() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("the kernel does not take the parent death signal")
}

/// The caller's PATH with the directories of administration programs, which an ordinary user's lacks.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    for directory in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !env::split_paths(&path).any(|known| known == OsStr::new(directory)) {
            path.push(":");
            path.push(directory);
        }
    }
    path
}
