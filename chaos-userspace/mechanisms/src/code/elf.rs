//! The code of an ELF file: what is executable in it, and where its functions begin.

use std::io;
use std::ops::Range;

use chaos_common::answer::{PAGE, Site};
use object::elf::{PF_X, SHF_EXECINSTR};
use object::read::elf::ElfFile64;
use object::{
    Architecture, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
    ReadCache, ReadRef as _, SectionFlags, SegmentFlags, SymbolKind,
};

use super::scan::{self, Code};
use super::{Calls, Place};

/// The table of unwind information's own index, which names the beginning of each function (Linux Standard Base, 10.6.2).
const INDEX: &str = ".eh_frame_hdr";

/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`, `DW_EH_PE_udata4`, `DW_EH_PE_datarel | DW_EH_PE_sdata4`: what linkers write.
const ENCODINGS: [u8; 3] = [0x1b, 0x03, 0x3b];

/// The system calls of a file's code; none if it is no ELF file for `x86_64`.
///
/// # Errors
///
/// It cannot be read.
pub fn calls(file: impl io::Read + io::Seek) -> io::Result<Calls> {
    let cache = ReadCache::new(file);
    let Ok(elf) = ElfFile64::<object::Endianness, _>::parse(&cache) else {
        return Ok(Calls::default());
    };
    if elf.architecture() != Architecture::X86_64 {
        return Ok(Calls::default());
    }
    let mut calls = Calls::default();
    let mut beginnings = None;
    for part in parts(&elf) {
        let bytes = (&cache)
            .read_bytes_at(part.file.start, part.file.end - part.file.start)
            .map_err(|()| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if !scan::may_call(bytes) {
            continue;
        }
        // Most libraries make no system call, and their symbols are not read.
        let beginnings = beginnings.get_or_insert_with(|| beginnings_of(&elf));
        let found = scan::scan(Code {
            bytes,
            address: part.address,
            beginnings,
        });
        for (address, call) in found {
            match call.site {
                Some(site) => {
                    let offset = address - part.address + part.file.start;
                    let page = (offset & PAGE) as u16;
                    calls.places.push(Place {
                        offset,
                        site: Site { page, ..site },
                        number: call.number,
                    });
                }
                None => calls.let_be.push(call.number),
            }
        }
    }
    calls.places.sort_unstable();
    calls.places.dedup_by_key(|place| place.offset);
    Ok(calls)
}

/// Something executable.
struct Part {
    address: u64,
    file: Range<u64>,
}

/// Sections; of a file that has none, segments.
fn parts<'a, R: object::ReadRef<'a>>(elf: &ElfFile64<'a, object::Endianness, R>) -> Vec<Part> {
    let part = |address, (offset, length): (u64, u64)| Part {
        address,
        file: offset..offset.saturating_add(length),
    };
    let executable = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_EXECINSTR) != 0);
    let sections: Vec<_> = elf
        .sections()
        .filter(|section| executable(section.flags()))
        .filter_map(|section| Some(part(section.address(), section.file_range()?)))
        .collect();
    if !sections.is_empty() {
        return sections;
    }
    let executable = |flags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & PF_X != 0);
    elf.segments()
        .filter(|segment| executable(segment.flags()))
        .map(|segment| part(segment.address(), segment.file_range()))
        .collect()
}

/// The addresses at which functions begin, in order.
fn beginnings_of<'a, R: object::ReadRef<'a>>(
    elf: &ElfFile64<'a, object::Endianness, R>,
) -> Vec<u64> {
    let symbols = elf.symbols().chain(elf.dynamic_symbols());
    let mut beginnings: Vec<_> = symbols
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .map(|symbol| symbol.address())
        .collect();
    if let Some(index) = elf.section_by_name(INDEX)
        && let Ok(data) = index.data()
    {
        beginnings.extend(indexed(data, index.address()));
    }
    beginnings.sort_unstable();
    beginnings.dedup();
    beginnings
}

/// The addresses in an index of unwind information that lies at an address; none if it is written in an unusual way.
fn indexed(data: &[u8], address: u64) -> Vec<u64> {
    let [1, encodings @ ..] = data.first_chunk::<4>().copied().unwrap_or_default() else {
        return Vec::new();
    };
    if encodings != ENCODINGS {
        return Vec::new();
    }
    let word = |at: usize| data.get(at..)?.first_chunk().copied();
    let count = word(8).map_or(0, u32::from_le_bytes) as usize;
    (0..count)
        .map_while(|number| word(12 + number * 8).map(i32::from_le_bytes))
        .map(|offset| address.wrapping_add_signed(offset.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use syscalls::Sysno;

    use super::*;

    #[test]
    fn an_index_names_the_beginnings() {
        let mut data = vec![1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 2, 0, 0, 0];
        for (begin, entry) in [(-0x100_i32, 1_i32), (0x40, 2)] {
            data.extend_from_slice(&begin.to_le_bytes());
            data.extend_from_slice(&entry.to_le_bytes());
        }
        assert_eq!(indexed(&data, 0x1000), [0xf00, 0x1040]);
        // One that is cut off, and one that is written otherwise.
        assert_eq!(indexed(&data[..20], 0x1000), [0xf00]);
        data[3] = 0x10;
        assert_eq!(indexed(&data, 0x1000), [] as [u64; 0]);
        assert_eq!(indexed(&[], 0), [] as [u64; 0]);
    }

    /// This machine's C library; where none is found, what of one is linked into this very program.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn every_place_in_the_c_library_is_right_before_a_system_call() {
        let usual = ["/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
        let library = usual
            .iter()
            .map(|folder| std::path::Path::new(folder).join("libc.so.6"))
            .find(|path| path.exists());
        let whole = library.is_some();
        let path = library.unwrap_or_else(|| std::env::current_exe().unwrap());
        let calls = calls(File::open(&path).unwrap()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for place in &calls.places {
            let end = usize::try_from(place.offset).unwrap() + usize::from(place.site.length);
            assert_eq!(bytes[end - 2..end], [0x0f, 0x05], "{place:x?}");
            if let Some(number) = place.site.number
                && number != 0
            {
                // mov eax, NUMBER
                let number = u32::from(number).to_le_bytes();
                assert_eq!(bytes[end - 6..end - 2], number, "{place:x?}");
            }
        }
        if !whole {
            return;
        }
        for call in [
            Sysno::fsync,
            Sysno::close,
            Sysno::getrandom,
            Sysno::fdatasync,
        ] {
            let number = u16::try_from(call.id()).unwrap();
            let some = calls
                .places
                .iter()
                .any(|place| place.number == Some(number));
            assert!(some, "{call}: {:?}", calls.let_be);
        }
        assert!(
            calls.places.len() > 5 * calls.let_be.len(),
            "{} against {}: {:?}",
            calls.places.len(),
            calls.let_be.len(),
            calls.let_be
        );
    }

    #[test]
    fn what_is_no_program_makes_no_calls() {
        let none = calls(io::Cursor::new(b"#!/bin/sh\n\x0f\x05")).unwrap();
        assert_eq!(none, Calls::default());
        // One whose end is missing is an error or nothing, and no panic.
        let mut cut = std::fs::read("/proc/self/exe").unwrap();
        cut.truncate(5000);
        let cut = calls(io::Cursor::new(cut));
        assert!(cut.map_or(true, |calls| calls.places.is_empty()));
    }
}
