//! Reading and writing extended attributes, ACLs among them.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr, setxattr};
use rustix::io::Errno;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The kernel's limit of a value and of a list of names.
const LIMIT: usize = 64 * 1024;
/// The most that is read of one file. Some file systems keep more, which no node of a tree could hold.
const TOGETHER_MAX: usize = 4 << 20;

/// Something whose attributes can be read and written.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A file opened for reading or writing, or a directory opened for reading.
    Open(BorrowedFd<'a>),
    /// Anything opened with `O_PATH`, symbolic links included; reached through `/proc`.
    Handle(BorrowedFd<'a>),
}

impl Subject<'_> {
    /// Returns all attributes; none where the file system has none.
    ///
    /// # Errors
    /// What the kernel says, for example that the caller may not read a value; `E2BIG` for more than 4 MiB. `ENOENT` from a [`Subject::Handle`]
    /// means that `/proc` is not mounted.
    pub fn read_all(self) -> Result<Xattrs, Errno> {
        let (mut attributes, mut bytes) = (Xattrs::new(), 0);
        for name in self.names()? {
            match self.get(&name) {
                Ok(value) => {
                    bytes += name.count_bytes() + value.len();
                    if bytes > TOGETHER_MAX {
                        return Err(Errno::TOOBIG);
                    }
                    attributes.insert(name.to_bytes().to_vec(), value);
                }
                // Listed but gone by now, or listed without being readable in any way (some network file systems).
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(attributes)
    }

    /// Returns the names of all attributes; none where the file system has none.
    ///
    /// # Errors
    /// As for [`Subject::read_all`].
    pub fn names(self) -> Result<Vec<CString>, Errno> {
        let mut names = [0; 512];
        let list = match self.list(&mut names) {
            Ok(length) => names[..length].to_vec(),
            Err(Errno::RANGE) => {
                let mut names = vec![0; LIMIT];
                let length = self.list(&mut names)?;
                names.truncate(length);
                names
            }
            // Not supported here; or an attribute namespace that symbolic links cannot have.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let name = |bytes: &[u8]| CStr::from_bytes_with_nul(bytes).map(CStr::to_owned).ok();
        Ok(list.split_inclusive(|&byte| byte == 0).filter_map(name).collect())
    }

    /// Returns one attribute.
    ///
    /// # Errors
    /// `ENODATA` when there is none of that name, else what the kernel says.
    pub fn get(self, name: &CStr) -> Result<Vec<u8>, Errno> {
        let mut small = [0; 256];
        match self.get_into(name, &mut small) {
            Ok(length) => Ok(small[..length].to_vec()),
            Err(Errno::RANGE) => {
                let mut value = vec![0; LIMIT];
                let length = self.get_into(name, &mut value)?;
                value.truncate(length);
                Ok(value)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets one attribute, replacing the value it had.
    ///
    /// # Errors
    /// `EINVAL` for a name with a zero byte, else what the kernel says.
    pub fn set(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        match self {
            Subject::Open(fd) => fsetxattr(fd, &name, value, XattrFlags::empty()),
            Subject::Handle(fd) => setxattr(proc_path(fd), &name, value, XattrFlags::empty()),
        }
    }

    /// Removes one attribute.
    ///
    /// # Errors
    /// `ENODATA` when there is none of that name, else what the kernel says.
    pub fn remove(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Subject::Open(fd) => fremovexattr(fd, name),
            Subject::Handle(fd) => rustix::fs::removexattr(proc_path(fd), name),
        }
    }

    fn list(self, names: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Subject::Open(fd) => flistxattr(fd, names),
            Subject::Handle(fd) => listxattr(proc_path(fd), names),
        }
    }

    fn get_into(self, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Subject::Open(fd) => fgetxattr(fd, name, value),
            Subject::Handle(fd) => getxattr(proc_path(fd), name, value),
        }
    }
}

/// Returns the path under which the kernel leads to exactly what `fd` is a handle of.
pub fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}
