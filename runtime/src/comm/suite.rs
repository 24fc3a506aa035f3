//! One suite for every communicator; a new one adds a line to `worlds!`. A world may be only those ranks of it that are
//! in this process: then the same check runs in every process.

use std::time::{Duration, Instant};

use cutplane_plan::Rank;
use proptest::prelude::*;

use super::{CommError, CommOptions, Communicator, InProcess, Payload};
use crate::tensor::{HostData, HostTensor};

fn quick() -> CommOptions {
    CommOptions { timeout: Duration::from_millis(200), ..CommOptions::default() }
}

/// Runs `work` on every rank and returns the answers in rank order.
fn on_all<C: Communicator, T: Send>(world: Vec<C>, work: impl Fn(C) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = world.into_iter().map(|comm| scope.spawn(move || work(comm))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no rank panics")).collect()
    })
}

fn ranks(ids: impl IntoIterator<Item = u32>) -> Vec<Rank> {
    ids.into_iter().map(Rank).collect()
}

fn payload(x: f32) -> Payload {
    vec![HostTensor { shape: vec![1], data: HostData::F32(vec![x]) }]
}

/// The contribution of a rank: numbers whose sum depends on the order of addition.
fn numbers(rank: Rank, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 31 + rank.index() * 17) % 101) as f32 / 7.0 + (rank.index() as f32) * 1e4).collect()
}

fn sum_of(group: &[Rank], len: usize) -> Vec<f32> {
    let add = |sum: Vec<f32>, rank: &Rank| sum.iter().zip(numbers(*rank, len)).map(|(a, b)| a + b).collect();
    group[1..].iter().fold(numbers(group[0], len), add)
}

fn messages_in_any_order<C: Communicator>(world: Vec<C>) {
    let got = on_all(world, |comm| {
        let (me, size) = (comm.rank(), comm.size());
        let others = || (0..size as u32).map(Rank).filter(|peer| *peer != me);
        for peer in others() {
            for message in 0..40 {
                comm.send(peer, message, payload((me.0 * 1000) as f32 + message as f32))?.wait()?;
            }
        }
        for peer in others() {
            for message in (0..40).rev() {
                let got = comm.recv(peer, message)?.wait()?;
                assert_eq!(got.value, payload((peer.0 * 1000) as f32 + message as f32));
            }
        }
        Ok::<_, CommError>(())
    });
    assert!(got.iter().all(Result::is_ok), "{got:?}");
}

fn one_number_is_a_queue<C: Communicator>(world: Vec<C>) {
    on_all(world, |comm| match comm.rank() {
        Rank(0) => (0..5).for_each(|i| drop(comm.send(Rank(1), 7, payload(i as f32)).expect("sent"))),
        Rank(1) => (0..5).for_each(|i| {
            let got = comm.recv(Rank(0), 7).and_then(super::Pending::wait).expect("received");
            assert_eq!(got.value, payload(i as f32));
        }),
        _ => (),
    });
}

fn what_has_come_is_known<C: Communicator>(world: Vec<C>) {
    on_all(world, |comm| match comm.rank() {
        Rank(0) => {
            assert_eq!(comm.has_come(Rank(1), 8), Ok(false), "never sent");
            drop(comm.send(Rank(1), 7, payload(1.0)).expect("sent"));
            // The other has looked in vain, and then found it.
            comm.recv(Rank(1), 9).and_then(super::Pending::wait).expect("received");
        }
        Rank(1) => {
            while !comm.has_come(Rank(0), 7).expect("alive") {
                std::thread::yield_now();
            }
            assert_eq!(comm.has_come(Rank(0), 7), Ok(true), "it is not taken");
            let got = comm.recv(Rank(0), 7).and_then(super::Pending::wait).expect("received");
            assert_eq!(got.value, payload(1.0));
            assert_eq!(comm.has_come(Rank(0), 7), Ok(false), "it is taken");
            drop(comm.send(Rank(0), 9, payload(2.0)).expect("sent"));
            while comm.has_come(Rank(0), 7).is_ok_and(|come| !come) {
                std::thread::yield_now();
            }
            let gone = CommError::PeerGone { rank: Rank(1), peer: Rank(0), what: "message 7".into() };
            assert_eq!(comm.has_come(Rank(0), 7), Err(gone), "the peer has left");
        }
        _ => (),
    });
}

