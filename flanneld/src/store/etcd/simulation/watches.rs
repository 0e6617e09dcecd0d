//! The watches in the simulated world, and the links they depend on.

use std::collections::VecDeque;

use super::model::Millis;
use super::world::{Event, Link, World};
use crate::store::etcd::port::{News, Notice, Scope};

/// After so long a watch on a silent network is given up.
const PROBE: Millis = 12_000;

/// An open watch.
#[derive(Debug)]
pub(super) struct Watching {
    host: usize,
    scope: Scope,
    /// The first revision it has not told.
    from: i64,
    told: VecDeque<Result<Notice, String>>,
    broken: bool,
}

impl World {
    /// Opens a watch.
    pub(super) fn open(&mut self, host: usize, scope: Scope) -> u64 {
        let number = self.number();
        let from = match scope {
            Scope::One(_) => self.model.history().revision + 1,
            Scope::AllSince(revision) => revision + 1,
        };
        let open = Notice {
            history: self.model.history(),
            news: News::Open,
        };
        let watching = Watching {
            host,
            scope,
            from,
            told: VecDeque::from([Ok(open)]),
            broken: false,
        };
        self.watches.insert(number, watching);
        self.after(1, Event::Tell(number));
        number
    }

    pub(super) fn close(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }

    pub(super) fn heard(&mut self, watch: u64) -> Option<Result<Notice, String>> {
        match self.watches.get_mut(&watch) {
            Some(watching) => watching.told.pop_front(),
            None => Some(Err("the watch is closed".to_owned())),
        }
    }

    /// Lets all watches look for changes, if there are any.
    pub(super) fn stir_watches(&mut self) {
        let revision = self.model.history().revision;
        if self.told != revision {
            self.told = revision;
            let all: Vec<u64> = self.watches.keys().copied().collect();
            for watch in all {
                let delay = 1 + self.random.below(8);
                self.after(delay, Event::Tell(watch));
            }
        }
    }

    pub(super) fn tell(&mut self, watch: u64) {
        let history = self.model.history();
        let Some(watching) = self.watches.get_mut(&watch) else {
            return;
        };
        let host = &mut self.hosts[watching.host];
        if watching.broken || host.link != Link::Whole || !self.etcd_runs {
            return;
        }
        let news = match self.model.since(watching.scope, watching.from) {
            Ok(changes) if changes.is_empty() => return,
            Ok(changes) => {
                watching.from = watching.from.max(history.revision + 1);
                News::Changes(changes)
            }
            Err(compacted) => {
                watching.broken = true;
                News::Compacted(compacted)
            }
        };
        watching.told.push_back(Ok(Notice { history, news }));
        host.stirred = true;
    }

    /// Breaks the watches of some hosts.
    pub(super) fn break_watches(&mut self, of: impl Fn(usize) -> bool) {
        for watching in self.watches.values_mut() {
            if of(watching.host) && !watching.broken {
                watching.broken = true;
                watching.told.push_back(Err("it broke".to_owned()));
                self.hosts[watching.host].stirred = true;
            }
        }
    }

    pub(super) fn set_link(&mut self, host: usize, link: Link) {
        self.hosts[host].link = link;
        match link {
            Link::Whole => {
                let all = self.watches.iter();
                let own: Vec<u64> = all
                    .filter(|(_, watching)| watching.host == host)
                    .map(|(watch, _)| *watch)
                    .collect();
                for watch in own {
                    self.after(1, Event::Tell(watch));
                }
            }
            Link::Cut => self.break_watches(|one| one == host),
            Link::Silent(silent_since) => self.after(PROBE, Event::Probe { host, silent_since }),
        }
    }

    pub(super) fn probe(&mut self, host: usize, silent_since: Millis) {
        if self.hosts[host].link == Link::Silent(silent_since) {
            self.break_watches(|one| one == host);
        }
    }
}
