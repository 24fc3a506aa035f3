//! Deals of files: what is read, and what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutplane_graph::{Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType, ValueId};
use tempfile::TempDir;

use super::text::{model, rows};
use crate::data::{Batches, DataError, Pictures, Portion, Prefetch, TextData, TokenFile, TokenFormat};

fn folder() -> TempDir {
    tempfile::tempdir().expect("the temporary folder takes files")
}

fn file(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("written");
    path
}

fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

/// A classifier of single-channel pictures of 2 x 3 pixels.
fn classifier(classes: u64) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("classifier");
    let pixels = b.input("pixels", InputRole::Features, TensorType::batched(&[6], Dtype::F32)).expect("input");
    let class = b.input("class", InputRole::Classes, TensorType::batched(&[], Dtype::I32)).expect("input");
    let logits = b.op("fc", OpKind::linear(6, classes), &[pixels]).expect("linear");
    let loss = b.op("loss", OpKind::CrossEntropy { classes, counted: 1 }, &[logits, class]).expect("loss");
    b.loss(loss).build().expect("model")
}

/// `count` pictures, of which number `i` has the pixels `6 i..6 i + 6` and the label `i % 4`.
fn idx(folder: &TempDir, count: u8) -> (PathBuf, PathBuf) {
    let header = |kind: u8, axes: &[u32]| -> Vec<u8> {
        [0, 0, 8, kind].into_iter().chain(axes.iter().flat_map(|axis| axis.to_be_bytes())).collect()
    };
    let mut pictures = header(3, &[u32::from(count), 2, 3]);
    pictures.extend(0..6 * count);
    let mut labels = header(1, &[u32::from(count)]);
    labels.extend((0..count).map(|index| index % 4));
    (file(folder, "images-idx3-ubyte", &pictures), file(folder, "labels-idx1-ubyte", &labels))
}

fn refused(result: Result<impl std::fmt::Debug, DataError>, path: &Path, parts: &[&str]) {
    let error = result.expect_err("refused").to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    assert!(parts.iter().all(|part| error.contains(part)), "{error} does not say {parts:?}");
}

#[test]
fn every_format_of_tokens_deals_what_the_text_deals() {
    let letters: Vec<u8> = (0..200u32).map(|i| b'a' + (i * 7 % 26) as u8).collect();
    let narrow: Vec<u8> = letters.iter().flat_map(|letter| u16::from(*letter).to_le_bytes()).collect();
    let wide: Vec<u8> = letters.iter().flat_map(|letter| u32::from(*letter).to_le_bytes()).collect();
    let (folder, graph) = (folder(), model(256, None));
    let text = TextData::from_text("letters", std::str::from_utf8(&letters).expect("ASCII")).expect("text");
    let of_text = Batches::new(Arc::new(text), &graph, 6, 9).expect("fits");
    for (name, content, format) in [
        ("a.bin", narrow.clone(), TokenFormat::U16),
        ("b.bin", wide.clone(), TokenFormat::U32),
        ("c.npy", npy("<u2", "(200,)", &narrow), TokenFormat::Npy),
        ("d.npy", npy("<i4", "(200,)", &wide), TokenFormat::Npy),
    ] {
        let tokens = TokenFile::open(&file(&folder, name, &content), format).expect(name);
        assert_eq!(tokens.tokens(), 200);
        let batches = Batches::of_tokens(Arc::new(tokens), &graph, 6, 9).expect("fits");
        assert_eq!(batches.epoch_samples(), of_text.epoch_samples());
        for step in [0, 3, 40] {
            assert_eq!(rows(&batches, &graph, step, 0, 6), rows(&of_text, &graph, step, 0, 6), "{name}");
        }
    }
}

