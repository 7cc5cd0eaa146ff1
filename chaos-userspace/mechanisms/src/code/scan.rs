//! System calls in code.
//!
//! What is probed is not `syscall` itself but the instruction right before it, mostly the one that loads the call's number. The kernel carries out
//! a probed instruction elsewhere and step by step: done so, a call that waits would hold signals back, and a new thread would begin in the wrong
//! place. A load of a register takes no harm. But who answers leaps over both, so what the first one does must be needed by nobody.

use chaos_common::answer::Site;
use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register,
};

use super::lost;

/// `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Executable bytes.
#[derive(Clone, Copy)]
pub(super) struct Code<'a> {
    pub(super) bytes: &'a [u8],
    /// Of the first.
    pub(super) address: u64,
    /// Addresses at which functions begin, in order.
    pub(super) beginnings: &'a [u64],
}

/// A `syscall` instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its number, where the code before says it.
    pub(super) number: Option<u16>,
    /// How it is answered at the instruction before, wherever that is; `None` if it cannot be.
    pub(super) site: Option<Site>,
}

/// Whether there may be a system call in these bytes.
pub(super) fn may_call(bytes: &[u8]) -> bool {
    occurrences(bytes).next().is_some()
}

fn occurrences(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let pairs = bytes.windows(2).enumerate();
    pairs.filter(|(_, pair)| *pair == SYSCALL).map(|(at, _)| at)
}

/// The calls of some code, each with the address of the instruction before.
pub(super) fn scan(code: Code<'_>) -> Vec<(u64, Call)> {
    let mut found = Vec::new();
    let mut done = 0;
    // Functions without these bytes are not decoded.
    for at in occurrences(code.bytes) {
        if at < done {
            continue;
        }
        let (function, end) = function(&code, at);
        done = end;
        calls_of(&function, &mut found);
    }
    found
}

/// The instructions of the function around a place, and where it ends.
///
/// What cannot be decoded is data, and what lies before it may be data as well, if it is not known that a function begins there.
fn function(code: &Code<'_>, at: usize) -> (Vec<Instruction>, usize) {
    let here = code.address + at as u64;
    let next = code.beginnings.partition_point(|&begin| begin <= here);
    let begin = next.checked_sub(1).map(|last| code.beginnings[last]);
    let begin = begin.filter(|&begin| begin >= code.address);
    let end = code.beginnings.get(next).map_or(code.bytes.len(), |&end| {
        usize::try_from(end - code.address)
            .map_or(code.bytes.len(), |end| end.min(code.bytes.len()))
    });
    let first = begin.map_or(0, |begin| (begin - code.address) as usize);
    let ip = code.address + first as u64;
    let mut decoder = Decoder::with_ip(64, &code.bytes[first..end], ip, DecoderOptions::NONE);
    let mut instructions = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            if begin.is_none() {
                instructions.clear();
            }
            break;
        }
        instructions.push(instruction);
    }
    (instructions, end)
}

/// The calls of a function.
fn calls_of(function: &[Instruction], found: &mut Vec<(u64, Call)>) {
    let mut factory = InstructionInfoFactory::new();
    for (at, instruction) in function.iter().enumerate() {
        if instruction.code() != Opcode::Syscall {
            continue;
        }
        let Some(before) = at.checked_sub(1) else {
            continue;
        };
        found.push((
            function[before].ip(),
            Call {
                number: number(function, at, &mut factory),
                site: site(function, before, &mut factory),
            },
        ));
    }
}

/// How a call is answered at the instruction before it.
fn site(
    function: &[Instruction],
    before: usize,
    factory: &mut InstructionInfoFactory,
) -> Option<Site> {
    let instruction = &function[before];
    let length = u8::try_from(instruction.len() + SYSCALL.len()).ok()?;
    let site = |number, register| {
        Some(Site {
            number,
            register,
            length,
            page: 0,
        })
    };
    if let Some(number) = loaded(instruction) {
        // Of these, `xor eax, eax` sets flags.
        let flags = instruction.rflags_modified();
        return lost::may_be(function, before, &[], flags, factory)
            .then(|| site(Some(number), 0))
            .flatten();
    }
    if is_number(instruction.op0_register()) && instruction.op0_kind() == OpKind::Register {
        let moves =
            instruction.mnemonic() == Mnemonic::Mov && instruction.op1_kind() == OpKind::Register;
        return moves
            .then(|| site(None, place(instruction.op1_register())?))
            .flatten();
    }
    lost::effect(function, before, factory).then(|| site(None, place(Register::RAX)?))?
}

