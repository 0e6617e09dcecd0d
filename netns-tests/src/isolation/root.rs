//! The root file system inside: the machine's own directories, except that `/etc`, `/run`, `/tmp`, `/var` and `/dev/shm`
//! are fresh and live in memory.
//!
//! So tests neither see nor leave traces in `/run/flannel`, `/etc/cni` or `/var/lib/cni`, whether the machine has them or
//! not. The machine's root stays reachable at [`MACHINE`].

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, pivot_root};

/// Where the machine's root file system is found inside.
pub(crate) const MACHINE: &str = "/.machine";

/// Where the lab keeps the files of its hosts; only there inside.
pub(crate) const LAB: &str = "/.lab";

/// Top directories that are not the machine's inside.
const PRIVATE: [&str; 6] = ["etc", "run", "tmp", "var", ".lab", ".machine"];

/// Private too, though its parent is not.
const SHARED_MEMORY: &str = "/dev/shm";

/// Entries of `/etc` that are ours to write, so not the machine's.
const PRIVATE_ETC: [&str; 3] = ["cni", "flannel", "kube-flannel"];

/// Empty directories inside that programs expect.
const FRESH: [&str; 8] = [
    ".lab",
    "etc/cni/net.d",
    "run/lock",
    "run/netns",
    "tmp",
    "var/lib/cni",
    "var/log",
    "var/tmp",
];

/// Directories that have to stay visible although they may lie below a private one: those of the programs under test
/// and of the work tree.
pub(super) fn directories_to_keep(executable: &Path, working: &Path) -> Vec<PathBuf> {
    let mut keep: Vec<PathBuf> = executable
        .parent()
        .into_iter()
        .map(Path::to_path_buf)
        .collect();
    // A test executable lies in `deps`, the programs it starts one above.
    keep.extend(
        executable
            .parent()
            .filter(|parent| parent.ends_with("deps"))
            .and_then(Path::parent)
            .map(PathBuf::from),
    );
    keep.push(working.to_path_buf());
    for variable in [
        "LODEN_PROGRAMS",
        "CARGO_TARGET_DIR",
        "CARGO_MANIFEST_DIR",
        "HOME",
        "KUBEBUILDER_ASSETS",
    ] {
        keep.extend(
            env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute()),
        );
    }
    keep
}

/// Builds the new root and makes it the root of this mount namespace.
pub(super) fn assemble(keep: &[PathBuf]) -> Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("mounts cannot be made private")?;
    mount(
        Some("tmpfs"),
        "/tmp",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .context("a file system in memory cannot be mounted")?;
    let machine = Path::new("/tmp").join(MACHINE.trim_start_matches('/'));
    fs::create_dir(&machine).context("the new root cannot be written")?;
    pivot_root("/tmp", &machine).context("the root file system cannot be replaced")?;
    chdir("/").context("the new root cannot be entered")?;

    for entry in fs::read_dir(MACHINE).context("the machine's root directory cannot be read")? {
        let entry = entry.context("the machine's root directory cannot be read")?;
        take_over(&entry.path())
            .with_context(|| format!("{} cannot be shown inside", entry.path().display()))?;
    }
    for directory in FRESH {
        fs::create_dir_all(Path::new("/").join(directory))
            .with_context(|| format!("/{directory} cannot be made"))?;
    }
    for directory in ["/tmp", "/var/tmp"] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o1777))?;
    }
    symlink("/run", "/var/run").context("/var/run cannot be made")?;
    link_etc().context("/etc cannot be shown inside")?;
    for directory in keep.iter().filter(|directory| is_below_private(directory)) {
        let original = in_machine(directory);
        if original.is_dir() {
            fs::create_dir_all(directory)
                .with_context(|| format!("{} cannot be made", directory.display()))?;
            bind(&original, directory)
                .with_context(|| format!("{} cannot be shown inside", directory.display()))?;
        }
    }
    Ok(())
}

/// Mounts `/proc` for the pid namespace of this process, over one that may be there.
pub(crate) fn mount_proc() -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context(
        "/proc cannot be mounted. Inside a container that hides parts of /proc an ordinary user may not: run as root",
    )
}

/// Mounts `/sys` for the network namespace of this thread; where that is refused (a container that hides parts of
/// `/sys`), the one that is there stays.
pub(crate) fn mount_sys() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>).ok();
}

/// Bind-mounts `from`, with everything mounted below it, on `to`.
pub(crate) fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(
        Some(from),
        to,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
}

fn take_over(original: &Path) -> Result<()> {
    let Some(name) = original.file_name().and_then(|name| name.to_str()) else {
        return Ok(());
    };
    let here = Path::new("/").join(name);
    let kind = fs::symlink_metadata(original)?.file_type();
    if kind.is_symlink() {
        return Ok(symlink(fs::read_link(original)?, here)?);
    }
    if !kind.is_dir() || PRIVATE.contains(&name) {
        return Ok(());
    }
    fs::create_dir(&here)?;
    bind(original, &here)?;
    match name {
        "sys" => mount_sys(),
        "dev" => mount_shared_memory()?,
        _ => {}
    }
    Ok(())
}

/// A real `/etc` whose entries point to the machine's.
fn link_etc() -> Result<()> {
    for entry in fs::read_dir(Path::new(MACHINE).join("etc"))? {
        let entry = entry?;
        if PRIVATE_ETC
            .iter()
            .any(|private| entry.file_name() == *private)
        {
            continue;
        }
        // A link keeps its meaning, except that one of these, in namespaces inside namespaces, has a way further to go.
        let target = match fs::read_link(entry.path()) {
            Ok(target) if target.starts_with(MACHINE) => in_machine(&target),
            Ok(target) => target,
            Err(_) => entry.path(),
        };
        symlink(target, Path::new("/etc").join(entry.file_name()))?;
    }
    Ok(())
}

/// Programs leave files there when they are killed.
fn mount_shared_memory() -> Result<()> {
    if Path::new(SHARED_MEMORY).is_dir() {
        let mode = Some("mode=1777");
        mount(
            Some("tmpfs"),
            SHARED_MEMORY,
            Some("tmpfs"),
            MsFlags::empty(),
            mode,
        )?;
    }
    Ok(())
}

/// Whether a path is not the machine's inside.
pub(crate) fn is_private(path: &Path) -> bool {
    private_directories().any(|private| path.starts_with(private))
}

/// Whether a path lies below a private directory. That itself is nothing to keep: it would not be private any more.
fn is_below_private(path: &Path) -> bool {
    private_directories().any(|private| path.starts_with(&private) && path != private)
}

fn private_directories() -> impl Iterator<Item = PathBuf> {
    let top = PRIVATE.iter().map(|name| Path::new("/").join(name));
    top.chain([PathBuf::from(SHARED_MEMORY)])
}

pub(crate) fn in_machine(path: &Path) -> PathBuf {
    Path::new(MACHINE).join(path.strip_prefix("/").unwrap_or(path))
}
