//! The conflist in the runtime's directory.
//!
//! containerd reads the directory again when a file in it is written, renamed or removed, and at that moment the renamed file may
//! not be visible yet; so after each change a hidden file is written and removed. Plugins that somebody has appended (service
//! meshes do that) are kept.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::draft;
use super::{InstallError, failed};
use crate::install::program::NAME as PLUGIN;

const MODE: u32 = 0o644;

/// More than this is no conflist.
const LONGEST: u64 = 1024 * 1024;

/// A conflist to install.
#[derive(Clone, Debug)]
pub(super) struct Source {
    text: String,
    list: List,
}

impl Source {
    /// The types of its plugins.
    pub(super) fn types(&self) -> BTreeSet<String> {
        self.list.types().map(str::to_owned).collect()
    }
}

/// A conflist as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
struct List(Map<String, Value>);

impl List {
    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(object) = value else {
            return Err("it is not a JSON object".to_owned());
        };
        let list = Self(object);
        if !list.0.get("name").is_some_and(Value::is_string) {
            return Err("it has no `name`".to_owned());
        }
        if list.types().next().is_none() {
            return Err("it has no `plugins` with a `type`".to_owned());
        }
        Ok(list)
    }

    fn plugins(&self) -> &[Value] {
        self.0
            .get("plugins")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn types(&self) -> impl Iterator<Item = &str> {
        self.plugins().iter().filter_map(kind)
    }

    fn is_flannels(&self) -> bool {
        self.types().any(|kind| kind == PLUGIN)
    }
}

fn kind(plugin: &Value) -> Option<&str> {
    plugin.get("type")?.as_str()
}

/// Reads the conflist to install.
///
/// # Errors
/// [`InstallError::Source`] if it is none, or none of flannel.
pub(super) fn read_source(path: &Path) -> Result<Source, InstallError> {
    let text = read(path)?.ok_or_else(|| InstallError::Source {
        path: path.to_owned(),
        reason: "there is no such file".to_owned(),
    })?;
    let wrong = |reason| InstallError::Source {
        path: path.to_owned(),
        reason,
    };
    let list = List::parse(&text).map_err(wrong)?;
    if !list.is_flannels() {
        return Err(wrong(format!("none of its plugins is of type {PLUGIN:?}")));
    }
    Ok(Source { text, list })
}

/// Puts it at `target`, with what others have appended there.
pub(super) fn install(
    source: &Source,
    target: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<(), InstallError> {
    draft::sweep(target);
    let found = read(target)?;
    let appended = match &found {
        Some(text) => appended(source, text, target, tell)?,
        None => Vec::new(),
    };
    let wanted = if appended.is_empty() {
        source.text.clone()
    } else {
        with(source, appended)
    };
    if found.as_ref() == Some(&wanted) {
        tell(format!("{} is up to date", target.display()));
        return Ok(());
    }
    draft::replace(target, wanted.as_bytes(), MODE)?;
    wake(target)?;
    tell(format!("{} is installed", target.display()));
    Ok(())
}

/// The plugins of the conflist that is there and that ours does not name. A file that cannot be read as a conflist serves nobody
/// and is replaced.
fn appended(
    source: &Source,
    found: &str,
    target: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<Vec<Value>, InstallError> {
    let found = match List::parse(found) {
        Ok(found) => found,
        Err(reason) => {
            tell(format!(
                "warning: {} is no conflist and is replaced: {reason}",
                target.display()
            ));
            return Ok(Vec::new());
        }
    };
    if !found.is_flannels() {
        return Err(InstallError::Occupied {
            path: target.to_owned(),
            reason: format!(
                "its plugins: {}",
                found.types().collect::<Vec<_>>().join(", ")
            ),
        });
    }
    let ours = source.types();
    let foreign = |plugin: &&Value| kind(plugin).is_some_and(|kind| !ours.contains(kind));
    let kept: Vec<Value> = found.plugins().iter().filter(foreign).cloned().collect();
    for kind in kept.iter().filter_map(kind) {
        tell(format!(
            "the plugin {kind}, which somebody has added to {}, is kept",
            target.display()
        ));
    }
    Ok(kept)
}

fn with(source: &Source, appended: Vec<Value>) -> String {
    let mut list = source.list.0.clone();
    if let Some(Value::Array(plugins)) = list.get_mut("plugins") {
        plugins.extend(appended);
    }
    let text = serde_json::to_string_pretty(&list).unwrap_or_default();
    format!("{text}\n")
}

/// Removes the conflist, if it is one of flannel.
pub(super) fn uninstall(target: &Path, tell: &mut dyn FnMut(String)) -> Result<(), InstallError> {
    draft::sweep(target);
    let Some(text) = read(target)? else {
        return Ok(());
    };
    let list = List::parse(&text).ok();
    if !list.as_ref().is_some_and(List::is_flannels) {
        tell(format!("{} is not ours and stays", target.display()));
        return Ok(());
    }
    fs::remove_file(target).map_err(failed("remove", target))?;
    wake(target)?;
    tell(format!("{} is removed", target.display()));
    Ok(())
}

/// Says so if runtimes will take another file.
pub(super) fn warn_of_earlier(
    target: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<(), InstallError> {
    let directory = target.parent().unwrap_or(Path::new("/"));
    let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| {
            let name = Path::new(name);
            ["conf", "conflist", "json"]
                .iter()
                .any(|ending| name.extension().is_some_and(|found| found == *ending))
                && !name.as_os_str().as_encoded_bytes().starts_with(b".")
        })
        .collect();
    names.sort();
    for name in names {
        if target.file_name() == Some(&name) {
            break;
        }
        tell(format!(
            "warning: runtimes take {} before {}: remove or rename it, otherwise pods get another network",
            directory.join(&name).display(),
            target.display()
        ));
    }
    Ok(())
}

/// Makes runtimes read the directory again, now that the change is visible.
fn wake(target: &Path) -> Result<(), InstallError> {
    let bell = target.with_file_name(".loden-read-again");
    fs::write(&bell, b"").map_err(failed("write", &bell))?;
    fs::remove_file(&bell).map_err(failed("remove", &bell))
}

fn read(path: &Path) -> Result<Option<String>, InstallError> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    if length > LONGEST {
        let reason = io::Error::other(format!("{length} bytes is more than any conflist has"));
        return Err(failed("read", path)(reason));
    }
    let content = fs::read(path).map_err(failed("read", path))?;
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}
