//! The system calls that the tests need and the standard library lacks.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Gives the calling thread an empty network namespace of its own.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: no pointers; only this thread's namespace changes.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a copy of the mounts of its own.
pub fn leave_mounts() -> io::Result<()> {
    // SAFETY: no pointers; only this thread's namespace and working directory change.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Mounts a file system on `at` that answers nobody as long as the file that this gives is open.
pub fn mount_hanging(at: &Path) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    let kind = c"fuse".as_ptr();
    // SAFETY: all four are strings that outlive the call.
    let done = unsafe { libc::mount(kind, at.as_ptr(), kind, libc::MS_NODEV, options.as_ptr().cast()) };
    if done == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
}

/// This thread's id.
pub fn thread_id() -> i32 {
    // SAFETY: no arguments; always succeeds.
    unsafe { libc::gettid() }
}

/// Makes connection tracking in this thread's network namespace forget all that it knows.
pub fn forget_connections() {
    // IPCTNL_MSG_CT_DELETE without a connection: all of them.
    let kind = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 2;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = 20u32.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 12]);
    let mut answer = [0u8; 1024];
    // SAFETY: no pointers but to buffers that outlive the calls, with their own lengths.
    unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        assert!(libc::send(fd, message.as_ptr().cast(), message.len(), 0) > 0, "{}", io::Error::last_os_error());
        assert!(libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) >= 20, "{}", io::Error::last_os_error());
        libc::close(fd);
    }
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    assert_eq!(error, 0, "{}", io::Error::from_raw_os_error(-error));
}
