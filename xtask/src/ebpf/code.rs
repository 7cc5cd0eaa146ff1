//! Reads the programs and the data of an eBPF object and compares two objects.
//!
//! It is given the bytes of ELF objects. It returns which functions and data differ, with the
//! number of instructions. It ignores debug information, so that comments and line numbers never
//! count as a difference, and it never looks at the `.murphy` section (the provenance).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result, ensure};
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};
use object::{RelocationFlags, RelocationTarget, SectionIndex, SectionKind, SymbolKind};

/// The section with the digest and the name of the compiler. No program refers to it.
const PROVENANCE: &str = ".murphy";

/// The section of the functions that programs call. All other sections hold entry points.
const SUBPROGRAMS: &str = ".text";

/// Bytes of a BPF instruction. A 64-bit load takes two of them, as in the kernel's own count.
const INSTRUCTION: usize = 8;

/// What an object loads into the kernel.
#[derive(Debug)]
pub(super) struct Code {
    /// Executable sections.
    sections: BTreeMap<String, Vec<u8>>,
    functions: Vec<Function>,
    /// Global data by section and name, and what else is in a data section under an empty name.
    data: BTreeMap<(String, String), Data>,
}

#[derive(Debug)]
struct Function {
    section: String,
    offset: u64,
    name: String,
    instructions: Vec<Instruction>,
}

/// An instruction without the offset of the function that it refers to. That offset changes
/// whenever another function changes its size.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Instruction {
    bytes: [u8; INSTRUCTION],
    target: Option<Target>,
}

/// What an instruction refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A function of the same object, and the offset in it: zero in all code that compilers emit.
    Function(String, u64),
    /// A map or another global, which the loader finds by its name.
    Global(String),
    /// Private data, at this offset of a section.
    Private(String, u64),
}

#[derive(Debug, PartialEq, Eq)]
struct Data {
    bytes: Vec<u8>,
    /// Offset and symbol.
    relocations: Vec<(u64, String)>,
}

/// How two objects differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Functions whose instructions or targets differ, by their names now.
    pub(super) functions: Vec<Resized>,
    /// Data that differs: `SECTION` or `SECTION NAME`.
    pub(super) data: Vec<String>,
    /// Sections with the same functions in another order.
    pub(super) reordered: Vec<String>,
    /// Names then and now of functions that have the same instructions. This is no difference.
    pub(super) renamed: Vec<(String, String)>,
}

/// A function, or a program with the functions it calls, and its number of instructions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resized {
    pub(super) name: String,
    /// `None` if it did not exist.
    pub(super) then: Option<usize>,
    /// `None` if it no longer exists.
    pub(super) now: Option<usize>,
}

impl Difference {
    /// Whether the program sections are byte-identical and refer to the same data.
    pub(super) fn is_same(&self) -> bool {
        self.functions.is_empty() && self.data.is_empty() && self.reordered.is_empty()
    }
}

impl Code {
    /// Reads an object.
    pub(super) fn parse(object: &[u8]) -> Result<Self> {
        let file = object::File::parse(object).context("not an ELF object")?;
        let mut names = HashMap::new();
        let mut sections = BTreeMap::new();
        for section in file.sections() {
            let name = section.name()?.to_owned();
            if section.kind() == SectionKind::Text {
                let bytes = section.data()?.to_vec();
                ensure!(
                    bytes.len() % INSTRUCTION == 0,
                    "{name}: half an instruction"
                );
                ensure!(
                    sections.insert(name.clone(), bytes).is_none(),
                    "two sections {name}"
                );
            }
            names.insert(section.index(), name);
        }

        let mut functions = Vec::new();
        for symbol in file.symbols() {
            let Some(section) = symbol.section_index().and_then(|index| names.get(&index)) else {
                continue;
            };
            if symbol.kind() == SymbolKind::Text && sections.contains_key(section) {
                functions.push(Function {
                    section: section.clone(),
                    offset: symbol.address(),
                    name: without_disambiguators(symbol.name()?),
                    instructions: Vec::with_capacity(count(symbol.size())?),
                });
            }
        }
        functions.sort_by(|a, b| (&a.section, a.offset).cmp(&(&b.section, b.offset)));

        let mut code = Self {
            data: data(&file, &names)?,
            sections,
            functions,
        };
        code.read_instructions(&file)?;
        Ok(code)
    }

