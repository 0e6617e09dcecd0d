use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_warning_is_said_at_once_then_counted_then_summed_up() {
    let mut repetition = Repetition::default();
    let start = Instant::now();
    assert!(repetition.admits(1, Level::WARN, "down", start));
    for second in 1..30 {
        assert!(!repetition.admits(1, Level::WARN, "down", start + second * SECOND));
    }
    assert!(repetition.admits(2, Level::WARN, "another", start));
    assert_eq!(repetition.due(start + 59 * SECOND), []);
    let summary = |times| Saying {
        level: Level::WARN,
        text: "down".to_owned(),
        times,
    };
    assert_eq!(repetition.due(start + 60 * SECOND), [summary(29)]);
    // It goes on, so it is summed up a minute later, and not said in between.
    assert!(!repetition.admits(1, Level::WARN, "down", start + 61 * SECOND));
    assert_eq!(repetition.due(start + 119 * SECOND), []);
    assert_eq!(repetition.due(start + 120 * SECOND), [summary(1)]);
    // After a minute of silence it is news again.
    assert_eq!(repetition.due(start + 180 * SECOND), []);
    assert!(repetition.admits(1, Level::WARN, "down", start + 181 * SECOND));
}

#[test]
fn changes_to_and_fro_are_told_some_times() {
    let mut repetition = Repetition::default();
    let now = Instant::now();
    let told = (0..100)
        .filter(|_| repetition.admits(1, Level::INFO, "joined", now))
        .count();
    assert_eq!(told, CHANGES as usize);
    let due = repetition.due(now + WINDOW);
    assert_eq!(due.first().map(|saying| saying.times), Some(90));
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let text = "ü".repeat(TEXT);
    let short = shortened(&text);
    assert!(short.len() <= TEXT + '…'.len_utf8(), "{}", short.len());
    assert!(short.ends_with("ü…"));
}

proptest! {
    /// Nothing gets lost: what was said and what was summed up is what there was to say; and the memory is bounded.
    #[test]
    fn every_line_is_said_or_counted(
        lines in prop::collection::vec((0_u64..400, any::<bool>(), 0_u32..20), 0..2000)
    ) {
        let mut repetition = Repetition::default();
        let mut now = Instant::now();
        let (mut said, mut summed) = (0, 0);
        for (key, warning, pause) in &lines {
            now += *pause * SECOND / 4;
            let level = if *warning { Level::WARN } else { Level::INFO };
            said += u64::from(repetition.admits(*key, level, "text", now));
            prop_assert!(repetition.said.len() <= REMEMBERED);
            if pause % 7 == 0 {
                summed += repetition.due(now).iter().map(|saying| saying.times).sum::<u64>();
            }
        }
        summed += repetition.due(now + WINDOW).iter().map(|saying| saying.times).sum::<u64>();
        prop_assert_eq!(said + summed, lines.len() as u64);
        repetition.due(now + 2 * WINDOW);
        prop_assert!(repetition.said.is_empty());
    }
}
