//! A file written beside its place and then renamed: whoever opens the place gets the whole old file or the whole new one, and a
//! program that is running is not written into ("text file busy").

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process;

use super::{InstallError, failed};

/// Puts `content` at `target`.
///
/// # Errors
/// Those of the file system; then the target is as it was and no draft is left.
pub(super) fn replace(target: &Path, content: &[u8], mode: u32) -> Result<(), InstallError> {
    let directory = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed("make the directory", directory))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Hidden from runtimes by its ending. One that a kill left is known by its name and is of no other use.
    let draft = directory.join(format!(".{name}.{}.new", process::id()));
    let written = write(&draft, content, mode).and_then(|()| fs::rename(&draft, target));
    written
        .inspect_err(|_| drop(fs::remove_file(&draft)))
        .map_err(failed("write", target))
}

fn write(draft: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(draft)?;
    // Whatever the umask is: runtimes may run as somebody else.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    // Without this a power loss could leave the new name with an empty file.
    file.sync_all()
}

/// Removes drafts that a kill left behind.
pub(super) fn sweep(target: &Path) {
    let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
        return;
    };
    let prefix = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let number = file
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".new"))
            .and_then(|number| number.parse::<u32>().ok());
        // Another one may be at work at this moment; its draft is not ours to remove.
        if number.is_some_and(|number| number != process::id() && !is_running(number)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_running(process: u32) -> bool {
    File::open(format!("/proc/{process}/stat")).is_ok()
}
