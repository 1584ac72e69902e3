//! The calls of libsystemd and libc that the `systemd` crate lacks; every pointer stays in here.
#![expect(unsafe_code, reason = "foreign functions")]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
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

thread_local! {
    static READS_MAPPED_FILES: Cell<bool> = const { Cell::new(false) };
}

static PAGE: AtomicUsize = AtomicUsize::new(0);

/// From here on this thread reads zeros where a mapped file was cut off under its hands, as systemd's own programs do:
/// libsystemd takes them for damage. Elsewhere, and for other causes, the signal ends the process as ever.
pub fn survive_truncation() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: no pointers; the size is positive where it is known, and checked.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE.store(usize::try_from(size).unwrap_or(0), Ordering::Relaxed);
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void) = bus_error;
        // SAFETY: all zeros is a valid sigaction, of no flags and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the type that SA_SIGINFO asks for and calls only what is safe in a signal's context.
        // Where it cannot be installed, the signal has its default effect.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    });
    READS_MAPPED_FILES.set(true);
}

extern "C" fn bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `info`; SIGBUS has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code == libc::BUS_ADRERR && address != 0 && page != 0 && READS_MAPPED_FILES.get() {
        let start = (address & !(page - 1)) as *mut c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the page belongs to a mapping that this thread reads and has nothing behind it any more; nothing but
        // its faulting content is replaced.
        if unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) } == start {
            return;
        }
    }
    // SAFETY: no pointers. Back from here the access faults again, now with the default effect.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
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
