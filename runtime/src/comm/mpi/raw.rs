//! The few calls of MPI that this room stands on: messages that are started and asked after, never waited for inside MPI,
//! because nothing inside MPI can be called off.
//!
//! Memory under a message that is on its way belongs to the message. If it is given up, its memory is given up with it,
//! because MPI may still write there.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;

use mpi::ffi;

/// Longest stretch that goes as one message; MPI counts in 32 bits.
const STRETCH: usize = 1 << 30;

/// Numbers or bytes that go from process to process.
#[derive(Debug)]
pub(super) enum Buffer {
    Floats(Vec<f32>),
    Integers(Vec<i32>),
    Bytes(Vec<u8>),
    Words(Vec<u64>),
}

impl Buffer {
    fn bytes(&mut self) -> (*mut u8, usize) {
        match self {
            Self::Floats(data) => (data.as_mut_ptr().cast(), size_of_val(data.as_slice())),
            Self::Integers(data) => (data.as_mut_ptr().cast(), size_of_val(data.as_slice())),
            Self::Bytes(data) => (data.as_mut_ptr(), data.len()),
            Self::Words(data) => (data.as_mut_ptr().cast(), size_of_val(data.as_slice())),
        }
    }
}

/// A message on its way, out or in.
#[derive(Debug)]
pub(super) struct OnTheWay {
    buffer: ManuallyDrop<Buffer>,
    requests: Vec<ffi::MPI_Request>,
}

// SAFETY: with `MPI_THREAD_MULTIPLE`, which `MpiProcesses` insists on, any thread may ask after any request.
unsafe impl Send for OnTheWay {}

impl OnTheWay {
    /// Whether it is there, or has left; asking also moves whatever else is on its way.
    pub(super) fn is_over(&mut self) -> Result<bool, String> {
        while let Some(request) = self.requests.last_mut() {
            let mut over = 0;
            // SAFETY: the request was made by MPI and is still active, because completed ones are taken off the list.
            check(unsafe { ffi::MPI_Test(request, &raw mut over, ffi::RSMPI_STATUS_IGNORE) })?;
            if over == 0 {
                return Ok(false);
            }
            self.requests.pop();
        }
        Ok(true)
    }

    /// What has come; `None` while it is on its way.
    pub(super) fn into_buffer(mut self) -> Option<Buffer> {
        if !self.requests.is_empty() {
            return None;
        }
        // SAFETY: taken once, since `self` is consumed and `drop` leaves the buffer alone when it is empty.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        self.buffer = ManuallyDrop::new(Buffer::Bytes(Vec::new()));
        Some(buffer)
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            // SAFETY: no request refers to it any more, and nobody takes it after this.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        }
    }
}

/// A message that has been noticed and not yet received.
#[derive(Debug)]
pub(super) struct Noticed {
    message: ffi::MPI_Message,
    pub(super) from: usize,
    pub(super) bytes: usize,
}

/// Messages of one kind between all processes: nothing of one channel is ever taken for something of another.
#[derive(Debug)]
pub(super) struct Channel {
    comm: ffi::MPI_Comm,
}

// SAFETY: as for `OnTheWay`.
unsafe impl Send for Channel {}
// SAFETY: as for `OnTheWay`.
unsafe impl Sync for Channel {}

