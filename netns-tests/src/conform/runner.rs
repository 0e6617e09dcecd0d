//! Runs the catalogue over a plugin: every check for every version, several at once, each on a host of its own.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::utsname;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::conform::call::{Answer, Call, one_line};
use crate::conform::catalogue::{Check, Stop};
use crate::conform::checks::catalogue;
use crate::conform::place::Place;
use crate::conform::report::{Entry, Finding, Outcome, Report};
use crate::conform::scene::Scene;
use crate::conform::spec::{self, SpecVersion, Verb};
use crate::conform::subject::{BUILT_IN, Kind, Subject};
use crate::endpoint::Endpoint;
use crate::isolation;
use crate::isolation::root;

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// The plugin's program; an absolute path, as it is outside of the namespaces.
    pub plugin: PathBuf,
    /// Its config, a plugin's own or a list that contains it; the built-in one for its type when there is none.
    pub config: Option<Value>,
    /// What it is taken for; guessed by its type when not said.
    pub kind: Option<Kind>,
    /// Shell that prepares each check's host.
    pub setup: String,
    /// Directories of further plugins, after the plugin's own.
    pub cni_path: Vec<PathBuf>,
    /// The versions to try; those the plugin names when there are none.
    pub versions: Vec<SpecVersion>,
    /// Only checks whose name contains one of these; all when there are none.
    pub only: Vec<String>,
    /// How many checks run at a time.
    pub jobs: usize,
}

impl Options {
    /// Everything about this plugin.
    pub fn new(plugin: impl Into<PathBuf>) -> Self {
        Self {
            plugin: plugin.into(),
            config: None,
            kind: None,
            setup: String::new(),
            cni_path: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            versions: Vec::new(),
            only: Vec::new(),
            jobs: thread::available_parallelism().map_or(2, |count| 2 * count.get()),
        }
    }

    /// Whether this check is among the wanted ones.
    pub fn wants(&self, check: &Check) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| check.id.contains(part))
    }
}

/// Told about each finished check: how many are, of how many, and which was the last.
pub type Progress<'a> = &'a (dyn Fn(usize, usize, &str) + Sync);

/// Runs the checks inside the namespaces of [`isolation`].
pub fn run(options: &Options, progress: Progress<'_>) -> Result<Report> {
    ensure!(
        isolation::is_inside(),
        "checks run only inside namespaces of the runner's own"
    );
    needs_tools()?;
    let (mut subject, name) = subject(options)?;
    let probed = probe(&subject)?;
    subject.supported.clone_from(&probed.known);
    let versions = match options.versions.as_slice() {
        [] => probed.known.clone(),
        wanted => wanted.to_vec(),
    };
    ensure!(
        !versions.is_empty(),
        "{} names no version it supports ({}); say which to try with --versions",
        options.plugin.display(),
        probed.answer
    );
    let mut report = Report {
        runner: env!("CARGO_PKG_VERSION"),
        plugin: name,
        path: options.plugin.display().to_string(),
        kind: subject.kind,
        banner: probed.banner,
        supported_versions: probed.supported,
        kernel: utsname::uname().map_or_else(
            |_| String::new(),
            |name| name.release().to_string_lossy().into_owned(),
        ),
        versions,
        summary: Default::default(),
        conformant: false,
        checks: Vec::new(),
    };
    report.checks = judge_all(&subject, options, &report.versions, progress);
    report.sum_up();
    Ok(report)
}

/// The second opinion about the kernel comes from these.
fn needs_tools() -> Result<()> {
    let place = Place::new()?;
    let look = "for tool in ip bridge nft ping; do command -v $tool >/dev/null || echo $tool; done";
    let missing = place.sh(look)?;
    let missing: Vec<_> = missing.split_whitespace().collect();
    ensure!(
        missing.is_empty(),
        "programs are missing that the runner looks at the kernel with: {}; they come with iproute2, nftables and iputils",
        missing.join(", ")
    );
    Ok(())
}

fn subject(options: &Options) -> Result<(Subject, String)> {
    let outside = &options.plugin;
    let program = visible_inside(outside);
    ensure!(
        program.is_file(),
        "there is no plugin {}",
        outside.display()
    );
    let name = outside
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let config = match &options.config {
        Some(config) => Some(own_part(config, &name)?),
        None => None,
    };
    // A config's type names the plugin, whatever its file is called.
    let name = config
        .as_ref()
        .and_then(|config| config.get("type")?.as_str().map(str::to_owned))
        .unwrap_or(name);
    let kind = options.kind.unwrap_or_else(|| Kind::of_type(&name));
    let mut subject =
        Subject::new(&program, kind, &name, config, &options.setup).with_context(|| {
            format!(
                "there is no built-in config for {name}, only for {}: give one with --config",
                BUILT_IN.join(", ")
            )
        })?;
    let own = program.parent().map(Path::to_path_buf);
    let further = options.cni_path.iter().map(|path| visible_inside(path));
    subject.cni_path = own.into_iter().chain(further).collect();
    Ok((subject, name))
}