    fn read_instructions(&mut self, file: &object::File<'_>) -> Result<()> {
        let mut decoded = BTreeMap::new();
        for section in file.sections() {
            let name = section.name()?;
            if let Some(bytes) = self.sections.get(name) {
                decoded.insert(name, self.decode(file, &section, bytes)?);
            }
        }
        for index in 0..self.functions.len() {
            let function = &self.functions[index];
            let name = &function.name;
            // Symbols of assembly may lack a size: such a function ends where the next begins.
            let end = match function.instructions.capacity() {
                0 => self.functions[index + 1..]
                    .iter()
                    .find(|next| next.section == function.section)
                    .map_or(usize::MAX, |next| next.offset as usize / INSTRUCTION),
                size => function.offset as usize / INSTRUCTION + size,
            };
            let all = decoded
                .get(function.section.as_str())
                .context("a function outside the program sections")?;
            let part = all
                .get(function.offset as usize / INSTRUCTION..end.min(all.len()))
                .with_context(|| format!("{name} lies outside its section"))?;
            self.functions[index].instructions = part.to_vec();
        }
        Ok(())
    }

    /// Resolves what the instructions of a section refer to.
    fn decode(
        &self,
        file: &object::File<'_>,
        section: &object::Section<'_, '_>,
        bytes: &[u8],
    ) -> Result<Vec<Instruction>> {
        /// Opcode of a call, whatever it calls.
        const CALL: u8 = 0x85;
        /// Source register of a call to a function of the same object.
        const TO_FUNCTION: u8 = 1;

        let name = section.name()?;
        let mut instructions: Vec<Instruction> = bytes
            .chunks_exact(INSTRUCTION)
            .map(|chunk| {
                let mut bytes = [0; INSTRUCTION];
                bytes.copy_from_slice(chunk);
                Instruction {
                    bytes,
                    target: None,
                }
            })
            .collect();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                continue;
            };
            let symbol = file.symbol_by_index(symbol)?;
            let at = instructions
                .get_mut(offset as usize / INSTRUCTION)
                .with_context(|| format!("{name}: a relocation outside the section"))?;
            let within = match symbol.section_index() {
                Some(index) => Some(file.section_by_index(index)?),
                None => None,
            };
            let target = match within {
                Some(within) if within.kind() == SectionKind::Text => {
                    let addend = match relocation.flags() {
                        RelocationFlags::Elf { r_type } if r_type == object::elf::R_BPF_64_32 => {
                            (immediate(at) + 1) * INSTRUCTION as i64
                        }
                        _ => immediate(at),
                    };
                    let address = symbol.address().wrapping_add_signed(addend);
                    clear_immediate(at);
                    self.function_at(within.name()?, address)?
                }
                Some(within) if !symbol.is_global() => {
                    Target::Private(within.name()?.to_owned(), symbol.address())
                }
                _ => Target::Global(symbol.name()?.to_owned()),
            };
            at.target = Some(target);
        }
        for (index, at) in instructions.iter_mut().enumerate() {
            if at.target.is_none() && at.bytes[0] == CALL && at.bytes[1] >> 4 == TO_FUNCTION {
                let address = (index as i64 + 1 + immediate(at)) * INSTRUCTION as i64;
                clear_immediate(at);
                at.target = Some(self.function_at(name, address as u64)?);
            }
        }
        Ok(instructions)
    }

    fn function_at(&self, section: &str, address: u64) -> Result<Target> {
        let function = self
            .functions
            .iter()
            .rfind(|function| function.section == section && function.offset <= address)
            .with_context(|| format!("a call of {section}+{address:#x}, where no function is"))?;
        Ok(Target::Function(
            function.name.clone(),
            address - function.offset,
        ))
    }

    /// Number of instructions of all program sections.
    pub(super) fn instructions(&self) -> usize {
        let bytes: usize = self.sections.values().map(Vec::len).sum();
        bytes / INSTRUCTION
    }

    /// Number of entry points.
    pub(super) fn programs(&self) -> usize {
        let programs = self.functions.iter().filter(|f| f.section != SUBPROGRAMS);
        programs.count()
    }

    /// Names of the entry points, each with its number of instructions as the verifier gets it:
    /// with the functions that it calls, directly or not.
    fn loaded(&self) -> BTreeMap<&str, usize> {
        let mut by_name: BTreeMap<&str, &Function> = BTreeMap::new();
        for function in &self.functions {
            by_name.insert(&function.name, function);
        }
        let mut sizes = BTreeMap::new();
        for program in self.functions.iter().filter(|f| f.section != SUBPROGRAMS) {
            let mut size = 0;
            let mut seen = BTreeSet::from([program.name.as_str()]);
            let mut open = vec![program];
            while let Some(function) = open.pop() {
                size += function.instructions.len();
                for instruction in &function.instructions {
                    if let Some(Target::Function(name, _)) = &instruction.target
                        && seen.insert(name)
                        && let Some(callee) = by_name.get(name.as_str())
                    {
                        open.push(callee);
                    }
                }
            }
            sizes.insert(program.name.as_str(), size);
        }
        sizes
    }
}

