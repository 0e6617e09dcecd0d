//! Bar charts as SVG: a bar for each contender, a cluster for each scene, whiskers from the lowest to the highest round.

use std::fmt::Write as _;

use crate::report::Row;
use crate::statistics::Spread;
use crate::table::number;

const WIDTH: f64 = 860.0;
/// Where the bars begin; names stand before.
const LEFT: f64 = 210.0;
/// Behind the longest bar there is room for its number.
const RIGHT: f64 = 110.0;
const BAR: f64 = 16.0;
const HEAD: f64 = 26.0;
/// Beyond this ratio between the longest and the shortest bar, each step of the axis is a factor.
const WIDE: f64 = 30.0;

/// For contenders in the order in which they first appear.
const COLOURS: [&str; 8] = [
    "#1b7f5c", "#b8b8b8", "#c8862b", "#4fb38d", "#d9d9d9", "#b5533c", "#8c2f39", "#5b6c9e",
];

/// The chart of a measure; nothing if it was not measured.
pub(crate) fn bars(measure: &str, rows: &[Row]) -> Option<String> {
    let rows: Vec<(&Row, Spread)> = rows
        .iter()
        .filter(|row| row.figure.measure == measure)
        .filter_map(|row| Some((row, row.value?)))
        .collect();
    let axis = Axis::of(rows.iter().map(|(_, value)| value))?;
    let unit = &rows.first()?.0.figure.unit;
    let mut contenders: Vec<&str> = Vec::new();
    let (mut body, mut scene, mut y) = (String::new(), "", HEAD);
    for (row, value) in &rows {
        if row.figure.scene != scene {
            scene = &row.figure.scene;
            y += HEAD;
            let text = escaped(scene);
            write!(
                body,
                r#"<text x="8" y="{:.0}" font-weight="bold">{text}</text>"#,
                y - 6.0
            )
            .ok()?;
        }
        if !contenders.contains(&row.figure.contender.as_str()) {
            contenders.push(&row.figure.contender);
        }
        let place = contenders
            .iter()
            .position(|one| *one == row.figure.contender)?;
        bar(
            &mut body,
            &axis,
            &row.figure.contender,
            value,
            COLOURS[place % COLOURS.len()],
            y,
        )?;
        y += BAR + 2.0;
    }
    let height = y + 12.0;
    let scale = if axis.factors { ", logarithmic" } else { "" };
    let title = escaped(
        &format!("{measure} ({unit}{scale})")
            .replace("(, ", "(")
            .replace(" ()", ""),
    );
    Some(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/><text x="8" y="20" font-size="15" font-weight="bold">{title}</text>{body}</svg>
"##
    ))
}

fn bar(
    body: &mut String,
    axis: &Axis,
    name: &str,
    value: &Spread,
    colour: &str,
    y: f64,
) -> Option<()> {
    let [low, end, high] = [value.low, value.median, value.high].map(|at| axis.place(at));
    let (middle, text) = (y + BAR / 2.0, y + BAR - 4.0);
    let name = escaped(name);
    write!(
        body,
        r##"<text x="{:.0}" y="{text:.0}" text-anchor="end">{name}</text><rect x="{LEFT}" y="{y:.0}" width="{:.1}" height="{BAR}" fill="{colour}"/><path d="M{low:.1} {middle:.1}H{high:.1}" stroke="#333333"/><text x="{:.1}" y="{text:.0}">{}</text>"##,
        LEFT - 6.0,
        end - LEFT,
        high.max(end) + 5.0,
        number(value.median),
    )
    .ok()
}

/// From values to places.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
    factors: bool,
}

impl Axis {
    fn of<'a>(values: impl Iterator<Item = &'a Spread> + Clone) -> Option<Self> {
        let high = values.clone().map(|value| value.high).reduce(f64::max)?;
        let low = values
            .map(|value| value.low)
            .filter(|low| *low > 0.0)
            .reduce(f64::min)?;
        let factors = high / low > WIDE;
        Some(Self {
            // The shortest bar is to be seen, too.
            low: if factors { low / 2.0 } else { 0.0 },
            high,
            factors,
        })
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.factors {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    fn row(contender: &str, rounds: &[f64]) -> Row {
        Row {
            figure: Figure {
                scene: "few & <many>".to_owned(),
                measure: "time".to_owned(),
                unit: "ms".to_owned(),
                contender: contender.to_owned(),
                beside: None,
                rounds: rounds.to_vec(),
            },
            value: Spread::of(rounds),
            ratio: None,
        }
    }

    #[test]
    fn the_longest_bar_ends_at_the_edge_and_others_in_proportion() {
        let svg = bars("time", &[row("a", &[10.0]), row("b", &[5.0])]).unwrap();
        assert!(
            svg.contains(r#"width="540.0""#) && svg.contains(r#"width="270.0""#),
            "{svg}"
        );
        assert!(
            svg.contains("time (ms)") && svg.contains("few &amp; &lt;many&gt;"),
            "{svg}"
        );
        assert_eq!(bars("space", &[row("a", &[10.0])]), None);
    }

    #[test]
    fn factors_are_steps_where_values_lie_far_apart() {
        let axis =
            Axis::of([Spread::of(&[1.0]).unwrap(), Spread::of(&[500.0]).unwrap()].iter()).unwrap();
        assert!(axis.factors);
        let step = axis.place(10.0) - axis.place(1.0);
        assert!((axis.place(100.0) - axis.place(10.0) - step).abs() < 1e-6);
        assert!(axis.place(1.0) > LEFT && axis.place(500.0) == WIDTH - RIGHT);
    }
}
