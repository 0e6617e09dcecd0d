use std::collections::{BTreeMap, BTreeSet};

use ipam::LeaseRecord;
use ipam::operations::{Tally, Verb};

use super::*;
use crate::metrics::catalogue::ALL;
use crate::metrics::exposition::Kind;
use crate::metrics::probes::Outcome;
use crate::store::OwnLease;

const DOCS: &str = include_str!("../../../../docs/metrics.md");

/// Name, type and labels.
type Documented = BTreeMap<String, (String, BTreeSet<String>)>;

/// The rows of the table in the documentation.
fn documented() -> Documented {
    let rows = DOCS.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim));
    let ticked = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    cells
        .filter_map(|mut cells| {
            let name = cells.next()?.trim_matches('`').to_owned();
            let kind = cells.next()?.to_owned();
            Some((name, (kind, ticked(cells.next()?))))
        })
        .collect()
}

/// The same as a page has it.
fn shown(page: &str) -> Documented {
    let mut shown = Documented::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            let before = shown.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(before.is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line} follows {current}");
            let labels = &mut shown.get_mut(&current).unwrap().1;
            let names = line
                .split_once('{')
                .map_or("", |(_, rest)| rest)
                .split("\",");
            let names = names.filter_map(|label| label.split_once("=\""));
            labels.extend(
                names
                    .map(|(name, _)| name.to_owned())
                    .filter(|name| name != "le"),
            );
        }
    }
    shown
}

/// A board on which there is something for every metric.
fn board() -> Board {
    let health = Health::new("etcd", vec!["http://127.0.0.1:2379".to_owned()]);
    health.answered();
    health.observe("list", true, Duration::from_millis(3));
    let board = Board::new(health);
    let key = "10.244.1.0-24".parse().unwrap();
    let record =
        LeaseRecord::parse(br#"{"PublicIP":"192.0.2.1","BackendType":"host-gw"}"#).unwrap();
    let mut facts = board.facts();
    facts.take_own(OwnLease {
        key,
        record,
        expires: Some(tokio::time::Instant::now() + Duration::from_secs(3600)),
        origin: Origin::Chosen,
    });
    let outcome = |after| Outcome {
        at: SystemTime::now(),
        after,
    };
    facts.probes = [
        (
            "10.244.2.0-24".parse().unwrap(),
            outcome(Some(Duration::from_millis(1))),
        ),
        ("10.244.3.0-24".parse().unwrap(), outcome(None)),
    ]
    .into();
    drop(facts);
    board
}

fn files() -> Files {
    let mut tally = Tally::default();
    tally.classes[1] = 3;
    Files {
        pools: vec![(
            "cbr0".to_owned(),
            vec![Occupancy {
                first: "10.244.1.1".parse().unwrap(),
                last: "10.244.1.254".parse().unwrap(),
                usage: Usage {
                    total: 253,
                    used: 2,
                    free: 251,
                    ..Usage::default()
                },
            }],
        )],
        operations: vec![Counted {
            verb: Verb::Add,
            code: 0,
            tally,
        }],
    }
}

#[test]
fn the_page_the_catalogue_and_the_documentation_have_the_same_metrics() {
    let page = render(&board().facts(), None, &files());
    let documented = documented();
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let catalogue: BTreeMap<_, _> = ALL
        .iter()
        .map(|metric| (metric.name.to_owned(), kind(metric.kind).to_owned()))
        .collect();
    let names: BTreeMap<_, _> = documented
        .iter()
        .map(|(name, (kind, _))| (name.clone(), kind.clone()))
        .collect();
    assert_eq!(catalogue, names);
    assert_eq!(shown(&page), documented);
}

#[test]
fn a_daemon_that_knows_nothing_yet_says_so() {
    let board = Board::new(Health::new("kubernetes", Vec::new()));
    let page = render(&board.facts(), None, &Files::default());
    for line in [
        "loden_ready 0",
        "loden_lease_held 0",
        "loden_peers_wanted 0",
        "loden_kernel_in_line 0",
        "loden_repairs_total{object=\"route\"} 0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}:\n{page}");
    }
    assert!(!page.contains("\nloden_store_up"), "{page}");
    assert!(!page.contains("\nloden_lease_expiry"), "{page}");
}

#[test]
fn a_lost_lease_is_not_held_and_does_not_end() {
    let board = board();
    let before = render(&board.facts(), None, &files());
    assert!(before.contains("\nloden_lease_held 1\n"), "{before}");
    assert!(before.contains("\nloden_lease_expiry_timestamp_seconds "));
    if let Some(own) = &mut board.facts().own {
        own.lost = Some("somebody took it".to_owned());
    }
    let after = render(&board.facts(), None, &files());
    assert!(after.contains("\nloden_lease_held 0\n"), "{after}");
    assert!(!after.contains("\nloden_lease_expiry_timestamp_seconds "));
}

const DASHBOARD: &str = include_str!("../../../../manifests/monitoring/dashboard.json");
const ALERTS: &str = include_str!("../../../../manifests/monitoring/alerts.yml");

/// The metrics that a text names, histograms without the ends of their samples' names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let metrics = words.filter(|word| word.starts_with("loden_") || word.starts_with("process_"));
    metrics
        .map(|word| {
            let ends = ["_bucket", "_sum", "_count"];
            let end = ends.iter().find_map(|end| word.strip_suffix(end));
            end.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_there_are() {
    let known: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    for (file, text, least) in [("dashboard", DASHBOARD, 20), ("alerts", ALERTS, 12)] {
        let named = named(text);
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
        assert!(named.len() >= least, "{file} names {}", named.len());
    }
}

#[test]
fn every_alert_is_explained_and_nothing_else() {
    let alerts: BTreeSet<&str> = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let explained: BTreeSet<&str> = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|heading| heading.starts_with("Loden"))
        .collect();
    assert_eq!(alerts, explained);
    for alert in alerts {
        let link = format!("docs/metrics.md#{}.", alert.to_lowercase());
        assert!(ALERTS.contains(&link), "{alert} does not lead to its page");
    }
}

/// What Grafana needs to show a panel wherever the dashboard is imported.
#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(30));
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables
        .iter()
        .filter_map(|variable| Some((variable["name"].as_str()?, variable["type"].as_str()?)))
        .collect();
    let expected = [
        ("datasource", "datasource"),
        ("job", "query"),
        ("instance", "query"),
    ];
    assert_eq!(variables, expected);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(taken.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = &panel["gridPos"];
        let (x, width) = (place["x"].as_u64().unwrap(), place["w"].as_u64().unwrap());
        assert!(x + width <= 24, "{title}");
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}");
        }
    }
    assert!(panels.len() > 15, "{}", panels.len());
}
