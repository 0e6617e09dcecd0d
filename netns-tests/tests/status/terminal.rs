//! What a person at a terminal sees: colours, and a report that goes on.

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Host, eventually, programs};

use crate::scene::{FOLLOW, Node, flanneld, lab, two_nodes};

/// `flanneld` with these words on a terminal of its own of this size, and what comes from its keyboard.
fn at_terminal(host: &Host, words: &str, (lines, columns): (u16, u16)) -> Result<Daemon> {
    let program = programs::find("flanneld")?;
    let size = format!("stty rows {lines} columns {columns}");
    // Tests that a shell runs in the background inherit that ^C is ignored.
    let typed = format!(
        "{size}; exec env --default-signal=INT {} {words}",
        program.display()
    );
    // Opened for both, a pipe has no end before somebody types.
    host.sh("rm -f /run/keyboard && mkfifo /run/keyboard")?;
    let script = format!("exec script -qefc '{typed}' /dev/null <>/run/keyboard");
    host.start("sh", &["-c", &script])
}

/// What stood on the terminal, one picture after the other.
fn pictures(terminal: &Daemon) -> Vec<String> {
    let shown = terminal.log().replace("\r\n", "\n");
    shown.split("\x1b[H").skip(1).map(str::to_owned).collect()
}

pub(crate) fn a_terminal_gets_colours_unless_they_are_not_wanted() -> Result<()> {
    let lab = lab()?;
    let (a, _b) = two_nodes(&lab)?;
    for command in ["status", "doctor"] {
        let mut terminal = at_terminal(&a.host, command, (24, 80))?;
        terminal.wait_end()?;
        let shown = terminal.log();
        ensure!(
            shown.contains("\x1b[32m") && shown.contains("\x1b[0m"),
            "no green in {shown:?}"
        );
    }
    let mut terminal = at_terminal(&a.host, "status | cat", (24, 80))?;
    terminal.wait_end()?;
    ensure!(!terminal.log().contains('\x1b'), "{:?}", terminal.log());
    let program = programs::find("flanneld")?;
    let plain = a.host.sh(&format!(
        "NO_COLOR=1 script -qec '{} status' /dev/null </dev/null",
        program.display()
    ))?;
    ensure!(
        plain.contains("all is well") && !plain.contains('\x1b'),
        "{plain:?}"
    );
    // As wide as the terminal: what is broken into two lines at 80 columns stands in one.
    let name = "a-pod-with-a-name-as-long-as-those-of-a-deployment-7db6d8ff4d-x2vqk";
    let _pod = a.host.pod(name)?;
    let narrow = flanneld(&a.host, &["status"])?;
    ensure!(!narrow.out.contains(name), "{}", narrow.out);
    let mut terminal = at_terminal(&a.host, "status", (24, 200))?;
    terminal.wait_end()?;
    ensure!(terminal.log().contains(name), "{}", terminal.log());
    Ok(())
}

pub(crate) fn a_watched_status_follows_until_it_is_interrupted() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_nodes(&lab)?;
    let mut terminal = at_terminal(&a.host, "status --watch", (60, 80))?;
    terminal.wait_log("all is well")?;
    let pod = a.host.pod("late")?;
    terminal.wait_log("default/late")?;
    pod.delete()?;
    let subnet = b.host.subnets()?.remove(0);
    a.host.sh(&format!("ip route del {subnet}"))?;
    terminal.wait_log("1 repair")?;
    eventually("the pod is not shown any more", FOLLOW, || {
        let pictures = pictures(&terminal);
        let last = pictures.iter().rev().nth(1).context("none yet")?;
        ensure!(!last.contains("default/late"), "{last}");
        Ok(())
    })?;
    a.host.sh("printf '\\003' >/run/keyboard")?;
    let status = terminal.wait_end()?;
    ensure!(status.code() == Some(130), "{status}");
    let shown = terminal.log();
    ensure!(
        !shown.contains("\x1b[?"),
        "it set what somebody must put back: {shown:?}"
    );
    Ok(())
}

pub(crate) fn a_watched_status_has_room_on_a_small_terminal() -> Result<()> {
    let lab = lab()?;
    let (a, _b) = two_nodes(&lab)?;
    let terminal = at_terminal(&a.host, "status --watch", (10, 60))?;
    let found = eventually("it was shown three times", FOLLOW, || {
        let pictures = pictures(&terminal);
        ensure!(pictures.len() > 2, "{pictures:?}");
        Ok(pictures)
    })?;
    for picture in found.iter().take(2) {
        ensure!(picture.lines().count() <= 10, "{picture}");
        ensure!(
            picture.contains("node a:") && picture.contains("lines more than this terminal has"),
            "{picture}"
        );
    }
    Ok(())
}

pub(crate) fn a_reader_who_goes_away_ends_it_quietly() -> Result<()> {
    let lab = lab()?;
    let a = Node::start(&lab, "a")?;
    let program = programs::find("flanneld")?;
    for words in ["status --watch", "status --watch -o json", "status", "plan"] {
        let said = a.host.sh(&format!(
            "{} {words} 2>/run/said | head -n 1 >/dev/null; cat /run/said",
            program.display()
        ))?;
        ensure!(said.is_empty(), "{words}: {said}");
    }
    Ok(())
}