#[test]
fn hostile_token_files_are_refused_with_the_offset() {
    let (folder, graph) = (folder(), model(256, None));
    let open = |name: &str, content: &[u8], format, parts: &[&str]| {
        let path = file(&folder, name, content);
        refused(TokenFile::open(&path, format), &path, parts);
    };
    open("empty.bin", &[], TokenFormat::U16, &["is empty"]);
    open("odd.bin", &[1, 0, 2], TokenFormat::U16, &["offset 2", "1 of 2 bytes", "--data-format"]);
    open("text.npy", b"once upon a time", TokenFormat::Npy, &["offset 0", "no NumPy file"]);
    open("short.npy", b"\x93NUM", TokenFormat::Npy, &["offset 0", "10 bytes are expected", "truncated"]);
    open("floats.npy", &npy("<f4", "(2,)", &[0; 8]), TokenFormat::Npy, &["type <f4", "np.uint16"]);
    open("matrix.npy", &npy("<u2", "(2, 2)", &[0; 8]), TokenFormat::Npy, &["2 axes"]);
    open("cut.npy", &npy("<u2", "(9,)", &[0; 8]), TokenFormat::Npy, &["tells of 9 tokens, 4 are there"]);
    open("huge.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", TokenFormat::Npy, &["a header of 4294967295 bytes"]);

    let mut ids = [7u8, 0].repeat(100);
    ids[101] = 255;
    let path = file(&folder, "large-id.bin", &ids);
    let batches = |path: &Path| {
        let tokens = Arc::new(TokenFile::open(path, TokenFormat::U16).expect("opens"));
        Batches::of_tokens(tokens, &graph, 12, 0).expect("fits")
    };
    let wanted: Vec<ValueId> = graph.inputs().collect();
    let large = batches(&path).inputs(0, 0, 12, &wanted);
    refused(large, &path, &["offset 100", "token 65287", "vocabulary of 256", "--vocab"]);
    ids[101] = 0;
    let path = file(&folder, "shrinks.bin", &ids);
    let batches = batches(&path);
    std::fs::write(&path, &ids[..40]).expect("truncated while it is open");
    refused(batches.inputs(0, 0, 12, &wanted), &path, &["offset", "leave the file as it is"]);
}

