//! Lines of the kernel programs for `-vvv`, by aya-log; and programs without them.
//!
//! The programs write a line only if a byte of their `.rodata` is not 0, and the verifier removes
//! what that byte forbids. It would keep each load of the byte: [`silent`] removes these.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya_log::{EbpfLogger, Level};
use chaos_common::log::{LINES, count};
use object::elf::{FileHeader64, SHT_REL};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{Endianness, pod};

use super::KernelError;

/// The byte: which lines are written, as [`Level`] counts them.
pub(super) const LEVEL: &str = aya_log::LEVEL;

/// What aya-log writes into.
const LINES_MAP: &str = "AYA_LOGS";
/// Its size in bytes while lines are wanted: some 2 000 of them, twice what a second may have.
const LINES_SIZE: u32 = 1 << 19;

/// The value of [`LEVEL`].
pub(super) fn level(wanted: bool) -> u8 {
    match wanted {
        true => Level::Trace as u8,
        false => 0,
    }
}

/// How many entries the maps of lines need.
pub(super) fn sizes(wanted: bool) -> [(&'static str, u32); 2] {
    let sizes = match wanted {
        true => [LINES_SIZE, LINES],
        // The loader makes a page of the first, which is the least there is.
        false => [1, 1],
    };
    [(LINES_MAP, sizes[0]), ("LOG_TIMES", sizes[1])]
}

/// The reading end. Its descriptor is readable when there are lines.
pub struct Log {
    logger: EbpfLogger<Queue>,
    queue: Queue,
    counts: Array<MapData, u64>,
    taken: u64,
}

/// Lines that aya-log has read and that were not taken yet.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<String>>>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Queue {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // The programs pad what they say to a fixed length, and give what has no port the port 0.
        let text = record.args().to_string();
        let words = text.split_ascii_whitespace();
        let words: Vec<_> = words
            .map(|word| word.strip_suffix(":0").unwrap_or(word))
            .collect();
        self.lock().push_back(words.join(" "));
    }

    fn flush(&self) {}
}

impl Log {
    /// Of the network programs, none of which may be loaded yet.
    pub(super) fn of(object: &mut Ebpf) -> Result<Self, KernelError> {
        let queue = Queue::default();
        let counts = object.take_map("LOG_COUNTS");
        let counts = counts.ok_or(KernelError::NoProgram("LOG_COUNTS"))?;
        Ok(Self {
            logger: EbpfLogger::init_with_logger(object, queue.clone())
                .map_err(|_| KernelError::NoProgram(LINES_MAP))?,
            queue,
            counts: counts.try_into()?,
            taken: 0,
        })
    }

    /// The oldest line that was not taken yet.
    pub fn take(&mut self) -> Option<String> {
        let mut line = self.queue.lock().pop_front();
        if line.is_none() {
            // Reads no more than the programs may write in that time, see `LINES`.
            self.logger.flush();
            line = self.queue.lock().pop_front();
        }
        self.taken += u64::from(line.is_some());
        line
    }

    /// How many lines there were to say beside those that were taken.
    pub fn left_out(&self) -> u64 {
        let all = self.counts.get(&count::ALL, 0).unwrap_or(0);
        all.saturating_sub(self.taken)
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.logger.as_fd()
    }
}

impl AsRawFd for Log {
    fn as_raw_fd(&self) -> RawFd {
        self.logger.as_raw_fd()
    }
}

/// What does nothing: `BPF_JMP | BPF_JA` by 0 instructions, which the verifier removes (5.1).
const NOTHING: [u8; 8] = [0x05, 0, 0, 0, 0, 0, 0, 0];
/// Length of an instruction.
const SIZE: usize = 8;

/// An object whose programs do not look whether lines are wanted, which they are not. As it is if
/// it cannot be read: then they look.
pub(super) fn silent(object: &'static [u8]) -> Cow<'static, [u8]> {
    match checks(object) {
        Ok(checks) => {
            let mut bytes = object.to_vec();
            for (at, relocation) in checks {
                for slot in bytes[at..].chunks_exact_mut(SIZE).take(4) {
                    slot.copy_from_slice(&NOTHING);
                }
                // Its place is in no program, so that the loader passes it over.
                bytes[relocation..][..8].fill(0xff);
            }
            Cow::Owned(bytes)
        }
        Err(_) => Cow::Borrowed(object),
    }
}

/// Where each check of the level is in an object, and what the loader is told of it: `lddw`, two
/// instructions long, `ldxb` and `jne 0` by the same register (`is_on` in
/// `chaos-ebpf/src/net/log.rs`). aya-log's own look at the level is none of these.
fn checks(object: &[u8]) -> object::read::Result<Vec<(usize, usize)>> {
    let endian = Endianness::Little;
    let header = FileHeader64::<Endianness>::parse(object)?;
    let sections = header.sections(endian, object)?;
    let symbols = sections.symbols(endian, object, object::elf::SHT_SYMTAB)?;
    let mut found = Vec::new();
    for (_, section) in sections.enumerate() {
        if section.sh_type(endian) != SHT_REL {
            continue;
        }
        let Some((relocations, _)) = section.rel(endian, object)? else {
            continue;
        };
        let text = object::SectionIndex(section.sh_info(endian) as usize);
        let text = sections.section(text)?.sh_offset(endian) as usize;
        for (number, relocation) in relocations.iter().enumerate() {
            let symbol = object::SymbolIndex(relocation.r_sym(endian) as usize);
            if symbols.symbol_name(endian, symbols.symbol(symbol)?)? != LEVEL.as_bytes() {
                continue;
            }
            let at = text.saturating_add(relocation.r_offset.get(endian) as usize);
            let size = pod::bytes_of(relocation).len();
            if object.get(at..).is_some_and(is_check) {
                found.push((at, section.sh_offset(endian) as usize + number * size));
            }
        }
    }
    Ok(found)
}

/// Whether these instructions begin with a check.
fn is_check(code: &[u8]) -> bool {
    let at = |slot: usize| {
        code.get(slot * SIZE..)
            .and_then(<[u8]>::first_chunk::<SIZE>)
    };
    let (Some(load), Some(byte), Some(jump)) = (at(0), at(2), at(3)) else {
        return false;
    };
    let register = load[1] & 0xf;
    load[0] == 0x18
        && byte[..4] == [0x71, register << 4 | register, 0, 0]
        && jump[..2] == [0x55, register]
        && jump[4..] == [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;
    use murphy_fault::Family;

    #[test]
    fn no_check_is_left_where_no_lines_are_wanted() {
        let object = objects::object(Family::Net);
        let found = checks(object).unwrap().len();
        assert!(found > 0);
        let silent = silent(object);
        assert_eq!(silent.len(), object.len());
        assert!(checks(&silent).unwrap().is_empty());
        let slots = |bytes: &[u8]| {
            let slots = bytes.chunks_exact(SIZE);
            slots.filter(|slot| **slot == NOTHING).count()
        };
        assert_eq!(slots(&silent), slots(object) + 4 * found);
    }
}
