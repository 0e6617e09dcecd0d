//! The user's side: starts the parts one after the other, draws the bar, writes what came of them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use netns_tests::isolation;

use crate::api_server;
use crate::calm;
use crate::figure::Figure;
use crate::goals;
use crate::job::Job;
use crate::machine::Machine;
use crate::options::{Group, Options};
use crate::plot;
use crate::progress::{Bar, Told};
use crate::report::{Measured, Report};
use crate::table;

/// So many lines are shown of what a part complained of.
const COMPLAINTS: usize = 12;

pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.out)
        .with_context(|| format!("{} cannot be made", options.out.display()))?;
    let machine = Machine::look()?;
    let groups = options.groups();
    let rounds = if options.quick {
        2
    } else {
        options.rounds.into()
    };
    let mut jobs: Vec<(Group, Job)> = Vec::new();
    for &group in &groups {
        let parts = Job::of(group, options.quick, rounds)?;
        let wanted = parts.into_iter().filter(|job| options.wants(&job.title()));
        jobs.extend(wanted.map(|job| (group, job)));
    }
    ensure!(
        !jobs.is_empty(),
        "there is no part with {:?} in its name; `loden-bench` without --part shows their names while it goes on",
        options.part
    );
    let bar = Bar::new(jobs.len());
    let mut failures = Vec::new();
    let mut part = 0;
    for group in groups {
        if !jobs.iter().any(|(its, _)| *its == group) {
            continue;
        }
        let mut measured = Measured::new(group);
        for (_, job) in jobs.iter().filter(|(its, _)| *its == group) {
            bar.show(part, &job.title(), 0.0, "");
            if !options.quick {
                calm::wait_calm()?;
            }
            // What takes an hour does not end with one part that fails.
            match measure(&bar, part, job) {
                // Written at once: who ends an hour's work early has what was measured until then.
                Ok(figures) => {
                    measured.figures.extend(figures);
                    write(options, &machine, measured.clone())?;
                }
                Err(error) => failures.push(format!("{}: {error:#}", job.title())),
            }
            part += 1;
        }
        bar.finish();
        let text = write(options, &machine, measured)?;
        println!("\n{}\n\n{text}", group.name());
    }
    if api_server::find()?.is_none() {
        println!(
            "Kubernetes took no part: KUBEBUILDER_ASSETS names no directory with kube-apiserver."
        );
    }
    println!("Results are in {}.", options.out.display());
    if failures.is_empty() {
        return Ok(());
    }
    bail!("not everything was measured:\n{}", failures.join("\n"))
}

/// Runs one part in its own namespaces.
fn measure(bar: &Bar, part: usize, job: &Job) -> Result<Vec<Figure>> {
    let mut command = isolation::command([serde_json::to_string(job)?])?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .context("the measuring process cannot be started")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Read beside the other, else a talkative program would wait for ever.
    let complaints = thread::spawn(move || {
        let mut text = String::new();
        stderr.map(|mut stderr| stderr.read_to_string(&mut text));
        text
    });
    let mut figures = None;
    for line in BufReader::new(stdout.context("no output")?).lines() {
        match serde_json::from_str(&line?) {
            Ok(Told::Progress(done, what)) => bar.show(part, &job.title(), done, &what),
            Ok(Told::Figures(found)) => figures = Some(found),
            // Something it started has spoken.
            Err(_) => {}
        }
    }
    let status = child.wait()?;
    let complaints = complaints.join().unwrap_or_default();
    match figures {
        Some(figures) if status.success() => Ok(figures),
        _ => bail!("ended with {status}\n{}", ending(&complaints)),
    }
}

/// The last lines: flannel's program says something at every call.
fn ending(complaints: &str) -> String {
    let lines: Vec<&str> = complaints.lines().collect();
    lines[lines.len().saturating_sub(COMPLAINTS)..].join("\n")
}

/// Writes what has been measured of a group. The tables.
fn write(options: &Options, machine: &Machine, measured: Measured) -> Result<String> {
    let group = measured.group;
    let report = Report::new(machine.clone(), options.quick, measured);
    let file = |extension: &str| options.out.join(format!("{}.{extension}", group.name()));
    let put = |path: std::path::PathBuf, text: &str| {
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    put(file("json"), &report.json()?)?;
    let mut text = table::of(&report.rows);
    text += &goals::text(&report.goals);
    put(file("md"), &text)?;
    for measure in group.plots() {
        let name = measure.to_lowercase().replace(", ", "-").replace(' ', "-");
        if let Some(svg) = plot::bars(measure, &report.rows) {
            put(
                options.out.join(format!("{}-{name}.svg", group.name())),
                &svg,
            )?;
        }
    }
    Ok(text)
}