#[test]
fn pictures_are_dealt_with_their_classes_once_an_epoch() {
    let (folder, graph) = (folder(), classifier(4));
    let (pictures, labels) = idx(&folder, 8);
    let pictures = Arc::new(Pictures::idx(&pictures, &labels).expect("opens"));
    assert_eq!((pictures.shape(), pictures.labels().len()), ([1, 2, 3], 8));
    let batches = Batches::of_pictures(pictures, &graph, 4, 5).expect("fits");
    let wanted: Vec<ValueId> = graph.inputs().collect();
    let mut seen = Vec::new();
    for step in 0..2 {
        let inputs = batches.inputs(step, 0, 4, &wanted).expect("read");
        let (pixels, classes) = (inputs[0].1.as_f32().expect("floats"), inputs[1].1.as_i32().expect("classes"));
        for (picture, class) in pixels.chunks(6).zip(classes) {
            let bytes: Vec<u8> = picture.iter().map(|pixel| ((pixel + 1.0) * 127.5).round() as u8).collect();
            let number = bytes[0] / 6;
            assert_eq!(bytes, (6 * number..6 * number + 6).collect::<Vec<_>>());
            assert_eq!(*class, i32::from(number % 4));
            seen.push(number);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn hostile_picture_files_are_refused_with_the_offset() {
    let folder = folder();
    let (good, labels) = idx(&folder, 8);
    let bytes = std::fs::read(&good).expect("written");
    let refuse = |name: &str, content: &[u8], parts: &[&str]| {
        let path = file(&folder, name, content);
        refused(Pictures::idx(&path, &labels), &path, parts);
    };
    refuse("cut", &bytes[..50], &["offset 50", "[8, 2, 3]", "34 bytes", "truncated"]);
    refuse("header", &bytes[..9], &["offset 4", "12 bytes are expected"]);
    refuse("gzip", &[0x1f, 0x8b, 8, 0, 0], &["offset 0", "gunzip"]);
    refuse("empty", &[], &["offset 0", "4 bytes are expected"]);
    let mut huge = bytes.clone();
    huge[4..16].fill(255);
    refuse("huge", &huge, &["4294967295", "truncated"]);
    refused(Pictures::idx(&labels, &labels), &labels, &["magic number [00, 00, 08, 01]", "[00, 00, 08, 03]"]);
    let few = file(&folder, "few", &[0, 0, 8, 1, 0, 0, 0, 1, 3]);
    refused(Pictures::idx(&good, &few), &few, &["1 labels", "8 pictures", "--labels"]);
    let pictures = Arc::new(Pictures::idx(&good, &labels).expect("opens"));
    let narrow = Batches::of_pictures(pictures.clone(), &classifier(3), 2, 0);
    refused(narrow, &labels, &["offset 11", "label 3", "3 classes", "--vocab"]);
    let words = Batches::of_pictures(pictures, &model(256, None), 2, 0);
    refused(words, &good, &["1 x 2 x 3", "'tokens'", "--image"]);
}

#[test]
fn a_folder_of_cifar_batches_is_one_set() {
    let folder = folder();
    let record = |label: u8| -> Vec<u8> { std::iter::once(label).chain([label; 3072]).collect() };
    file(&folder, "data_batch_1.bin", &[record(0), record(1)].concat());
    file(&folder, "data_batch_2.bin", &[record(2), record(3), record(9)].concat());
    file(&folder, "readme.html", b"not a batch");
    let pictures = Pictures::cifar10(folder.path()).expect("opens");
    assert_eq!((pictures.shape(), pictures.labels()), ([3, 32, 32], &[0, 1, 2, 3, 9][..]));
    for (index, label) in [0, 1, 2, 3, 9].into_iter().enumerate() {
        assert_eq!(pictures.pixels(index).expect("read"), [label; 3072]);
    }
    let path = file(&folder, "cut.bin", &record(1)[..3000]);
    refused(Pictures::cifar10(&path), &path, &["offset 0", "3000 of 3073 bytes"]);
    let path = file(&folder, "label.bin", &[record(1), record(10)].concat());
    refused(Pictures::cifar10(&path), &path, &["offset 3073", "label 10"]);
    let none = self::folder();
    refused(Pictures::cifar10(none.path()), none.path(), &["is empty"]);
}

#[test]
fn a_loader_makes_the_parts_of_one_step_after_another() {
    let graph = model(256, None);
    let text = Arc::new(TextData::from_text("letters", &"abcdefg".repeat(40)).expect("text"));
    let batches = Arc::new(Batches::new(text, &graph, 6, 9).expect("fits").resumed(5, 77));
    let wanted: Vec<ValueId> = graph.inputs().collect();
    let part = |first_position| Portion { first_position, count: 3, wanted: wanted.clone() };
    let loader = Prefetch::start(batches.clone(), vec![part(0), part(3)], 5).expect("starts");
    for step in 5..8 {
        for first in [0, 3] {
            let direct = batches.inputs(step, first, 3, &wanted).expect("read");
            assert_eq!(loader.next().expect("made"), direct);
        }
    }
    assert_eq!((batches.first_sample(5), batches.first_sample(7)), (77, 89));
    drop(loader);
    assert_eq!(Arc::strong_count(&batches), 1, "the thread has ended");
}

#[test]
fn a_loader_that_fails_says_why_and_ends() {
    let (folder, graph) = (folder(), model(256, None));
    let path = file(&folder, "tokens.bin", &[255; 64]);
    let tokens = Arc::new(TokenFile::open(&path, TokenFormat::U16).expect("opens"));
    let batches = Arc::new(Batches::of_tokens(tokens, &graph, 2, 0).expect("fits"));
    let parts = vec![Portion { first_position: 0, count: 2, wanted: graph.inputs().collect() }];
    let loader = Prefetch::start(batches, parts, 0).expect("starts");
    refused(loader.next(), &path, &["token 65535"]);
    assert!(matches!(loader.next(), Err(DataError::LoaderEnded)));
}
