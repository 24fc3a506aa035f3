//! Pieces and files, without a run.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cutplane_graph::{Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType};
use cutplane_plan::Optimizer;
use proptest::prelude::*;

use super::shard::Filled;
use super::*;

fn model() -> ModelGraph {
    let mut b = ModelGraphBuilder::new("tiny");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[6], Dtype::F32)).expect("input");
    let y = b.op("fc", OpKind::linear(6, 4), &[x]).expect("linear");
    b.output(y).build().expect("model")
}

fn manifest(step: u64) -> Manifest {
    let data = DataPosition { name: "text".into(), seed: 1, epoch_samples: 9, next_sample: 4 * step };
    Manifest::new("tiny", model().digest(), step, Optimizer::Sgd, data)
}

/// The parameters of the model as two ranks hold them: columns of the matrix, and the bias end to end.
fn shards(value: f32) -> Vec<Vec<Filled>> {
    let model = model();
    let rank = |rank: u64| {
        let pieces = model.params().iter().map(|param| {
            let whole = Piece::whole(&param.name, Part::Weight, &param.shape);
            let [_, columns] = param.shape[..] else {
                let half = param.elements() as usize / 2;
                let first = rank as usize * half;
                return whole.within(Some(first..first + half));
            };
            // Every second column.
            let mine: Vec<usize> = (0..columns as usize).filter(|column| column % 2 == rank as usize).collect();
            whole.at(1, &mine)
        });
        let all: Vec<f32> = (0..24u8).map(|index| value + f32::from(index)).collect();
        pieces.map(|piece| (piece.clone(), piece.cut(&all))).collect()
    };
    vec![rank(0), rank(1)]
}

fn write(writer: &CheckpointWriter, step: u64, value: f32) -> Result<PathBuf, CheckpointError> {
    let mut manifest = manifest(step);
    for (rank, tensors) in shards(value).into_iter().enumerate() {
        manifest.files.extend(writer.write_shard(step, rank as u32, tensors)?);
    }
    writer.commit(&manifest)
}

fn writer(folder: &Path, keep: usize) -> CheckpointWriter {
    CheckpointWriter::new(folder, keep).expect("a folder")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn pieces_of_any_cut_are_put_together() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = write(&writer(dir.path(), 2), 3, 0.5).expect("written");
    let checkpoint = Checkpoint::open(dir.path()).expect("whole");
    assert_eq!((checkpoint.path(), checkpoint.manifest().step), (path.as_path(), 3));
    checkpoint.check(&model(), Optimizer::Sgd).expect("the same model");
    for param in model().params() {
        let numbers = checkpoint.numbers(param, Part::Weight).expect("read").expect("saved");
        let expected: Vec<f32> = (0..param.elements()).map(|index| 0.5 + index as f32).collect();
        assert_eq!(numbers, expected, "{}", param.name);
        assert_eq!(checkpoint.numbers(param, Part::Mean).expect("read"), None);
    }
}

#[test]
fn the_last_checkpoints_are_kept_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("notes.txt"), "mine").expect("written");
    std::fs::write(dir.path().join(".step-00000001-rank-0.partial"), "of a run that was killed").expect("written");
    for step in [1, 2, 3] {
        write(&writer(dir.path(), 2), step, step as f32).expect("written");
    }
    // Written again with the same content, as after a resume.
    write(&writer(dir.path(), 2), 3, 3.0).expect("written");
    let names = names(dir.path());
    assert_eq!(names.len(), 1 + 2 * 3, "{names:?}");
    assert!(names.contains(&"notes.txt".to_owned()) && names.contains(&"step-00000002.json".to_owned()));
    let older = Checkpoint::open(&dir.path().join("step-00000002.json")).expect("an older one, by name");
    assert_eq!(older.manifest().data.next_sample, 8);
}

/// A disk with room for so many bytes.
#[derive(Debug)]
struct SmallDisk(Arc<AtomicUsize>);

struct SmallFile(Box<dyn StorageFile>, Arc<AtomicUsize>);

impl Storage for SmallDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(SmallFile(Disk.create(path)?, self.0.clone())))
    }
}

impl Write for SmallFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = self.1.load(Ordering::Relaxed).min(data.len());
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1.fetch_sub(room, Ordering::Relaxed);
        self.0.write(&data[..room])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl StorageFile for SmallFile {
    fn persist(&mut self) -> io::Result<()> {
        self.0.persist()
    }
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    write(&writer(dir.path(), 1), 1, 1.0).expect("written");
    let before = names(dir.path());
    // Full in the header of the first file, in its numbers, in the second file, and in the manifest.
    for room in [0, 10, 260, 300, 500, 700, 1000] {
        let full = writer(dir.path(), 1).with_storage(Arc::new(SmallDisk(Arc::new(room.into()))));
        let error = write(&full, 2, 2.0).expect_err("no room").to_string();
        assert!(error.contains("step-00000002") && error.contains("free space"), "{room}: {error}");
        let now = Checkpoint::open(dir.path()).expect("the one before");
        assert_eq!(now.manifest().step, 1);
        now.check(&model(), Optimizer::Sgd).expect("whole");
    }
    write(&writer(dir.path(), 1), 2, 2.0).expect("there is room again");
    let after = names(dir.path());
    assert_eq!(after.len(), before.len(), "nothing is left of the failures: {after:?}");
    assert_eq!(Checkpoint::open(dir.path()).expect("whole").manifest().step, 2);
}

