//! What every scenario has in hand: the cluster, its nodes, the report, and the list of what is to be put back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::cluster::Node;
use crate::command::{self, Output};
use crate::interrupt;
use crate::kubectl::Kubectl;
use crate::manifest::Manifest;
use crate::report::{Outcome, Report};
use crate::state::State;

/// The namespace of everything that the runner makes.
pub(crate) const NAMESPACE: &str = "loden-cluster-test";

type Undo = Box<dyn FnOnce(&mut Bench) -> Result<()>>;

/// See the module.
pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) kubectl: Kubectl,
    pub(crate) nodes: Vec<Node>,
    pub(crate) manifest: Manifest,
    pub(crate) report: Report,
    /// Each node's state before the install, if it was this run that installed.
    pub(crate) before: Vec<State>,
    undo: Vec<(String, Undo)>,
}

impl Bench {
    pub(crate) fn new(args: Args, nodes: Vec<Node>, manifest: Manifest, report: Report) -> Self {
        Self {
            kubectl: Kubectl::new(&args),
            args,
            nodes,
            manifest,
            report,
            before: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Something is to hold; `detail` says what was seen if it does not.
    pub(crate) fn check(&mut self, name: &str, holds: bool, detail: impl FnOnce() -> String) {
        let outcome = if holds {
            Outcome::Passed
        } else {
            Outcome::Failed(detail())
        };
        self.report.check(name, outcome);
    }

    /// A check whose failure is an error's text.
    pub(crate) fn check_result<T>(&mut self, name: &str, result: Result<T>) -> Result<Option<T>> {
        interrupt::check()?;
        match result {
            Ok(value) => {
                self.report.check(name, Outcome::Passed);
                Ok(Some(value))
            }
            Err(error) => {
                self.report
                    .check(name, Outcome::Failed(format!("{error:#}")));
                Ok(None)
            }
        }
    }

    /// Something that cannot be tried here.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.report.check(name, Outcome::Skipped(reason.to_owned()));
    }

    /// Waits until there is no such namespace.
    pub(crate) fn wait_gone(&mut self, namespace: &str, limit: Duration) -> Result<()> {
        let what = format!("the namespace {namespace} is gone");
        self.wait(&what, limit, |bench| {
            let words = [
                "get",
                "namespace",
                namespace,
                "--ignore-not-found",
                "-o",
                "name",
            ];
            let left = bench.kubectl.run(&words)?;
            Ok(if left.is_empty() {
                Ok(())
            } else {
                Err("it is there".to_owned())
            })
        })
    }

    /// Waits until this returns something. What it says meanwhile is progress, and the last of it belongs to the error.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Result<T, String>>,
    ) -> Result<T> {
        let limit = limit * self.args.patience;
        let start = Instant::now();
        loop {
            interrupt::check()?;
            // kubectl may fail while the API server is away or restarts.
            let seen = match look(self) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(seen)) => seen,
                Err(error) => format!("{error:#}"),
            };
            interrupt::check()?;
            if start.elapsed() > limit {
                bail!("{what}: not after {} s; last seen: {seen}", limit.as_secs());
            }
            self.report.progress(&format!("{what}: {seen}"));
            interrupt::pause(Duration::from_millis(200))?;
        }
    }

    /// Something has been, or is about to be changed: how to put it back.
    pub(crate) fn undo(&mut self, what: &str, how: impl FnOnce(&mut Self) -> Result<()> + 'static) {
        self.undo.push((what.to_owned(), Box::new(how)));
    }

    /// What was changed since the mark has been put back in passing.
    pub(crate) fn done(&mut self, mark: usize) {
        self.undo.truncate(mark);
    }

    /// How much there is to be put back now, for `put_back`.
    pub(crate) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Puts back what was changed since the mark, the last first. What cannot be put back is told and fails the run.
    pub(crate) fn put_back(&mut self, mark: usize) {
        interrupt::cleaning(true);
        while self.undo.len() > mark {
            let Some((what, how)) = self.undo.pop() else {
                break;
            };
            if let Err(error) = how(self) {
                self.check(&format!("put back: {what}"), false, || format!("{error:#}"));
            }
        }
        interrupt::cleaning(false);
    }

    /// Runs a script on a node, by the user's command; without one there is a reason to skip.
    pub(crate) fn on_node(&self, node: &str, script: &str) -> Result<Output> {
        let template = self.args.hooks.node_exec.as_deref();
        let template = template.context("no NODE_EXEC")?;
        let mut words = command::fill(template, &[("node", node)]);
        words.extend(["sh", "-c", script].map(str::to_owned));
        command::run(&words, None, self.limit(60))
    }

    /// Runs one of the user's other commands.
    pub(crate) fn hook(&self, template: Option<&str>, values: &[(&str, &str)]) -> Result<()> {
        let words = command::fill(template.context("no such command")?, values);
        command::run(&words, None, self.limit(180))?
            .ok(&words.join(" "))
            .map(drop)
    }

    /// Stops or starts kubelet or containerd on a node.
    pub(crate) fn service(&self, node: &str, verb: &str, service: &str) -> Result<()> {
        let values = [("node", node), ("verb", verb), ("service", service)];
        self.hook(self.args.hooks.node_service.as_deref(), &values)
    }

    /// Stops or starts a part of the control plane.
    pub(crate) fn control(&self, verb: &str, service: &str) -> Result<()> {
        self.hook(
            self.args.hooks.control_service.as_deref(),
            &[("verb", verb), ("service", service)],
        )
    }

    /// A deadline with the patience asked for.
    pub(crate) fn limit(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) * self.args.patience
    }
}
