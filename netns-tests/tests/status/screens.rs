//! The documents show what the programs print.

use anyhow::{Result, ensure};
use netns_tests::screens::{draw, shape};

const PAGE: &str = include_str!("../../../docs/status.md");
const DOCTOR: &str = include_str!("../../../docs/doctor.md");
const README: &str = include_str!("../../../README.md");
/// The files of docs/screens, written by `loden-lab screens docs/screens`.
const SCREENS: [(&str, &str); 5] = [
    ("status", include_str!("../../../docs/screens/status.txt")),
    (
        "status-down",
        include_str!("../../../docs/screens/status-down.txt"),
    ),
    ("plan", include_str!("../../../docs/screens/plan.txt")),
    ("trace", include_str!("../../../docs/screens/trace.txt")),
    ("doctor", include_str!("../../../docs/screens/doctor.txt")),
];

pub(crate) fn the_screens_in_the_docs_are_what_is_printed() -> Result<()> {
    for (name, screen) in SCREENS {
        let (page, of) = match name {
            "doctor" => (DOCTOR, "docs/doctor.md"),
            _ => (PAGE, "docs/status.md"),
        };
        ensure!(
            page.contains(screen),
            "{of} does not show docs/screens/{name}.txt"
        );
    }
    let (_, status) = SCREENS[0];
    ensure!(
        README.contains(status),
        "README.md does not show docs/screens/status.txt"
    );
    let (_, doctor) = SCREENS[4];
    ensure!(
        README.contains(doctor),
        "README.md does not show docs/screens/doctor.txt"
    );
    for (name, printed) in draw()? {
        let shown = SCREENS.iter().find(|(shown, _)| *shown == name);
        let shown = shown.map(|(_, screen)| shape(screen)).unwrap_or_default();
        ensure!(
            shape(&printed) == shown,
            "docs/screens/{name}.txt is not what is printed; write it anew with loden-lab screens:\n{printed}"
        );
    }
    Ok(())
}
