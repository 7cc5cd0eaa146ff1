//! Interfaces that come, go and change their names while a session lasts.

use super::super::interfaces::{Netns, of};
use super::Session;
use crate::EngineError;
use murphy_fault::plan::Plan;

impl Session {
    /// Tells the kernel programs which interfaces faults name by now, in the network namespaces known and in new ones.
    ///
    /// # Errors
    ///
    /// The map could not be written.
    pub(super) fn relocate(&mut self, new: &[Option<Netns>]) -> Result<(), EngineError> {
        if !self.plan.names_interfaces() {
            return Ok(());
        }
        let all = self.netns.iter().chain(new);
        // What cannot be listed now is as it was, and is looked at again with the next lease.
        let Ok(networks) = all
            .map(|netns| of(netns.as_ref()))
            .collect::<Result<Vec<_>, _>>()
        else {
            return Ok(());
        };
        let interfaces = self.plan.interfaces(&networks);
        if interfaces == self.plan.masks.interfaces {
            return Ok(());
        }
        if interfaces.len() > Plan::MOST_INTERFACES {
            let most = Plan::MOST_INTERFACES;
            self.notices.warn(format!(
                "there are more than {most} interfaces by now that faults name: those that came last are let be"
            ));
            return Ok(());
        }
        self.kernel()?.locate(&interfaces)?;
        self.plan.masks.interfaces = interfaces;
        Ok(())
    }
}