/// The number of a call, if the instructions before load it in one go, or from a register that has but one.
fn number(
    function: &[Instruction],
    at: usize,
    factory: &mut InstructionInfoFactory,
) -> Option<u16> {
    for instruction in function[..at].iter().rev() {
        if let Some(number) = loaded(instruction) {
            return Some(number);
        }
        if is_number(instruction.op0_register())
            && instruction.mnemonic() == Mnemonic::Mov
            && instruction.op1_kind() == OpKind::Register
        {
            return only_number(function, instruction.op1_register(), factory);
        }
        let straight = matches!(
            instruction.flow_control(),
            FlowControl::Next | FlowControl::ConditionalBranch
        );
        let writes = |used: &iced_x86::UsedRegister| {
            used.register().full_register() == Register::RAX && used.access() != OpAccess::Read
        };
        if !straight
            || factory
                .info(instruction)
                .used_registers()
                .iter()
                .any(writes)
        {
            return None;
        }
    }
    None
}

/// The number in a register that a function loads with this one alone, and with nothing else but what it saved.
fn only_number(
    function: &[Instruction],
    register: Register,
    factory: &mut InstructionInfoFactory,
) -> Option<u16> {
    let register = register.full_register();
    let mut number = None;
    for instruction in function {
        let writes = |used: &iced_x86::UsedRegister| {
            used.register().full_register() == register
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
        };
        let writes = factory
            .info(instruction)
            .used_registers()
            .iter()
            .any(writes);
        if !writes || instruction.mnemonic() == Mnemonic::Pop {
            continue;
        }
        let loads = instruction.op0_register().full_register() == register;
        let loaded = immediate(instruction).filter(|_| loads)?;
        if number.is_some_and(|number| number != loaded) {
            return None;
        }
        number = Some(loaded);
    }
    number
}

/// The number that an instruction loads as that of a call.
fn loaded(instruction: &Instruction) -> Option<u16> {
    immediate(instruction).filter(|_| is_number(instruction.op0_register()))
}

/// The number that an instruction loads into a register.
fn immediate(instruction: &Instruction) -> Option<u16> {
    if instruction.op0_kind() != OpKind::Register {
        return None;
    }
    match instruction.code() {
        Opcode::Mov_r32_imm32 | Opcode::Mov_rm32_imm32 => {
            u16::try_from(instruction.immediate32()).ok()
        }
        Opcode::Mov_rm64_imm32 | Opcode::Mov_r64_imm64 => {
            u16::try_from(instruction.immediate(1)).ok()
        }
        Opcode::Xor_rm32_r32 | Opcode::Xor_r32_rm32
            if instruction.op1_kind() == OpKind::Register
                && instruction.op1_register() == instruction.op0_register() =>
        {
            Some(0)
        }
        _ => None,
    }
}

fn is_number(register: Register) -> bool {
    matches!(register, Register::EAX | Register::RAX)
}

