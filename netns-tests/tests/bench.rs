//! The benchmarks in their smallest form: that every group still works, what it writes, and who takes part. Not how fast.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

netns_tests::tests![
    attach within 300,
    converge within 300,
    footprint within 300,
    ipam within 300,
    micro within 300,
    packets within 300,
    an_unknown_group_is_refused,
];

const OUT: &str = "/tmp/bench";

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loden-bench"));
    command.args(["--quick", "--out", OUT]).args(arguments);
    command
}

/// Runs one group and checks what all have in common.
struct Run {
    report: Value,
}

impl Run {
    fn of(group: &str) -> Result<Self> {
        let output = bench(&["--only", group]).output()?;
        let (said, complaint) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        );
        ensure!(output.status.success(), "{said}{complaint}");
        let file = |extension: &str| {
            let path = Path::new(OUT).join(format!("{group}.{extension}"));
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let report: Value = serde_json::from_str(&file("json")?)?;
        ensure!(
            report["format"] == 1 && report["group"] == group && report["quick"] == true,
            "{report:#}"
        );
        let machine = &report["machine"];
        ensure!(
            machine["processors"].as_u64() > Some(0)
                && machine["kernel"].as_str() > Some("")
                && machine["versions"]
                    .as_array()
                    .is_some_and(|all| all.len() > 2),
            "{machine:#}"
        );
        let run = Self { report };
        for row in run.rows()? {
            check(row, run.rows()?)?;
        }
        let (table, first) = (file("md")?, &run.rows()?[0]);
        ensure!(
            said.contains(&table),
            "the table is not what was said:\n{said}"
        );
        let scene = first["scene"].as_str().unwrap_or_default();
        ensure!(!scene.is_empty() && table.starts_with(scene), "{table}");
        Ok(run)
    }

    fn rows(&self) -> Result<&Vec<Value>> {
        self.report["rows"].as_array().context("no rows")
    }

    /// All values of a member.
    fn all(&self, member: &str) -> Result<BTreeSet<&str>> {
        let rows = self.rows()?.iter();
        Ok(rows.filter_map(|row| row[member].as_str()).collect())
    }

    fn has(&self, member: &str, wanted: &[&str]) -> Result<()> {
        let all = self.all(member)?;
        for one in wanted {
            ensure!(all.contains(one), "no {one:?} among {all:?}");
        }
        Ok(())
    }
}

/// A row has a number for each round and what follows from them, and a ratio if it stands beside another that is not zero throughout.
fn check(row: &Value, all: &[Value]) -> Result<()> {
    let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
    let rounds = row["rounds"].as_array().context("no rounds")?;
    let rounds: Option<Vec<f64>> = rounds.iter().map(number).collect();
    let rounds = rounds.with_context(|| format!("not all numbers: {row}"))?;
    let value = &row["value"];
    let parts = ["low", "median", "high"].map(|part| number(&value[part]));
    let [Some(low), Some(median), Some(high)] = parts else {
        anyhow::bail!("no value: {row}")
    };
    ensure!(
        !rounds.is_empty() && 0.0 <= low && low <= median && median <= high,
        "{row}"
    );
    let beside = |other: &&Value| {
        other["contender"] == row["beside"]
            && ["scene", "measure"]
                .iter()
                .all(|part| other[part] == row[part])
    };
    let other = all.iter().find(beside);
    let compared = other.is_some_and(|other| number(&other["value"]["high"]) > Some(0.0));
    ensure!(compared == row["ratio"].is_object(), "of {other:?}: {row}");
    Ok(())
}

fn plot(name: &str) -> Result<()> {
    let svg = fs::read_to_string(Path::new(OUT).join(name)).context(name.to_owned())?;
    ensure!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    ensure!(svg.matches("<rect ").count() > 1, "no bars: {svg}");
    Ok(())
}

fn attach() -> Result<()> {
    let run = Run::of("attach")?;
    run.has(
        "contender",
        &[
            "Loden, routed",
            "Loden, bridge",
            "floor, routed",
            "floor, bridge",
            "ptp→host-local",
            "bridge→host-local",
        ],
    )?;
    run.has(
        "measure",
        &[
            "ADD p50",
            "ADD p99",
            "ADD pods per second",
            "ADD CPU per pod",
            "ADD system calls",
            "DEL p50",
            "DEL system calls",
        ],
    )?;
    run.has(
        "scene",
        &[
            "IPv4, 3 at a time, 0 before",
            "dual-stack, 1 at a time, 0 before",
            "IPv4, 1 at a time, 3 before",
        ],
    )?;
    plot("attach-add-p50.svg")
}

fn converge() -> Result<()> {
    let run = Run::of("converge")?;
    run.has("contender", &["Loden", "floor: ip -batch, bridge -batch"])?;
    let renewals = run
        .rows()?
        .iter()
        .find(|row| row["measure"] == "netlink sends for all renewals")
        .context("renewals were not counted")?;
    ensure!(renewals["value"]["high"] == 0.0, "{renewals}");
    run.has(
        "measure",
        &["one lease to the kernel, p99", "CPU for all renewals"],
    )?;
    plot("converge-start-to-all-peers-programmed.svg")
}

fn footprint() -> Result<()> {
    let run = Run::of("footprint")?;
    run.has(
        "measure",
        &[
            "resident memory",
            "CPU per minute",
            "start of flanneld",
            "size of flannel",
        ],
    )?;
    plot("footprint-resident-memory.svg")
}

fn ipam() -> Result<()> {
    let run = Run::of("ipam")?;
    run.has(
        "contender",
        &[
            "Loden's pool, in process",
            "Loden as host-local, whole program",
            "host-local, whole program",
        ],
    )?;
    plot("ipam-take-an-address-p50.svg")
}

fn micro() -> Result<()> {
    let run = Run::of("micro")?;
    run.has(
        "contender",
        &[
            "desired state",
            "comparison, nothing differs",
            "one lease decoded",
        ],
    )?;
    plot("micro-one-execution.svg")
}

fn packets() -> Result<()> {
    let run = Run::of("packets")?;
    run.has(
        "contender",
        &[
            "host to host",
            "Loden, routed",
            "Loden, bridge",
            "Loden, host-gw",
            "Loden, DirectRouting",
            "Loden, routed, 1 service",
            "bridge and VXLAN by hand",
            "bridge by hand, same host",
        ],
    )?;
    run.has(
        "measure",
        &[
            "TCP, one stream",
            "TCP, 4 streams",
            "UDP of 64 bytes",
            "request and response, p99",
            "connections",
        ],
    )?;
    plot("packets-connections.svg")
}

fn an_unknown_group_is_refused() -> Result<()> {
    let output = bench(&["--only", "atach"]).output()?;
    ensure!(output.status.code() == Some(2), "{}", output.status);
    ensure!(String::from_utf8(output.stderr)?.contains("attach"));
    Ok(())
}