/// Compares the code of an object then and now.
pub(super) fn compare(then: &Code, now: &Code) -> Difference {
    let renamed = renamed(then, now);
    let mut old: BTreeMap<(&str, &str), &Function> = BTreeMap::new();
    for function in &then.functions {
        let name = renamed.get(function.name.as_str());
        let name = name.copied().unwrap_or(&function.name);
        old.insert((&function.section, name), function);
    }

    let mut functions = Vec::new();
    for function in &now.functions {
        let before = old.remove(&(&function.section, &function.name));
        if before.is_some_and(|before| same_body(before, function, &renamed)) {
            continue;
        }
        functions.push(Resized {
            name: demangled(&function.name),
            then: before.map(|before| before.instructions.len()),
            now: Some(function.instructions.len()),
        });
    }
    for gone in old.values() {
        functions.push(Resized {
            name: demangled(&gone.name),
            then: Some(gone.instructions.len()),
            now: None,
        });
    }

    let mut data = Vec::new();
    let all: BTreeSet<_> = then.data.keys().chain(now.data.keys()).collect();
    for key in all {
        if then.data.get(key) != now.data.get(key) {
            let (section, name) = key;
            data.push(format!("{section} {name}").trim_end().to_owned());
        }
    }

    let all: BTreeSet<_> = then.sections.keys().chain(now.sections.keys()).collect();
    let reordered = all
        .into_iter()
        // Where a function differs, the bytes of the section differ of course.
        .filter(|_| functions.is_empty())
        .filter(|name| then.sections.get(*name) != now.sections.get(*name))
        .cloned()
        .collect();

    let renamed = renamed
        .iter()
        .map(|(then, now)| (demangled(then), demangled(now)))
        .collect();
    Difference {
        functions,
        data,
        reordered,
        renamed,
    }
}

/// Programs that have grown by more than this part, with the functions they call.
pub(super) fn grown(then: &Code, now: &Code, part: f64) -> Vec<Resized> {
    let renamed = renamed(then, now);
    let mut before = BTreeMap::new();
    for (name, size) in then.loaded() {
        before.insert(renamed.get(name).copied().unwrap_or(name), size);
    }
    let mut grown = Vec::new();
    for (name, size) in now.loaded() {
        if let Some(&then) = before.get(name)
            && size as f64 > then as f64 * (1.0 + part)
        {
            grown.push(Resized {
                name: demangled(name),
                then: Some(then),
                now: Some(size),
            });
        }
    }
    grown
}

