//! What murphy's kernel programs share: the maps, the gate, who is a target.
//!
//! Each hook family is a binary of its own (`net`, `lsm`, `kprobe`, `trace`, `uprobe`) and
//! becomes one object, because a loader creates all maps of an object and a
//! kernel without BPF LSM must still serve the network. The objects share the
//! maps of [`maps`]: the loader pins them in a bpffs of its own that nobody else
//! sees and that goes with its descriptor.
//!
//! Invariants: [`gate::pass`] is the only road to an injection. Programs are named
//! `murphy_…` (15 characters at most, the kernel cuts the rest), so that whoever
//! lists programs sees whose they are.

#![no_std]
#![feature(asm_experimental_arch)]

pub mod answer;
pub mod atomic;
pub mod gate;
pub mod maps;
pub mod object;
pub mod observe;
pub mod target;
pub mod tell;
