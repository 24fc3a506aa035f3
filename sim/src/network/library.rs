//! Which communication library moves the bytes, and what it costs by itself.

use super::fabric::Interconnect;

/// A family of communication libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LibraryKind {
    /// NCCL (and RCCL, which descends from it): persistent kernels, rings and trees over channels.
    Nccl {
        /// Major version.
        major: u8,
        /// Minor version: trees came with 2.4, LL128 with 2.5, NVLink SHARP with 2.17.
        minor: u8,
    },
    /// MPI on host memory: recursive doubling, Rabenseifner or ring, whichever is cheapest.
    Mpi,
    /// MPI on device buffers that are copied through host memory chunk by chunk, as Baidu's ring all-reduce does.
    StagedMpi,
    /// Gloo: rings over sockets.
    Gloo,
    /// Intel MLSL: rings with several endpoints a node.
    Mlsl,
    /// TensorFlow's parameter servers over gRPC.
    Grpc,
}

/// Cost of a message inside a library that works by messages: `alpha + n beta`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Messages {
    /// Fixed cost of a call, s.
    pub(super) call: f64,
    /// Cost of each message, s, above the wire's.
    pub(super) message: f64,
    /// Share of the line rate that large messages reach between nodes.
    pub(super) share: f64,
    /// Bandwidth of copying and summing in memory, bytes/s; it adds to the wire, as no library overlaps them fully.
    pub(super) copy: f64,
}

/// gRPC: requests are serialised and copied on the host.
pub(super) const GRPC_MESSAGES: Messages = Messages { call: 200e-6, message: 100e-6, share: 0.7, copy: 5e9 };

/// A communication library with its few constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Library {
    /// Which.
    pub kind: LibraryKind,
    /// Shortest time of an isolated, synchronised call, s: hosts do not launch at one moment, and the first waits for the
    /// last. Zero inside a training step, where launches run ahead of the device;
    /// never applied to a single message.
    pub call_floor: f64,
}

impl Library {
    /// NCCL 2.18, as shipped with the frameworks of 2023: rings, trees, all protocols, NVLink SHARP.
    pub const NCCL: Self = Self::nccl(2, 18);
    /// MPI on host memory.
    pub const MPI: Self = Self::of(LibraryKind::Mpi);
    /// MPI with device buffers copied through host memory.
    pub const STAGED_MPI: Self = Self::of(LibraryKind::StagedMpi);
    /// Gloo.
    pub const GLOO: Self = Self::of(LibraryKind::Gloo);
    /// Intel MLSL.
    pub const MLSL: Self = Self::of(LibraryKind::Mlsl);
    /// TensorFlow's gRPC parameter server.
    pub const GRPC: Self = Self::of(LibraryKind::Grpc);

    /// NCCL of a version.
    pub const fn nccl(major: u8, minor: u8) -> Self {
        Self::of(LibraryKind::Nccl { major, minor })
    }

    const fn of(kind: LibraryKind) -> Self {
        Self { kind, call_floor: 0.0 }
    }

    /// The same library measured by isolated calls, none of which is shorter than `floor` seconds.
    #[must_use]
    pub const fn isolated(self, floor: f64) -> Self {
        Self { call_floor: floor, ..self }
    }

    /// Share of the line rate that a large message reaches on a level.
    ///
    /// NCCL's are the speeds that its own topology search assumes, over the line rate: 18, 20, 20, 20.6 and 40.1 GB/s a
    /// link of NVLink 1 to 5 (`src/graph/topo.h`), 12 of 15.75 GB/s on PCIe 3. They hold on `Vidur`'s boxes within a few
    /// per cent: 24 of 31.5 GB/s on PCIe 4, 48 of 63 on PCIe 5. Networks: 80-90% of the line rate is usable
    /// (`stas00/ml-engineering`; calculon takes 0.9). NCCL takes 9 of
    /// 19.2 GB/s between sockets.
    pub fn share(&self, interconnect: Interconnect) -> f64 {
        match self.messages() {
            Some(messages) if interconnect.crosses_nodes() => messages.share,
            // Copies bind inside a node, not the link.
            Some(_) => 0.9,
            None => nccl_share(interconnect),
        }
    }