impl Channel {
    /// A new channel; all processes open theirs in one order.
    pub(super) fn open() -> Result<Self, String> {
        // SAFETY: MPI is initialised, and the handle is written before it is read.
        unsafe {
            let mut comm = ffi::RSMPI_COMM_NULL;
            check(ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &raw mut comm))?;
            check(ffi::MPI_Comm_set_errhandler(comm, ffi::RSMPI_ERRORS_RETURN))?;
            Ok(Self { comm })
        }
    }

    /// Starts to send `buffer` to a process.
    pub(super) fn send(&self, to: usize, tag: i32, buffer: Buffer) -> Result<OnTheWay, String> {
        Self::start(buffer, |start, count, request| {
            // SAFETY: the stretch lies in a buffer that lives as long as the request.
            unsafe { ffi::MPI_Isend(start, count, ffi::RSMPI_UINT8_T, to as c_int, tag, self.comm, request) }
        })
    }

    /// Starts to receive what fills `buffer` from a process.
    pub(super) fn receive(&self, from: usize, tag: i32, buffer: Buffer) -> Result<OnTheWay, String> {
        Self::start(buffer, |start, count, request| {
            // SAFETY: the stretch lies in a buffer that lives as long as the request and that nobody else looks at.
            unsafe { ffi::MPI_Irecv(start, count, ffi::RSMPI_UINT8_T, from as c_int, tag, self.comm, request) }
        })
    }

    fn start(
        mut buffer: Buffer,
        start: impl Fn(*mut c_void, c_int, *mut ffi::MPI_Request) -> c_int,
    ) -> Result<OnTheWay, String> {
        let (memory, bytes) = buffer.bytes();
        let mut under_way = OnTheWay { buffer: ManuallyDrop::new(buffer), requests: Vec::with_capacity(1) };
        for first in (0..bytes).step_by(STRETCH) {
            let count = STRETCH.min(bytes - first) as c_int;
            // SAFETY: inside the buffer; moving the buffer's owner does not move its content.
            let (stretch, mut request) = unsafe { (memory.add(first), ffi::RSMPI_REQUEST_NULL) };
            check(start(stretch.cast(), count, &raw mut request))?;
            under_way.requests.push(request);
        }
        Ok(under_way)
    }

    /// A message with this tag from anybody, if one has come; asking also moves whatever else is on its way.
    pub(super) fn notice(&self, tag: i32) -> Result<Option<Noticed>, String> {
        // SAFETY: all places that MPI writes to are on this stack; the status is read only after it was written.
        unsafe {
            let (mut flag, mut message, mut bytes) = (0, ffi::RSMPI_MESSAGE_NULL, 0);
            let mut status: ffi::MPI_Status = std::mem::zeroed();
            let (any, kind) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_UINT8_T);
            check(ffi::MPI_Improbe(any, tag, self.comm, &raw mut flag, &raw mut message, &raw mut status))?;
            if flag == 0 {
                return Ok(None);
            }
            check(ffi::MPI_Get_count(&raw const status, kind, &raw mut bytes))?;
            Ok(Some(Noticed { message, from: status.MPI_SOURCE as usize, bytes: bytes as usize }))
        }
    }

    /// Starts to receive a message that was noticed into a buffer of its length.
    pub(super) fn take(mut noticed: Noticed, mut buffer: Buffer) -> Result<OnTheWay, String> {
        let (memory, bytes) = buffer.bytes();
        let mut under_way = OnTheWay { buffer: ManuallyDrop::new(buffer), requests: Vec::new() };
        // SAFETY: the message was noticed and is received once; the buffer lives as long as the request.
        unsafe {
            let (mut request, kind) = (ffi::RSMPI_REQUEST_NULL, ffi::RSMPI_UINT8_T);
            let message = &raw mut noticed.message;
            check(ffi::MPI_Imrecv(memory.cast(), bytes as c_int, kind, message, &raw mut request))?;
            under_way.requests.push(request);
        }
        Ok(under_way)
    }

    /// What every process gives, by process; all call it together.
    pub(super) fn gather<const N: usize>(&self, mine: [u64; N], processes: usize) -> Result<Vec<[u64; N]>, String> {
        let mut all = vec![[0; N]; processes];
        let (count, kind) = (N as c_int, unsafe { ffi::RSMPI_UINT64_T });
        // SAFETY: `all` has room for the numbers of every process.
        check(unsafe {
            ffi::MPI_Allgather(mine.as_ptr().cast(), count, kind, all.as_mut_ptr().cast(), count, kind, self.comm)
        })?;
        Ok(all)
    }
}

/// The text of an error code.
fn check(code: c_int) -> Result<(), String> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut length = 0;
    // SAFETY: the text has the length that MPI asks for.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut length) };
    Err(String::from_utf8_lossy(&text[..length as usize]).into_owned())
}
