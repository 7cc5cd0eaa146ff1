//! The way round through netem: an ifb with a netem qdisc, and the filter that sends packets there.
//!
//! An ifb (`drivers/net/ifb.c`) is an interface that gives back what it gets, to where it came from. Its root qdisc is netem,
//! so that the interfaces whose packets go there keep theirs; where a kernel has none, and packets are to be late and nothing
//! else, fq. The filter is a `cls_bpf` one without direct action; what its
//! program picks has the `mirred` action done to it, a redirect to the ifb.
//!
//! Everything here acts in the calling thread's network namespace, like [`super::clsact`].

mod fq;
mod options;
mod table;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::tc::TcHandle;
use nix::net::if_::if_nametoindex;

use super::attributes::Attributes;
use super::clsact::{self, FILTER, Side, info};
use super::error::{KernelError, Missing};
use super::netlink::{ask, message, options as with_options};
use murphy_fault::Netem;

pub use table::table;

// `TCA_BPF_…` (`linux/pkt_cls.h`).
const BPF_ACT: u16 = 1;
const BPF_CLASSID: u16 = 3;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
// `TCA_ACT_…`, and `TCA_MIRRED_PARMS` (`linux/tc_act/tc_mirred.h`).
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;
/// `TCA_EGRESS_REDIR`
const REDIRECT: u32 = 1;
/// `TC_ACT_STOLEN`
const STOLEN: u32 = 4;

const NETEM: &str = "netem";
const FQ: &str = "fq";

/// The major number of the root qdisc's handle, what tc takes for the first.
const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };

/// The program that tells fq when packets may depart.
pub const EDT: &str = "murphy_edt";

/// What holds packets.
#[derive(Clone, Copy, Debug)]
pub enum Queue<'a> {
    /// The kernel's netem.
    Netem {
        /// Its parameters.
        netem: &'a Netem,
        /// How delays vary; without one evenly.
        table: Option<&'a [i16]>,
        /// For kernels since 6.6.
        seed: u64,
    },
    /// fq, for packets that [`stamp`] has seen.
    Fq {
        /// How many packets it holds at most.
        limit: u32,
    },
}

impl Queue<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Netem { .. } => NETEM,
            Self::Fq { .. } => FQ,
        }
    }

    const fn missing(&self) -> Missing {
        match self {
            Self::Netem { .. } => Missing::Netem,
            Self::Fq { .. } => Missing::Fq,
        }
    }

    fn options(&self) -> Vec<u8> {
        match *self {
            Self::Netem { netem, table, seed } => options::encode(netem, table, seed),
            Self::Fq { limit } => fq::encode(limit),
        }
    }
}

/// Makes an ifb with that queue, and gives its number.
///
/// # Errors
///
/// [`KernelError::NoNetem`] if this kernel lacks what it takes. The ifb may be there all the same.
pub fn make(name: &str, queue: Queue<'_>) -> Result<u32, KernelError> {
    load_module();
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    ask(
        RouteNetlinkMessage::NewLink(link),
        NLM_F_CREATE | NLM_F_EXCL,
    )
    .map_err(|error| missing(error, Missing::Ifb))?;
    let doing = |doing: &str| KernelError::io(format!("{doing} {name}"));
    let index = if_nametoindex(name).map_err(|error| doing("looking for")(error.into()))?;

    let mut qdisc = message(index, ROOT, TcHandle::ROOT, queue.kind()).map_err(doing("naming"))?;
    qdisc.attributes.push(with_options(queue.options()));
    ask(
        RouteNetlinkMessage::NewQueueDiscipline(qdisc),
        NLM_F_CREATE | NLM_F_EXCL,
    )
    .map_err(|error| missing(error, queue.missing()))?;

    let mut up = LinkMessage::default();
    up.header.index = index;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    ask(RouteNetlinkMessage::SetLink(up), 0).map_err(doing("bringing up"))?;
    Ok(index)
}

/// What a filter is to do.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// On which interface.
    pub ifindex: u32,
    /// On which side of its clsact, which is there.
    pub side: Side,
    /// Where among others.
    pub priority: u16,
    /// Where among those of the same priority: the kernel asks the lower ones first.
    pub handle: u32,
    /// The program that says whom.
    pub program: BorrowedFd<'a>,
    /// The program's name, for whoever lists filters.
    pub name: &'static str,
    /// What the program is told of this filter, not 0.
    pub class: u32,
    /// The number of the ifb.
    pub to: u32,
}

