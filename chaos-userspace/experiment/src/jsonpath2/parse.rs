//! The dialect's grammar, by recursive descent.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::{Map, Value};

use super::{Comparison, Expression, Function, Operand, Path, Step, Subscript};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// Punctuation and the words `and`, `or`, `not`.
    Mark(&'static str),
    Word(String),
    /// What stands between the quotes, as it stands: the dialect knows no escapes.
    Text(String),
    Number(serde_json::Number),
}

/// Longer ones first.
const MARKS: [&str; 20] = [
    "..", ">=", "<=", "!=", "@", "$", ".", "*", "=", ">", "<", "{", "}", "[", "]", ":", ",", "(",
    ")", "?",
];

pub(super) fn path(text: &str) -> Result<Path, String> {
    let mut parser = Parser {
        tokens: tokens(text)
            .map_err(|at| format!("`{text}`: nothing in a JSON path begins with `{at}`"))?
            .into_iter()
            .peekable(),
    };
    let parsed = parser.root().filter(|_| parser.tokens.peek().is_none());
    parsed.ok_or_else(|| match parser.tokens.peek() {
        Some(token) => format!(
            "`{text}` is no JSON path: {} is not expected there",
            token.show()
        ),
        None => {
            format!("`{text}` is no JSON path; expected `$` and for example `.name`, `[0]`, `[*]`")
        }
    })
}

