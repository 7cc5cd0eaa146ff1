//! Offsets of structure members, from the running kernel's BTF.
//!
//! A reader of the few things that are asked, in one pass and without copies:
//! the whole parse that a loader does takes tens of milliseconds. Format:
//! Documentation/bpf/btf.rst of the kernel.

use std::collections::HashMap;
use std::path::Path;

/// Where the running kernel's BTF is.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;

/// Why an offset could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read: a kernel without `CONFIG_DEBUG_INFO_BTF`, or no sysfs.
    #[error("{VMLINUX}: {0}")]
    Read(#[from] std::io::Error),
    /// Not BTF as this reader knows it.
    #[error("{VMLINUX}: malformed at byte {0}")]
    Malformed(usize),
    /// The kernel has no such structure or member.
    #[error("this kernel's {structure} has no member {member}")]
    NoMember {
        /// The structure's tag.
        structure: &'static str,
        /// The member asked for.
        member: &'static str,
    },
}

/// Type information of a kernel.
pub struct Btf {
    bytes: Vec<u8>,
    types: usize,
    strings: usize,
    /// Start of each type by its id; entry 0 is `void`.
    starts: Vec<u32>,
    structures: HashMap<Box<str>, u32>,
}

/// The kinds whose records are longer than their header, by their number.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
    /// The newest kind known; a newer one has a size that cannot be guessed.
    pub(super) const LAST: u32 = 19;
}

