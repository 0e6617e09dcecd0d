//! The other nodes.

use std::cmp::Reverse;

use super::super::report::{Peer, PeerInKernel, ProbeState};
use super::super::screen::{Cell, Row, Tone};
use super::{View, counted};

impl View<'_> {
    pub(super) fn peers(&mut self) {
        let report = self.report;
        let count = |state| {
            let peers = report.peers.iter();
            peers.filter(|peer| peer.kernel == state).count()
        };
        let words = [
            (PeerInKernel::Right, "right in the kernel"),
            (PeerInKernel::Wrong, "wrong"),
            (PeerInKernel::LeftOut, "left out"),
            (PeerInKernel::Unknown, "not compared"),
        ];
        let counts = words.map(|(state, word)| (count(state), word));
        let counts = counts.iter().filter(|(number, _)| *number > 0);
        let counts: Vec<String> = counts
            .map(|(number, word)| format!("{number} {word}"))
            .collect();
        let title = counted(report.peers.len(), "peer");
        if counts.is_empty() {
            return self.screen.heading(&title, "");
        }
        self.screen
            .heading(&format!("{title}:"), &counts.join(", "));
        let mut peers: Vec<&Peer> = report.peers.iter().collect();
        // The worst first, each kind in the order of the subnets.
        peers.sort_by_key(|peer| (peer.kernel, Reverse(peer.probe.state == ProbeState::Silent)));
        let mut rows = vec![Row::names([
            "SUBNET",
            "PUBLIC IP",
            "LAST SEEN",
            "KERNEL",
            "ANSWERS",
        ])];
        for peer in peers.iter().take(self.rows) {
            rows.extend(self.peer(peer));
        }
        self.screen.table(&rows, 0);
        self.more(peers.len(), self.rows);
    }

    /// One row for each of its subnets or addresses, whichever are more.
    fn peer(&self, peer: &Peer) -> Vec<Row> {
        let (kernel, tone) = match peer.kernel {
            PeerInKernel::Right => ("right", Tone::Good),
            PeerInKernel::Wrong => ("wrong", Tone::Bad),
            PeerInKernel::LeftOut => ("left out", Tone::Bad),
            PeerInKernel::Unknown => ("not compared", Tone::Doubtful),
        };
        let kernel = Cell::new(kernel, tone);
        let answers = match (peer.probe.state, peer.probe.micros) {
            (ProbeState::NotProbed, _) => Cell::new("not probed", Tone::Faint),
            (ProbeState::Answers, Some(micros)) => {
                let text = format!("in {}.{} ms", micros / 1000, micros % 1000 / 100);
                Cell::new(text, Tone::Good)
            }
            (ProbeState::Answers, None) => Cell::new("yes", Tone::Good),
            (ProbeState::Silent, _) => Cell::new("no", Tone::Bad),
        };
        let seen = peer.seen.map(|at| self.age(at)).unwrap_or_default();
        let at = |list: &[String], number: usize| list.get(number).cloned().unwrap_or_default();
        let public: Vec<String> = peer.public.iter().map(ToString::to_string).collect();
        let lines = peer.subnets.len().max(public.len()).max(1);
        let rows = (0..lines).map(|line| {
            let mut cells: Vec<Cell> =
                vec![at(&peer.subnets, line).into(), at(&public, line).into()];
            if line == 0 {
                cells.extend([seen.clone().into(), kernel.clone(), answers.clone()]);
            }
            Row::new(cells)
        });
        let mut rows: Vec<Row> = rows.collect();
        if let Some(last) = rows.pop() {
            rows.push(last.with_remarks(peer.reasons.clone()));
        }
        rows
    }
}
