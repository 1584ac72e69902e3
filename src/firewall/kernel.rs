//! What the running kernel can do, where kernels differ.

use super::batch::Batch;
use super::link::{Failure, Link};

/// What a kernel can do. What is not probed is assumed until the kernel refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Deleting what may be absent (≥ 6.3). Without it an element is added, deleted and added again, in one
    /// transaction.
    pub destroy: bool,
    /// `reject` in prerouting (≥ 5.9). Without it such jails drop.
    pub reject: bool,
    /// Tables that belong to a socket and outlive it (≥ 6.9). Without it the table belongs to nobody.
    pub owner: bool,
}

impl Kernel {
    /// One that can do nothing of this.
    pub const OLD: Kernel = Kernel { destroy: false, reject: false, owner: false };

    /// Asks the kernel. Nothing is changed by it: a table that is not there is destroyed.
    pub(super) fn probe(link: &mut Link) -> Kernel {
        let mut batch = Batch::new();
        batch.destroy_table_named("banish-probe");
        let destroy = match link.commit(batch) {
            Ok(()) => true,
            // A kernel that knows the message may still refuse us; one that does not says it is invalid.
            Err(Failure::Refused(refusals)) => refusals.iter().all(|refusal| refusal.errno != libc::EINVAL),
            Err(Failure::Socket(_)) => false,
        };
        Kernel { destroy, reject: true, owner: destroy }
    }
}
