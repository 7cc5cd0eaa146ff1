//! Reads the types that an object's BTF describes.
//!
//! It is given the bytes of an object. It returns the types in a form that does not change with
//! the line information: BTF keeps names and lines of the sources in one table of strings.

use anyhow::{Context as _, Result, bail, ensure};
use object::read::{Object as _, ObjectSection as _};

/// One type: its numbers, and the names of itself and of its members.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Type {
    numbers: Vec<u32>,
    names: Vec<String>,
}

/// The types of an object, in the order of their ids.
pub(super) fn types(object: &[u8]) -> Result<Vec<Type>> {
    let file = object::File::parse(object).context("not an ELF object")?;
    let section = file.section_by_name(".BTF").context("no BTF")?;
    parse(section.data()?)
}

fn parse(btf: &[u8]) -> Result<Vec<Type>> {
    const MAGIC: u32 = 0xeb9f;

    let word = |at: usize| -> Result<u32> {
        let bytes = btf.get(at..at + 4).context("BTF ends early")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    };
    ensure!(word(0)? & 0xffff == MAGIC, "BTF of another byte order");
    let header = word(4)? as usize;
    let part = |offset: u32, length: u32| {
        let start = header + offset as usize;
        let part = btf.get(start..start + length as usize);
        part.context("BTF ends early")
    };
    let types = part(word(8)?, word(12)?)?;
    let strings = part(word(16)?, word(20)?)?;
    let name = |offset: u32| -> Result<String> {
        let rest = strings.get(offset as usize..);
        let rest = rest.context("a name outside BTF's strings")?;
        let end = rest.iter().position(|&byte| byte == 0);
        let name = &rest[..end.unwrap_or(rest.len())];
        Ok(String::from_utf8_lossy(name).into_owned())
    };

    let words: Vec<u32> = types
        .chunks_exact(4)
        .map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
        .collect();
    let mut rest = words.as_slice();
    let mut found = Vec::new();
    while let [own_name, info, size, after @ ..] = rest {
        let members = (info & 0xffff) as usize;
        // How many words follow for each member, and whether its name is the first of them.
        let (count, words, is_named) = match (info >> 24) & 0x1f {
            // Integers, variables, tags of declarations.
            1 | 14 | 17 => (1, 1, false),
            // Arrays.
            3 => (1, 3, false),
            // Structures, unions, 64-bit enumerations.
            4 | 5 | 19 => (members, 3, true),
            // Enumerations, prototypes.
            6 | 13 => (members, 2, true),
            // Sections.
            15 => (members, 3, false),
            // Pointers, forward declarations, typedefs, qualifiers, functions, floats, tags.
            2 | 7..=12 | 16 | 18 => (0, 0, false),
            other => bail!("an unknown kind of BTF type: {other}"),
        };
        let (details, after) = after
            .split_at_checked(count * words)
            .context("BTF ends within a type")?;
        let mut one = Type {
            numbers: vec![*info, *size],
            names: vec![name(*own_name)?],
        };
        for member in details.chunks_exact(words.max(1)) {
            let named = usize::from(is_named);
            for &offset in &member[..named] {
                one.names.push(name(offset)?);
            }
            one.numbers.extend(&member[named..]);
        }
        found.push(one);
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(name: &str) -> Vec<u8> {
        let path = super::super::workspace().join(format!("chaos-ebpf/objects/{name}.o"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn finds_the_types_of_all_objects() {
        for name in super::super::OBJECTS {
            let types = types(&committed(name)).unwrap();
            let named = |wanted| types.iter().any(|t| t.names[0] == wanted);
            assert!(named("u32") && named("license"), "{name}: {types:?}");
        }
    }

    #[test]
    fn another_type_differs() {
        let object = committed("net");
        let mut patched = object.clone();
        let file = object::File::parse(object.as_slice()).unwrap();
        let section = file.section_by_name(".BTF").unwrap();
        let (start, _) = section.file_range().unwrap();
        // The second word after the header: what the first type is.
        let header = section.data().unwrap()[4];
        patched[start as usize + usize::from(header) + 8] ^= 1;
        assert_ne!(types(&object).unwrap(), types(&patched).unwrap());
    }
}
