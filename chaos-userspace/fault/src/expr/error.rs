//! A mistake with its place in the expression, as one line and as a picture.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::mistake::{Mistake, visible};

/// Why an expression was refused.
///
/// [`Display`](fmt::Display) is one line for logs and `--json`; [`ParseError::render`] shows the place to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    expression: String,
    span: Range<usize>,
    mistake: Box<Mistake>,
}

impl ParseError {
    /// `span` is in bytes of `expression` and on the boundaries of its characters.
    pub(super) fn new(expression: &str, span: Range<usize>, mistake: Mistake) -> Self {
        Self {
            expression: expression.to_owned(),
            span,
            mistake: Box::new(mistake),
        }
    }

    /// The whole expression as it was given; only its beginning if it was too long.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Bytes of the expression that are wrong; empty where something is missing.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The word that is wrong; empty where something is missing.
    pub fn word(&self) -> &str {
        self.expression.get(self.span.clone()).unwrap_or_default()
    }

    /// What is wrong with it, and [what would be right](Mistake::help).
    pub fn mistake(&self) -> &Mistake {
        &self.mistake
    }

    /// The whole expression with carets under the word, what is wrong and what was expected; several lines, none of them
    /// ending the text. `colour` adds ANSI colours.
    pub fn render(&self, colour: bool) -> String {
        let title = self.mistake.to_string();
        let place = AnnotationKind::Primary.span(self.span.clone());
        let snippet = Snippet::source(self.expression.as_str())
            .line_numbering(false)
            .annotation(place);
        let mut report = Level::ERROR.primary_title(title).element(snippet);
        if let Some(help) = self.mistake.help() {
            report = report.element(Level::HELP.message(help));
        }
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[report])
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bad fault expression: `{}` at ",
            visible(&self.expression)
        )?;
        match self.word() {
            "" => write!(f, "byte {}", self.span.start)?,
            word => write!(f, "`{}`", visible(word))?,
        }
        write!(f, ": {}", self.mistake)?;
        match self.mistake.help() {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}
