//! The smallest BPF programs there are (`return 0`), to find out what the kernel lets us load.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::btf::{Btf, BtfKind};

const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_KPROBE: u32 = 2;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_LSM: u32 = 29;
const ATTACH_LSM_MAC: u32 = 27;
const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;
/// The loopback interface's index in every network namespace.
const LO: u32 = 1;

/// `mov r0, 0; exit`
static RETURN_0: [u64; 2] = [0xb7, 0x95];

/// `mov r0, TC_ACT_UNSPEC; exit`
static NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

/// `*(u64 *)(r10 - 8) = 0; r1 = 1; r1 = atomic_fetch_add(r10 - 8, r1); r0 = 0; exit`
static FETCH_ADD: [u64; 5] = [
    0x0000_0000_fff8_0a7a,
    0x0000_0001_0000_01b7,
    0x0000_0001_fff8_1adb,
    0xb7,
    0x95,
];

/// `r0 = 0; *(u64 *)(r1 + 80) = r0; exit`: the place of `rax` among the registers.
static WRITE_RAX: [u64; 3] = [0xb7, 0x0000_0000_0050_017b, 0x95];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`, as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    pad: u32,
}

/// The head of `union bpf_attr` for `BPF_LINK_CREATE` on an interface.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    /// `relative_fd`, padding and `expected_revision` of tcx.
    rest: [u64; 2],
}

fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads size_of::<T>() bytes of attr, and the memory its pointers name is static.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    match i32::try_from(fd) {
        // SAFETY: both commands return a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn load(prog_type: u32, expected_attach_type: u32, attach_btf_id: u32) -> io::Result<OwnedFd> {
    load_code(&RETURN_0, prog_type, expected_attach_type, attach_btf_id)
}

fn load_code(
    code: &'static [u64],
    prog_type: u32,
    expected_attach_type: u32,
    attach_btf_id: u32,
) -> io::Result<OwnedFd> {
    let name = probe_name();
    load_named(&name, code, prog_type, expected_attach_type, attach_btf_id)
}

fn load_named(
    name: &str,
    code: &'static [u64],
    prog_type: u32,
    expected_attach_type: u32,
    attach_btf_id: u32,
) -> io::Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type,
        attach_btf_id,
        ..ProgLoad::default()
    };
    let name = name.as_bytes();
    // The last byte stays 0.
    let length = name.len().min(attr.prog_name.len() - 1);
    attr.prog_name[..length].copy_from_slice(&name[..length]);
    bpf(PROG_LOAD, &attr)
}

/// The name of the programs that this test program loads.
pub(crate) fn probe_name() -> String {
    format!("probe_{}", std::process::id())
}

/// Loads a classifier.
pub fn load_classifier() -> io::Result<OwnedFd> {
    load(PROG_TYPE_SCHED_CLS, 0, 0)
}

/// Loads a program with an atomic operation that gives a value.
pub(crate) fn load_atomics() -> io::Result<OwnedFd> {
    load_code(&FETCH_ADD, PROG_TYPE_SCHED_CLS, 0, 0)
}

/// Loads a program of a uprobe that writes a register.
pub(crate) fn load_register() -> io::Result<OwnedFd> {
    load_code(&WRITE_RAX, PROG_TYPE_KPROBE, 0, 0)
}

/// Loads a program for the hook `file_open`.
pub(crate) fn load_lsm() -> Result<(), String> {
    load_lsm_for("file_open").map(drop)
}

fn load_lsm_for(hook: &str) -> Result<OwnedFd, String> {
    let btf = Btf::from_sys_fs().map_err(|e| format!("no BTF: {e}"))?;
    let id = btf
        .id_by_type_name_kind(&format!("bpf_lsm_{hook}"), BtfKind::Func)
        .map_err(|e| e.to_string())?;
    load(PROG_TYPE_LSM, ATTACH_LSM_MAC, id).map_err(|e| e.to_string())
}

/// Attaches a program that lets everything through to an LSM hook, as long as this lives.
pub fn attach_lsm(hook: &str) -> anyhow::Result<OwnedFd> {
    let program = load_lsm_for(hook).map_err(anyhow::Error::msg)?;
    // `raw_tracepoint` of the attribute: name, descriptor.
    let attr = [0, program.as_raw_fd().unsigned_abs().into(), 0u64];
    Ok(bpf(RAW_TRACEPOINT_OPEN, &attr)?)
}

/// Attaches a classifier that lets everything through, for a moment.
pub(crate) fn attach_tcx() -> io::Result<()> {
    attach_classifier(ATTACH_TCX_INGRESS).map(drop)
}

/// Attaches a classifier that lets everything through to the loopback interface's way out,
/// as long as this lives.
pub fn attach_egress() -> io::Result<OwnedFd> {
    attach_classifier(ATTACH_TCX_EGRESS)
}

fn attach_classifier(attach_type: u32) -> io::Result<OwnedFd> {
    let program = load_code(&NEXT, PROG_TYPE_SCHED_CLS, 0, 0)?;
    link_classifier(&program, attach_type)
}

/// A classifier of a given name that lets everything through.
pub fn load_classifier_named(name: &str) -> io::Result<OwnedFd> {
    load_named(name, &NEXT, PROG_TYPE_SCHED_CLS, 0, 0)
}

/// Attaches a classifier to the loopback interface's way out by a tcx link, as long as this lives.
pub fn link_egress(program: &OwnedFd) -> io::Result<OwnedFd> {
    link_classifier(program, ATTACH_TCX_EGRESS)
}

/// Gives a program a name in a BPF file system. `BPF_OBJ_PIN`: path, descriptor, flags.
pub fn pin(program: &OwnedFd, path: &std::ffi::CStr) -> io::Result<()> {
    let attr = [
        path.as_ptr() as u64,
        program.as_raw_fd().unsigned_abs().into(),
    ];
    // SAFETY: the kernel reads both words of attr and the path that the first names.
    let done = unsafe { libc::syscall(libc::SYS_bpf, OBJ_PIN, attr.as_ptr(), size_of_val(&attr)) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn link_classifier(program: &OwnedFd, attach_type: u32) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        prog_fd: program.as_raw_fd().unsigned_abs(),
        target_ifindex: LO,
        attach_type,
        ..LinkCreate::default()
    };
    bpf(LINK_CREATE, &attr)
}

/// An instruction that loads a map or a place in its value, as the kernel shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// The map's id.
    pub map: u32,
    /// Where in the value; `None`: the map itself.
    pub offset: Option<u32>,
}

/// The uses of maps in a program as the verifier left it, and how many instructions it has.
pub fn map_uses(program: BorrowedFd<'_>) -> io::Result<(Vec<MapUse>, usize)> {
    // The head of `struct bpf_prog_info`: type, id, tag, lengths and places of the program's
    // machine code and of its translated instructions.
    let ask = |code: &mut [u8]| {
        let mut info = [0_u64; 5];
        info[2] = u64::from(u32::try_from(code.len()).unwrap_or(0)) << 32;
        info[4] = code.as_mut_ptr() as u64;
        let length = (size_of_val(&info) as u64) << 32;
        let attr = [
            u64::from(program.as_raw_fd().unsigned_abs()) | length,
            info.as_mut_ptr() as u64,
        ];
        // SAFETY: the kernel reads both words of attr, and writes no more to `info` and `code` than
        // their lengths, which it is told.
        let done = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                OBJ_GET_INFO_BY_FD,
                attr.as_ptr(),
                size_of_val(&attr),
            )
        };
        match done {
            0 => Ok((info[2] >> 32) as usize),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let mut code = vec![0; ask(&mut [])?];
    ask(&mut code)?;
    let slots: Vec<_> = code.chunks_exact(8).collect();
    let number = |slot: &[u8]| slot[4..].try_into().map_or(0, u32::from_le_bytes);
    let uses = slots.windows(2).filter_map(|slots| {
        // `ld_imm64` with `BPF_PSEUDO_MAP_FD`, and with `BPF_PSEUDO_MAP_VALUE`.
        let offset = match (slots[0][0], slots[0][1] >> 4) {
            (0x18, 1) => None,
            (0x18, 2) => Some(number(slots[1])),
            _ => return None,
        };
        let map = number(slots[0]);
        Some(MapUse { map, offset })
    });
    Ok((uses.collect(), slots.len()))
}
