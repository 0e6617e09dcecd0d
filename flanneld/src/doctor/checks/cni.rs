//! What new pods need: the conflist, the programs, addresses; and what pods that are gone have left.

use std::path::Path;

use super::some_of;
use crate::doctor::facts::{CniFacts, Conflist, Facts, ProgramState};
use crate::doctor::finding::{Check, Finding, Fix, Remedy};
use crate::status::report::Addresses;

/// The command that installs, with the directories where they are not the usual ones.
fn install(cni: &CniFacts) -> String {
    let mut command = "flanneld install-cni".to_owned();
    if cni.programs_in != Path::new("/opt/cni/bin") {
        command += &format!(" --cni-bin-dir={}", cni.programs_in.display());
    }
    if cni.directory != Path::new("/etc/cni/net.d") {
        command += &format!(" --cni-conf-dir={}", cni.directory.display());
    }
    command
}

pub(super) fn conflist(facts: &Facts) -> Finding {
    let cni = &facts.cni;
    let directory = cni.directory.display();
    let conflists = match &cni.conflists {
        Ok(conflists) => conflists,
        Err(reason) => return Finding::not_seen(Check::Conflist, reason.clone()),
    };
    let Some(first) = conflists.first() else {
        return Finding::fail(
            Check::Conflist,
            format!("there is no conflist in {directory}: pods get no network"),
            Remedy::say("install it").run(install(cni)),
        );
    };
    let path = |conflist: &Conflist| cni.directory.join(&conflist.file);
    match (
        &first.types,
        conflists.iter().find(|conflist| conflist.is_flannels()),
    ) {
        (None, _) => Finding::fail(
            Check::Conflist,
            format!(
                "{}, which comes first, is no conflist",
                path(first).display()
            ),
            Remedy::say("take it out of the way")
                .run(format!("mv {0} {0}.disabled", path(first).display())),
        ),
        (Some(_), None) => Finding::fail(
            Check::Conflist,
            format!(
                "none of the conflists in {directory} is flannel's; runtimes take {}",
                first.file
            ),
            Remedy::say("install it").run(install(cni)),
        ),
        (Some(types), Some(ours)) if ours.file != first.file => Finding::fail(
            Check::Conflist,
            format!(
                "runtimes take {} ({}) before {}: new pods are in another network",
                path(first).display(),
                types.join(", "),
                ours.file
            ),
            Remedy::say("take it out of the way; pods made meanwhile have to be made anew")
                .run(format!("mv {0} {0}.disabled", path(first).display())),
        ),
        (Some(types), Some(_)) => Finding::ok(
            Check::Conflist,
            format!("{} comes first: {}", first.file, types.join(", ")),
        ),
    }
}

pub(super) fn programs(facts: &Facts) -> Finding {
    let cni = &facts.cni;
    let directory = cni.programs_in.display();
    if cni.programs.is_empty() {
        return Finding::not_seen(
            Check::CniPrograms,
            "no conflist of flannel's says which are needed",
        );
    }
    let named = |wanted: fn(&ProgramState) -> bool| {
        let programs = cni
            .programs
            .iter()
            .filter(move |program| wanted(&program.state));
        programs
            .map(|program| program.name.clone())
            .collect::<Vec<_>>()
    };
    let missing = named(|state| *state == ProgramState::Missing);
    if !missing.is_empty() {
        let remedy =
            Remedy::say("install ours; others come with the package containernetworking-plugins")
                .run(install(cni));
        return Finding::fail(
            Check::CniPrograms,
            format!(
                "{} is missing in {directory}: pods cannot be attached",
                some_of(&missing)
            ),
            remedy,
        );
    }
    let flannel = cni
        .programs
        .iter()
        .find(|program| program.name == "flannel")
        .map(|program| &program.state);
    let own = env!("CARGO_PKG_VERSION");
    match flannel {
        Some(ProgramState::Ours(version)) if version != own => Finding::warn(
            Check::CniPrograms,
            format!("{directory}/flannel is of version {version}, flanneld of {own}"),
            Remedy::say("install the one that came with this flanneld").run(install(cni)),
        ),
        Some(ProgramState::Foreign) => Finding::warn(
            Check::CniPrograms,
            format!("{directory}/flannel is not Loden's"),
            Remedy::say("that works too, with less said about pods here; install ours")
                .run(install(cni)),
        ),
        _ => Finding::ok(
            Check::CniPrograms,
            format!(
                "{} in {directory}, version {own}",
                some_of(&named(|_| true))
            ),
        ),
    }
}

pub(super) fn pods(facts: &Facts) -> Finding {
    let CniFacts {
        stale,
        unlinked,
        unseen,
        pods,
        ..
    } = &facts.cni;
    if let Some(first) = unlinked.first() {
        return Finding::fail(
            Check::Pods,
            format!("{} lost its link, though the pod is there", first),
            Remedy::say("have the pod made anew: delete it, and its controller makes another")
                .run("kubectl delete pod …"),
        )
        .also((unlinked.len() > 1).then(|| format!("{} pods in all", unlinked.len())));
    }
    if let Some(first) = stale.first() {
        let evidence = format!(
            "{} of {pods} reservations are of pods that are gone: {first}",
            stale.len()
        );
        let remedy = Remedy::say("flanneld takes them away within a minute when it runs, as does")
            .run("flanneld doctor --fix")
            .fix(Fix::Collect);
        let exhausted = facts
            .cni
            .addresses
            .iter()
            .any(|range| range.free == 0 && range.cooling == 0);
        return if exhausted {
            Finding::fail(Check::Pods, evidence, remedy)
        } else {
            Finding::warn(Check::Pods, evidence, remedy)
        };
    }
    if let Some(first) = unseen.first() {
        return Finding::not_seen(Check::Pods, first.clone());
    }
    Finding::ok(Check::Pods, format!("{pods}, each with its link"))
}

pub(super) fn addresses(facts: &Facts) -> Finding {
    let ranges = &facts.cni.addresses;
    let described = |range: &Addresses| {
        format!(
            "{} of {} addresses from {} to {} are used",
            range.used, range.total, range.range.0, range.range.1
        )
    };
    let remedy = || {
        Remedy::say(
            "remove pods, or give nodes larger subnets: a smaller SubnetLen in the network configuration, for nodes that lease anew",
        )
    };
    if let Some(range) = ranges
        .iter()
        .find(|range| range.free == 0 && range.cooling == 0)
    {
        return Finding::fail(
            Check::Addresses,
            format!("no address is left for new pods: {}", described(range)),
            remedy(),
        );
    }
    if let Some(range) = ranges
        .iter()
        .find(|range| (range.free + range.cooling) * 20 < range.total)
    {
        return Finding::warn(Check::Addresses, described(range), remedy());
    }
    match ranges.first() {
        Some(_) => Finding::ok(
            Check::Addresses,
            ranges.iter().map(described).collect::<Vec<_>>().join("; "),
        ),
        None => Finding::ok(Check::Addresses, "none is used yet"),
    }
}
