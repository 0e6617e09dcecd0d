//! What the project wants of its numbers, and whether this run has it.

use serde::Serialize;

use crate::figure::Figure;
use crate::options::Group;
use crate::statistics::{Spread, median};

/// A goal and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) text: &'static str,
    pub(crate) value: f64,
    pub(crate) bound: f64,
    pub(crate) reached: bool,
}

/// On which side of its bound a number should be.
#[derive(Clone, Copy, Debug)]
enum Side {
    AtMost(f64),
    AtLeast(f64),
}

/// A goal as it is written here.
#[derive(Debug)]
struct Wanted {
    text: &'static str,
    scene: &'static str,
    measure: &'static str,
    contender: &'static str,
    /// With whom it is compared; its own number counts if there is nobody.
    over: Option<&'static str>,
    side: Side,
}

const ATTACH: [Wanted; 3] = [
    Wanted {
        text: "ADD alone, routed, over the floor",
        scene: "IPv4, 1 at a time, 0 before",
        measure: "ADD p50",
        contender: "Loden, routed",
        over: Some("floor, routed"),
        side: Side::AtMost(1.5),
    },
    Wanted {
        text: "ADD alone of flannel's chain over Loden's",
        scene: "IPv4, 1 at a time, 0 before",
        measure: "ADD p50",
        contender: "flannel→bridge→host-local",
        over: Some("Loden, routed"),
        side: Side::AtLeast(12.0),
    },
    Wanted {
        text: "pods per second at 30 in parallel over flannel's chain",
        scene: "IPv4, 30 at a time, 0 before",
        measure: "ADD pods per second",
        contender: "Loden, routed",
        over: Some("flannel→bridge→host-local"),
        side: Side::AtLeast(5.0),
    },
];

const CONVERGE: [Wanted; 4] = [
    Wanted {
        text: "5,000 peers from the start, over the floor",
        scene: "5000 leases",
        measure: "start to all peers programmed",
        contender: "Loden",
        over: Some("floor: ip -batch, bridge -batch"),
        side: Side::AtMost(1.5),
    },
    Wanted {
        text: "milliseconds from one changed lease to the kernel, p99, at 5,000 peers",
        scene: "5000 leases",
        measure: "one lease to the kernel, p99",
        contender: "Loden",
        over: None,
        side: Side::AtMost(20.0),
    },
    Wanted {
        text: "the same at 10,000 peers",
        scene: "10000 leases",
        measure: "one lease to the kernel, p99",
        contender: "Loden",
        over: None,
        side: Side::AtMost(20.0),
    },
    Wanted {
        text: "the same at 10,000 Nodes",
        scene: "10000 leases, Kubernetes",
        measure: "one lease to the kernel, p99",
        contender: "Loden",
        over: None,
        side: Side::AtMost(20.0),
    },
];

const FOOTPRINT: [Wanted; 6] = [
    Wanted {
        text: "milliseconds for flanneld status at 5,000 peers",
        scene: "5000 peers, asked",
        measure: "flanneld status",
        contender: "Loden",
        over: None,
        side: Side::AtMost(500.0),
    },
    Wanted {
        text: "milliseconds for flanneld doctor at 5,000 peers, without waiting for any",
        scene: "5000 peers, asked",
        measure: "flanneld doctor --probe=0",
        contender: "Loden",
        over: None,
        side: Side::AtMost(500.0),
    },
    Wanted {
        text: "MiB resident, small",
        scene: "3 peers, quiet",
        measure: "resident memory",
        contender: "Loden",
        over: None,
        side: Side::AtMost(8.0),
    },
    Wanted {
        text: "MiB resident at 10,000 peers",
        scene: "10000 peers, quiet",
        measure: "resident memory",
        contender: "Loden",
        over: None,
        side: Side::AtMost(32.0),
    },
    Wanted {
        text: "milliseconds of CPU a minute when quiet (`top` shows none below 60)",
        scene: "3 peers, quiet",
        measure: "CPU per minute",
        contender: "Loden",
        over: None,
        side: Side::AtMost(60.0),
    },
    Wanted {
        text: "the same at 10,000 peers, over flannel",
        scene: "10000 peers, quiet",
        measure: "CPU per minute",
        contender: "Loden",
        over: Some("flannel"),
        side: Side::AtMost(1.0),
    },
];

const fn packets(
    text: &'static str,
    scene: &'static str,
    measure: &'static str,
    contender: &'static str,
    over: &'static str,
    side: Side,
) -> Wanted {
    Wanted {
        text,
        scene,
        measure,
        contender,
        over: Some(over),
        side,
    }
}

const BY_HAND: &str = "bridge and VXLAN by hand";
const MTU_1500: &str = "underlay of MTU 1500";
const MTU_9000: &str = "underlay of MTU 9000";

