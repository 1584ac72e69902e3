//! The calls of libc by which a thread looks at files as another user.
#![expect(unsafe_code, reason = "foreign functions")]

use std::ffi::{CStr, CString};
use std::io;

/// Whom the kernel takes a thread for where it opens files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: libc::uid_t,
    /// The user's own group.
    pub group: libc::gid_t,
    /// All groups, that one among them.
    pub groups: Vec<libc::gid_t>,
}

impl Identity {
    /// Nobody's: neither a file's owner nor in its group.
    pub fn of_others() -> Identity {
        // The highest number that is not an error.
        let number = libc::uid_t::MAX - 1;
        Identity { user: number, group: number, groups: Vec::new() }
    }

    /// That of a service of `user` which is in `group`, too, if there is such a user.
    pub fn of_service(user: &CStr, group: &CStr) -> Option<Identity> {
        let (user, own) = user_of(user)?;
        let mut groups = groups_of(&user.1, own);
        groups.extend(group_of(group).filter(|group| !groups.contains(group)));
        Some(Identity { user: user.0, group: own, groups })
    }
}

/// May this process read every file?
pub fn is_root() -> bool {
    // SAFETY: always succeeds and touches no memory of ours.
    unsafe { libc::geteuid() == 0 }
}

/// Has this thread, until it ends, no rights on files but those of `identity`.
///
/// # Errors
/// The process may not change who it is.
pub fn look_at_files_as(identity: &Identity) -> io::Result<()> {
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    const SETGROUPS: libc::c_long = libc::SYS_setgroups32;
    #[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
    const SETGROUPS: libc::c_long = libc::SYS_setgroups;

    // The library's function would change all threads.
    // SAFETY: the pointer is to as many groups as said.
    if unsafe { libc::syscall(SETGROUPS, identity.groups.len(), identity.groups.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // They return what was before, and never fail aloud: -1 is nobody, and asks only.
    // SAFETY: numbers in, numbers out.
    let (group, user) = unsafe {
        libc::setfsgid(identity.group);
        libc::setfsuid(identity.user);
        (libc::setfsgid(libc::gid_t::MAX), libc::setfsuid(libc::uid_t::MAX))
    };
    match group.cast_unsigned() == identity.group && user.cast_unsigned() == identity.user {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// The number of the user of this name with the name itself, and the user's own group.
fn user_of(name: &CStr) -> Option<((libc::uid_t, CString), libc::gid_t)> {
    let mut space = vec![0; 16 * 1024];
    // SAFETY: a structure of numbers and pointers, all of which may be zero.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to what lives until the end of this function, and the length is that of `space`.
    let status =
        unsafe { libc::getpwnam_r(name.as_ptr(), &raw mut entry, space.as_mut_ptr(), space.len(), &raw mut found) };
    (status == 0 && !found.is_null()).then(|| ((entry.pw_uid, name.to_owned()), entry.pw_gid))
}

fn group_of(name: &CStr) -> Option<libc::gid_t> {
    let mut space = vec![0; 256 * 1024];
    // SAFETY: a structure of numbers and pointers, all of which may be zero.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to what lives until the end of this function, and the length is that of `space`.
    let status =
        unsafe { libc::getgrnam_r(name.as_ptr(), &raw mut entry, space.as_mut_ptr(), space.len(), &raw mut found) };
    (status == 0 && !found.is_null()).then_some(entry.gr_gid)
}

/// The groups that the user is in, `own` among them.
fn groups_of(user: &CStr, own: libc::gid_t) -> Vec<libc::gid_t> {
    let mut groups = vec![0; 1024];
    let mut count = 1024;
    // SAFETY: the pointer is to as many groups as said.
    let status = unsafe { libc::getgrouplist(user.as_ptr(), own, groups.as_mut_ptr(), &raw mut count) };
    groups.truncate(if status < 0 { 0 } else { usize::try_from(count).unwrap_or(0) });
    if groups.is_empty() { vec![own] } else { groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_own_group_and_the_one_that_its_unit_adds() {
        let Some(root) = Identity::of_service(c"root", c"root") else { return eprintln!("skipped: no user root") };
        assert_eq!((root.user, root.group, root.groups.iter().filter(|group| **group == 0).count()), (0, 0, 1));
        if let Some(daemon) = Identity::of_service(c"nobody", c"root") {
            assert!(daemon.groups.contains(&0) && daemon.groups.contains(&daemon.group), "{daemon:?}");
        }
        assert_eq!(Identity::of_service(c"no such user", c"root"), None);
    }
}
