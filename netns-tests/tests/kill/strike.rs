//! Finds the system calls of a run of the program, and kills it at one of them.
//!
//! The kill comes before the call is carried out, so that a kill at each change, and one at the end, show every state
//! that a kill at any instruction could leave.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{Endpoint, Pod, programs, skip};

use crate::scene::Scene;

/// How many kills a long run makes.
const KILLS: &str = "LODEN_KILLS";

/// System calls that change something outside the process, whatever their arguments.
const CHANGING: [&str; 16] = [
    "chmod",
    "fchmod",
    "fchown",
    "ftruncate",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "pwrite64",
    "rename",
    "renameat",
    "renameat2",
    "setns",
    "symlink",
    "unlink",
    "unlinkat",
];

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

/// A moment in a run of the program: before the `nth` call of this name.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    call: String,
    nth: usize,
    changes: bool,
    /// Nothing is left to do but to end.
    pub(crate) finished: bool,
}

/// How many kills are wanted in all, in a long run.
pub(crate) fn wanted_kills() -> Option<usize> {
    env::var(KILLS).ok()?.parse().ok()
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// Kills the program at every moment of ADD and of DEL. Each time `repair` has to set the scene right again.
pub(crate) fn everywhere(
    scene: &Scene,
    verbs: &[Verb],
    prepare: impl Fn() -> Result<()>,
    repair: impl Fn(&mut Pod, &Moment) -> Result<()>,
    tests: usize,
) -> Result<()> {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("there is no strace");
    }
    let wanted = wanted_kills().map(|kills| kills.div_ceil(tests * verbs.len()));
    for &verb in verbs {
        let moments: Vec<_> = rehearse(scene, verb, &prepare)?;
        let chosen: Vec<_> = moments
            .iter()
            .filter(|moment| wanted.is_some() || moment.changes)
            .collect();
        ensure!(chosen.len() > 3, "{verb:?} changes nothing: {moments:?}");
        let total = wanted.unwrap_or(chosen.len());
        let mut killed = 0;
        for turn in 0..total {
            // Fewer kills than moments are spread over all of them.
            let moment = chosen[turn * chosen.len() / total.min(chosen.len()) % chosen.len()];
            prepare()?;
            let problem = || {
                let Moment { call, nth, .. } = moment;
                format!(
                    "{verb:?} was killed at {call} number {nth} on {}",
                    scene.host.name()
                )
            };
            let mut pod = stage(scene, verb)?;
            killed += usize::from(strike(scene, &pod, verb, moment)?);
            repair(&mut pod, moment).with_context(problem)?;
            pod.lose_netns()?;
            scene.nothing_left().with_context(problem)?;
        }
        // A loop that waits for the kernel may take fewer turns than in the rehearsal.
        ensure!(
            killed * 10 >= total * 9,
            "only {killed} of {total} runs were killed"
        );
        println!("{verb:?} on {}: {killed} kills", scene.host.name());
    }
    Ok(())
}

/// A container as the verb expects it.
fn stage(scene: &Scene, verb: Verb) -> Result<Pod> {
    let mut pod = scene.container()?;
    if verb == Verb::Del {
        pod.add()?;
    }
    Ok(pod)
}

/// The moments of an undisturbed run, in order.
fn rehearse(scene: &Scene, verb: Verb, prepare: impl Fn() -> Result<()>) -> Result<Vec<Moment>> {
    prepare()?;
    let pod = stage(scene, verb)?;
    let trace = format!("/tmp/{}.{}", scene.host.name(), verb.name());
    let output = run(scene, &pod, verb, &["-f", "-o", &trace])?;
    ensure!(output.status.success(), "{output:?}");
    pod.delete()?;
    Ok(moments(&fs::read_to_string(&trace)?))
}

fn moments(trace: &str) -> Vec<Moment> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut moments = Vec::new();
    for line in trace.lines() {
        // "PID name(arguments) = result"
        let call = line.split_once(' ').map(|(_, call)| call.trim_start());
        let Some((name, arguments)) = call.and_then(|call| call.split_once('(')) else {
            continue;
        };
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            continue;
        }
        let nth = seen.entry(name.to_owned()).or_default();
        *nth += 1;
        moments.push(Moment {
            call: name.to_owned(),
            nth: *nth,
            changes: changes(name, arguments),
            finished: name == "exit_group",
        });
    }
    // What comes between the last change and the end is nothing to the world.
    let mut finished = true;
    for moment in moments.iter_mut().rev() {
        finished &= moment.finished || !moment.changes;
        moment.finished = finished;
    }
    // The start of the program is `strace`'s own doing.
    moments.retain(|moment| moment.call != "execve");
    moments
}

/// Whether this only asks the kernel for a link (`RTM_GETLINK` of linux/rtnetlink.h), which `strace` may tell by number.
fn is_question(arguments: &str) -> bool {
    let mut messages = arguments.split("nlmsg_type=").skip(1);
    messages.all(|message| message.starts_with("RTM_GETLINK") || message.starts_with("0x12 "))
}

fn changes(name: &str, arguments: &str) -> bool {
    match name {
        "openat" => arguments.contains("O_CREAT") || arguments.contains("O_TRUNC"),
        "write" | "exit_group" => true,
        "sendto" | "sendmsg" => !is_question(arguments),
        other => CHANGING.contains(&other),
    }
}

/// Runs the program up to this moment; whether it came so far.
fn strike(scene: &Scene, pod: &Pod, verb: Verb, moment: &Moment) -> Result<bool> {
    let Moment { call, nth, .. } = moment;
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = run(scene, pod, verb, &strace)?;
    match output.status.signal() {
        Some(9) => Ok(true),
        _ if output.status.success() => Ok(false),
        _ => bail!("{verb:?} was to be killed at {call} number {nth}, but: {output:?}"),
    }
}

fn run(scene: &Scene, pod: &Pod, verb: Verb, strace: &[&str]) -> Result<Output> {
    let attachment = pod.attachment();
    let mut command = Command::new("strace");
    command
        .args(strace)
        .arg(programs::find("flannel")?)
        .env("CNI_COMMAND", verb.name())
        .env("CNI_CONTAINERID", &attachment.container)
        .env("CNI_NETNS", &attachment.netns)
        .env("CNI_IFNAME", &attachment.interface)
        .env("CNI_ARGS", &attachment.arguments)
        .env("CNI_PATH", &attachment.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = scene
        .host
        .run(|| command.spawn())?
        .context("strace cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever is killed early does not read.
        let _ = stdin.write_all(scene.config().to_string().as_bytes());
    }
    Ok(child.wait_with_output()?)
}
