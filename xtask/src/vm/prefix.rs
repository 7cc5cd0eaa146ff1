//! Streams that say which kernel a line comes from.

use std::io::{self, Write};

/// Puts a prefix before each line; writes whole lines only, so that two streams do not mix in one.
pub(crate) struct Prefixed<W: Write> {
    prefix: String,
    line: Vec<u8>,
    to: W,
}

impl<W: Write> Prefixed<W> {
    pub(crate) fn new(prefix: impl Into<String>, to: W) -> Self {
        Self {
            prefix: prefix.into(),
            line: Vec::new(),
            to,
        }
    }

    fn emit(&mut self, upto: usize) -> io::Result<()> {
        let mut out = self.prefix.clone().into_bytes();
        out.extend(self.line.drain(..upto));
        self.to.write_all(&out)
    }
}

impl<W: Write> Write for Prefixed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|b| *b == b'\n') {
            self.emit(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> Drop for Prefixed<W> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.line.push(b'\n');
            // Nobody is left to tell.
            let _ = self.emit(self.line.len());
            let _ = self.to.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_whole_lines() {
        let mut out = Vec::new();
        {
            let mut p = Prefixed::new("sid | ", &mut out);
            p.write_all(b"a\nb").unwrap();
            p.write_all(b"c\nd").unwrap();
        }
        assert_eq!(out, b"sid | a\nsid | bc\nsid | d\n");
    }
}
