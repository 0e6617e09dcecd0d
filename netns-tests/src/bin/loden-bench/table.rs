//! The table at the end, which is Markdown too.

use crate::report::Row;
use crate::statistics::Spread;

const HEADS: [&str; 4] = ["measure", "who", "median (lowest – highest)", "beside"];

/// One table for each scene.
pub(crate) fn of(rows: &[Row]) -> String {
    let mut scenes: Vec<&str> = Vec::new();
    for row in rows {
        if !scenes.contains(&row.figure.scene.as_str()) {
            scenes.push(&row.figure.scene);
        }
    }
    let tables = scenes.iter().map(|scene| {
        let rows = rows.iter().filter(|row| row.figure.scene == *scene);
        format!("{scene}\n\n{}", aligned(&cells(rows)))
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn cells<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<[String; 4]> {
    let mut measure = "";
    rows.map(|row| {
        let figure = &row.figure;
        let repeated = figure.measure == measure;
        measure = &figure.measure;
        let unit = if figure.unit.is_empty() {
            String::new()
        } else {
            format!(" ({})", figure.unit)
        };
        let title = if repeated {
            String::new()
        } else {
            format!("{measure}{unit}")
        };
        let ratio = match (&row.ratio, &figure.beside) {
            (Some(ratio), Some(beside)) => format!("{} × {beside}", spread(ratio)),
            _ => String::new(),
        };
        let value = row.value.as_ref().map(spread).unwrap_or_default();
        [title, figure.contender.clone(), value, ratio]
    })
    .collect()
}

fn spread(spread: &Spread) -> String {
    let median = number(spread.median);
    if spread.low == spread.high {
        return median;
    }
    format!(
        "{median} ({} – {})",
        number(spread.low),
        number(spread.high)
    )
}

/// Three digits that count, more only before the point.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

fn aligned(rows: &[[String; 4]]) -> String {
    let mut widths = HEADS.map(|head| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 4]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&HEADS.map(str::to_owned));
    text += &format!(
        "|{}|\n",
        widths.map(|width| "-".repeat(width + 2)).join("|")
    );
    text.extend(rows.iter().map(line));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, text) in [
            (1234.5, "1234"),
            (99.94, "99.9"),
            (1.016, "1.02"),
            (0.0342, "0.0342"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn golden_of_a_table() {
        let row = |contender: &str, rounds: &[f64], beside: Option<&str>, ratio| Row {
            figure: Figure {
                scene: "alone".to_owned(),
                measure: "ADD p50".to_owned(),
                unit: "ms".to_owned(),
                contender: contender.to_owned(),
                beside: beside.map(str::to_owned),
                rounds: rounds.to_vec(),
            },
            value: Spread::of(rounds),
            ratio,
        };
        let table = of(&[
            row("Loden", &[1.0, 2.0, 3.0], None, None),
            row("flannel", &[20.0], Some("Loden"), Spread::of(&[10.0])),
        ]);
        assert_eq!(
            table,
            "alone\n\n\
             | measure      | who     | median (lowest – highest) | beside       |\n\
             |--------------|---------|---------------------------|--------------|\n\
             | ADD p50 (ms) | Loden   | 2.00 (1.00 – 3.00)        |              |\n\
             |              | flannel | 20.0                      | 10.0 × Loden |\n"
        );
    }
}