/// The place of a register in `struct pt_regs`, of those that may hold a number.
fn place(register: Register) -> Option<u8> {
    const ORDER: [Register; 15] = [
        Register::R15,
        Register::R14,
        Register::R13,
        Register::R12,
        Register::RBP,
        Register::RBX,
        Register::R11,
        Register::R10,
        Register::R9,
        Register::R8,
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::RSI,
        Register::RDI,
    ];
    let full = register.full_register();
    // A part of one would have other bits above.
    let whole = register.size() >= 4;
    let at = ORDER.iter().position(|&known| whole && known == full)?;
    u8::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: u64 = 0x1000;

    /// The calls in some code, which begins with a function if that is known.
    fn calls(bytes: &[u8], known: bool) -> Vec<(u64, Call)> {
        let beginnings: &[u64] = if known { &[ADDRESS] } else { &[] };
        scan(Code {
            bytes,
            address: ADDRESS,
            beginnings,
        })
    }

    fn answered(number: Option<u16>, site: (Option<u16>, u8, u8)) -> Call {
        let (of_site, register, length) = site;
        Call {
            number,
            site: Some(Site {
                number: of_site,
                register,
                length,
                page: 0,
            }),
        }
    }

    #[test]
    fn a_number_is_loaded_and_the_call_made() {
        // endbr64; mov eax, 74; syscall; ret
        let fsync = b"\xf3\x0f\x1e\xfa\xb8\x4a\0\0\0\x0f\x05\xc3";
        let call = answered(Some(74), (Some(74), 0, 7));
        assert_eq!(calls(fsync, true), [(ADDRESS + 4, call)]);
        assert_eq!(calls(fsync, false), [(ADDRESS + 4, call)]);
        // xor eax, eax; syscall; cmp rax, -1; ret
        let read = b"\x31\xc0\x0f\x05\x48\x83\xf8\xff\xc3";
        let call = answered(Some(0), (Some(0), 0, 4));
        assert_eq!(calls(read, true), [(ADDRESS, call)]);
        // mov r12d, 202; mov eax, r12d; syscall; pop r12; ret
        let futex = b"\x41\xbc\xca\0\0\0\x44\x89\xe0\x0f\x05\x41\x5c\xc3";
        let call = answered(Some(202), (None, 3, 5));
        assert_eq!(calls(futex, true), [(ADDRESS + 6, call)]);
    }

    #[test]
    fn any_number_comes_in_a_register() {
        // The end of syscall(3): mov rax, rdi; mov r9, [rsp+8]; syscall; ret
        let any = b"\x48\x89\xf8\x4c\x8b\x4c\x24\x08\x0f\x05\xc3";
        assert_eq!(
            calls(any, true),
            [(ADDRESS + 3, answered(None, (None, 10, 7)))]
        );
        // __syscall_cancel_arch: mov rax, rsi; mov [rsp+8], r11; syscall; ret
        let cancel = b"\x48\x89\xf0\x4c\x89\x5c\x24\x08\x0f\x05\xc3";
        assert_eq!(
            calls(cancel, true),
            [(ADDRESS + 3, answered(None, (None, 10, 7)))]
        );
        // The same behind push rbx: what is at rsp+8 is somebody else's.
        let pushed = [b"\x53", &cancel[..]].concat();
        assert!(
            calls(&pushed, true)
                .iter()
                .all(|(_, call)| call.site.is_none())
        );
    }

    #[test]
    fn what_somebody_needs_is_not_left_out() {
        let load = b"\xb8\x4a\0\0\0";
        // mov edi, 1; syscall, and then
        let call = b"\xbf\x01\0\0\0\x0f\x05";
        for (after, can) in [
            // ret
            (&b"\xc3"[..], true),
            // xor edi, edi; ret
            (b"\x31\xff\xc3", true),
            // mov eax, edi; ret
            (b"\x89\xf8\xc3", false),
            // call: with rdi as an argument
            (b"\xe8\0\0\0\0\xc3", false),
            // je to behind the ret; ret; mov eax, edi; ret
            (b"\x74\x01\xc3\x89\xf8\xc3", false),
            // jmp to the syscall, which has rdi as an argument
            (b"\xeb\xfc", false),
            // jmp to who knows where
            (b"\xe9\0\x10\0\0", false),
            (b"\xff\xe1", false),
            // The code ends.
            (b"\x90", false),
        ] {
            let found = calls(&[load, &call[..], after].concat(), true);
            let [(_, call)] = found[..] else {
                panic!("{found:?}")
            };
            assert_eq!(
                (call.number, call.site.is_some()),
                (Some(74), can),
                "{after:x?}"
            );
        }
        // A store, a push, and what is kept for whoever calls: mov rbx, rdi.
        for before in [&b"\x48\x89\x3e"[..], b"\x57", b"\x48\x89\xfb"] {
            let found = calls(&[load, before, b"\x0f\x05\xc3"].concat(), true);
            assert!(
                found.iter().all(|(_, call)| call.site.is_none()),
                "{before:x?}"
            );
        }
        // Flags: xor eax, eax; syscall; je; ret
        let found = calls(b"\x31\xc0\x0f\x05\x74\x00\xc3", true);
        assert!(found.iter().all(|(_, call)| call.site.is_none()));
    }

    #[test]
    fn bytes_inside_of_instructions_are_none() {
        // mov rax, 0x050f050f050f050f; ret
        let inside = b"\x48\xb8\x0f\x05\x0f\x05\x0f\x05\x0f\x05\xc3";
        assert_eq!(calls(inside, true), []);
        // Data (06 is no instruction), then a function that is known to begin.
        let bytes = b"\x06\xb8\x4a\0\0\0\x0f\x05\xc3";
        assert_eq!(calls(bytes, false), []);
        let known = scan(Code {
            bytes,
            address: ADDRESS,
            beginnings: &[ADDRESS + 1],
        });
        assert_eq!(known.len(), 1);
        // Where decoding from an unknown beginning goes wrong, nothing is believed.
        assert_eq!(calls(b"\xb8\x4a\0\0\0\x0f\x05\xc3\x06", false), []);
    }

    /// Whatever the bytes, nothing panics, and each place is right before those of a call.
    #[test]
    fn any_bytes_may_come() {
        use proptest::prelude::*;
        proptest!(|(bytes in proptest::collection::vec(
            prop_oneof![Just(0x0f), Just(0x05), Just(0xb8), Just(0), Just(0xc3), any::<u8>()], 0..200),
            begin in 0..200u64)| {
            let found = scan(Code { bytes: &bytes, address: ADDRESS, beginnings: &[ADDRESS + begin] });
            for (address, call) in found {
                let at = usize::try_from(address - ADDRESS).unwrap();
                if let Some(site) = call.site {
                    let end = at + usize::from(site.length);
                    prop_assert_eq!(&bytes[end - 2..end], &SYSCALL);
                }
            }
        });
    }
}