/// What opening says after `damage` has been done to the file that `pick` names.
fn opening(pick: &str, damage: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    write(&writer(dir.path(), 2), 1, 1.0).expect("written");
    let name = names(dir.path()).into_iter().find(|name| name.contains(pick)).expect("a file");
    damage(&dir.path().join(&name));
    let error = Checkpoint::open(dir.path()).expect_err("damaged").to_string();
    assert!(error.contains(&name), "{error} does not name {name}");
    error
}

#[test]
fn damaged_files_are_refused_by_name() {
    let flip = |at: usize| {
        move |path: &Path| {
            let mut bytes = std::fs::read(path).expect("there");
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
            std::fs::write(path, bytes).expect("written");
        }
    };
    let cut = |path: &Path| std::fs::write(path, &std::fs::read(path).expect("there")[..90]).expect("written");
    assert!(opening("rank-1", cut).contains("has 90 bytes, the manifest says"));
    for at in [0, 20, usize::MAX] {
        assert!(opening("rank-0", flip(at)).contains("checksum"));
    }
    assert!(opening("rank-0", |path| std::fs::remove_file(path).expect("there")).contains("missing"));
    assert!(opening(".json", |path| std::fs::write(path, "").expect("written")).contains("no JSON"));
    assert!(opening(".json", cut).contains("no JSON"));
    let edit = |from: &'static str, to: &'static str| {
        move |path: &Path| {
            let text = std::fs::read_to_string(path).expect("there");
            assert!(text.contains(from), "{text}");
            std::fs::write(path, text.replacen(from, to, 1)).expect("written");
        }
    };
    assert!(opening(".json", edit("\"step\": 1", "\"step\": 2")).contains("damaged"));
    assert!(
        opening(".json", edit("\"version\": 1", "\"version\": 7")).contains("version 7, this build reads version 1")
    );
    assert!(opening(".json", edit("cutplane-checkpoint", "something-else")).contains("'format'"));
}

#[test]
fn a_folder_without_a_checkpoint_and_another_model_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let nothing = Checkpoint::open(dir.path()).expect_err("empty").to_string();
    assert!(nothing.contains("holds no checkpoint") && nothing.contains("--checkpoint"), "{nothing}");
    let missing = Checkpoint::open(&dir.path().join("step-00000009.json")).expect_err("missing").to_string();
    assert!(missing.starts_with("cannot read ") && missing.contains("--resume"), "{missing}");
    write(&writer(dir.path(), 2), 1, 1.0).expect("written");
    let checkpoint = Checkpoint::open(dir.path()).expect("whole");
    let mut b = ModelGraphBuilder::new("other");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[6], Dtype::F32)).expect("input");
    let y = b.op("fc", OpKind::linear(6, 5), &[x]).expect("linear");
    let other = b.output(y).build().expect("model");
    let error = checkpoint.check(&other, Optimizer::Sgd).expect_err("another model").to_string();
    assert!(error.contains("of the model tiny") && error.contains("this plan is for other"), "{error}");
    let error = checkpoint.check(&model(), Optimizer::AdamW).expect_err("another rule").to_string();
    assert!(error.contains("optimizer Sgd") && error.contains("AdamW"), "{error}");
}

#[test]
fn numbers_that_no_file_holds_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let writer = writer(dir.path(), 1);
    let mut manifest = manifest(1);
    manifest.files.extend(writer.write_shard(1, 0, shards(0.0).swap_remove(0)).expect("written"));
    writer.commit(&manifest).expect("written");
    let checkpoint = Checkpoint::open(dir.path()).expect("whole files");
    let error = checkpoint.check(&model(), Optimizer::Sgd).expect_err("half of it").to_string();
    assert!(error.contains("weight of parameter 'fc.weight': 12 of 24 numbers"), "{error}");
}

proptest! {
    #[test]
    fn a_cut_is_put_back_where_it_was(
        axes in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..5), 0..4),
        range in prop::option::of((0.0..1.0, 0.0..1.0)),
    ) {
        let shape: Vec<u64> = axes.iter().map(|axis| axis.len() as u64).collect();
        let elements: u64 = shape.iter().product();
        let mut piece = Piece::whole("p", Part::Weight, &shape);
        for (axis, taken) in axes.iter().enumerate() {
            let places: Vec<usize> = (0..taken.len()).filter(|place| taken[*place]).collect();
            piece = piece.at(axis, &places);
        }
        // Whether a number lies at taken places, axis by axis.
        let selected: Vec<u64> = (0..elements)
            .filter(|index| {
                let mut rest = *index as usize;
                axes.iter().rev().all(|axis| {
                    let place = rest % axis.len();
                    rest /= axis.len();
                    axis[place]
                })
            })
            .collect();
        let share = |share: f64| (share * selected.len() as f64) as usize;
        let range = range.map(|(a, b)| share(f64::min(a, b))..share(f64::max(a, b)));
        let piece = piece.within(range.clone());
        prop_assert!(piece.fits(&shape));
        let kept = range.map_or(&selected[..], |range| &selected[range]);
        let all: Vec<f32> = (0..elements).map(|index| index as f32 + 1.0).collect();
        let cut = piece.cut(&all);
        prop_assert_eq!(&cut, &kept.iter().map(|index| *index as f32 + 1.0).collect::<Vec<_>>());
        prop_assert_eq!(piece.elements(), cut.len() as u64);
        prop_assert_eq!(piece.dims().iter().product::<usize>(), cut.len());
        let (mut back, mut there) = (vec![0.0; all.len()], vec![false; all.len()]);
        piece.put(&cut, &mut back, &mut there);
        prop_assert_eq!(there.iter().filter(|there| **there).count(), cut.len());
        prop_assert!(kept.iter().all(|index| back[*index as usize].to_bits() == all[*index as usize].to_bits()));
    }
}
