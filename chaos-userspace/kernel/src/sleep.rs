//! What programs that let threads wait call of the kernel, beside helpers.
//!
//! Workaround for aya 0.14, which knows no functions of the kernel (kfuncs): the object calls helpers of numbers that there
//! are not, and the instructions are made calls of functions before it is loaded, by their numbers in the running kernel's BTF.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

use super::KernelError;
use super::btf::Btf;
pub use murphy_fault::plan::{FUSE, TASK_FROM_PID};

/// What stands in the object for each function (`chaos-ebpf/src/lsm/delay.rs`).
const FUNCTIONS: [(u32, &str); 2] = [
    (0x7fff_0001, TASK_FROM_PID),
    (0x7fff_0002, "bpf_task_release"),
];

/// `BPF_JMP | BPF_CALL` (linux/bpf.h).
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL`, where the source register stands.
const FUNCTION: u8 = 2 << 4;

/// The functions' numbers here; `None` if one is not there.
fn numbers() -> Option<[u32; FUNCTIONS.len()]> {
    static NUMBERS: OnceLock<Option<[u32; FUNCTIONS.len()]>> = OnceLock::new();
    *NUMBERS.get_or_init(|| {
        let btf = Btf::of_kernel().ok()?;
        let mut numbers = [0; FUNCTIONS.len()];
        for (number, (_, name)) in numbers.iter_mut().zip(FUNCTIONS) {
            *number = btf.function_id(name).ok()??;
        }
        Some(numbers)
    })
}

/// Whether this kernel has the functions.
///
/// # Errors
///
/// It has not.
pub fn check() -> Result<(), KernelError> {
    numbers()
        .map(drop)
        .ok_or(KernelError::NoSleep(TASK_FROM_PID))
}

/// Whether there is a device to serve a file system by.
pub fn has_device() -> bool {
    Path::new(FUSE).exists()
}

/// An object that calls the functions; as it is where there are none.
pub(super) fn linked(object: &'static [u8]) -> Cow<'static, [u8]> {
    match numbers() {
        Some(numbers) => Cow::Owned(link(object, numbers)),
        None => Cow::Borrowed(object),
    }
}

fn link(object: &[u8], numbers: [u32; FUNCTIONS.len()]) -> Vec<u8> {
    let mut bytes = object.to_vec();
    for instruction in bytes.chunks_exact_mut(8) {
        let [CALL, 0, 0, 0, called @ ..] = instruction else {
            continue;
        };
        for (number, (stands_for, _)) in numbers.iter().zip(FUNCTIONS) {
            if *called == stands_for.to_le_bytes() {
                called.copy_from_slice(&number.to_le_bytes());
                instruction[1] = FUNCTION;
                break;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;
    use murphy_fault::Family;

    #[test]
    fn every_call_is_linked() {
        let object = objects::object(Family::Lsm);
        let linked = link(object, [7, 8]);
        let calls = |bytes: &[u8], source, number: u32| {
            let mut wanted = vec![CALL, source, 0, 0];
            wanted.extend(number.to_le_bytes());
            bytes.chunks_exact(8).filter(|one| *one == wanted).count()
        };
        for (number, (stands_for, _)) in [7, 8].into_iter().zip(FUNCTIONS) {
            let before = calls(object, 0, stands_for);
            assert!(before > 0);
            assert_eq!(calls(&linked, 0, stands_for), 0);
            assert_eq!(calls(&linked, FUNCTION, number), before);
        }
    }
}