/// Adds a filter. To be called with falling handles: what was added last comes first where the kernel keeps them in a list,
/// and by its handle where it keeps them in an array.
///
/// # Errors
///
/// [`KernelError::NoNetem`] if this kernel lacks what it takes.
pub fn redirect(filter: &Filter<'_>) -> Result<(), KernelError> {
    let mut parameters = Attributes::default();
    // `struct tc_mirred`: index, capabilities, action, two counts, what is done, where to.
    parameters.put_words(MIRRED_PARMS, &[0, 0, STOLEN, 0, 0, REDIRECT, filter.to]);
    let mut action = Attributes::default();
    action.put_text(ACT_KIND, "mirred");
    action.nest(ACT_OPTIONS, &parameters);
    let mut actions = Attributes::default();
    actions.nest(1, &action);
    add(filter, Some(&actions))
}

/// Has a program see each packet that comes to an ifb, before the packet is held: the one that says until when.
///
/// # Errors
///
/// [`KernelError::NoNetem`] if this kernel lacks what it takes.
pub fn stamp(ifindex: u32, program: BorrowedFd<'_>, class: u32) -> Result<(), KernelError> {
    clsact::ensure(ifindex).map_err(KernelError::io("adding clsact to an ifb"))?;
    let filter = Filter {
        ifindex,
        side: Side::Egress,
        priority: 1,
        handle: 1,
        program,
        name: EDT,
        class,
        to: 0,
    };
    add(&filter, None)
}

fn add(filter: &Filter<'_>, actions: Option<&Attributes>) -> Result<(), KernelError> {
    let mut options = Attributes::default();
    options.put_words(BPF_FD, &[filter.program.as_raw_fd().cast_unsigned()]);
    options.put_text(BPF_NAME, filter.name);
    options.put_words(BPF_CLASSID, &[filter.class]);
    if let Some(actions) = actions {
        options.nest(BPF_ACT, actions);
    }

    let wrong = KernelError::io("describing a filter");
    let request = message(
        filter.ifindex,
        TcHandle::from(filter.handle),
        filter.side.parent(),
        FILTER,
    )
    .and_then(|mut request| {
        request.header.info = info(filter.priority)?;
        request.attributes.push(with_options(options.into_bytes()));
        Ok(request)
    })
    .map_err(wrong)?;
    ask(
        RouteNetlinkMessage::NewTrafficFilter(request),
        NLM_F_CREATE | NLM_F_EXCL,
    )
    .map_err(|error| missing(error, Missing::Mirred))?;
    Ok(())
}

/// How many packets an ifb holds; `None` if there is none of that name.
///
/// # Errors
///
/// The kernel's answer.
pub fn held(name: &str) -> io::Result<Option<u32>> {
    let Ok(index) = if_nametoindex(name) else {
        return Ok(None);
    };
    let request = message(index, TcHandle::UNSPEC, TcHandle::UNSPEC, "")?;
    let wanted = request.header.index;
    let answers = ask(RouteNetlinkMessage::GetQueueDiscipline(request), NLM_F_DUMP)?;
    Ok(Some(
        answers
            .into_iter()
            .find(|answer| {
                answer.header.index == wanted && [NETEM, FQ].contains(&answer.kind.as_str())
            })
            .and_then(|answer| answer.queued)
            .unwrap_or(0),
    ))
}

/// Removes an ifb, and with it what it holds. False if there is none of that name.
///
/// # Errors
///
/// The kernel's answer.
pub fn remove(name: &str) -> io::Result<bool> {
    let Ok(index) = if_nametoindex(name) else {
        return Ok(false);
    };
    let mut link = LinkMessage::default();
    link.header.index = index;
    match ask(RouteNetlinkMessage::DelLink(link), 0) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Loads the module for ifbs, where it is one, without the two that it makes by itself. If this fails, the kernel loads it
/// as it does for everybody.
fn load_module() {
    if Path::new("/sys/module/ifb").exists() {
        return;
    }
    let Ok(modprobe) = std::fs::read_to_string("/proc/sys/kernel/modprobe") else {
        return;
    };
    let modprobe = modprobe.trim();
    if modprobe.is_empty() {
        return;
    }
    let _ = Command::new(modprobe)
        .args(["-q", "ifb", "numifbs=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Tells what this kernel lacks from what went wrong: an unknown kind of link is EOPNOTSUPP, of qdisc, filter or action ENOENT.
fn missing(source: io::Error, what: Missing) -> KernelError {
    match source.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOENT) => KernelError::NoNetem(what),
        _ => KernelError::Io {
            doing: format!("setting up {}", what.name()),
            source,
        },
    }
}
