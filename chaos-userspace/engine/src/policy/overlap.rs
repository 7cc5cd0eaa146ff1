//! Whether two patterns of names have a name in common.

/// One character of a pattern, or any number of any characters.
enum Token {
    Char(char),
    One,
    Many,
    Set {
        pattern: glob::Pattern,
        members: Vec<char>,
    },
}

/// Whether some name matches both patterns. Both are valid patterns of the `glob` crate.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (tokens(a), tokens(b));
    // Whether the rests of both patterns from `i` and `j` on have a name in common, from the ends to the beginnings.
    let mut meet = vec![vec![false; b.len() + 1]; a.len() + 1];
    for i in (0..=a.len()).rev() {
        for j in (0..=b.len()).rev() {
            let (more_a, more_b) = (i < a.len(), j < b.len());
            meet[i][j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some(Token::Many), _) => meet[i + 1][j] || more_b && meet[i][j + 1],
                (_, Some(Token::Many)) => meet[i][j + 1] || more_a && meet[i + 1][j],
                (Some(one), Some(other)) => share(one, other) && meet[i + 1][j + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
    }
    meet[0][0]
}

/// Whether two tokens stand for a character in common.
fn share(a: &Token, b: &Token) -> bool {
    match (a, b) {
        (Token::Char(a), Token::Char(b)) => a == b,
        (Token::Set { pattern, .. }, Token::Char(c))
        | (Token::Char(c), Token::Set { pattern, .. }) => pattern.matches(&c.to_string()),
        (
            Token::Set {
                pattern: a,
                members,
            },
            Token::Set {
                pattern: b,
                members: others,
            },
        ) => {
            // Of two sets, one that is not negated has a member that the other has; two negated ones always share one.
            let both = |c: &char| a.matches(&c.to_string()) && b.matches(&c.to_string());
            members.iter().chain(others).any(both)
        }
        _ => true,
    }
}

/// Takes a pattern apart. The members of a set are the characters that may decide it: those of the ASCII range.
fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = chars.get(at) {
        at += 1;
        match first {
            '*' => tokens.push(Token::Many),
            '?' => tokens.push(Token::One),
            '[' => {
                // The first character of a set may be `]` itself.
                let negated = usize::from(chars.get(at) == Some(&'!'));
                let body = at + negated + 1;
                let end = chars.iter().skip(body).position(|c| *c == ']');
                let end = end.map_or(chars.len(), |end| body + end + 1);
                let text: String = chars[at - 1..end].iter().collect();
                at = end;
                if let Ok(pattern) = glob::Pattern::new(&text) {
                    let named = text.chars();
                    let members = named.chain((0_u8..128).map(char::from)).collect();
                    tokens.push(Token::Set { pattern, members });
                }
            }
            other => tokens.push(Token::Char(other)),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names() {
        for (a, b, is) in [
            ("eth0", "eth0", true),
            ("eth0", "eth1", false),
            ("eth*", "eth0", true),
            ("eth*", "*0", true),
            ("eth*", "veth*", false),
            ("*", "lo", true),
            ("eth?", "eth", false),
            ("eth[0-3]", "eth[3-5]", true),
            ("eth[0-3]", "eth[4-5]", false),
            ("eth[!0]", "eth0", false),
            ("eth[!0]", "eth[!1]", true),
            ("w*p?s0", "wlp3s*", true),
            ("a*b", "a*c", false),
            ("", "*", true),
        ] {
            assert_eq!(overlap(a, b), is, "{a} {b}");
            assert_eq!(overlap(b, a), is, "{b} {a}");
        }
    }
}
