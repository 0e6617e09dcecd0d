//! `flanneld install-cni` and `uninstall-cni`: the CNI program and its conflist, put where container runtimes look for them, and
//! taken away again.
//!
//! The image of the daemon has no shell and no `cp`, so this is what an init container runs. The order matters to runtimes: a
//! conflist whose program is not there yet makes every pod fail, so the program comes first and goes last. Nothing of others is
//! touched; see `program` and `conflist` for how what is ours is known.

use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use thiserror::Error;

mod conflist;
mod draft;
mod program;

#[cfg(test)]
mod tests;

/// What both commands are told.
#[derive(Clone, Debug, Parser)]
#[command(disable_version_flag = true)]
pub struct Places {
    /// Where the runtime looks for CNI programs
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Where the runtime looks for conflists
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Name of the conflist there; runtimes take the first by name
    #[arg(long, value_name = "FILE", default_value = "10-flannel.conflist")]
    pub conflist_name: String,
}

/// `flanneld install-cni`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld install-cni",
    about = "Installs the CNI program and its conflist on this node, or brings them up to date",
    after_help = "Exit status: 0 done, or nothing to do; 1 something could not be done; 2 wrong flags."
)]
pub struct Install {
    #[command(flatten)]
    places: Places,
    /// The CNI program to install [default: `flannel` beside this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The conflist to install
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/kube-flannel/cni-conf.json"
    )]
    conflist: PathBuf,
    /// Install the program only; somebody else writes the conflist
    #[arg(long)]
    skip_conflist: bool,
}

/// `flanneld uninstall-cni`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld uninstall-cni",
    about = "Removes what install-cni put on this node; pods that run keep their network",
    after_help = "Exit status: 0 done, or nothing to do; 1 something could not be done; 2 wrong flags."
)]
pub struct Uninstall {
    #[command(flatten)]
    places: Places,
}

/// Why something is not installed, or not removed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// A file or directory of the node or the image.
    #[error("cannot {action} {}: {reason}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The conflist to install is none.
    #[error("{} is no conflist to install: {reason}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is something else at the conflist's place.
    #[error("{} is there and is no conflist of flannel ({reason}); remove it, or choose another --conflist-name", path.display())]
    Occupied {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The conflist's name would be nobody's conflist.
    #[error(
        "--conflist-name {name:?} is no name that runtimes look for: it must be a plain file name that ends in .conflist"
    )]
    Name {
        /// The name.
        name: String,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |reason| InstallError::File {
        action,
        path,
        reason,
    }
}

impl Places {
    fn conflist(&self) -> Result<PathBuf, InstallError> {
        let name = &self.conflist_name;
        let plain = Path::new(name)
            .file_name()
            .is_some_and(|file| file == name.as_str());
        if !plain || name.starts_with('.') || !name.ends_with(".conflist") {
            return Err(InstallError::Name { name: name.clone() });
        }
        Ok(self.cni_conf_dir.join(name))
    }
}

impl Install {
    /// Does it; tells each thing done as a sentence.
    ///
    /// # Errors
    /// The first thing that could not be done. What was done before it stays: the program without a conflist harms nobody.
    pub fn run(&self, tell: &mut dyn FnMut(String)) -> Result<(), InstallError> {
        let target = self.places.conflist()?;
        // Read first, so that a conflist that is none leaves the node as it was.
        let wanted = match self.skip_conflist {
            true => None,
            false => Some(conflist::read_source(&self.conflist)?),
        };
        let source = match &self.program {
            Some(path) => path.clone(),
            None => beside_us()?,
        };
        let needed = wanted.as_ref().map(conflist::Source::types);
        program::install(
            &source,
            &self.places.cni_bin_dir,
            &needed.unwrap_or_default(),
            tell,
        )?;
        if let Some(wanted) = wanted {
            conflist::install(&wanted, &target, tell)?;
            conflist::warn_of_earlier(&target, tell)?;
        }
        Ok(())
    }
}

impl Uninstall {
    /// Does it; tells each thing done as a sentence.
    ///
    /// # Errors
    /// The first thing that could not be done.
    pub fn run(&self, tell: &mut dyn FnMut(String)) -> Result<(), InstallError> {
        conflist::uninstall(&self.places.conflist()?, tell)?;
        program::uninstall(&self.places.cni_bin_dir, tell)
    }
}

fn beside_us() -> Result<PathBuf, InstallError> {
    let us =
        std::env::current_exe().map_err(failed("find", Path::new("this program's own file")))?;
    Ok(us.with_file_name(program::NAME))
}