/// Names then and now of functions that were only renamed: those at the same place of identical
/// sections, or those with the same bytes whose names exist on one side only.
fn renamed<'a>(then: &'a Code, now: &'a Code) -> BTreeMap<&'a str, &'a str> {
    let identical = then.sections == now.sections;
    let names = |code: &'a Code| -> BTreeSet<&'a str> {
        code.functions.iter().map(|f| f.name.as_str()).collect()
    };
    let (old_names, new_names) = (names(then), names(now));
    let mut renamed = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for old in &then.functions {
        if new_names.contains(old.name.as_str()) {
            continue;
        }
        let new = now.functions.iter().find(|new| {
            let same = if identical {
                new.offset == old.offset
            } else {
                let bytes = |f: &Function| f.instructions.iter().map(|i| i.bytes).collect();
                let (old, new): (Vec<_>, Vec<_>) = (bytes(old), bytes(new));
                old == new
            };
            same && new.section == old.section
                && !old_names.contains(new.name.as_str())
                && !taken.contains(new.name.as_str())
        });
        if let Some(new) = new {
            taken.insert(new.name.as_str());
            renamed.insert(old.name.as_str(), new.name.as_str());
        }
    }
    renamed
}

fn same_body(then: &Function, now: &Function, renamed: &BTreeMap<&str, &str>) -> bool {
    let same_target = |then: &Option<Target>, now: &Option<Target>| match (then, now) {
        (Some(Target::Function(old, from)), Some(Target::Function(new, to))) => {
            from == to && renamed.get(old.as_str()).unwrap_or(&old.as_str()) == new
        }
        _ => then == now,
    };
    then.instructions.len() == now.instructions.len()
        && then
            .instructions
            .iter()
            .zip(&now.instructions)
            .all(|(old, new)| old.bytes == new.bytes && same_target(&old.target, &new.target))
}

/// The data that is loaded: maps' definitions, globals, constants, the licence.
fn data(
    file: &object::File<'_>,
    names: &HashMap<SectionIndex, String>,
) -> Result<BTreeMap<(String, String), Data>> {
    let mut data = BTreeMap::new();
    for section in file.sections() {
        let name = section.name()?;
        let is_data = matches!(
            section.kind(),
            SectionKind::Data
                | SectionKind::ReadOnlyData
                | SectionKind::ReadOnlyDataWithRel
                | SectionKind::ReadOnlyString
                | SectionKind::UninitializedData
        );
        if !is_data || name == PROVENANCE {
            continue;
        }
        let mut rest = section.data()?.to_vec();
        // A section of zeros has a size, but no bytes in the file.
        rest.resize(usize::try_from(section.size())?, 0);
        let mut relocations = Vec::new();
        for (offset, relocation) in section.relocations() {
            if let RelocationTarget::Symbol(symbol) = relocation.target() {
                let symbol = file.symbol_by_index(symbol)?;
                relocations.push((offset, symbol.name()?.to_owned()));
            }
        }
        for symbol in file.symbols() {
            let within = symbol.section_index().and_then(|index| names.get(&index));
            if within.map(String::as_str) != Some(name) || !symbol.is_global() {
                continue;
            }
            let start = symbol.address();
            let range = start..start + symbol.size();
            let bytes = rest
                .get_mut(start as usize..range.end as usize)
                .with_context(|| format!("{name}: a symbol outside the section"))?;
            let entry = Data {
                bytes: bytes.to_vec(),
                relocations: relocations
                    .iter()
                    .filter(|(offset, _)| range.contains(offset))
                    .map(|(offset, symbol)| (offset - start, symbol.clone()))
                    .collect(),
            };
            bytes.fill(0);
            data.insert((name.to_owned(), symbol.name()?.to_owned()), entry);
        }
        // What is left of globals are zeros: their order and their number show by their names.
        while rest.last() == Some(&0) {
            rest.pop();
        }
        let rest = Data {
            bytes: rest,
            relocations: Vec::new(),
        };
        data.insert((name.to_owned(), String::new()), rest);
    }
    Ok(data)
}

