//! The page in Prometheus' text format, version 0.0.4, which everything that scrapes understands. Pure.
//!
//! Nearly all values are read from where they are kept when somebody asks, and nothing is registered anywhere; so this
//! writer is all there is to the format. (`prometheus-client` writes OpenMetrics only, which `promtool check metrics`
//! and older scrapers do not read.)

use std::fmt::Write;

/// What `Content-Type` says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by classes.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Samples<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    /// Begins a metric. Its samples follow before the next metric begins.
    pub fn metric(&mut self, metric: &Metric) -> Samples<'_> {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let Metric { name, help, .. } = metric;
        self.line(&format!("# HELP {name} {help}"));
        self.line(&format!("# TYPE {name} {kind}"));
        Samples { page: self, name }
    }

    /// The whole page.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

impl Samples<'_> {
    /// A value.
    pub fn value(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        self.sample("", labels, None, value)
    }

    /// A value, unless it is not known.
    pub fn known(&mut self, labels: Labels<'_>, value: Option<f64>) -> &mut Self {
        match value {
            Some(value) => self.value(labels, value),
            None => self,
        }
    }

    /// A histogram: the upper ends of its classes, how many are in each, one more for the rest, and the sum of all.
    pub fn histogram(
        &mut self,
        labels: Labels<'_>,
        ends: impl IntoIterator<Item = f64>,
        classes: &[u64],
        sum: f64,
    ) -> &mut Self {
        let ends = ends.into_iter().map(|end| end.to_string());
        let mut count = 0;
        for (end, class) in ends.chain(["+Inf".to_owned()]).zip(classes) {
            count += class;
            self.sample("_bucket", labels, Some(&end), real(count));
        }
        self.sample("_sum", labels, None, sum);
        self.sample("_count", labels, None, real(count))
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        end: Option<&str>,
        value: f64,
    ) -> &mut Self {
        let labels = labels.iter().copied().chain(end.map(|end| ("le", end)));
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let mut line = format!("{}{suffix}", self.name);
        if !labels.is_empty() {
            let _ = write!(line, "{{{}}}", labels.join(","));
        }
        self.page.line(&format!("{line} {value}"));
        self
    }
}

/// A count as the format has it; from 2⁵³ on it loses its last digits.
#[expect(clippy::cast_precision_loss, reason = "the format has nothing else")]
pub fn real(count: u64) -> f64 {
    count as f64
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Metric = Metric {
        name: "loden_a_total",
        kind: Kind::Counter,
        help: "How often.",
    };
    const TOOK: Metric = Metric {
        name: "loden_b_seconds",
        kind: Kind::Histogram,
        help: "How long.",
    };

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.metric(&TIMES)
            .value(&[("object", "a \"b\"\\\n")], 3.0)
            .known(&[], None);
        page.metric(&TOOK)
            .histogram(&[("verb", "ADD")], [0.001, 1.0], &[2, 0, 1], 3.5);
        let expected = "# HELP loden_a_total How often.\n# TYPE loden_a_total counter\n\
            loden_a_total{object=\"a \\\"b\\\"\\\\\\n\"} 3\n\
            # HELP loden_b_seconds How long.\n# TYPE loden_b_seconds histogram\n\
            loden_b_seconds_bucket{verb=\"ADD\",le=\"0.001\"} 2\n\
            loden_b_seconds_bucket{verb=\"ADD\",le=\"1\"} 2\n\
            loden_b_seconds_bucket{verb=\"ADD\",le=\"+Inf\"} 3\n\
            loden_b_seconds_sum{verb=\"ADD\"} 3.5\n\
            loden_b_seconds_count{verb=\"ADD\"} 3\n";
        assert_eq!(page.into_text(), expected);
    }
}
