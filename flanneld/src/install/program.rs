//! The CNI program in the runtime's directory, and the names under which it stands in for plugins that are not there.
//!
//! A file is ours if it says so: every build of the program has the project's name in its banner. `flannel` is replaced whoever
//! wrote it, since that is what installing means; the other names only if they are absent or ours. They are copies and not
//! links: whoever writes a plugin of theirs into such a name with `cp` would write through a link into `flannel`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::draft;
use super::{InstallError, failed};

/// The program's own name.
pub(super) const NAME: &str = "flannel";

/// What else the program can be.
pub(super) const OTHER_NAMES: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "ptp"];

/// The one that runtimes ask for beside every conflist.
const LOOPBACK: &str = "loopback";

/// What every build of the program says about itself.
const MARK: &[u8] = b" (Loden)";

const MODE: u32 = 0o755;

/// Installs the program as `flannel`, and under the names in `needed` that nobody serves.
pub(super) fn install(
    source: &Path,
    directory: &Path,
    needed: &BTreeSet<String>,
    tell: &mut dyn FnMut(String),
) -> Result<(), InstallError> {
    let program = fs::read(source).map_err(failed("read the CNI program", source))?;
    let target = directory.join(NAME);
    draft::sweep(&target);
    if present(&target)?.as_deref() == Some(&program) {
        tell(format!("{} is up to date", target.display()));
    } else {
        draft::replace(&target, &program, MODE)?;
        tell(format!("{} is installed", target.display()));
    }
    for name in OTHER_NAMES {
        let place = directory.join(name);
        let wanted = name == LOOPBACK || needed.contains(name);
        let found = present(&place)?;
        let ours = found.as_deref().is_some_and(is_ours);
        if (wanted && found.is_none()) || (ours && found.as_deref() != Some(&program)) {
            draft::replace(&place, &program, MODE)?;
            tell(format!(
                "{} is installed, the same program",
                place.display()
            ));
        }
    }
    for name in needed {
        if !OTHER_NAMES.contains(&name.as_str())
            && name != NAME
            && present(&directory.join(name))?.is_none()
        {
            tell(format!(
                "warning: the conflist names the plugin {name}, which is not in {}: no pod can be attached until it is there, or out of the conflist",
                directory.display()
            ));
        }
    }
    Ok(())
}

/// Removes the program under each of its names, where it is ours.
pub(super) fn uninstall(
    directory: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<(), InstallError> {
    for name in OTHER_NAMES.into_iter().chain([NAME]) {
        let place = directory.join(name);
        draft::sweep(&place);
        match present(&place)? {
            None => {}
            Some(found) if is_ours(&found) => {
                fs::remove_file(&place).map_err(failed("remove", &place))?;
                tell(format!("{} is removed", place.display()));
            }
            Some(_) => tell(format!("{} is not ours and stays", place.display())),
        }
    }
    Ok(())
}

/// The content of a file, if there is one.
fn present(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn is_ours(content: &[u8]) -> bool {
    content.windows(MARK.len()).any(|part| part == MARK)
}