fn collectives_of<C: Communicator>(world: Vec<C>, group: &[Rank], len: usize) {
    let sum = sum_of(group, len);
    let n = group.len();
    on_all(world, |comm| {
        let Some(position) = group.iter().position(|rank| *rank == comm.rank()) else { return };
        let mine = numbers(comm.rank(), len);
        // Twice, so that a second round meets what the first has left.
        for _ in 0..2 {
            let mut buffer = mine.clone();
            comm.all_reduce(group, &mut buffer).expect("all-reduce");
            assert_eq!(buffer, sum, "all-reduce");

            let mut gathered = vec![0.0; n * len];
            comm.all_gather(group, &mine, &mut gathered).expect("all-gather");
            let all: Vec<f32> = group.iter().flat_map(|rank| numbers(*rank, len)).collect();
            assert_eq!(gathered, all, "all-gather");

            let mut part = vec![0.0; len];
            let tiled: Vec<f32> = (0..n).flat_map(|_| mine.clone()).collect();
            comm.reduce_scatter(group, &tiled, &mut part).expect("reduce-scatter");
            assert_eq!(part, sum, "reduce-scatter, part {position}");

            let mut copy = mine.clone();
            comm.broadcast(group, group[n - 1], &mut copy).expect("broadcast");
            assert_eq!(copy, numbers(group[n - 1], len), "broadcast");

            let mut total = mine.clone();
            comm.reduce(group, group[n - 1], &mut total).expect("reduce");
            assert!(comm.rank() != group[n - 1] || total == sum, "reduce");

            let tiled: Vec<f32> = (0..n).flat_map(|to| mine.iter().map(move |x| x + to as f32)).collect();
            let mut exchanged = vec![0.0; n * len];
            comm.all_to_all(group, &tiled, &mut exchanged).expect("all-to-all");
            let theirs = |rank: &Rank| numbers(*rank, len).into_iter().map(|x| x + position as f32);
            assert_eq!(exchanged, group.iter().flat_map(theirs).collect::<Vec<_>>(), "all-to-all");
            comm.barrier(group).expect("barrier");
        }
    });
}

/// Microseconds since 1970 in three parts that floats hold exactly.
fn now() -> [f32; 3] {
    let micros = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_micros() as u64;
    [micros >> 40, micros >> 20 & 0xf_ffff, micros & 0xf_ffff].map(|part| part as f32)
}

fn a_barrier_holds_everybody<C: Communicator>(world: Vec<C>) {
    on_all(world, |comm| {
        let group = ranks(0..comm.size() as u32);
        comm.barrier(&group).expect("barrier");
        std::thread::sleep(Duration::from_millis(20 * u64::from(comm.rank().0)));
        let (start, came) = (Instant::now(), now());
        let waited = comm.barrier(&group).expect("barrier");
        let (left, within) = (now(), start.elapsed());
        let mut arrivals = vec![0.0; 3 * group.len()];
        comm.all_gather(&group, &came, &mut arrivals).expect("all-gather");
        let micros = |parts: &[f32]| parts.iter().fold(0, |sum, part| sum << 20 | *part as u64);
        let last = arrivals.chunks(3).map(micros).max().expect("some rank");
        assert!(micros(&left) >= last, "nobody leaves before the last has come");
        // Half, because a busy machine may stop a thread between looking at the clock and arriving.
        let least = Duration::from_micros((last - micros(&came)) / 2);
        assert!(
            (least..=within).contains(&waited),
            "the wait reaches up to the last arrival: {waited:?} of {within:?}"
        );
    });
}

fn mismatched_sizes_are_refused_everywhere<C: Communicator>(world: Vec<C>) {
    on_all(world, |comm| {
        let group = ranks(0..comm.size() as u32);
        let result = comm.all_reduce(&group, &mut vec![0.0; 3 + comm.rank().index()]);
        let Err(CommError::Mismatch { rank, calls }) = result else { panic!("{result:?}") };
        assert_eq!((rank, calls[1].as_str()), (comm.rank(), "rank 1 calls all-reduce with 4"));
    });
}

