//! Expressions that are wrong: the word that the caret must stand under, and what the message must say.

use crate::Fault;

use super::malformed_table::TABLE;

#[test]
fn are_refused_at_the_right_word_with_the_right_words() {
    let mut wrong = Vec::new();
    for &(expression, word, phrase) in TABLE {
        let Err(error) = expression.parse::<Fault>() else {
            wrong.push(format!("{expression:?} was accepted"));
            continue;
        };
        let line = error.to_string();
        if error.word() != word {
            wrong.push(format!(
                "{expression:?}: the caret is under {:?}, not {word:?}",
                error.word()
            ));
        }
        if !line.contains(phrase) {
            wrong.push(format!(
                "{expression:?}: `{phrase}` is missing from: {line}"
            ));
        }
        if line.chars().any(char::is_control) {
            wrong.push(format!("{expression:?}: control characters in: {line:?}"));
        }
        if !line.starts_with("bad fault expression: ") {
            wrong.push(format!("{expression:?}: {line}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_last_of_two_equal_words_is_blamed() {
    for (expression, at) in [
        ("write,write:error=EIO", 6),
        ("write:error=EIO:error=EIO", 16),
        ("write:error=EIO:on=file,file", 24),
    ] {
        assert_eq!(
            expression.parse::<Fault>().unwrap_err().span().start,
            at,
            "{expression}"
        );
    }
}

#[test]
fn what_is_missing_is_missed_where_it_belongs() {
    for (expression, at) in [
        ("", 0),
        ("write", 5),
        ("write:p=5%", 10),
        ("write:", 6),
        ("write::error=EIO", 6),
        ("write:error=", 12),
        ("connect:error=EIO:port=80,", 26),
    ] {
        assert_eq!(
            expression.parse::<Fault>().unwrap_err().span(),
            at..at,
            "{expression}"
        );
    }
}

#[test]
fn a_file_in_place_of_its_name_is_refused_in_short() {
    let long = "é".repeat(100_000);
    let error = long.parse::<Fault>().unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains("too long, 4096 bytes at most") && line.len() < 500,
        "{line}"
    );
    assert!(error.render(false).len() < 20_000);
}

/// What strace refuses in `-e inject=` (its `tests/qual_inject-syntax.test`). Of its refusals we do not share three: numbers in `when`
/// beyond 65535 mean what they say here, `F..L` may end there, and a bare number is a system call as in strace's own sets.
#[test]
fn what_strace_refuses_is_refused() {
    const REFUSED: &str = "42 chdir chdir:42 !chdir:42 chdir:42:when=7 chdir:invalid chdir:invalid:when=8 chdir:error= \
        chdir:error=:when=10 chdir:error=invalid_error_name chdir:error=invalid_error_name:when=11 chdir:error=-1 \
        chdir:error=-1:when=12 chdir:error=-2 chdir:error=-2:when=13 chdir:error=3+ chdir:error=3+:when=14 chdir:error=4096 \
        chdir:error=4096:when=15 chdir:when=7:error=invalid_error_name chdir:when= chdir:when=:error=19 chdir:when=0 \
        chdir:when=0:error=20 chdir:when=-1 chdir:when=-1:error=21 chdir:when=-2+ chdir:when=-2+:error=22 chdir:when=-3+0 \
        chdir:when=-3+0:error=23 chdir:when=4- chdir:when=4-:error=24 chdir:when=5+- chdir:when=5+-:error=25 chdir:when=6++ \
        chdir:when=6++:error=26 chdir:when=7+0 chdir:when=7+0:error=27 chdir:when=8+-1 chdir:when=8+-1:error=28 \
        chdir:when=9+1+ chdir:when=9+1+:error=29 chdir:when=65536 chdir:when=1+65536 chdir:retval=a chdir:retval=0b \
        chdir:retval=0x10000000000000000 chdir:signal=0 chdir:signal=129 chdir:signal=1:signal=2 \
        chdir:signal=1:retval=0:signal=2 chdir:retval=0:retval=1 chdir:error=1:error=2 chdir:retval=0:error=1 \
        chdir:error=1:retval=0 chdir:retval=0:signal=1:error=1 chdir:delay_enter=-1 chdir:delay_exit=-2 \
        chdir:delay_enter=1:delay_enter=2 chdir:delay_exit=3:delay_exit=4 chdir:delay_enter=5:delay_exit=6:delay_enter=7 \
        chdir:delay_exit=8:delay_enter=9:delay_exit=10 chdir:syscall=invalid chdir:syscall=chdir chdir:syscall=%file \
        chdir:syscall=-42 chdir:syscall=42 chdir:syscall=gettid:syscall=gettid chdir:when=. chdir:when=.+ chdir:when=..+ \
        chdir:when=+ chdir:when=++ chdir:when=10. chdir:when=11.12 chdir:when=13.14+ chdir:when=15.. chdir:when=16... \
        chdir:when=17...18 chdir:when=.19 chdir:when=..20 chdir:when=..21+ chdir:when=..22+3 chdir:when=24..23 \
        chdir:when=25..26+0 chdir:when=27..65535 chdir:when=65535..65535+ chdir:poke_enter= chdir:poke_exit= \
        chdir:poke_enter=invalid chdir:poke_enter=@arg8= chdir:poke_enter=@arg1=nothex";
    for text in REFUSED.split_whitespace() {
        let expression = format!("inject={text}");
        assert!(expression.parse::<Fault>().is_err(), "{expression}");
    }
    // In `fault=` an error is all there is, and it need not be said.
    for text in [
        "chdir:retval=0",
        "chdir:signal=1",
        "chdir:42",
        "chdir:when=0",
        "chdir:error=1:error=2",
    ] {
        let expression = format!("fault={text}");
        assert!(expression.parse::<Fault>().is_err(), "{expression}");
    }
}
