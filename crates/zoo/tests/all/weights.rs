//! Checkpoints that `transformers` saved: every parameter of the imported graph has its tensor, and only that is read.

use std::path::Path;

use crate::support::{FAMILIES, golden, importers};
use cutplane_graph::{ModelGraph, ModelSource, Overrides};
use cutplane_zoo::weights::{Checkpoint, WeightError};
use cutplane_zoo::{OnnxOptions, build, read_onnx, source_from_argument};

fn graph(family: &str) -> ModelGraph {
    let folder = importers().join(family).display().to_string();
    let source = source_from_argument(&folder, Some(8), Overrides::default()).expect("a config");
    assert!(matches!(source, ModelSource::HuggingFace { .. }));
    build(&source).expect("a graph")
}

fn checkpoint(family: &str) -> Checkpoint {
    Checkpoint::open(&importers().join(family)).expect("a checkpoint")
}

#[test]
fn every_parameter_of_a_config_has_its_tensor() {
    for family in FAMILIES {
        let (graph, checkpoint) = (graph(family), checkpoint(family));
        assert_eq!(graph.parameter_count(), golden(family).parameters, "{family}");
        checkpoint.check(&graph).unwrap_or_else(|error| panic!("{family}: {error}"));
        let read: usize =
            graph.params().iter().map(|param| checkpoint.read_param(param).expect(&param.name).len()).sum();
        assert_eq!(read as u64, graph.parameter_count(), "{family}");
    }
}

/// The ONNX file and the checkpoint hold the same numbers, wherever an exporter put them.
#[test]
fn onnx_and_safetensors_agree() {
    for family in FAMILIES {
        let checkpoint = checkpoint(family);
        for file in golden(family).exports {
            let options = OnnxOptions { sequence_length: Some(6), ..OnnxOptions::default() };
            let found = read_onnx(&importers().join(family).join(&file), &options).expect("a graph");
            for param in found.graph.params() {
                let mut own = found.weights.read_param(param).expect("numbers");
                let name = param.name.trim_start_matches("model.").trim_start_matches("m.");
                let mut like = param.clone();
                like.name = name.to_owned();
                // Exporters store most matrices transposed.
                if param.shape.len() == 2 && checkpoint.read_param(&like).is_ok_and(|other| other != own) {
                    like.shape.reverse();
                }
                let Ok(mut other) = checkpoint.read_param(&like) else { continue };
                let order = |list: &mut Vec<f32>| list.sort_by(f32::total_cmp);
                order(&mut own);
                order(&mut other);
                assert_eq!(own, other, "{family} {file} {name}");
            }
        }
    }
}

#[test]
fn rows_are_read_alone() {
    let (graph, checkpoint) = (graph("llama"), checkpoint("llama"));
    let param = graph.params().iter().find(|param| param.name == "lm_head.weight").expect("a head");
    let whole = checkpoint.read_param(param).expect("numbers");
    let width = param.shape[1] as usize;
    let part = checkpoint.read_rows(param, 5..9).expect("rows");
    assert_eq!(part, whole[5 * width..9 * width]);
    assert!(checkpoint.read_rows(param, 60..62).is_err(), "61 rows");
    let mut turned = param.clone();
    turned.shape.reverse();
    let column = checkpoint.read_rows(&turned, 3..4).expect("a row of the transpose");
    assert!(column.iter().enumerate().all(|(row, number)| number.to_bits() == whole[row * width + 3].to_bits()));
}

fn written(name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("cutplane-weights-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// A file with one tensor `w [2, 2]` of the given type and data.
fn one_tensor(name: &str, dtype: &str, data: &[u8]) -> std::path::PathBuf {
    let table = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[0,{}]}}}}"#, data.len());
    written(name, &[&(table.len() as u64).to_le_bytes(), table.as_bytes(), data].concat())
}

