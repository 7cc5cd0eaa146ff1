//! Whether anybody misses what an instruction does: the code that comes after it is followed until that is overwritten, or the function
//! ends. What is not certain is missed.

use std::collections::BTreeSet;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// So many instructions are followed.
const STEPS: usize = 200;

/// Registers with which a call has arguments, by the System V ABI, and `rax`, which has the number of vectors.
const ARGUMENTS: [Register; 8] = [
    Register::RAX,
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::R10,
];

/// Registers that whoever called the function wants to see: results, and what it may rely on.
const KEPT: [Register; 8] = [
    Register::RAX,
    Register::RDX,
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Registers that are the kernel's arguments.
const ASKED: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::R10,
    Register::R8,
    Register::R9,
];

/// Whether nobody misses all that an instruction does which is followed by `syscall`.
pub(super) fn effect(
    function: &[Instruction],
    at: usize,
    factory: &mut InstructionInfoFactory,
) -> bool {
    let instruction = &function[at];
    if instruction.flow_control() != FlowControl::Next || instruction.is_privileged() {
        return false;
    }
    let info = factory.info(instruction);
    let changes = |access| {
        !matches!(
            access,
            OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
        )
    };
    if info
        .used_memory()
        .iter()
        .any(|memory| changes(memory.access()))
    {
        return is_own_argument(function, at, factory);
    }
    let written: Vec<_> = info
        .used_registers()
        .iter()
        .filter(|used| changes(used.access()))
        .map(|used| used.register().full_register())
        .collect();
    let plain = |register: &Register| register.is_gpr64() && *register != Register::RSP;
    written.iter().all(plain)
        && may_be(
            function,
            at,
            &written,
            instruction.rflags_modified(),
            factory,
        )
}

/// A store into an argument's place on the stack, right before the function ends: as `__syscall_cancel_arch` of glibc and musl's
/// `__syscall_cp_asm` have it. The place is the function's own, and nobody reads it after.
fn is_own_argument(
    function: &[Instruction],
    at: usize,
    factory: &mut InstructionInfoFactory,
) -> bool {
    let store = &function[at];
    let place = store.mnemonic() == Mnemonic::Mov
        && store.op0_kind() == OpKind::Memory
        && store.memory_base() == Register::RSP
        && store.memory_index() == Register::None
        && (8..4096).contains(&store.memory_displacement64());
    let ends = function
        .get(at + 2)
        .is_some_and(|next| next.mnemonic() == Mnemonic::Ret);
    // The stack is as it was at the beginning.
    place
        && ends
        && function[..at].iter().all(|instruction| {
            let used = factory.info(instruction);
            let moves = |used: &iced_x86::UsedRegister| {
                used.register() == Register::RSP && used.access() != OpAccess::Read
            };
            !used.used_registers().iter().any(moves)
        })
}

/// Whether nobody misses these registers and flags, which an instruction sets that is followed by `syscall`.
pub(super) fn may_be(
    function: &[Instruction],
    at: usize,
    registers: &[Register],
    flags: u32,
    factory: &mut InstructionInfoFactory,
) -> bool {
    // Behind the call, whose result is another.
    let registers: BTreeSet<_> = registers.iter().copied().collect();
    let mut paths = vec![(at + 2, registers, flags)];
    let mut seen = BTreeSet::new();
    while let Some((at, mut live, mut flags)) = paths.pop() {
        if live.is_empty() && flags == 0 {
            continue;
        }
        if !seen.insert((at, live.clone(), flags)) {
            continue;
        }
        let Some(instruction) = function.get(at) else {
            return false;
        };
        if seen.len() > STEPS || instruction.rflags_read() & flags != 0 {
            return false;
        }
        for used in factory.info(instruction).used_registers() {
            let full = used.register().full_register();
            if used.access() == OpAccess::Write && used.register().size() >= 4 {
                continue;
            }
            if used.access() != OpAccess::Write && live.contains(&full) {
                return false;
            }
        }
        if instruction.mnemonic() == Mnemonic::Syscall
            && ASKED.iter().any(|asked| live.contains(asked))
        {
            return false;
        }
        for used in factory.info(instruction).used_registers() {
            if used.access() == OpAccess::Write && used.register().size() >= 4 {
                live.remove(&used.register().full_register());
            }
        }
        flags &= !instruction.rflags_modified();
        let target = || {
            let target = instruction.near_branch_target();
            function.binary_search_by_key(&target, Instruction::ip).ok()
        };
        match instruction.flow_control() {
            FlowControl::Next => paths.push((at + 1, live, flags)),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                let Some(target) = target() else {
                    return false;
                };
                if instruction.flow_control() == FlowControl::ConditionalBranch {
                    paths.push((at + 1, live.clone(), flags));
                }
                paths.push((target, live, flags));
            }
            FlowControl::Return => {
                if KEPT.iter().any(|kept| live.contains(kept)) {
                    return false;
                }
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                if ARGUMENTS.iter().any(|argument| live.contains(argument)) {
                    return false;
                }
                live.remove(&Register::R11);
                // Flags are not kept by what is called.
                paths.push((at + 1, live, 0));
            }
            // It ends here.
            FlowControl::Exception => {}
            _ => return false,
        }
    }
    true
}
