//! What a check has at hand: its own host, containers, calls of the plugin with everything a runtime would pass, and the
//! usual steps.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Result, anyhow};
use serde_json::{Map, Value, json};

use crate::conform::call::{Answer, Call, needed};
use crate::conform::catalogue::{Stop, Verdict, inapplicable};
use crate::conform::place::{Container, Place, State};
use crate::conform::spec::{SpecVersion, Verb};
use crate::conform::subject::{Staging, Subject};
use crate::endpoint::Endpoint;

/// How long the kernel may take to take a dead namespace apart.
const BURIAL: Duration = Duration::from_secs(5);

/// The network of every check.
pub(crate) const NETWORK: &str = "conform";

/// The stage of one run of one check.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) subject: &'a Subject,
    /// The verb the check judges.
    pub(crate) verb: Verb,
    /// The version of every config.
    pub(crate) version: SpecVersion,
    pub(crate) host: Place,
    config: Map<String, Value>,
    containers: AtomicU32,
}

/// A container with the result of its ADD.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) container: Container,
    pub(crate) result: Value,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        self.host.kill_all();
    }
}

impl<'a> Scene<'a> {
    pub(super) fn new(subject: &'a Subject, verb: Verb, version: SpecVersion) -> Result<Self> {
        Self::staged(subject, verb, version, &subject.usual)
    }

    fn staged(
        subject: &'a Subject,
        verb: Verb,
        version: SpecVersion,
        staging: &Staging,
    ) -> Result<Self> {
        let host = Place::new()?;
        host.set_up(&staging.setup)?;
        Ok(Self {
            subject,
            verb,
            version,
            host,
            config: staging.config.clone(),
            containers: AtomicU32::new(0),
        })
    }

    /// Another stage, on a new host with a pool of few addresses.
    pub(crate) fn small_pool(&self) -> Verdict<Self> {
        self.restaged(
            self.subject.small.as_ref(),
            "the runner does not know how to give this plugin few addresses",
        )
    }

    /// Another stage, on a new host with addresses of both families.
    pub(crate) fn dual_stack(&self) -> Verdict<Self> {
        if !std::path::Path::new("/proc/net/if_inet6").exists() {
            return inapplicable("this kernel has no IPv6");
        }
        self.restaged(
            self.subject.dual.as_ref(),
            "the runner does not know how to give this plugin addresses of both families",
        )
    }

    fn restaged(&self, staging: Option<&Staging>, otherwise: &str) -> Verdict<Self> {
        let Some(staging) = staging else {
            return inapplicable(otherwise);
        };
        Ok(Self::staged(
            self.subject,
            self.verb,
            self.version,
            staging,
        )?)
    }

    /// The config, complete.
    pub(crate) fn config(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        config.insert("name".to_owned(), json!(NETWORK));
        config.insert("cniVersion".to_owned(), json!(self.version.as_str()));
        config
    }

    /// A new container.
    pub(crate) fn container(&self) -> Result<Container> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed);
        // As long as containerd's, and another for each container.
        let id = format!("{:064x}", 0x0c0_f0f0_u64 << 32 | u64::from(number));
        self.host.container(&id, self.subject.ifname())
    }

    /// A call about a container with everything a runtime passes.
    pub(crate) fn call(&self, verb: Verb, container: &Container) -> Call {
        self.bare(verb)
            .with("CNI_CONTAINERID", &container.id)
            .with("CNI_NETNS", &container.netns)
            .with("CNI_IFNAME", &container.ifname)
            .with("CNI_ARGS", "")
    }

    /// A call about no container, as GC, STATUS and VERSION are.
    pub(crate) fn bare(&self, verb: Verb) -> Call {
        let place = self.host.namespaces();
        Call::new(
            &self.subject.program,
            place,
            self.version,
            verb,
            self.config(),
        )
        .with("CNI_PATH", self.cni_path())
    }

    /// The call the check is about, complete but for the result of an ADD.
    pub(crate) fn own_call(&self, container: &Container) -> Call {
        match self.verb {
            Verb::Add | Verb::Del | Verb::Check => self.call(self.verb, container),
            Verb::Gc => self.bare(Verb::Gc).key(VALID, json!([])),
            Verb::Status | Verb::Version => self.bare(self.verb),
        }
    }

    /// Attaches a container, as the way to what is checked.
    pub(crate) fn attach(&self, container: &Container) -> Verdict<Value> {
        let answer = self.call(Verb::Add, container).run()?;
        needed("ADD", answer.document())
    }

    /// Attaches a new container, as the way to what is checked.
    pub(crate) fn attached(&self) -> Verdict<Attached> {
        let container = self.container()?;
        let result = self.attach(&container)?;
        Ok(Attached { container, result })
    }

    /// Detaches a container as runtimes do.
    pub(crate) fn detach(&self, attached: &Attached) -> Result<Answer> {
        self.call(Verb::Del, &attached.container)
            .previous(&attached.result)
            .run()
    }

    /// The host's state after one container came and went, so that what stays for good, such as a bridge, is there.
    pub(crate) fn settled(&self) -> Verdict<State> {
        let first = self.attached()?;
        needed("DEL", self.detach(&first)?.success())?;
        first.container.die(&self.host)?;
        Ok(self.host.state()?)
    }

    /// The host is as it was before, as soon as the kernel has taken dead namespaces apart, which it does in its own time.
    pub(crate) fn becomes(&self, before: &State) -> Verdict {
        let start = Instant::now();
        loop {
            match self.host.state()?.same_as(before) {
                Err(Stop::Fails(_)) if start.elapsed() < BURIAL => {}
                verdict => return verdict,
            }
        }
    }

    /// `CNI_PATH`.
    pub(crate) fn cni_path(&self) -> OsString {
        env::join_paths(&self.subject.cni_path).unwrap_or_default()
    }

    /// Does `work` for all of these at once, each on a thread of its own; the results in order.
    pub(crate) fn at_once<T: Sync, R: Send>(
        items: &[T],
        work: impl Fn(&T) -> Verdict<R> + Sync,
    ) -> Verdict<Vec<R>> {
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = items
                .iter()
                .map(|item| scope.spawn(|| work(item)))
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        results
            .into_iter()
            .map(|result| {
                result.unwrap_or_else(|_| {
                    Err(Stop::Trouble(anyhow!("a thread of the runner panicked")))
                })
            })
            .collect()
    }
}

/// The key of GC's list.
pub(crate) const VALID: &str = "cni.dev/valid-attachments";