/// The object of the plugin in a config, which may be a list.
fn own_part(config: &Value, name: &str) -> Result<Map<String, Value>> {
    let found = match config["plugins"].as_array() {
        None => Some(config),
        Some(plugins) => plugins
            .iter()
            .find(|plugin| plugin["type"] == name)
            .or(plugins.first()),
    };
    let object = found.and_then(Value::as_object);
    object
        .cloned()
        .context("the config is no object, and no list of objects under \"plugins\"")
}

/// What a plugin tells about itself.
struct Probed {
    banner: String,
    supported: Vec<String>,
    known: Vec<SpecVersion>,
    answer: String,
}

fn probe(subject: &Subject) -> Result<Probed> {
    let place = Place::new()?;
    let newest = SpecVersion::V110;
    let call = |verb| {
        let config = Map::from_iter([("cniVersion".to_owned(), newest.as_str().into())]);
        Call::new(&subject.program, place.namespaces(), newest, verb, config)
            .within(Duration::from_secs(10))
    };
    let banner = call(Verb::Version).without("CNI_COMMAND").run()?;
    let answer: Answer = call(Verb::Version).run()?;
    let document: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    let listed = document["supportedVersions"].as_array();
    let supported: Vec<String> = listed
        .into_iter()
        .flatten()
        .filter_map(|version| version.as_str().map(str::to_owned))
        .collect();
    let known = SpecVersion::ALL
        .into_iter()
        .filter(|version| supported.iter().any(|text| text == version.as_str()));
    Ok(Probed {
        banner: one_line(banner.stderr.lines().next().unwrap_or_default()),
        known: known.collect(),
        supported,
        answer: answer.shown(),
    })
}

fn judge_all(
    subject: &Subject,
    options: &Options,
    versions: &[SpecVersion],
    progress: Progress<'_>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut runs = Vec::new();
    for (area, check) in catalogue().filter(|(_, check)| options.wants(check)) {
        let entry = entries.len();
        entries.push(Entry::new(check, area));
        match check.once {
            true => runs.push((entry, check, None)),
            false => runs.extend(
                versions
                    .iter()
                    .map(|version| (entry, check, Some(*version))),
            ),
        }
    }
    let newest = versions.iter().max().copied().unwrap_or(SpecVersion::V110);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let findings = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, runs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((entry, check, version)) = runs.get(number) else {
                        return;
                    };
                    let start = Instant::now();
                    let outcome = judge(subject, check, version.unwrap_or(newest));
                    let finding = Finding {
                        version: *version,
                        outcome,
                        milliseconds: start.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
                    };
                    findings
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((*entry, finding));
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(done, runs.len(), check.id);
                }
            });
        }
    });
    for (entry, finding) in findings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        entries[entry].findings.push(finding);
    }
    for entry in &mut entries {
        entry.findings.sort_by_key(|finding| finding.version);
    }
    entries
}

fn judge(subject: &Subject, check: &Check, version: SpecVersion) -> Outcome {
    if !check.kinds.contains(&subject.kind) {
        let kinds: Vec<_> = check.kinds.iter().map(|kind| kind.as_str()).collect();
        let reason = format!("for plugins of the kind {} only", kinds.join(" or "));
        return Outcome::NotApplicable { reason };
    }
    if !check.once && version < check.verb.since() {
        let (verb, since) = (check.verb, check.verb.since());
        let reason = format!("{verb} exists since {since}");
        return Outcome::NotApplicable { reason };
    }
    if check.verb.since() > SpecVersion::V040
        && !check.once
        && !subject.supported.is_empty()
        && !subject.supported.contains(&version)
    {
        let reason = format!(
            "the plugin supports {} only",
            spec::list(&subject.supported)
        );
        return Outcome::NotApplicable { reason };
    }
    let judged = panic::catch_unwind(AssertUnwindSafe(|| {
        let scene = Scene::new(subject, check.verb, version)?;
        (check.run)(&scene)
    }));
    match judged {
        Ok(Ok(())) => Outcome::Holds,
        Ok(Err(Stop::Fails(evidence))) => Outcome::DoesNotHold { evidence },
        Ok(Err(Stop::Inapplicable(reason))) => Outcome::NotApplicable { reason },
        Ok(Err(Stop::Trouble(error))) => Outcome::Undecided {
            trouble: one_line(&format!("{error:#}")),
        },
        Err(_) => Outcome::Undecided {
            trouble: "the runner panicked".to_owned(),
        },
    }
}

/// Where a file of the machine is found inside: what lies in directories that are private there is behind the machine's root,
/// unless it was put there inside.
fn visible_inside(path: &Path) -> PathBuf {
    let behind = root::in_machine(path);
    if root::is_private(path) && behind.exists() {
        behind
    } else {
        path.to_owned()
    }
}