fn count(bytes: u64) -> Result<usize> {
    Ok(usize::try_from(bytes)? / INSTRUCTION)
}

fn immediate(instruction: &Instruction) -> i64 {
    let [.., a, b, c, d] = instruction.bytes;
    i64::from(i32::from_le_bytes([a, b, c, d]))
}

fn clear_immediate(instruction: &mut Instruction) {
    instruction.bytes[4..].fill(0);
}

/// A mangled name without the hashes of crates, which another version of the compiler or of a
/// crate changes.
fn without_disambiguators(name: &str) -> String {
    if !name.starts_with("_R") {
        return name.to_owned();
    }
    let mut kept = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("Cs") {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric());
        kept += before;
        kept.push('C');
        match end {
            Some(end) if after[end..].starts_with('_') => rest = &after[end + 1..],
            _ => {
                kept.push('s');
                rest = after;
            }
        }
    }
    kept + rest
}

/// The path in a mangled name (`net::craft::swap`); other names as they are.
fn demangled(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_R") else {
        return name.to_owned();
    };
    let mut path = Vec::new();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        if rest[..start].contains('B') {
            // The rest is a reference to a part of the name before it.
            return name.to_owned();
        }
        let digits = &rest[start..];
        let end = digits.find(|c: char| !c.is_ascii_digit());
        let (length, after) = digits.split_at(end.unwrap_or(digits.len()));
        let after = after.strip_prefix('_').unwrap_or(after);
        match length
            .parse::<usize>()
            .ok()
            .and_then(|n| after.split_at_checked(n))
        {
            Some((part, after)) => {
                path.push(part);
                rest = after;
            }
            None => return name.to_owned(),
        }
    }
    path.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(name: &str) -> Vec<u8> {
        let path = super::super::workspace().join(format!("chaos-ebpf/objects/{name}.o"));
        std::fs::read(path).unwrap()
    }

    /// Where a section's bytes lie in the file.
    fn place(object: &[u8], section: &str) -> usize {
        let file = object::File::parse(object).unwrap();
        let section = file.section_by_name(section).unwrap();
        usize::try_from(section.file_range().unwrap().0).unwrap()
    }

    fn difference(then: &[u8], now: &[u8]) -> Difference {
        compare(&Code::parse(then).unwrap(), &Code::parse(now).unwrap())
    }

    /// Replaces a name in all tables of strings by one of the same length.
    fn rename(object: &mut [u8], from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let from = format!("\0{from}\0").into_bytes();
        for at in 0..object.len() - from.len() {
            if object[at..at + from.len()] == from[..] {
                object[at + 1..at + 1 + to.len()].copy_from_slice(to.as_bytes());
            }
        }
    }

    #[test]
    fn an_object_is_the_same_as_itself() {
        for name in super::super::OBJECTS {
            let object = committed(name);
            assert_eq!(difference(&object, &object), Difference::default());
            let code = Code::parse(&object).unwrap();
            assert!(code.programs() > 0, "{name} has programs");
            let functions = code.functions.iter().map(|f| f.instructions.len());
            assert_eq!(functions.sum::<usize>(), code.instructions());
        }
    }

    #[test]
    fn a_patched_byte_names_the_program() {
        let object = committed("net");
        for function in &Code::parse(&object).unwrap().functions {
            let mut patched = object.clone();
            let start = place(&object, &function.section);
            let last = function.offset as usize + (function.instructions.len() - 1) * INSTRUCTION;
            // The offset of `exit`, which refers to nothing.
            patched[start + last + 2] ^= 1;
            let size = Some(function.instructions.len());
            let expected = Resized {
                name: demangled(&function.name),
                then: size,
                now: size,
            };
            let found = difference(&object, &patched);
            assert!(!found.is_same());
            assert_eq!(found.functions, [expected]);
            assert_eq!(found.data, [""; 0]);
        }
    }

    #[test]
    fn debug_information_and_provenance_do_not_count() {
        let object = committed("net");
        let mut patched = object.clone();
        for (section, offset) in [(".BTF.ext", 200), (".murphy", 20)] {
            patched[place(&object, section) + offset] ^= 1;
        }
        assert_ne!(object, patched);
        assert!(difference(&object, &patched).is_same());
    }

    #[test]
    fn another_map_differs() {
        let object = committed("net");
        let mut patched = object.clone();
        rename(&mut patched, "PIDS", "DIPS");
        let found = difference(&object, &patched);
        assert!(!found.functions.is_empty(), "those that use it differ");
        assert_eq!(found.data, ["maps DIPS", "maps PIDS"]);
    }

    #[test]
    fn another_size_of_a_map_differs() {
        let object = committed("trace");
        let mut patched = object.clone();
        patched[place(&object, "maps")] ^= 1;
        let found = difference(&object, &patched);
        assert_eq!(found.functions, []);
        assert_eq!(found.data.len(), 1);
        assert!(found.data[0].starts_with("maps "), "{:?}", found.data);
    }

    #[test]
    fn another_constant_differs() {
        let object = committed("trace");
        let mut patched = object.clone();
        patched[place(&object, ".rodata")] ^= 1;
        assert_eq!(difference(&object, &patched).data, [".rodata"]);
    }

    #[test]
    fn another_name_of_a_function_is_the_same() {
        let object = committed("net");
        let code = Code::parse(&object).unwrap();
        let called = code.functions.iter().find(|f| f.section == SUBPROGRAMS);
        let name = &called.unwrap().name;
        let other = name.to_uppercase();
        let mut patched = object.clone();
        rename(&mut patched, name, &other);
        let found = difference(&object, &patched);
        assert!(found.is_same(), "{found:?}");
        assert_eq!(found.renamed, [(name.clone(), other)]);
    }

    #[test]
    fn growth_counts_called_functions() {
        let object = committed("net");
        let then = Code::parse(&object).unwrap();
        let mut now = Code::parse(&object).unwrap();
        assert_eq!(grown(&then, &now, 0.02), []);
        let mut callees = Vec::new();
        for function in then.functions.iter().filter(|f| f.section != SUBPROGRAMS) {
            for instruction in &function.instructions {
                if let Some(Target::Function(name, 0)) = &instruction.target {
                    callees.push((&function.name, name));
                }
            }
        }
        let (program, callee) = callees[0];
        let callee = now.functions.iter_mut().find(|f| f.name == *callee);
        let callee = callee.unwrap();
        let nop = callee.instructions[0].clone();
        callee
            .instructions
            .extend(vec![nop; then.loaded()[program.as_str()] / 10]);
        let found = grown(&then, &now, 0.02);
        assert!(found.iter().any(|p| p.name == *program), "{found:?}");
        assert_eq!(grown(&then, &now, 100.0), []);
    }

    #[test]
    fn hashes_of_crates_do_not_count() {
        let name = "_RNvNtCsaMfpaqCAwg1_3net5craft9turn_ends";
        assert_eq!(without_disambiguators(name), "_RNvNtC3net5craft9turn_ends");
        assert_eq!(
            demangled(&without_disambiguators(name)),
            "net::craft::turn_ends"
        );
        assert_eq!(without_disambiguators("murphy_Cs1_x"), "murphy_Cs1_x");
        assert_eq!(demangled("murphy_connect4"), "murphy_connect4");
    }
}
