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
    /// How it is answered at the instruction before; `None` if it cannot be.
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
                number: number(&function[..at], &mut factory),
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

/// The number of the call that comes after these instructions, if they load it in one go.
fn number(before: &[Instruction], factory: &mut InstructionInfoFactory) -> Option<u16> {
    for instruction in before.iter().rev() {
        if let Some(number) = loaded(instruction) {
            return Some(number);
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

/// The number that an instruction loads.
fn loaded(instruction: &Instruction) -> Option<u16> {
    if !is_number(instruction.op0_register()) {
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
                && is_number(instruction.op1_register()) =>
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