    /// As [`Library::share`], for one message in one direction.
    ///
    /// The ring of an all-reduce keeps both directions of a link busy, one message does not; on NVLink 3 behind NVSwitch
    /// that shows (`Vidur`: 240 to 267 of 300 GB/s), elsewhere the two shares agree within a few per cent.
    pub fn share_of_message(&self, interconnect: Interconnect) -> f64 {
        match (self.kind, interconnect) {
            (LibraryKind::Nccl { .. }, Interconnect::NvSwitch(3)) => 0.87,
            _ => self.share(interconnect),
        }
    }

    /// Multiprocessors that the library's kernel keeps from computation while a large message moves: NCCL runs one block a
    /// channel. Priors: 24 channels on NVLink 3, 16 where NVSwitch adds, two a ring on PCIe and a card; none for libraries
    /// of the host.
    pub fn busy_multiprocessors(&self, interconnect: Interconnect) -> u32 {
        match (self.kind, interconnect) {
            (LibraryKind::Nccl { .. }, Interconnect::NvSwitch(4..)) => 16,
            (LibraryKind::Nccl { .. }, Interconnect::NvSwitch(3) | Interconnect::NvLink(3..)) => 24,
            (LibraryKind::Nccl { .. }, Interconnect::NvLink(_) | Interconnect::NvSwitch(_)) => 12,
            (LibraryKind::Nccl { .. }, interconnect) if interconnect.crosses_nodes() => 8,
            (LibraryKind::Nccl { .. }, _) => 4,
            _ => 0,
        }
    }

    /// Constants of a library that works by messages; `None` for NCCL.
    ///
    /// Priors: small-message latencies are those usual for each stack; the shares of gRPC and sockets follow from copies
    /// and serialisation on the host.
    pub(super) fn messages(&self) -> Option<Messages> {
        Some(match self.kind {
            LibraryKind::Nccl { .. } => return None,
            LibraryKind::Mpi => Messages { call: 2e-6, message: 1.5e-6, share: 0.85, copy: 12e9 },
            LibraryKind::StagedMpi => Messages { call: 80e-6, message: 20e-6, share: 0.85, copy: 4.5e9 },
            LibraryKind::Gloo => Messages { call: 20e-6, message: 15e-6, share: 0.7, copy: 6e9 },
            LibraryKind::Mlsl => Messages { call: 20e-6, message: 5e-6, share: 0.9, copy: 200e9 },
            LibraryKind::Grpc => GRPC_MESSAGES,
        })
    }
}

fn nccl_share(interconnect: Interconnect) -> f64 {
    match interconnect {
        Interconnect::NvLink(1) | Interconnect::NvSwitch(1) => 18.0 / 20.0,
        Interconnect::NvLink(2) | Interconnect::NvSwitch(2) => 20.0 / 25.0,
        Interconnect::NvSwitch(3) => 19.5 / 25.0,
        // A bridge between two cards: the same few channels carry both directions of a two-rank ring.
        Interconnect::NvLink(3..) => 0.69,
        Interconnect::NvSwitch(4) => 20.6 / 25.0,
        Interconnect::NvLink(_) | Interconnect::NvSwitch(_) => 40.1 / 50.0,
        Interconnect::InfinityFabric => 0.75,
        Interconnect::Pcie(_) => 12.0 / 15.75,
        Interconnect::HostBridge => 9.0 / 19.2,
        Interconnect::SharedMemory => 0.6,
        Interconnect::InfiniBand | Interconnect::OmniPath => 0.92,
        Interconnect::Roce => 0.88,
        Interconnect::Ethernet => 0.7,
    }
}
