//! Netlink attributes in bytes, for options that netlink-packet-route has no types for (`linux/netlink.h`).

/// Attributes one behind the other, each padded to four bytes.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

/// `NLA_F_NESTED`: the value is attributes again.
const NESTED: u16 = 1 << 15;

impl Attributes {
    /// An attribute. Longer than 64 KiB there is none.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn put_words(&mut self, kind: u16, words: &[u32]) {
        let bytes: Vec<_> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.put(kind, &bytes);
    }

    /// A string with the 0 behind it.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    pub(super) fn nest(&mut self, kind: u16, inner: &Self) {
        self.put(kind | NESTED, &inner.0);
    }

    /// Bytes that are no attribute: the structure that some options begin with.
    pub(super) fn words(&mut self, words: &[u32]) {
        self.0
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_and_lengths_are_not() {
        let mut attributes = Attributes::default();
        attributes.put_text(1, "bpf!");
        attributes.put_words(2, &[7]);
        let bytes = attributes.into_bytes();
        assert_eq!(bytes[..12], *b"\x09\0\x01\0bpf!\0\0\0\0");
        assert_eq!(bytes[12..16], [8, 0, 2, 0]);
    }
}
