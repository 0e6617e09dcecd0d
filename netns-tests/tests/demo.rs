//! The demo and the lab's shell, as a user starts them: they work, and however they end, nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{eventually, programs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the end of everything may take after the first process is gone.
const END_DEADLINE: Duration = Duration::from_secs(30);

fn demo(mode: &str) -> Result<Command> {
    programs::find("flanneld")?;
    programs::find("flannel")?;
    // Shells start what runs in the background with SIGINT ignored, and then so would the demo.
    let mut command = Command::new("env");
    command
        .args([
            "--default-signal=INT,TERM,HUP",
            env!("CARGO_BIN_EXE_loden-lab"),
        ])
        .arg(mode)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Ok(command)
}

/// What could be left behind on the machine, which here is the test's own namespaces.
fn machine() -> Result<BTreeSet<String>> {
    let mut things = BTreeSet::new();
    let mut add =
        |kind: &str, lines: &str| things.extend(lines.lines().map(|line| format!("{kind} {line}")));
    let output = |program: &str, arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8(
            Command::new(program).args(arguments).output()?.stdout,
        )?)
    };
    add("link", &output("ip", &["-br", "link"])?);
    add("route", &output("ip", &["route", "show", "table", "all"])?);
    add("ruleset", &output("nft", &["list", "ruleset"])?);
    add("mount", &fs::read_to_string("/proc/self/mountinfo")?);
    add(
        "file",
        &output("find", &["/tmp", "/run", "/var", "/etc/cni", "/dev/shm"])?,
    );
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        // Zombies have no command line: they are the init process's to reap, and here that is the test.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok());
        if is_process && !line.is_empty() {
            add(
                "process",
                &String::from_utf8_lossy(&line).replace('\0', " "),
            );
        }
    }
    Ok(things)
}

fn nothing_is_left(before: &BTreeSet<String>) -> Result<()> {
    eventually("nothing is left", END_DEADLINE, || {
        let now = machine()?;
        let new: Vec<&String> = now.difference(before).collect();
        ensure!(new.is_empty(), "{new:#?}");
        Ok(())
    })
}

fn the_demo_works_and_leaves_nothing() -> Result<()> {
    let before = machine()?;
    let output = demo("demo")?.output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("Everything worked"), "{said}");
    ensure!(!said.contains('\x1b'), "colours went into a pipe");
    let widest = said
        .lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0);
    ensure!(widest <= 100, "a line of {widest} columns:\n{said}");
    nothing_is_left(&before)
}

/// Starts the demo, ends it by `signal` when it has printed so many lines.
fn interrupt(lines: usize, signal: Signal) -> Result<()> {
    let before = machine()?;
    let mut child = demo("demo")?
        .spawn()
        .context("the demo cannot be started")?;
    let output = child.stdout.take().context("the demo has no output")?;
    let mut output = BufReader::new(output).lines();
    let seen = output.by_ref().take(lines).map_while(Result::ok).count();
    ensure!(seen == lines, "the demo ended after {seen} lines");
    kill(Pid::from_raw(child.id().cast_signed()), signal)?;
    child.wait()?;
    // The end of the output is the end of the last process; none of them may have gone on to the end of the demo.
    let rest: Vec<String> = output.map_while(Result::ok).collect();
    ensure!(
        !rest.iter().any(|line| line.contains("Everything worked")),
        "it went on after {signal}"
    );
    nothing_is_left(&before).with_context(|| format!("{signal} after {lines} lines"))
}

fn a_demo_killed_at_any_moment_leaves_nothing() -> Result<()> {
    // One moment in each phase: before anything, etcd, daemons, pods, measuring, removal.
    for lines in [0, 2, 6, 8, 10, 14, 17, 20, 40, 52] {
        interrupt(lines, Signal::SIGKILL)?;
    }
    Ok(())
}

fn a_demo_interrupted_or_terminated_leaves_nothing() -> Result<()> {
    for (lines, signal) in [
        (7, Signal::SIGINT),
        (18, Signal::SIGINT),
        (12, Signal::SIGTERM),
        (30, Signal::SIGHUP),
    ] {
        interrupt(lines, signal)?;
    }
    Ok(())
}

fn the_lab_opens_a_shell_with_all_hosts_in_reach() -> Result<()> {
    let before = machine()?;
    // Started in a directory that is private inside, as every other the lab writes to.
    let mut child = demo("lab")?
        .current_dir("/tmp")
        .stdin(Stdio::piped())
        .spawn()?;
    let script = "on a hostname && on b/b2 ip -br link show dev eth0 && on a/a1 ping -c1 -W5 198.51.100.1 \
                  && on etcd etcdctl get --prefix --keys-only /coreos.com/network/subnets && echo all of it worked\n";
    child
        .stdin
        .take()
        .context("the lab has no input")?
        .write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && said.contains("all of it worked"),
        "{said}"
    );
    ensure!(
        said.lines().any(|line| line == "a") && said.contains("1 received"),
        "{said}"
    );
    ensure!(
        said.matches("/coreos.com/network/subnets/10.244.").count() == 3,
        "{said}"
    );
    nothing_is_left(&before)
}

fn wrong_arguments_are_explained() -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loden-lab"));
    let output = command.arg("dmeo").output()?;
    ensure!(output.status.code() == Some(2), "{}", output.status);
    ensure!(String::from_utf8(output.stderr)?.starts_with("Usage: loden-lab demo"));
    Ok(())
}

netns_tests::tests![
    the_demo_works_and_leaves_nothing,
    a_demo_killed_at_any_moment_leaves_nothing within 180,
    a_demo_interrupted_or_terminated_leaves_nothing,
    the_lab_opens_a_shell_with_all_hosts_in_reach,
    wrong_arguments_are_explained,
];