fn a_missing_peer_is_named_in_time<C: Communicator>(world: Vec<C>) {
    let start = Instant::now();
    on_all(world, |comm| {
        let group = ranks(0..comm.size() as u32);
        let last = Rank(comm.size() as u32 - 1);
        let receive = |from: Rank, message| comm.recv(from, message).and_then(super::Pending::wait);
        // The last rank stays until the others have given up: it is late, not gone.
        if comm.rank() == last {
            let others = group.iter().filter(|rank| **rank != last);
            others.for_each(|rank| while matches!(receive(*rank, 1), Err(CommError::Timeout { .. })) {});
            return;
        }
        let Err(CommError::Timeout { rank, peers, .. }) = comm.all_reduce(&group, &mut [1.0]) else { panic!("waits") };
        assert!(rank == comm.rank() && peers.contains(&last));
        let Err(CommError::Timeout { peers, what, .. }) = receive(last, 9) else { panic!("waits") };
        assert_eq!((peers, what.as_str()), (vec![last], "message 9"));
        comm.send(last, 1, payload(0.0)).and_then(super::Pending::wait).expect("sent");
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn an_abort_ends_every_wait<C: Communicator>(world: Vec<C>) {
    let start = Instant::now();
    on_all(world, |comm| {
        let group = ranks(0..comm.size() as u32);
        let error = match comm.rank() {
            Rank(0) => {
                std::thread::sleep(Duration::from_millis(30));
                comm.abort("out of memory");
                // Stay, so that it is the abort and not the departure that the others see.
                std::thread::sleep(Duration::from_millis(100));
                return;
            }
            Rank(1) => comm.recv(Rank(0), 3).and_then(super::Pending::wait).err(),
            _ => comm.barrier(&group).err(),
        };
        let (rank, failed, reason) = (comm.rank(), Rank(0), "out of memory".to_owned());
        assert_eq!(error, Some(CommError::PeerFailed { rank, failed, reason }));
    });
    assert!(start.elapsed() < Duration::from_secs(5), "long before the timeout");
}

fn a_departed_peer_is_noticed<C: Communicator>(world: Vec<C>) {
    let group = ranks(0..2);
    on_all(world, |comm| match comm.rank() {
        Rank(0) => drop(comm.send(Rank(1), 0, payload(1.0)).expect("sent")),
        Rank(1) => {
            assert!(comm.recv(Rank(0), 0).and_then(super::Pending::wait).is_ok(), "what was sent is not lost");
            let gone = |what: &str| CommError::PeerGone { rank: Rank(1), peer: Rank(0), what: what.into() };
            assert_eq!(comm.recv(Rank(0), 1).and_then(super::Pending::wait), Err(gone("message 1")));
            assert_eq!(comm.barrier(&group), Err(gone("barrier")));
            assert_eq!(comm.send(Rank(0), 2, payload(1.0)).err(), Some(gone("message 2")));
        }
        _ => (),
    });
}

fn wrong_addresses_are_refused<C: Communicator>(world: Vec<C>) {
    on_all(world, |comm| {
        let (rank, size) = (comm.rank(), comm.size());
        let unknown = CommError::UnknownRank { rank, peer: Rank(9), size };
        assert_eq!(comm.send(Rank(9), 0, payload(0.0)).err(), Some(unknown.clone()));
        assert_eq!(comm.recv(Rank(9), 0).err(), Some(unknown));
        let other = u32::from(rank == Rank(0));
        for group in [vec![], vec![other], vec![1, 0], vec![0, 0], vec![0, 9]].map(ranks) {
            assert_eq!(comm.barrier(&group), Err(CommError::Group { rank, group, size }));
        }
        let wrong = comm.all_gather(&[rank], &[0.0; 2], &mut [0.0; 3]);
        let expected = CommError::BufferSize { rank, what: "all-gather", input: 2, output: 3, group: 1 };
        assert_eq!(wrong, Err(expected));
    });
}

macro_rules! worlds {
    ($($module:ident: $world:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn moves_messages() {
                (1..=5).for_each(|size| messages_in_any_order($world(size, CommOptions::default())));
                one_number_is_a_queue($world(2, CommOptions::default()));
                what_has_come_is_known($world(2, CommOptions::default()));
            }

            #[test]
            fn sums_gathers_and_copies() {
                for size in 1..=5u32 {
                    for len in [1, 15, 16, 1000, 5000] {
                        collectives_of($world(size as usize, CommOptions::default()), &ranks(0..size), len);
                    }
                }
                collectives_of($world(5, CommOptions::default()), &ranks([1, 3, 4]), 333);
                a_barrier_holds_everybody($world(3, CommOptions::default()));
            }

            #[test]
            fn fails_within_the_timeout() {
                mismatched_sizes_are_refused_everywhere($world(3, quick()));
                a_missing_peer_is_named_in_time($world(3, quick()));
                an_abort_ends_every_wait($world(4, CommOptions::default()));
                a_departed_peer_is_noticed($world(2, CommOptions::default()));
                wrong_addresses_are_refused($world(3, quick()));
            }

            #[test]
            fn works_without_spinning() {
                let options = CommOptions { spin: Duration::ZERO, ..CommOptions::default() };
                messages_in_any_order($world(4, options));
                collectives_of($world(4, options), &ranks(0..4), 777);
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(24))]
                #[test]
                fn any_group_sums_in_rank_order(members in proptest::collection::btree_set(0u32..5, 1..=5), len in 0usize..9000) {
                    let group = ranks(members);
                    collectives_of($world(5, CommOptions::default()), &group, len);
                }
            }
        }
    )*};
}

worlds! {
    in_process: InProcess::world;
}

/// Ranks with a card each, over threads; nothing is checked where the stand-in for NCCL cannot be compiled.
#[cfg(feature = "nccl")]
fn on_cards(ranks: usize, options: CommOptions) -> Vec<Box<dyn Communicator>> {
    let below = InProcess::world(ranks, options);
    let cards: Vec<Option<usize>> = (0..ranks).map(Some).collect();
    match super::nccl::tests::libraries() {
        Some(libraries) => boxed(super::nccl::Nccl::over(below, &cards, options, &libraries).expect("a world")),
        None => boxed(below),
    }
}

#[cfg(feature = "nccl")]
fn boxed<C: Communicator + 'static>(world: Vec<C>) -> Vec<Box<dyn Communicator>> {
    world.into_iter().map(|end| Box::new(end) as Box<dyn Communicator>).collect()
}

#[cfg(feature = "nccl")]
worlds! {
    cards: on_cards;
}

#[cfg(feature = "mpi")]
#[path = "suite_mpi.rs"]
mod mpi;
