//! NVIDIA's driver and its cards, through `libcuda`.

use std::ffi::{c_char, c_int, c_uint};

use serde::Serialize;

use super::library::{Getter, Library, get, text};
use super::{Capability, Card, CudaVersion};

/// Names of the driver library, in the order in which Burn's CUDA back end looks for it.
const NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];
/// Added by CUDA 12.8; the CUDA back end reads its timers with it.
const NEWEST_FUNCTION: &str = "cuEventElapsedTime_v2";

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type DeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type DeviceText = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type DeviceAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
type DeviceTotalMem = unsafe extern "C" fn(*mut usize, c_int) -> c_int;

/// What was found of the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Driver {
    /// `libcuda` is not on this machine.
    Absent,
    /// `libcuda` is there but cannot be used.
    Failed {
        /// Under which name it was found.
        library: String,
        /// Status of `cuInit`, as `cuda.h` numbers it.
        code: i32,
        /// What that status means.
        meaning: String,
    },
    /// It runs.
    Present {
        /// Under which name it was found.
        library: String,
        /// The newest CUDA release that it supports.
        cuda: CudaVersion,
        /// Whether it has every function that a CUDA build of this tool calls.
        complete: bool,
    },
}

/// Asks the driver for itself and its cards.
pub(super) fn probe() -> (Driver, Vec<Card>) {
    let Some(library) = Library::open(&NAMES) else { return (Driver::Absent, Vec::new()) };
    // SAFETY: the signature of `cuInit` in cuda.h.
    let init: Option<Init> = unsafe { library.function("cuInit") };
    // SAFETY: 0 is the only flag that `cuInit` takes.
    let code = init.map_or(-1, |init| unsafe { init(0) });
    // No device: the driver itself is in order.
    if code != 0 && code != NO_DEVICE {
        return (Driver::Failed { library: library.name, code, meaning: meaning(code).to_owned() }, Vec::new());
    }
    let version: Result<c_int, c_int> = get(unsafe_getter(&library, "cuDriverGetVersion"));
    let cuda = CudaVersion::from_number(version.unwrap_or(0));
    let cards = if code == 0 { cards(&library) } else { Vec::new() };
    let complete = library.has(NEWEST_FUNCTION);
    (Driver::Present { library: library.name, cuda, complete }, cards)
}

const NO_DEVICE: c_int = 100;

/// In the words of cuda.h, for the statuses that `cuInit` is known to return.
fn meaning(code: c_int) -> &'static str {
    match code {
        -1 => "it is no CUDA driver: cuInit is missing",
        3 => "initialisation failed",
        34 => "it is the stub of a CUDA toolkit, not a driver",
        35 => "the kernel module is older than the library",
        101 => "the card that CUDA_VISIBLE_DEVICES names does not exist",
        802 => "the NVSwitch fabric is not ready: nvidia-fabricmanager is not running",
        803 => "the library and the kernel module have different versions: restart the machine",
        804 => "the compatibility library does not work with this card",
        999 => "unknown error: often the kernel module is not loaded, or a container without access to the card",
        _ => "see CUresult in cuda.h",
    }
}

fn unsafe_getter(library: &Library, symbol: &str) -> Option<Getter<c_int>> {
    // SAFETY: only called for functions that write one int.
    unsafe { library.function(symbol) }
}

fn cards(library: &Library) -> Vec<Card> {
    let count: c_int = get(unsafe_getter(library, "cuDeviceGetCount")).unwrap_or(0);
    (0..count).filter_map(|index| card(library, index)).collect()
}

fn card(library: &Library, index: c_int) -> Option<Card> {
    // SAFETY: the signatures of cuda.h.
    let (device_get, name, bus, attribute, memory) = unsafe {
        (
            library.function::<DeviceGet>("cuDeviceGet")?,
            library.function::<DeviceText>("cuDeviceGetName")?,
            library.function::<DeviceText>("cuDeviceGetPCIBusId"),
            library.function::<DeviceAttribute>("cuDeviceGetAttribute")?,
            library.function::<DeviceTotalMem>("cuDeviceTotalMem_v2")?,
        )
    };
    let mut device: c_int = 0;
    // SAFETY: writes one int.
    if unsafe { device_get(&raw mut device, index) } != 0 {
        return None;
    }
    let of = |key: c_int| {
        let mut value: c_int = 0;
        // SAFETY: writes one int.
        (unsafe { attribute(&raw mut value, key, device) } == 0).then_some(value.max(0) as u32)
    };
    let mut bytes: usize = 0;
    // SAFETY: writes one size_t.
    let known = unsafe { memory(&raw mut bytes, device) } == 0;
    Some(Card {
        index: index as usize,
        // SAFETY: both write at most the length given.
        name: text::<128>(|buffer, length| unsafe { name(buffer, length, device) })?,
        pci_bus_id: bus.and_then(|bus| text::<32>(|buffer, length| unsafe { bus(buffer, length, device) })),
        memory_bytes: if known { bytes as u64 } else { 0 },
        free_bytes: None,
        capability: Capability { major: of(attribute::MAJOR)?, minor: of(attribute::MINOR)? },
        multiprocessors: of(attribute::MULTIPROCESSORS)?,
        clock_mhz: of(attribute::CLOCK_KHZ).unwrap_or(0) / 1000,
        memory_clock_mhz: of(attribute::MEMORY_CLOCK_KHZ).unwrap_or(0) / 1000,
        memory_bus_bits: of(attribute::BUS_BITS).unwrap_or(0),
        pcie: None,
        nvlinks: Vec::new(),
    })
}

/// Numbers of `CUdevice_attribute`.
mod attribute {
    use std::ffi::c_int;

    pub(super) const CLOCK_KHZ: c_int = 13;
    pub(super) const MULTIPROCESSORS: c_int = 16;
    pub(super) const MEMORY_CLOCK_KHZ: c_int = 36;
    pub(super) const BUS_BITS: c_int = 37;
    pub(super) const MAJOR: c_int = 75;
    pub(super) const MINOR: c_int = 76;
}