/// "No less" and "no more" allow for a spread of three per cent.
const PACKETS: [Wanted; 11] = [
    packets(
        "one stream, routed over by hand, MTU 1500",
        MTU_1500,
        "TCP, one stream",
        "Loden, routed",
        BY_HAND,
        Side::AtLeast(0.97),
    ),
    packets(
        "four streams, routed over by hand, MTU 1500",
        MTU_1500,
        "TCP, 4 streams",
        "Loden, routed",
        BY_HAND,
        Side::AtLeast(0.97),
    ),
    packets(
        "one stream, routed over by hand, MTU 9000",
        MTU_9000,
        "TCP, one stream",
        "Loden, routed",
        BY_HAND,
        Side::AtLeast(0.97),
    ),
    packets(
        "four streams, routed over by hand, MTU 9000",
        MTU_9000,
        "TCP, 4 streams",
        "Loden, routed",
        BY_HAND,
        Side::AtLeast(0.97),
    ),
    packets(
        "datagrams, routed over by hand",
        MTU_1500,
        "UDP of 64 bytes",
        "Loden, routed",
        BY_HAND,
        Side::AtLeast(0.97),
    ),
    packets(
        "request and response, routed over by hand",
        MTU_1500,
        "request and response, p50",
        "Loden, routed",
        BY_HAND,
        Side::AtMost(1.0),
    ),
    packets(
        "request and response, routed over by hand, MTU 9000",
        MTU_9000,
        "request and response, p50",
        "Loden, routed",
        BY_HAND,
        Side::AtMost(1.0),
    ),
    packets(
        "request and response on one processor, routed over by hand",
        MTU_1500,
        "request and response on one processor, p50",
        "Loden, routed",
        BY_HAND,
        Side::AtMost(1.0),
    ),
    packets(
        "request and response on one processor, routed over by hand, MTU 9000",
        MTU_9000,
        "request and response on one processor, p50",
        "Loden, routed",
        BY_HAND,
        Side::AtMost(1.0),
    ),
    packets(
        "connections, routed over by hand",
        MTU_1500,
        "connections",
        "Loden, routed",
        BY_HAND,
        Side::AtLeast(0.97),
    ),
    packets(
        "connections with 10,000 services over 1",
        MTU_1500,
        "connections",
        "Loden, routed, 10,000 services",
        "Loden, routed, 1 service",
        Side::AtLeast(0.97),
    ),
];

/// Those goals of the group of which there are numbers.
pub(crate) fn of(group: Group, figures: &[Figure]) -> Vec<Goal> {
    let wanted: &[Wanted] = match group {
        Group::Attach => &ATTACH,
        Group::Converge => &CONVERGE,
        Group::Footprint => &FOOTPRINT,
        Group::Ipam | Group::Micro => &[],
        Group::Packets => &PACKETS,
    };
    wanted
        .iter()
        .filter_map(|one| judge(one, figures))
        .collect()
}

fn judge(wanted: &Wanted, figures: &[Figure]) -> Option<Goal> {
    let figure = figures.iter().find(|figure| {
        figure.scene == wanted.scene
            && figure.measure == wanted.measure
            && figure.contender == wanted.contender
    })?;
    let value = match wanted.over {
        None => median(&figure.rounds)?,
        Some(other) => {
            let other = figure.of_contender(other, figures)?;
            Spread::of_ratios(&figure.rounds, &other.rounds)?.median
        }
    };
    let (bound, reached) = match wanted.side {
        Side::AtMost(bound) => (bound, value <= bound),
        Side::AtLeast(bound) => (bound, value >= bound),
    };
    Some(Goal {
        text: wanted.text,
        value,
        bound,
        reached,
    })
}

/// The goals as a list.
pub(crate) fn text(goals: &[Goal]) -> String {
    let mut text = String::new();
    for goal in goals {
        let verdict = if goal.reached {
            "reached"
        } else {
            "NOT reached"
        };
        let (value, bound) = (crate::table::number(goal.value), goal.bound);
        text += &format!("- {}: {value} (goal {bound}): {verdict}\n", goal.text);
    }
    if text.is_empty() {
        return text;
    }
    format!("\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(contender: &str, rounds: &[f64]) -> Figure {
        Figure {
            scene: "IPv4, 1 at a time, 0 before".to_owned(),
            measure: "ADD p50".to_owned(),
            unit: "ms".to_owned(),
            contender: contender.to_owned(),
            beside: None,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn a_goal_is_judged_by_the_median_of_the_ratios() {
        let figures = [
            figure("Loden, routed", &[2.0, 2.0, 2.0]),
            figure("floor, routed", &[1.0, 1.9, 1.5]),
            figure("flannel→bridge→host-local", &[26.0, 25.0, 9.0]),
        ];
        let goals = of(Group::Attach, &figures);
        assert_eq!(goals.len(), 2, "{goals:?}");
        assert_eq!((goals[0].value, goals[0].reached), (2.0 / 1.5, true));
        assert_eq!((goals[1].value, goals[1].reached), (12.5, true));
        let slower = [
            figure("Loden, routed", &[2.0]),
            figure("floor, routed", &[1.0]),
        ];
        let goals = of(Group::Attach, &slower);
        assert!(!goals[0].reached);
        assert!(text(&goals).contains("NOT reached"), "{}", text(&goals));
    }

    #[test]
    fn nothing_is_said_about_what_was_not_measured() {
        assert_eq!(of(Group::Attach, &[]), []);
        assert_eq!(text(&[]), "");
    }
}