impl Token {
    fn show(&self) -> String {
        match self {
            Self::Mark(mark) => format!("`{mark}`"),
            Self::Word(word) => format!("`{word}`"),
            Self::Text(text) => format!("`\"{text}\"`"),
            Self::Number(number) => format!("`{number}`"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, char> {
    let mut rest = text.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let taken = if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            tokens.push(Token::Mark(mark));
            mark.len()
        } else if first == '"' {
            let end = closing(&rest[1..]).ok_or('"')?;
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            end + 2
        } else if first.is_ascii_digit() || first == '-' {
            let inside = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
            let length = rest.find(|c| !inside(c)).unwrap_or(rest.len());
            // `1..` cannot follow a number anywhere, so no dot is taken from another token.
            tokens.push(Token::Number(rest[..length].parse().map_err(|_| first)?));
            length
        } else if first.is_ascii_alphabetic() || first == '_' {
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let length = rest.find(|c| !inside(c)).unwrap_or(rest.len());
            tokens.push(match &rest[..length] {
                "and" => Token::Mark("and"),
                "or" => Token::Mark("or"),
                "not" => Token::Mark("not"),
                word => Token::Word(word.to_owned()),
            });
            length
        } else {
            return Err(first);
        };
        rest = rest[taken..].trim_start_matches([' ', '\t', '\n', '\r']);
    }
    Ok(tokens)
}

/// Where the quote that ends a text is.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// Words that are values, not names.
fn literal(word: &str) -> Option<Value> {
    match word {
        "true" => Some(true.into()),
        "false" => Some(false.into()),
        "null" => Some(Value::Null),
        _ => None,
    }
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

/// Every method gives `None` where the text is not of the grammar, with the unexpected token next.
impl Parser {
    fn accept(&mut self, mark: &str) -> bool {
        self.tokens
            .next_if(|token| matches!(token, Token::Mark(found) if *found == mark))
            .is_some()
    }

    fn expect(&mut self, mark: &str) -> Option<()> {
        self.accept(mark).then_some(())
    }

    fn root(&mut self) -> Option<Path> {
        self.expect("$")?;
        self.steps(false)
    }

    fn steps(&mut self, relative: bool) -> Option<Path> {
        let mut steps = Vec::new();
        loop {
            let (recursive, subscripts) = if self.accept("..") {
                match self.accept("[") {
                    true => (true, self.subscripts()?),
                    false => (true, vec![self.bare()?]),
                }
            } else if self.accept(".") {
                (false, vec![self.bare()?])
            } else if self.accept("[") {
                (false, self.subscripts()?)
            } else {
                return Some(Path { relative, steps });
            };
            steps.push(Step {
                recursive,
                subscripts,
            });
        }
    }

    fn word(&mut self) -> Option<String> {
        let token = self
            .tokens
            .next_if(|token| matches!(token, Token::Word(word) if literal(word).is_none()))?;
        match token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// What may follow a dot.
    fn bare(&mut self) -> Option<Subscript> {
        if self.accept("*") {
            return Some(Subscript::Wildcard);
        }
        let word = self.word()?;
        match self.accept("(") {
            true => self.call(&word),
            false => Some(Subscript::Name(word)),
        }
    }

    fn call(&mut self, name: &str) -> Option<Subscript> {
        let function = match name {
            "charAt" => Function::CharAt,
            "entries" => Function::Entries,
            "keys" => Function::Keys,
            "length" => Function::Length,
            "substring" => Function::Substring,
            "values" => Function::Values,
            _ => return None,
        };
        let mut operands = Vec::new();
        while !self.accept(")") {
            if !operands.is_empty() {
                self.expect(",")?;
            }
            operands.push(self.operand()?);
        }
        Some(Subscript::Call(function, operands))
    }

    /// What stands between brackets; the first is read already.
    fn subscripts(&mut self) -> Option<Vec<Subscript>> {
        let mut subscripts = vec![self.subscript()?];
        while !self.accept("]") {
            self.expect(",")?;
            subscripts.push(self.subscript()?);
        }
        Some(subscripts)
    }

    fn integer(&mut self) -> Option<i64> {
        let token = self
            .tokens
            .next_if(|token| matches!(token, Token::Number(number) if number.is_i64()))?;
        match token {
            Token::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    fn subscript(&mut self) -> Option<Subscript> {
        if self.accept("*") {
            return Some(Subscript::Wildcard);
        }
        if self.accept("?") {
            self.expect("(")?;
            let expression = self.expression()?;
            self.expect(")")?;
            return Some(Subscript::Filter(expression));
        }
        match self.tokens.peek()? {
            Token::Text(_) => match self.tokens.next()? {
                Token::Text(text) => Some(Subscript::Name(text)),
                _ => None,
            },
            Token::Mark("$" | "@") => self.path().map(Subscript::Found),
            Token::Word(_) => {
                let word = self.word()?;
                self.expect("(")?;
                self.call(&word)
            }
            _ => {
                let start = self.integer();
                if !self.accept(":") {
                    return start.map(Subscript::Index);
                }
                let end = self.integer();
                let step = self.accept(":").then(|| self.integer()).flatten();
                Some(Subscript::Slice(start, end, step))
            }
        }
    }

    fn path(&mut self) -> Option<Path> {
        if self.accept("@") {
            return self.steps(true);
        }
        self.root()
    }

    fn operand(&mut self) -> Option<Operand> {
        match self.tokens.peek()? {
            Token::Mark("$" | "@") => self.path().map(Operand::Path),
            _ => self.value().map(Operand::Value),
        }
    }

    fn value(&mut self) -> Option<Value> {
        if self.accept("[") {
            let mut items = Vec::new();
            while !self.accept("]") {
                if !items.is_empty() {
                    self.expect(",")?;
                }
                items.push(self.value()?);
            }
            return Some(items.into());
        }
        if self.accept("{") {
            let mut map = Map::new();
            while !self.accept("}") {
                if !map.is_empty() {
                    self.expect(",")?;
                }
                let key = self.text()?;
                self.expect(":")?;
                map.insert(key, self.value()?);
            }
            return Some(map.into());
        }
        let is_value = |token: &Token| match token {
            Token::Text(_) | Token::Number(_) => true,
            Token::Word(word) => literal(word).is_some(),
            Token::Mark(_) => false,
        };
        match self.tokens.next_if(is_value)? {
            Token::Text(text) => Some(text.into()),
            Token::Number(number) => Some(number.into()),
            Token::Word(word) => literal(&word),
            Token::Mark(_) => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self
            .tokens
            .next_if(|token| matches!(token, Token::Text(_)))?
        {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    /// `and` binds less than `or`: it is the dialect's.
    fn expression(&mut self) -> Option<Expression> {
        let mut parts = vec![self.any()?];
        while self.accept("and") {
            parts.push(self.any()?);
        }
        Some(match parts.len() {
            1 => parts.remove(0),
            _ => Expression::All(parts),
        })
    }

    fn any(&mut self) -> Option<Expression> {
        let mut parts = vec![self.not()?];
        while self.accept("or") {
            parts.push(self.not()?);
        }
        Some(match parts.len() {
            1 => parts.remove(0),
            _ => Expression::Any(parts),
        })
    }

    fn not(&mut self) -> Option<Expression> {
        if self.accept("not") {
            return Some(Expression::Not(Box::new(self.not()?)));
        }
        if self.accept("(") {
            let expression = self.expression()?;
            self.expect(")")?;
            return Some(expression);
        }
        let left = self.operand()?;
        let comparisons = [
            ("=", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            ("<", Comparison::Less),
            (">=", Comparison::GreaterOrEqual),
            (">", Comparison::Greater),
        ];
        for (mark, comparison) in comparisons {
            if self.accept(mark) {
                return Some(Expression::Compare(left, comparison, self.operand()?));
            }
        }
        Some(Expression::Some(left))
    }
}
