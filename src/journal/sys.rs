//! The calls of libsystemd and libc that the `systemd` crate lacks; every pointer stays in here.
#![expect(unsafe_code, reason = "foreign functions")]

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use foreign_types::ForeignTypeRef;
use libsystemd_sys::journal::{sd_journal, sd_journal_get_cursor, sd_journal_reliable_fd};
use systemd::journal::JournalRef;

unsafe extern "C" {
    /// See `sd_journal_enumerate_available_data(3)`, systemd 246.
    fn sd_journal_enumerate_available_data(
        journal: *mut sd_journal,
        data: *mut *const c_void,
        length: *mut usize,
    ) -> libc::c_int;
}

/// The next field of the current entry as `NAME=value`, passing over those that this libsystemd cannot decompress.
pub fn next_field(journal: &mut JournalRef) -> Result<Option<&[u8]>, systemd::Error> {
    let mut data = std::ptr::null();
    let mut length = 0;
    // SAFETY: the handle is alive as long as the reference, and the two results are written before they are read.
    let found = unsafe { sd_journal_enumerate_available_data(journal.as_ptr(), &mut data, &mut length) };
    if found < 0 {
        return Err(systemd::Error::from_raw_os_error(-found).with_operation("sd_journal_enumerate_available_data"));
    }
    if found == 0 || data.is_null() {
        return Ok(None);
    }
    // SAFETY: sd-journal gave `length` bytes at `data`, which stay there until the next call on this handle; the
    // mutable borrow of it that the result carries rules such a call out.
    Ok(Some(unsafe { std::slice::from_raw_parts(data.cast(), length) }))
}

/// The current entry's cursor, as bytes and not copied: half the price of the `systemd` crate's.
pub fn cursor<T>(journal: &JournalRef, read: impl FnOnce(&[u8]) -> T) -> Result<T, systemd::Error> {
    let mut text = std::ptr::null();
    // SAFETY: the handle is alive as long as the reference, and the result is written before it is read.
    let outcome = unsafe { sd_journal_get_cursor(journal.as_ptr(), &mut text) };
    if outcome < 0 {
        return Err(systemd::Error::from_raw_os_error(-outcome).with_operation("sd_journal_get_cursor"));
    }
    // SAFETY: on success `text` is a NUL-terminated string of ours.
    let value = read(unsafe { CStr::from_ptr(text) }.to_bytes());
    // SAFETY: sd_journal_get_cursor(3) has the caller free it; nothing borrows from it any more.
    unsafe { libc::free(text.cast_mut().cast()) };
    Ok(value)
}

/// Does the journal's descriptor tell of every change? It does not on a network file system.
pub fn wakes_reliably(journal: &JournalRef) -> bool {
    // SAFETY: the handle is alive as long as the reference.
    unsafe { sd_journal_reliable_fd(journal.as_ptr()) > 0 }
}

/// A non-blocking event counter, see `eventfd(2)`.
pub fn event_counter() -> io::Result<File> {
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// What tells of changes to files, non-blocking, see `inotify(7)`.
pub fn inotify() -> io::Result<File> {
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Has `inotify` tell of these events of the file or directory; gives the number that they carry.
pub fn watch(inotify: &File, path: &Path, events: u32) -> io::Result<i32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a NUL-terminated string that outlives the call; the result is checked.
    let number = unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), events) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

/// Waits until one of the descriptors can be read (or is broken), for `timeout` at most, and says which can.
/// A signal ends the wait early.
pub fn wait_readable<const N: usize>(descriptors: [RawFd; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // Rounded up: a wait cut short would come round again at once.
    let millis =
        timeout.map_or(-1, |time| libc::c_int::try_from(time.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX));
    // SAFETY: `polled` has N elements and outlives the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polled.map(|one| one.revents != 0))
}
