//! DEL: detaches a container, from what was recorded at ADD.
//!
//! The runtime's namespace is not looked at (but for pods that flannel's own plugin attached, see [`inherited`]): it may
//! be gone, or the path may lead elsewhere by now. Everything hangs on the host end of the link, which is found by its
//! recorded or derived name and known by its mark. The address goes back to the pool last, so that nobody gets it while
//! something still leads to the old pod. Doing it again, or without an ADD before, is fine.

use crate::connect;
use crate::deadline::Deadline;
use crate::inherited;
use crate::mirror::Mirror;
use crate::protocol::{Config, Error, Invocation, Target};
use crate::request;
use crate::scratch::Scratch;
use crate::takedown::Takedown;

/// Does it.
///
/// # Errors
///
/// Only if something certainly is still there.
pub fn del(
    call: &Invocation,
    target: &Target,
    config: &Config,
    deadline: Deadline,
) -> Result<(), Error> {
    let identity = request::identity(config, target);
    let owner = request::owner(target)?;
    let mirror = Mirror::of(config)?;
    let takedown = Takedown {
        search: &call.path,
        deadline,
    };
    let mut detached = false;
    for data_dir in request::data_dirs(config) {
        deadline.check()?;
        let pool = request::pool_waiting(config, &data_dir, deadline.lock_wait())?;
        let Some(recorded) = pool.attachment(&owner).unwrap_or_default() else {
            // Also where the record cannot be read: then the name tells enough.
            continue;
        };
        takedown.carry_out(&recorded, target)?;
        detached = true;
        Scratch::of(config, target).remove()?;
        mirror.forget(&recorded)?;
        pool.release(&owner)?;
    }
    if !detached {
        connect::disconnect(&identity, None, &[])?;
        inherited::detach(target, config, &takedown)?;
    }
    Ok(())
}
