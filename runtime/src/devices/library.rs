//! Libraries that may or may not be there, opened by name.

use std::ffi::{c_char, c_int};

/// A C function that writes one value of the type and returns a status, zero for success.
pub(crate) type Getter<T> = unsafe extern "C" fn(*mut T) -> c_int;

/// An opened library. It is never closed: drivers start threads that would be left without their code.
pub(crate) struct Library {
    /// The name under which it was found.
    pub(crate) name: String,
    inner: &'static libloading::Library,
}

impl Library {
    /// The first of `names` that the dynamic loader finds.
    pub(crate) fn open<S: AsRef<str>>(names: &[S]) -> Option<Self> {
        names.iter().find_map(|name| Self::load(name.as_ref()).ok())
    }

    /// The library of this name, or what the dynamic loader says.
    pub(crate) fn load(name: &str) -> Result<Self, String> {
        // SAFETY: the names are those of NVIDIA's libraries, whose initialisers only prepare themselves.
        let opened = unsafe { libloading::Library::new(name) }.map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), inner: Box::leak(Box::new(opened)) })
    }

    /// True when the library has the function.
    pub(crate) fn has(&self, symbol: &str) -> bool {
        // SAFETY: the pointer is not used.
        unsafe { self.inner.get::<*const ()>(symbol) }.is_ok()
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is a function pointer of the C signature that the library's header gives `symbol`.
    pub(crate) unsafe fn function<F: Copy>(&self, symbol: &str) -> Option<F> {
        // SAFETY: promised by the caller.
        unsafe { self.inner.get::<F>(symbol) }.ok().map(|function| *function)
    }
}

/// Calls a function that writes one value; its status when it fails, -1 when the function is absent.
pub(crate) fn get<T: Default>(function: Option<Getter<T>>) -> Result<T, c_int> {
    let mut value = T::default();
    // SAFETY: the function writes one `T` through the pointer.
    match function.map_or(-1, |function| unsafe { function(&raw mut value) }) {
        0 => Ok(value),
        status => Err(status),
    }
}

/// A string that a C function writes into a buffer of at most `N` bytes; `None` when it fails.
pub(crate) fn text<const N: usize>(write: impl FnOnce(*mut c_char, c_int) -> c_int) -> Option<String> {
    let mut buffer = [0u8; N];
    (write(buffer.as_mut_ptr().cast(), N as c_int) == 0).then(|| until_nul(&buffer))
}

/// The text before the first NUL.
pub(crate) fn until_nul(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}