fn param(name: &str, shape: &[u64]) -> cutplane_graph::Param {
    let init = cutplane_graph::Init::Zeros;
    cutplane_graph::Param { name: name.to_owned(), shape: shape.to_vec(), init, users: Vec::new() }
}

#[test]
fn element_types_are_converted() {
    // 1, -2, 0.5 and 3 in each type.
    let bf16 = one_tensor("bf16.safetensors", "BF16", &[0x80, 0x3f, 0, 0xc0, 0, 0x3f, 0x40, 0x40]);
    let f16 = one_tensor("f16.safetensors", "F16", &[0, 0x3c, 0, 0xc0, 0, 0x38, 0, 0x42]);
    for file in [bf16, f16] {
        let checkpoint = Checkpoint::open(&file).expect("a table");
        assert_eq!(checkpoint.read_param(&param("w", &[2, 2])).expect("numbers"), [1.0, -2.0, 0.5, 3.0]);
    }
}

#[test]
fn an_index_joins_its_files() {
    let file = one_tensor("part.safetensors", "F32", &[0; 16]);
    let index = r#"{"metadata": {"total_size": 16}, "weight_map": {"w": "part.safetensors"}}"#;
    let path = written("model.safetensors.index.json", index.as_bytes());
    assert_eq!(Checkpoint::open(&path).expect("tables").names(), ["w"]);
    for (old, new, word) in [
        ("part.safetensors", "../part.safetensors", "not beside it"),
        ("\"w\"", "\"v\"", "names the tensor 'v'"),
        ("{\"w\"", "[\"w\"", "is no index"),
    ] {
        let path = written("bad.index.json", index.replace(old, new).as_bytes());
        let error = Checkpoint::open(&path).expect_err(word).to_string();
        assert!(error.contains(word) && error.contains("bad.index.json"), "{error}");
    }
    drop(file);
}

#[test]
fn mismatches_are_named() {
    let file = one_tensor("named.safetensors", "F32", &[0; 16]);
    let checkpoint = Checkpoint::open(&file).expect("a table");
    let shape = checkpoint.read_param(&param("w", &[2, 3])).expect_err("another shape");
    assert!(matches!(shape, WeightError::Shape { .. }));
    let text = shape.to_string();
    assert!(
        text.contains("named.safetensors")
            && text.contains("'w'")
            && text.contains("[2, 3]")
            && text.contains("[2, 2]")
    );
    let missing = checkpoint.read_param(&param("v", &[2])).expect_err("no such tensor").to_string();
    assert!(missing.contains("no tensor for the parameter 'v' of shape [2]"), "{missing}");
    assert!(Checkpoint::open(Path::new("no/such/folder")).is_err());
    let empty = Checkpoint::open(file.parent().expect("a folder").parent().expect("a folder")).expect_err("no model");
    assert!(empty.to_string().contains("holds neither"), "{empty}");
}

/// Tables cut short, with other numbers and other bytes: an error that names the file, or an answer.
#[test]
fn mutations_never_panic() {
    let table = r#"{"__metadata__":{"format":"pt"},"h.0.w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
        "h.0.b":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[30,38]}}"#;
    let source = [&(table.len() as u64).to_le_bytes(), table.as_bytes(), &[7; 38]].concat();
    let params = [param("h.0.w", &[2, 3]), param("h.0.b", &[3])];
    let mut random = crate::support::Random::new(5);
    let mut read = 0;
    for round in 0..crate::support::rounds(100_000) {
        let mutated = random.mutated(&source);
        // Files are slow: every hundredth is one, the others are tables of one.
        let found = if round % 100 == 0 {
            Checkpoint::open(&written("mutated.safetensors", &mutated))
        } else {
            Checkpoint::of_table(Path::new("m.safetensors"), &mutated, mutated.len() as u64)
        };
        if let Ok(checkpoint) = found {
            read += params.iter().filter(|param| checkpoint.read_param(param).is_ok()).count();
        }
    }
    assert!(read > 0, "some mutations are harmless");
}
