//! A card as NCCL sees it: a context, a stream of its own, and some memory for numbers that come from the host.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::Arc;

use super::error::NcclError;
use super::library::{Address, Handle, NOT_READY, Opened, SUCCESS};

/// `CU_STREAM_NON_BLOCKING`: the stream does not wait for the default one.
const NON_BLOCKING: u32 = 1;

/// The card of a rank. The context is the primary one of the device, which Burn uses too, so that addresses mean the same
/// to both; it stays retained for the life of the process.
#[derive(Debug)]
pub(super) struct Card {
    library: Arc<Opened>,
    context: Handle,
    pub(super) stream: Handle,
    /// What no other card in the world has.
    pub(super) uuid: [u8; 16],
    /// Memory on the card, and its size in bytes.
    memory: Cell<(Address, usize)>,
}

// SAFETY: the handles may be used by any thread, one at a time, which makes the context its own first.
unsafe impl Send for Card {}

fn check(call: &'static str, status: c_int) -> Result<(), NcclError> {
    if status == SUCCESS { Ok(()) } else { Err(NcclError::Call { call, problem: format!("CUDA error {status}") }) }
}

impl Card {
    /// The card of this number.
    pub(super) fn open(library: &Arc<Opened>, number: usize) -> Result<Self, NcclError> {
        let driver = &library.driver;
        let (mut device, mut uuid) = (0, [0; 16]);
        let (mut context, mut stream) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: each call writes one value of its type; the stream belongs to the context, which is current.
        unsafe {
            check("cuInit", (driver.init)(0))?;
            check("cuDeviceGet", (driver.device)(&raw mut device, number as c_int))?;
            check("cuDeviceGetUuid", (driver.uuid)(&raw mut uuid, device))?;
            check("cuDevicePrimaryCtxRetain", (driver.retain_context)(&raw mut context, device))?;
            check("cuCtxSetCurrent", (driver.enter_context)(context))?;
            check("cuStreamCreate", (driver.new_stream)(&raw mut stream, NON_BLOCKING))?;
        }
        Ok(Self { library: library.clone(), context, stream, uuid, memory: Cell::new((0, 0)) })
    }

    /// Makes the card that of the calling thread.
    pub(super) fn enter(&self) -> Result<(), NcclError> {
        // SAFETY: the context is retained.
        check("cuCtxSetCurrent", unsafe { (self.library.driver.enter_context)(self.context) })
    }

    /// Whether the stream has done all that it was asked for.
    pub(super) fn is_idle(&self) -> Result<bool, NcclError> {
        // SAFETY: the stream lives as long as the card.
        match unsafe { (self.library.driver.stream_state)(self.stream) } {
            NOT_READY => Ok(false),
            status => check("cuStreamQuery", status).map(|()| true),
        }
    }

    /// Memory of at least so many bytes; what is asked for next is the same memory.
    pub(super) fn room(&self, bytes: usize) -> Result<Address, NcclError> {
        let (mut address, size) = self.memory.get();
        if size >= bytes {
            return Ok(address);
        }
        self.forget_memory()?;
        // SAFETY: writes one address.
        check("cuMemAlloc", unsafe { (self.library.driver.allocate)(&raw mut address, bytes) })?;
        self.memory.set((address, bytes));
        Ok(address)
    }

    fn forget_memory(&self) -> Result<(), NcclError> {
        match self.memory.replace((0, 0)) {
            (_, 0) => Ok(()),
            // SAFETY: allocated by this card and forgotten here.
            (address, _) => check("cuMemFree", unsafe { (self.library.driver.free)(address) }),
        }
    }

    /// Starts to copy numbers to the card.
    ///
    /// # Safety
    /// `from` holds `count` numbers, and the card has room for as many at `to`, until the stream is idle.
    pub(super) unsafe fn upload(&self, to: Address, from: *const f32, count: usize) -> Result<(), NcclError> {
        // SAFETY: promised by the caller.
        check("cuMemcpyHtoDAsync", unsafe {
            (self.library.driver.upload)(to, from.cast(), count * size_of::<f32>(), self.stream)
        })
    }

    /// Starts to copy numbers from the card.
    ///
    /// # Safety
    /// As [`Card::upload`], the other way.
    pub(super) unsafe fn download(&self, to: *mut f32, from: Address, count: usize) -> Result<(), NcclError> {
        // SAFETY: promised by the caller.
        check("cuMemcpyDtoHAsync", unsafe {
            (self.library.driver.download)(to.cast(), from, count * size_of::<f32>(), self.stream)
        })
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // What fails now is given back with the context.
        if self.enter().is_ok() {
            let _ = self.forget_memory();
            // SAFETY: nobody uses the stream after this.
            unsafe { (self.library.driver.end_stream)(self.stream) };
        }
    }
}
