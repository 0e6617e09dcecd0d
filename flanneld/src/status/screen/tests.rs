use proptest::prelude::*;

use super::*;

const PLAIN: Paper = Paper {
    colour: false,
    width: 80,
};

fn longest(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

#[test]
fn columns_stand_below_each_other_with_and_without_colours() {
    let rows = [
        Row::names(["SUBNET", "KERNEL", "AGE"]),
        Row::new(vec![
            "10.244.2.0/24".into(),
            Cell::new("right", Tone::Good),
            "3h".into(),
        ]),
    ];
    let mut screen = Screen::new(PLAIN);
    screen.table(&rows, 0);
    let plain = screen.into_text();
    assert_eq!(
        plain,
        "  SUBNET         KERNEL  AGE\n  10.244.2.0/24  right   3h\n"
    );
    let mut screen = Screen::new(Paper {
        colour: true,
        ..PLAIN
    });
    screen.table(&rows, 0);
    let coloured = screen.into_text();
    assert!(
        coloured.contains("\x1b[32mright\x1b[0m   3h"),
        "{coloured:?}"
    );
    let mut bare = coloured;
    for code in ["\x1b[32m", "\x1b[2m", "\x1b[0m"] {
        bare = bare.replace(code, "");
    }
    assert_eq!(bare, plain);
}

#[test]
fn what_does_not_fit_goes_on_below() {
    let rows = [
        Row::new(vec![
            "10.244.2.9".into(),
            Cell::new("kube-system/coredns-7db6d8ff4d-x2vqk", Tone::Bad),
            "0123456789ab".into(),
            "vethd34db33f123".into(),
            "bridge cni0".into(),
            "3h".into(),
        ]),
        Row::new(vec!["10.244.2.10".into(), "shop/web".into()]),
    ];
    let mut screen = Screen::new(PLAIN);
    screen.table(&rows, 1);
    assert_eq!(
        screen.into_text(),
        "  10.244.2.9   kube-system/       0123456789ab  vethd34db33f123  bridge cni0  3h\n\
        \x20              coredns-\n\
        \x20              7db6d8ff4d-x2vqk\n\
        \x20 10.244.2.10  shop/web\n"
    );
}

#[test]
fn words_are_broken_at_their_joints() {
    for (text, width, expected) in [
        ("", 4, &[""] as &[&str]),
        ("abcd", 4, &["abcd"]),
        ("abcdefghi", 4, &["abcd", "efgh", "i"]),
        ("fd00:10:244:1::2", 8, &["fd00:10:", "244:1::2"]),
        ("a-bcdefghijkl", 8, &["a-bcdefg", "hijkl"]),
        ("ääääö", 4, &["ääää", "ö"]),
        ("ab", 0, &["a", "b"]),
    ] {
        assert_eq!(pieces(text, width), expected, "{text}");
    }
}

#[test]
fn names_cannot_command_the_terminal() {
    let mut screen = Screen::new(PLAIN);
    screen.heading("node \x1b[2J:", "it\nruns\x07");
    screen.table(&[Row::new(vec!["a\x1b]0;b".into()])], 0);
    screen.remark("c\x1b[31m");
    let text = screen.into_text();
    assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
    assert!(text.contains("it runs"), "{text:?}");
}

proptest! {
    #[test]
    fn sentences_stay_within_the_width_and_lose_no_word(words in proptest::collection::vec("[a-zäß]{1,30}", 1..60)) {
        let sentence = words.join(" ");
        let mut screen = Screen::new(PLAIN);
        screen.item(&"!".into(), &sentence);
        screen.field("lease", &sentence);
        screen.heading("problems", &sentence);
        let text = screen.into_text();
        prop_assert!(longest(&text) <= 80, "{}", text);
        let found: Vec<&str> = text.split_whitespace().collect();
        let whole = found.join(" ");
        prop_assert!(whole.matches(sentence.as_str()).count() >= 3);
    }

    #[test]
    fn tables_stay_within_the_width_and_lose_no_sign(
        rows in proptest::collection::vec(proptest::collection::vec("[a-z0-9:/.-]{0,90}", 1..7), 1..6),
        loose in 0..7_usize,
        width in 40..200_usize,
    ) {
        let cells = |row: &Vec<String>| Row::new(row.iter().map(|cell| Cell::from(cell.as_str())).collect());
        let mut screen = Screen::new(Paper { width, ..PLAIN });
        screen.table(&rows.iter().map(cells).collect::<Vec<_>>(), loose);
        let text = screen.into_text();
        prop_assert!(longest(&text) <= width, "{}", text);
        let signs = |text: &str| {
            let mut signs: Vec<char> = text.chars().filter(|sign| !sign.is_whitespace()).collect();
            signs.sort_unstable();
            signs
        };
        prop_assert_eq!(signs(&text), signs(&rows.concat().concat()));
    }
}
