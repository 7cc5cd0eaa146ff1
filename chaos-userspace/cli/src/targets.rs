//! Whom `inject` hits, from the words of the command line.

use super::args::{Picked, TargetArgs};
use super::failure::Failure;
use murphy_fault::plan::{Selector, Who};
use murphy_fault::{Fault, TargetKey};
use murphy_sys::users;

/// Looks the users' names up that faults speak of.
pub(super) fn look_up(faults: &mut [Fault]) -> Result<(), Failure> {
    for fault in faults {
        let named = fault.target.hit.iter_mut().chain(&mut fault.target.spare);
        for selector in named {
            if let Selector::User(name) = selector {
                *selector = Selector::Uid(user(name)?);
            }
        }
    }
    Ok(())
}

/// All target options together; they are for the faults that do not say it themselves.
pub(super) fn who(args: &TargetArgs, faults: &[Fault]) -> Result<Who, Failure> {
    let mut who = Who {
        exempt: !args.no_exempt,
        ..Who::default()
    };
    if args.all {
        who.hit.push(Selector::All);
    }
    add(&mut who, &args.pids, |pid| Ok(Selector::Pid(*pid)))?;
    add(&mut who, &args.threads, |tid| Ok(Selector::Tid(*tid)))?;
    add(&mut who, &args.cgroups, |path| {
        Ok(Selector::Cgroup(path.into()))
    })?;
    add(&mut who, &args.users, |name| Ok(Selector::Uid(user(name)?)))?;
    add(&mut who, &args.comms, |name| {
        Ok(Selector::Comm(name.clone()))
    })?;
    add(&mut who, &args.exes, |path| Ok(Selector::Exe(path.into())))?;
    add(&mut who, &args.containers, |id| {
        Ok(Selector::Container(id.clone()))
    })?;
    add(&mut who, &args.units, |name| {
        Ok(Selector::Unit(name.clone()))
    })?;
    add(&mut who, &args.namespaces, |name| {
        Selector::of(TargetKey::Netns, name).ok_or_else(|| Failure::NoNamespace(name.clone()))
    })?;
    let leaves_it = |fault: &Fault| fault.target.hit.is_empty();
    if who.hit.is_empty() && !who.spare.is_empty() && faults.iter().any(leaves_it) {
        return Err(Failure::NobodyHit);
    }
    Ok(who)
}

fn add<T>(
    who: &mut Who,
    values: &[Picked<T>],
    selector: impl Fn(&T) -> Result<Selector, Failure>,
) -> Result<(), Failure> {
    for picked in values {
        let list = if picked.spared {
            &mut who.spare
        } else {
            &mut who.hit
        };
        list.push(selector(&picked.value)?);
    }
    Ok(())
}

/// A user by name or by number, which need not be in the user database.
fn user(name: &str) -> Result<u32, Failure> {
    users::id(name).ok_or_else(|| Failure::NoUser(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> TargetArgs {
        TargetArgs {
            pids: vec![],
            threads: vec![],
            cgroups: vec![],
            users: vec!["root".parse().unwrap(), "!12345".parse().unwrap()],
            comms: vec![],
            exes: vec![],
            containers: vec![],
            units: vec![],
            namespaces: vec![],
            all: false,
            no_exempt: false,
        }
    }

    #[test]
    fn hit_and_spared() {
        let who = who(&args(), &[]).unwrap();
        assert_eq!(who.hit, [Selector::Uid(0)]);
        assert_eq!(who.spare, [Selector::Uid(12345)]);
        assert!(who.exempt);
    }

    #[test]
    fn somebody_has_to_be_hit() {
        let faults = ["connect:error=EPERM".parse().unwrap()];
        let spared = TargetArgs {
            users: vec!["!0".parse().unwrap()],
            ..args()
        };
        assert!(matches!(who(&spared, &faults), Err(Failure::NobodyHit)));
        let nobody = TargetArgs {
            users: vec!["no such user".parse().unwrap()],
            ..args()
        };
        assert!(matches!(who(&nobody, &faults), Err(Failure::NoUser(_))));
        let nowhere = TargetArgs {
            namespaces: vec!["a/b".parse().unwrap()],
            ..args()
        };
        let refused = who(&nowhere, &faults);
        assert!(matches!(refused, Err(Failure::NoNamespace(_))));
    }
}
