//! Changing inputs: a little, since most of what a parser refuses at once teaches nothing.

use crate::random::Random;

/// No input grows beyond this: what is found in long ones is found in shorter ones, sooner.
const LONGEST: usize = 8 << 10;

/// Changes `input` in a few places. `others` are inputs to take parts from, `dictionary` has texts that mean something.
pub(crate) fn mutate(
    random: &mut Random,
    input: &mut Vec<u8>,
    others: &[Vec<u8>],
    dictionary: &[&str],
) {
    // One change mostly, sometimes many.
    let changes = 1 << random.below(5);
    for _ in 0..random.below(changes) + 1 {
        change(random, input, others, dictionary);
    }
    input.truncate(LONGEST);
}

fn change(random: &mut Random, input: &mut Vec<u8>, others: &[Vec<u8>], dictionary: &[&str]) {
    match random.below(10) {
        0 => {
            let bit = 1 << random.below(8);
            if let Some(byte) = any(random, input) {
                *byte ^= bit;
            }
        }
        1 => {
            let new = interesting(random);
            if let Some(byte) = any(random, input) {
                *byte = new;
            }
        }
        2 => {
            let many = random.below(4) + 1;
            let new: Vec<u8> = (0..many).map(|_| interesting(random)).collect();
            insert(random, input, &new);
        }
        3 => {
            let part = part(random, input);
            input.drain(part);
        }
        4 => {
            let part = part(random, input);
            let copy = input[part].to_vec();
            insert(random, input, &copy);
        }
        5 => {
            let part = part(random, input);
            let copy = input[part].to_vec();
            replace(random, input, &copy);
        }
        6 => {
            if let Some(other) = random.pick(others) {
                let copy = other[part(random, other)].to_vec();
                insert(random, input, &copy);
            }
        }
        7 => {
            let new = token(random, dictionary);
            insert(random, input, &new);
        }
        8 => {
            let new = token(random, dictionary);
            replace(random, input, &new);
        }
        _ => number(random, input),
    }
}

/// A byte that means something in many formats, or any.
fn interesting(random: &mut Random) -> u8 {
    const BYTES: &[u8] =
        b"\x00\x01\x02\x04\x08\x10\x7f\x80\xff \t\r\n\"'\\/.,:;=&-_+{}[]0129afxAFZ\xc3";
    if random.below(2) == 0 {
        return random.byte();
    }
    random.pick(BYTES).copied().unwrap_or_default()
}

fn token(random: &mut Random, dictionary: &[&str]) -> Vec<u8> {
    random
        .pick(dictionary)
        .map_or_else(Vec::new, |token| token.as_bytes().to_vec())
}

/// Makes a number another one: a decimal one in a text, or the bytes of one, as length fields are.
fn number(random: &mut Random, input: &mut [u8]) {
    const TEXTS: &[&str] = &[
        "0",
        "1",
        "-1",
        "31",
        "33",
        "128",
        "129",
        "255",
        "256",
        "65535",
        "65536",
        "4294967295",
        "4294967296",
    ];
    const NUMBERS: &[u32] = &[
        0,
        1,
        3,
        4,
        15,
        16,
        20,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX,
    ];
    let start = random.below(input.len());
    let Some(rest) = input.get_mut(start..) else {
        return;
    };
    if rest.first().is_some_and(u8::is_ascii_digit) {
        let text = random.pick(TEXTS).copied().unwrap_or_default();
        rest.iter_mut()
            .zip(text.bytes())
            .for_each(|(place, byte)| *place = byte);
        return;
    }
    let number = random.pick(NUMBERS).copied().unwrap_or_default();
    let bytes = if random.below(2) == 0 {
        number.to_le_bytes()
    } else {
        number.to_be_bytes()
    };
    let (from, len) = if random.below(2) == 0 { (0, 4) } else { (2, 2) };
    rest.iter_mut()
        .zip(bytes.iter().skip(from).take(len))
        .for_each(|(place, byte)| *place = *byte);
}

fn any<'a>(random: &mut Random, input: &'a mut [u8]) -> Option<&'a mut u8> {
    let place = random.below(input.len());
    input.get_mut(place)
}

/// A part of the input, mostly a short one.
fn part(random: &mut Random, input: &[u8]) -> std::ops::Range<usize> {
    let start = random.below(input.len() + 1);
    let rest = input.len() - start;
    let longest = if random.below(4) == 0 {
        rest
    } else {
        rest.min(8)
    };
    start..start + random.below(longest + 1)
}

fn insert(random: &mut Random, input: &mut Vec<u8>, new: &[u8]) {
    let place = random.below(input.len() + 1);
    input.splice(place..place, new.iter().copied());
}

fn replace(random: &mut Random, input: &mut Vec<u8>, new: &[u8]) {
    let part = part(random, input);
    input.splice(part, new.iter().copied());
}
