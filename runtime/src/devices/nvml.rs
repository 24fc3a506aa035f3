//! What the management library knows beside the driver: free memory and links.

use std::ffi::{c_char, c_int, c_uint, c_void};

use serde::Serialize;

use super::Card;
use super::library::{Library, text, until_nul};

const NAMES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// No card has more.
const MAX_LINKS: c_uint = 18;

type Handle = *mut c_void;
type Plain = unsafe extern "C" fn() -> c_int;
type ByBusId = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
type OfDevice<T> = unsafe extern "C" fn(Handle, *mut T) -> c_int;
type OfLink<T> = unsafe extern "C" fn(Handle, c_uint, *mut T) -> c_int;
type Text = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;

/// The card's connection to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pcie {
    /// PCI Express generation that card and slot both reach.
    pub generation: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Pcie {
    /// Bandwidth of each direction, GB/s: transfers a second a lane of the PCI Express base specifications, times the
    /// share that the line code leaves (8b/10b, from generation 3 on 128b/130b).
    pub fn bandwidth_gb_per_s(self) -> f64 {
        let gigatransfers = match self.generation {
            0 | 1 => 2.5 * 0.8,
            2 => 5.0 * 0.8,
            generation => 8.0 * f64::from(1 << (generation.min(7) - 3)) * 128.0 / 130.0,
        };
        gigatransfers / 8.0 * f64::from(self.lanes)
    }
}

/// One active NVLink of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nvlink {
    /// NVLink generation.
    pub version: u32,
    /// The other end: the PCI bus id of a card, or `None` for a switch.
    pub to_card: Option<String>,
}

impl Nvlink {
    /// Bandwidth of one direction of one link, GB/s: 20 for NVLink 1, 25 for 2 to 4, 50 for 5 (NVIDIA's architecture
    /// white papers of P100, V100, A100, H100 and B200).
    pub fn bandwidth_gb_per_s(&self) -> f64 {
        match self.version {
            0 | 1 => 20.0,
            2..=4 => 25.0,
            _ => 50.0,
        }
    }
}

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
#[derive(Default)]
struct PciInfo {
    legacy: [u8; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    ids: [c_uint; 2],
    bus_id: [u8; 32],
}

/// Fills in what NVML knows of `cards`, matched by PCI address, and returns the driver's own version, such as
/// `570.86.10`. Without NVML everything stays as it is.
pub(super) fn complete(cards: &mut [Card]) -> Option<String> {
    let library = Library::open(&NAMES)?;
    // SAFETY: `nvmlInit_v2` takes nothing.
    let started = unsafe { library.function::<Plain>("nvmlInit_v2").map(|init| init()) };
    if started != Some(0) {
        return None;
    }
    for card in cards.iter_mut() {
        fill(&library, card);
    }
    // SAFETY: the signature of nvml.h; it writes at most the length given.
    let version = unsafe { library.function::<Text>("nvmlSystemGetDriverVersion") }
        .and_then(|version| text::<80>(|buffer, length| unsafe { version(buffer, length as c_uint) }));
    // SAFETY: takes nothing; pairs with the start above.
    unsafe { library.function::<Plain>("nvmlShutdown").map(|stop| stop()) };
    version
}

fn fill(library: &Library, card: &mut Card) -> Option<()> {
    let bus_id = std::ffi::CString::new(card.pci_bus_id.as_deref()?).ok()?;
    let mut handle: Handle = std::ptr::null_mut();
    // SAFETY: the signature of nvml.h; the string ends with NUL and one handle is written.
    let found =
        unsafe { library.function::<ByBusId>("nvmlDeviceGetHandleByPciBusId_v2")?(bus_id.as_ptr(), &raw mut handle) };
    if found != 0 {
        return None;
    }
    card.free_bytes = of_device::<Memory>(library, "nvmlDeviceGetMemoryInfo", handle).map(|memory| memory.free);
    let generation = of_device(library, "nvmlDeviceGetMaxPcieLinkGeneration", handle);
    let lanes = of_device(library, "nvmlDeviceGetMaxPcieLinkWidth", handle);
    card.pcie = generation.zip(lanes).map(|(generation, lanes)| Pcie { generation, lanes });
    card.nvlinks = (0..MAX_LINKS).filter_map(|link| nvlink(library, handle, link)).collect();
    Some(())
}

fn nvlink(library: &Library, handle: Handle, link: c_uint) -> Option<Nvlink> {
    const SWITCH: c_uint = 2;
    let active: c_uint = of_link(library, "nvmlDeviceGetNvLinkState", handle, link)?;
    if active != 1 {
        return None;
    }
    let version = of_link(library, "nvmlDeviceGetNvLinkVersion", handle, link).unwrap_or(1);
    let kind: Option<c_uint> = of_link(library, "nvmlDeviceGetNvLinkRemoteDeviceType", handle, link);
    let remote: Option<PciInfo> = of_link(library, "nvmlDeviceGetNvLinkRemotePciInfo_v2", handle, link);
    let to_card = remote.filter(|_| kind != Some(SWITCH)).map(|remote| until_nul(&remote.bus_id));
    Some(Nvlink { version, to_card })
}

fn of_device<T: Default>(library: &Library, symbol: &str, handle: Handle) -> Option<T> {
    let mut value = T::default();
    // SAFETY: only called for functions of nvml.h that take a device and write one `T`.
    let status = unsafe { library.function::<OfDevice<T>>(symbol)?(handle, &raw mut value) };
    (status == 0).then_some(value)
}

fn of_link<T: Default>(library: &Library, symbol: &str, handle: Handle, link: c_uint) -> Option<T> {
    let mut value = T::default();
    // SAFETY: only called for functions of nvml.h that take a device and a link and write one `T`.
    let status = unsafe { library.function::<OfLink<T>>(symbol)?(handle, link, &raw mut value) };
    (status == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_slot_has_the_bandwidth_of_its_specification() {
        let rate = |generation, lanes| Pcie { generation, lanes }.bandwidth_gb_per_s();
        assert!((rate(3, 16) - 15.754).abs() < 1e-3);
        assert!((rate(5, 16) - 63.015).abs() < 1e-3);
        assert!((rate(1, 1) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn structures_have_the_sizes_of_the_c_header() {
        assert_eq!((size_of::<Memory>(), size_of::<PciInfo>()), (24, 68));
    }
}
