//! The side of the CNI program: conflists, programs, and what is on record of pods.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use hostnet::Netlink;

use super::Scope;
use crate::doctor::facts::{CniFacts, Conflist, Program, ProgramState};
use crate::doctor::foreign;
use crate::pods::{self, Places};
use crate::status::report::{Pod, Report};

pub(super) fn look(netlink: &mut Netlink, scope: &Scope, report: &Report) -> CniFacts {
    let conflists = conflists(&scope.conflists);
    let ours = conflists
        .iter()
        .flatten()
        .find(|conflist| conflist.is_flannels());
    let names = ours
        .and_then(|conflist| conflist.types.clone())
        .unwrap_or_default();
    let programs = names.into_iter().map(|name| Program {
        state: state_of(&scope.programs.join(&name)),
        name,
    });
    let stale = pods::stale(&Places::default(), netlink, SystemTime::now());
    let (stale, unseen) = match stale {
        Ok(stale) => (stale, Vec::new()),
        Err(error) => (Vec::new(), vec![error.to_string()]),
    };
    let lost = |pod: &&Pod| {
        pod.linked == Some(false) && !stale.iter().any(|owner| *owner == owner_of(pod))
    };
    CniFacts {
        directory: scope.conflists.clone(),
        programs_in: scope.programs.clone(),
        programs: programs.collect(),
        unlinked: report.pods.iter().filter(lost).map(named).collect(),
        addresses: report.addresses.clone(),
        pods: report.pods.len(),
        conflists,
        stale,
        unseen,
    }
}

fn owner_of(pod: &Pod) -> String {
    format!("{} {}", pod.container_id, pod.ifname)
}

fn named(pod: &Pod) -> String {
    match (&pod.namespace, &pod.name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => format!("container {}", pod.container_id),
    }
}

/// In the order in which runtimes take them: by name (libcni's `ConfFiles`).
fn conflists(directory: &Path) -> Result<Vec<Conflist>, String> {
    let problem = |error: io::Error| format!("{} cannot be listed: {error}", directory.display());
    let mut names: Vec<String> = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(problem)?.path();
                let fits = path.extension().is_some_and(|ending| {
                    ending == "conf" || ending == "conflist" || ending == "json"
                });
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .filter(|name| fits && !name.starts_with('.'));
                names.extend(name.map(str::to_owned));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(problem(error)),
    }
    names.sort();
    let read = |file: String| {
        let text = fs::read(directory.join(&file)).unwrap_or_default();
        Conflist {
            types: foreign::plugin_types(&text),
            file,
        }
    };
    Ok(names.into_iter().map(read).collect())
}

/// Ours say who they are when started without a command; others are not started, since what they would do is not known.
fn state_of(path: &Path) -> ProgramState {
    let runs = fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if !runs {
        return ProgramState::Missing;
    }
    let ours =
        fs::read(path).is_ok_and(|content| content.windows(MARK.len()).any(|part| part == MARK));
    if !ours {
        return ProgramState::Foreign;
    }
    let banner = Command::new(path).env_clear().stdin(Stdio::null()).output();
    let banner = banner.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    ProgramState::Ours(
        foreign::version_in(&banner.unwrap_or_default()).unwrap_or_else(|| "unknown".to_owned()),
    )
}

/// What every build of ours says about itself.
const MARK: &[u8] = b" (Loden)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflists_are_listed_as_runtimes_take_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write(
            "20-b.conflist",
            r#"{"name":"b","plugins":[{"type":"flannel"},{"type":"portmap"}]}"#,
        );
        write("10-a.conf", r#"{"name":"a","type":"bridge"}"#);
        write("05-broken.conflist", "{");
        write(".hidden.conflist", "{}");
        write("00-notes.txt", "{}");
        let found = conflists(directory.path()).unwrap();
        let types = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let conflist = |file: &str, types| Conflist {
            file: file.to_owned(),
            types,
        };
        assert_eq!(
            found,
            [
                conflist("05-broken.conflist", None),
                conflist("10-a.conf", types(&["bridge"])),
                conflist("20-b.conflist", types(&["flannel", "portmap"])),
            ]
        );
        assert_eq!(conflists(&directory.path().join("nowhere")).unwrap(), []);
    }

    #[test]
    fn a_program_of_others_is_not_started() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flannel");
        assert_eq!(state_of(&path), ProgramState::Missing);
        let trace = directory.path().join("started");
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", trace.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(state_of(&path), ProgramState::Missing);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(state_of(&path), ProgramState::Foreign);
        assert!(!trace.exists());
    }
}
