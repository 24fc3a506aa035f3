//! Every absence is told apart, and what is found becomes a cluster.

use cutplane_graph::{DeviceGraph, LinkKind};

use super::*;

fn card(index: usize) -> Card {
    Card {
        index,
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        pci_bus_id: Some(format!("0000:{:02X}:00.0", 0x19 + index)),
        memory_bytes: 80 << 30,
        free_bytes: Some(79 << 30),
        capability: Capability { major: 9, minor: 0 },
        multiprocessors: 132,
        clock_mhz: 1980,
        memory_clock_mhz: 2619,
        memory_bus_bits: 5120,
        pcie: Some(Pcie { generation: 5, lanes: 16 }),
        nvlinks: vec![Nvlink { version: 4, to_card: None }; 18],
    }
}

fn version(major: u32, minor: u32) -> CudaVersion {
    CudaVersion { major, minor }
}

fn present(cuda: CudaVersion) -> Driver {
    Driver::Present { library: "libcuda.so.1".to_owned(), cuda, complete: true }
}

fn complete() -> Probe {
    Probe {
        cores: 8,
        compiled_in: true,
        driver: present(version(13, 0)),
        driver_version: Some("580.65.06".to_owned()),
        cards: vec![card(0), card(1)],
        nvrtc: Some(Nvrtc { library: "libnvrtc.so".to_owned(), cuda: version(13, 0) }),
        headers: Headers::Present { folder: "/usr/local/cuda/include".into() },
        nccl: Nccl::Absent,
        mpi: Mpi { launcher: None, version: None, library: None },
    }
}

fn missing(change: impl FnOnce(&mut Probe)) -> NotReady {
    let mut probe = complete();
    change(&mut probe);
    let error = probe.cuda_ready().expect_err("something is missing");
    let text = error.to_string();
    assert!(!text.contains('\n') && text.contains(';') | text.contains(": build"), "one line with its remedy: {text}");
    error
}

#[test]
fn nothing_missing_is_ready() {
    assert_eq!(complete().cuda_ready().map(<[Card]>::len), Ok(2));
    assert_eq!(complete().cards_ready(&[2]), Err(NotReady::UnknownCard { card: 2, count: 2 }));
}

#[test]
fn each_absence_is_told_apart() {
    let failed = Driver::Failed { library: "libcuda.so".into(), code: 34, meaning: "it is a stub".into() };
    assert_eq!(missing(|probe| probe.driver = Driver::Absent), NotReady::NoDriver);
    assert!(matches!(missing(|probe| probe.driver = failed), NotReady::DriverFailed { code: 34, .. }));
    let old = Driver::Present { library: "libcuda.so.1".into(), cuda: version(12, 4), complete: false };
    assert_eq!(missing(|probe| probe.driver = old), NotReady::DriverTooOld { found: version(12, 4) });
    assert_eq!(missing(|probe| probe.cards.clear()), NotReady::NoCard);
    assert_eq!(missing(|probe| probe.compiled_in = false), NotReady::NotCompiledIn);
    assert_eq!(missing(|probe| probe.nvrtc = None), NotReady::NoNvrtc);
    let (nvrtc, driver) = (version(13, 0), version(12, 9));
    assert_eq!(missing(|probe| probe.driver = present(driver)), NotReady::NvrtcTooNew { nvrtc, driver });
    assert!(matches!(missing(|probe| probe.headers = Headers::Absent), NotReady::NoHeaders { .. }));
    let incomplete = Headers::Incomplete { folder: "/opt/cuda/include".into(), missing: "cuda_fp16.h".into() };
    let text = missing(|probe| probe.headers = incomplete).to_string();
    assert!(text.contains("/opt/cuda/include has no cuda_fp16.h"), "{text}");
    let full = missing(|probe| probe.cards[1].free_bytes = Some(100 << 20));
    assert!(matches!(full, NotReady::NoFreeMemory { card: 1, free_mib: 100, .. }));
    let volta = missing(|probe| probe.cards[0].capability = Capability { major: 7, minor: 0 });
    assert!(matches!(volta, NotReady::CardTooOld { card: 0, .. }));
}

#[test]
fn this_machine_is_probed_without_a_panic() {
    let probe = probe();
    assert!(probe.cores > 0);
    match probe.cuda_ready() {
        Ok(cards) => println!("{} cards", cards.len()),
        Err(error) => println!("{error}"),
    }
}

fn cluster_of(list: &str) -> DeviceGraph {
    let list = DeviceList::parse(list).expect("well formed");
    DeviceGraph::build(local_cluster(&list, &[card(0), card(1)], None, &Card::spec)).expect("a connected cluster")
}

#[test]
fn ranks_of_one_card_share_its_memory_and_meet_there() {
    let graph = cluster_of("cuda:0x4");
    let names: Vec<&str> = graph.devices().iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["cuda:0/0", "cuda:0/1", "cuda:0/2", "cuda:0/3"]);
    assert!(graph.devices().iter().all(|device| (device.spec.memory_gib - 20.0).abs() < 1e-9));
    assert!(graph.devices().iter().all(|device| device.host == "card 0"));
    let ids: Vec<_> = graph.device_ids().collect();
    let route = graph.route(ids[0], ids[3]).expect("connected");
    assert!(route.links.iter().all(|link| graph.link(*link).kind == LinkKind::SharedMemory));
}

#[test]
fn cards_are_joined_by_nvlink_through_a_switch_or_directly() {
    let graph = cluster_of("cuda");
    let ids: Vec<_> = graph.device_ids().collect();
    assert!((graph.route(ids[0], ids[1]).expect("connected").bandwidth.get() - 450e9).abs() < 1.0);
    let mut cards = [card(0), card(1)];
    cards[0].nvlinks = vec![Nvlink { version: 2, to_card: Some("00000000:1a:00.0".to_owned()) }; 2];
    cards[1].nvlinks.clear();
    let list = DeviceList::parse("cuda:0,cuda:1").expect("well formed");
    let graph = DeviceGraph::build(local_cluster(&list, &cards, None, &Card::spec)).expect("connected");
    let ids: Vec<_> = graph.device_ids().collect();
    assert!((graph.route(ids[0], ids[1]).expect("connected").bandwidth.get() - 50e9).abs() < 1.0);
}

#[test]
fn an_unknown_card_is_described_by_its_driver() {
    let spec = card(0).spec();
    let peak = |dtype| spec.peak_tflop_per_s[&dtype];
    // NVIDIA's figures for H100 SXM at its highest clock: 67 and 989 at 1830 to 1980 MHz, 3350 GB/s.
    assert!((peak(cutplane_graph::Dtype::F32) - 66.9).abs() < 0.1);
    assert!((peak(cutplane_graph::Dtype::Bf16) - 1070.5).abs() < 0.1);
    assert!((spec.memory_bandwidth_gb_per_s - 3352.3).abs() < 0.1);
}
