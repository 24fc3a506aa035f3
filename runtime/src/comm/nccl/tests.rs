//! The calls into NCCL without a card: through the stand-in library of `tests/nccl`, which is compiled here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use burn::tensor::DType;
use cutplane_plan::Rank;

use super::library::{Config, DriverFunctions, Libraries, NcclFunctions, UniqueId, data_type};
use super::rank::Nccl;
use crate::comm::{CommError, CommOptions, Communicator, InProcess};

/// The folder with the stand-in under the names of both libraries, compiled once; `None`, with a line that says so, where
/// there is no C compiler.
pub(in crate::comm) fn stand_in() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("skipped: no C compiler");
        return None;
    }
    let binary = std::env::current_exe().expect("this binary");
    let folder = binary.with_file_name("nccl-stand-in");
    std::fs::create_dir_all(&folder).expect("writable");
    for name in ["libnccl.so.2", "libcuda.so.1"] {
        // Another process may be loading it.
        let fresh = folder.join(format!("{name}.{}", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nccl/stand_in.c");
        let made = if name == "libnccl.so.2" {
            let output = Command::new("cc").args(["-O1", "-shared", "-fPIC", source, "-o"]).arg(&fresh).output();
            let output = output.expect("the compiler starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        } else {
            std::os::unix::fs::symlink("libnccl.so.2", &fresh)
        };
        made.and_then(|()| std::fs::rename(&fresh, folder.join(name))).expect("writable");
    }
    Some(folder)
}

/// The stand-in for both libraries.
pub(in crate::comm) fn libraries() -> Option<Libraries> {
    let folder = stand_in()?;
    let name = |file: &str| folder.join(file).to_str().expect("UTF-8").to_owned();
    let libraries = Libraries::named(&[&name("libnccl.so.2")], &[&name("libcuda.so.1")]);
    assert!(libraries.0.is_ok(), "{libraries:?}");
    Some(libraries)
}

/// A world of threads whose ranks have these cards.
fn world(cards: &[Option<usize>]) -> Option<Vec<Nccl<InProcess>>> {
    let options = CommOptions::default();
    let world = InProcess::world(cards.len(), options);
    Some(Nccl::over(world, cards, options, &libraries()?).expect("a world"))
}

#[test]
fn types_and_structures_are_those_of_the_headers() {
    let types = [DType::F16, DType::F32, DType::BF16, DType::F64, DType::I32].map(data_type);
    assert_eq!(types, [Some(6), Some(7), Some(9), None, None]);
    assert_eq!((size_of::<UniqueId>(), size_of::<Config>()), (128, 24));
    assert_eq!((NcclFunctions::SYMBOLS.len(), DriverFunctions::SYMBOLS.len()), (15, 12));
}

#[test]
fn a_library_that_is_missing_or_too_old_is_named_with_its_remedy() {
    let said = |nccl: &str| Libraries::named(&[nccl], &[nccl]).0.expect_err("no NCCL").to_string();
    let missing = said("libno-such-nccl.so.2");
    for words in ["libno-such-nccl.so.2 is not found", "install NCCL 2.14", "libnccl2", "LD_LIBRARY_PATH"] {
        assert!(missing.contains(words), "{missing}");
    }
    // Any library that is surely there and has none of the functions.
    let old = said("libc.so.6");
    assert!(old.contains("libc.so.6 has no ncclGetVersion; install NCCL 2.14"), "{old}");
}

#[test]
fn sums_go_where_the_cards_are_and_the_note_says_so() {
    let Some(ends) = world(&[Some(0), Some(1), Some(2)]) else { return };
    let note = ends[0].describe();
    assert!(note.starts_with("NCCL 2.27.3 joins 3 ranks") && note.contains("messages go through the host"), "{note}");
    assert!(!note.contains("share") && !note.contains("have no card"), "{note}");
    // A card beyond those that there are, a rank on the processor, two ranks on one card.
    let Some(ends) = world(&[Some(3), Some(77), None, Some(3), Some(4)]) else { return };
    let note = ends[0].describe();
    for words in ["joins 3 ranks", "ranks 0, 3 share a card, which NCCL refuses", "ranks 1, 2 have no card"] {
        assert!(note.contains(words), "{note}");
    }
    let note = ends[1].describe();
    assert!(note.contains("through the host: cuDeviceGet fails: CUDA error 101"), "{note}");
}

#[test]
fn groups_that_nccl_refuses_sum_as_well() {
    // Ranks 0 and 2 share a card, rank 3 has none: only the group 0, 1 can use NCCL.
    let Some(ends) = world(&[Some(0), Some(1), Some(0), None]) else { return };
    let groups: [&[u32]; 4] = [&[0, 1], &[0, 2], &[1, 2, 3], &[0, 1, 2, 3]];
    std::thread::scope(|scope| {
        for end in ends {
            scope.spawn(move || {
                for ids in groups {
                    let group: Vec<Rank> = ids.iter().copied().map(Rank).collect();
                    if !group.contains(&end.rank()) {
                        continue;
                    }
                    let mut buffer = vec![end.rank().0 as f32 + 1.0; 70_000];
                    end.all_reduce(&group, &mut buffer).expect("summed");
                    let sum: u32 = ids.iter().map(|id| id + 1).sum();
                    assert_eq!(buffer, vec![sum as f32; 70_000]);
                    assert_eq!(end.joined(&group), ids == [0, 1], "{ids:?}");
                }
            });
        }
    });
}

#[test]
fn a_card_that_does_not_come_is_waited_for_in_time() {
    let Some(libraries) = libraries() else { return };
    let options = CommOptions { timeout: Duration::from_millis(200), ..CommOptions::default() };
    let ends = Nccl::over(InProcess::world(2, options), &[Some(0), Some(1)], options, &libraries).expect("a world");
    let group = [Rank(0), Rank(1)];
    let work = |end: Nccl<InProcess>| {
        if end.rank() == Rank(1) {
            // It agrees and hears the id, and then does not join.
            end.agree(&group, "all-reduce", 3, None).expect("agreed");
            end.below().broadcast(&group, Rank(0), &mut [0.0; 128]).expect("heard");
            return end;
        }
        let error = end.all_reduce(&group, &mut [1.0; 3]).expect_err("waits");
        let CommError::Timeout { rank: Rank(0), what, peers, .. } = &error else { panic!("{error}") };
        assert_eq!((what.as_str(), peers.as_slice()), ("joining the cards of a group", &[Rank(1)][..]));
        end
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = ends.into_iter().map(|end| scope.spawn(|| work(end))).collect();
        for thread in threads {
            drop(thread.join().expect("no panic"));
        }
    });
}
