//! What a person sees.

use crate::{Fault, ParseError};

fn refused(expression: &str) -> ParseError {
    expression.parse::<Fault>().unwrap_err()
}

#[test]
fn the_caret_stands_under_the_word() {
    assert_eq!(
        refused("write:error=EIO:p=120%:times=5").render(false),
        "\
error: a probability is more than 0 and at most 100 %
 |
 | write:error=EIO:p=120%:times=5
 |                   ^^^^
 |
 = help: 5%, 0.05 or 500ppm (parts per million)"
    );
}

#[test]
fn the_caret_stands_where_something_is_missing() {
    assert_eq!(
        refused("write:p=5%").render(false),
        "\
error: nothing says what shall happen: an effect is missing
 |
 | write:p=5%
 |           ^
 |
 = help: here it can be error=… or retval=… or signal=… or delay_enter=… or delay_exit=… or jitter=… or short=…"
    );
}

#[test]
fn colour_is_given_only_when_asked_for() {
    let error = refused("write:error=ENOSPACE");
    assert!(!error.render(false).contains('\u{1b}'));
    assert!(error.render(true).contains('\u{1b}'));
}

#[test]
fn what_was_typed_cannot_speak_to_the_terminal() {
    let shown = refused("wr\u{1b}]0;x\u{7}ite:error=EIO").render(false);
    assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n'),
        "{shown:?}"
    );
}

#[test]
fn one_line_holds_expression_word_and_remedy() {
    assert_eq!(
        refused("write:error=EIO:port=5432").to_string(),
        "bad fault expression: `write:error=EIO:port=5432` at `port`: `port` needs a call with a socket \
         address: connect, bind, sendto, or egress/ingress/net; `write` has no port (`write` takes error, retval, signal, delay_enter, \
         delay_exit, jitter, short, on, fd, path, p, when, times, after, for, pulse, rate_limit, over, count, seed, pid, comm, exe, uid, cgroup, container, unit, netns, tid)"
    );
}

#[test]
fn only_keys_that_are_accepted_are_listed() {
    for (expression, takes_tid) in [
        ("limit:nofile=64:p=5%", false),
        ("egress:loss=5%:fd=1", false),
        ("dns:drop:fd=1", false),
        ("connect:error=EIO:loss=5%", true),
        ("write:error=EIO:port=1", true),
    ] {
        let shown = refused(expression).to_string();
        assert!(shown.contains("unit, netns"), "{shown}");
        assert_eq!(shown.contains("tid"), takes_tid, "{shown}");
    }
}
