//! Patterns as in KEYS and SCAN … MATCH: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a character that stands for itself.

/// Whether the whole of `text` matches. Takes time proportional to the product of the two lengths at most.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pattern_left) = (0, pattern);
    // The position of the last star, and how much of the text it takes. Only the last star needs to be tried again: text
    // that an earlier star could take in addition, the last one can take as well.
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let [b'*', rest @ ..] = pattern_left {
            (star, pattern_left) = (Some((rest, at)), rest);
            continue;
        }
        let rest = match text.get(at) {
            Some(&byte) => one(pattern_left, byte),
            None if pattern_left.is_empty() => return true,
            None => return false,
        };
        match (rest, star) {
            (Some(rest), _) => (at, pattern_left) = (at + 1, rest),
            (None, Some((behind, taken))) => {
                star = Some((behind, taken + 1));
                (at, pattern_left) = (taken + 1, behind);
            }
            (None, None) => return false,
        }
    }
}

/// The rest of the pattern after its first element, if that matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (matched, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', class @ ..] => {
            let (inverted, class) = match class {
                [b'^', class @ ..] => (true, class),
                class => (false, class),
            };
            let (found, rest) = in_class(class, byte);
            (found != inverted, rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte, rest),
    };
    matched.then_some(rest)
}

/// Whether the byte is in the class, and the pattern after it. A class that is not closed ends with the pattern.
fn in_class(mut class: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut found = false;
    loop {
        class = match class {
            [] => return (found, class),
            [b']', rest @ ..] => return (found, rest),
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [one, b'-', other, rest @ ..] => {
                found |= (*one.min(other)..=*one.max(other)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_the_servers_do() {
        for (pattern, matching, others) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "a:b"], &[]),
            ("chat:*", &["chat:", "chat:1"], &["chat", "xchat:1"]),
            ("*:gpt-?:*", &["a:gpt-4:x", "a:gpt-4:gpt-5:y"], &["a:gpt-4o:x", "gpt-4:"]),
            ("h[ae]llo", &["hallo", "hello"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[a-c]llo", &["hbllo"], &["hdllo", "h-llo"]),
            ("h[c-a]llo", &["hbllo"], &[]),
            ("h[\\]x]", &["h]", "hx"], &["h\\"]),
            ("[ab", &["a", "b"], &["["]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("a\\", &["a\\"], &["a"]),
            ("a*b*c", &["abc", "axbxbxc"], &["axbx", "ac"]),
        ] {
            matching.iter().for_each(|text| assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}"));
            others.iter().for_each(|text| assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}"));
        }
        // What takes a naive matcher for ever.
        assert!(!matches(&[&b"a*".repeat(50)[..], b"c"].concat(), &b"a".repeat(5_000)));
    }

    /// By the definition: a star takes nothing, or one byte and then what a star takes.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..])),
            (_, []) => false,
            (_, [byte, left @ ..]) => one(pattern, *byte).is_some_and(|rest| naive(rest, left)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

        #[test]
        fn stars_take_what_they_can(pattern in "[ab*?]{0,10}", text in "[ab]{0,12}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_bytes_match_or_not(pattern: Vec<u8>, text: Vec<u8>) {
            matches(&pattern, &text);
            prop_assert!(matches(b"*", &text));
        }
    }
}