impl Btf {
    /// Reads the running kernel's BTF.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::parse(std::fs::read(Path::new(VMLINUX))?)
    }

    /// Indexes BTF in the byte order of this machine.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self {
            bytes,
            types: 0,
            strings: 0,
            starts: vec![0],
            structures: HashMap::new(),
        };
        let magic = btf
            .bytes
            .first_chunk()
            .map(|&magic| u16::from_ne_bytes(magic));
        if magic != Some(MAGIC) || btf.bytes.len() < HEADER {
            return Err(BtfError::Malformed(0));
        }
        let header = btf.u32(4)? as usize;
        btf.types = header + btf.u32(8)? as usize;
        let end = btf.types + btf.u32(12)? as usize;
        btf.strings = header + btf.u32(16)? as usize;
        let mut at = btf.types;
        while at < end {
            let id = btf.starts.len() as u32;
            btf.starts
                .push(u32::try_from(at).map_err(|_| BtfError::Malformed(at))?);
            let (kind, count) = btf.kind(at)?;
            if kind == kind::STRUCT {
                let name = btf.name(at)?;
                if !name.is_empty() {
                    let name = name.into();
                    btf.structures.entry(name).or_insert(id);
                }
            }
            at += 12 + record(kind, count).ok_or(BtfError::Malformed(at))?;
        }
        Ok(btf)
    }

    /// Offset of a member in bytes; members of anonymous structures and unions inside count.
    pub fn offset(&self, structure: &'static str, member: &'static str) -> Result<u32, BtfError> {
        let missing = BtfError::NoMember { structure, member };
        let Some(&id) = self.structures.get(structure) else {
            return Err(missing);
        };
        match self.find(id, member, 0)? {
            Some(bits) if bits % 8 == 0 => Ok(bits / 8),
            _ => Err(missing),
        }
    }

    /// Whether there is a function of that name.
    pub fn has_function(&self, name: &str) -> Result<bool, BtfError> {
        Ok(self.function(name)?.is_some())
    }

    /// The number by which programs call a function that the kernel lets them.
    pub fn function_id(&self, name: &str) -> Result<Option<u32>, BtfError> {
        for (id, &at) in (1..).zip(&self.starts[1..]) {
            let at = at as usize;
            if self.kind(at)?.0 == kind::FUNC && self.name(at)? == name {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Which of a function's parameters has that name, counted from 0.
    pub fn parameter(&self, function: &str, parameter: &str) -> Result<Option<u32>, BtfError> {
        let Some(at) = self.function(function)? else {
            return Ok(None);
        };
        let prototype = self.starts.get(self.u32(at + 8)? as usize);
        let prototype = *prototype.ok_or(BtfError::Malformed(at))? as usize;
        let (kind, count) = self.kind(prototype)?;
        if kind != kind::FUNC_PROTO {
            return Err(BtfError::Malformed(prototype));
        }
        for index in 0..count {
            if self.name(prototype + 12 + index * 8)? == parameter {
                return Ok(Some(index as u32));
            }
        }
        Ok(None)
    }

    /// Where the record of a function is.
    fn function(&self, name: &str) -> Result<Option<usize>, BtfError> {
        for &at in &self.starts[1..] {
            let at = at as usize;
            if self.kind(at)?.0 == kind::FUNC && self.name(at)? == name {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Bits from the start of type `id` to a member. `depth` bounds hostile input.
    fn find(&self, id: u32, member: &str, depth: u32) -> Result<Option<u32>, BtfError> {
        let Some(&at) = self.starts.get(id as usize) else {
            return Err(BtfError::Malformed(0));
        };
        let at = at as usize;
        let (kind, count) = self.kind(at)?;
        if id == 0 || !matches!(kind, kind::STRUCT | kind::UNION) || depth > 8 {
            return Ok(None);
        }
        let bitfields = self.u32(at + 4)? >> 31 == 1;
        for place in (0..count).map(|i| at + 12 + i * 12) {
            let offset = self.u32(place + 8)?;
            // With bit fields the upper byte is the field's size.
            let offset = if bitfields {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            let name = self.name(place)?;
            if name == member {
                return Ok(Some(offset));
            }
            if name.is_empty()
                && let Some(inner) = self.find(self.u32(place + 4)?, member, depth + 1)?
            {
                return Ok(Some(offset + inner));
            }
        }
        Ok(None)
    }

    /// Kind and number of elements of the type at a place.
    fn kind(&self, at: usize) -> Result<(u32, usize), BtfError> {
        let info = self.u32(at + 4)?;
        Ok((info >> 24 & 0x1f, (info & 0xffff) as usize))
    }

    /// The name that the record at a place begins with.
    fn name(&self, at: usize) -> Result<&str, BtfError> {
        let start = self.strings + self.u32(at)? as usize;
        let rest = self.bytes.get(start..).ok_or(BtfError::Malformed(at))?;
        let end = rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(BtfError::Malformed(at))?;
        std::str::from_utf8(&rest[..end]).map_err(|_| BtfError::Malformed(start))
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let chunk = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        chunk
            .map(|&chunk| u32::from_ne_bytes(chunk))
            .ok_or(BtfError::Malformed(at))
    }
}

/// Bytes that follow the 12 of a type's header.
fn record(kind: u32, count: usize) -> Option<usize> {
    match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => Some(4),
        kind::ARRAY => Some(12),
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => Some(count * 12),
        kind::ENUM | kind::FUNC_PROTO => Some(count * 8),
        0..=kind::LAST => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused() {
        assert!(matches!(Btf::parse(vec![]), Err(BtfError::Malformed(0))));
        assert!(matches!(
            Btf::parse(vec![0; 64]),
            Err(BtfError::Malformed(0))
        ));
        let mut cut = vec![0; 24];
        cut[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        cut[4] = 24;
        cut[12] = 200; // types said to be longer than the file
        assert!(matches!(Btf::parse(cut), Err(BtfError::Malformed(_))));
    }

    /// The running kernel's own, where there is one.
    #[test]
    fn members_of_the_running_kernel() {
        let Ok(btf) = Btf::of_kernel() else {
            return;
        };
        assert!(btf.offset("task_struct", "tgid").unwrap() > 0);
        assert!(btf.offset("file", "f_inode").is_ok());
        // In an anonymous union on every kernel since 4.19.
        assert!(btf.offset("sk_buff", "dev").unwrap() > 0);
        assert_eq!(btf.parameter("vfs_fsync", "datasync").unwrap(), Some(1));
        assert_eq!(btf.parameter("vfs_fsync", "banana").unwrap(), None);
        assert!(matches!(
            btf.offset("task_struct", "no_such_member"),
            Err(BtfError::NoMember { .. })
        ));
    }
}
