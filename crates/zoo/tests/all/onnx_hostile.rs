//! ONNX files made by hand: what no exporter writes is refused by name, in bounded time; what is large is read soon.

use cutplane_zoo::{OnnxOptions, onnx_from_bytes, read_onnx};

/// A protocol buffer, field by field.
#[derive(Clone, Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, tag: u64, value: i64) -> Self {
        self.varint(tag << 3);
        self.varint(value as u64);
        self
    }

    fn bytes(mut self, tag: u64, bytes: &[u8]) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, tag: u64, message: &Self) -> Self {
        self.bytes(tag, &message.0)
    }
}

fn empty() -> Buffer {
    Buffer::default()
}

fn node(op: &str, inputs: &[&str], output: &str) -> Buffer {
    let node = inputs.iter().fold(empty(), |node, input| node.bytes(1, input.as_bytes()));
    node.bytes(2, output.as_bytes()).bytes(3, format!("{op}_of_{output}").as_bytes()).bytes(4, op.as_bytes())
}

fn attribute(name: &str, value: i64) -> Buffer {
    empty().bytes(1, name.as_bytes()).int(3, value).int(20, 2)
}

/// An input or output of floats; extents below zero are left open.
fn info(name: &str, dims: &[i64]) -> Buffer {
    let dim = |dim: &i64| if *dim == i64::MIN { empty().bytes(2, b"batch") } else { empty().int(1, *dim) };
    let shape = dims.iter().fold(empty(), |shape, extent| shape.message(1, &dim(extent)));
    let tensor = empty().int(1, 1).message(2, &shape);
    empty().bytes(1, name.as_bytes()).message(2, &empty().message(1, &tensor))
}

fn floats(name: &str, dims: &[i64], numbers: &[f32]) -> Buffer {
    let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let tensor = dims.iter().fold(empty(), |tensor, dim| tensor.int(1, *dim));
    tensor.int(2, 1).bytes(8, name.as_bytes()).bytes(9, &raw)
}

fn ints(name: &str, numbers: &[i64]) -> Buffer {
    let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    empty().int(1, numbers.len() as i64).int(2, 7).bytes(8, name.as_bytes()).bytes(9, &raw)
}

fn model(nodes: &[Buffer], initializers: &[Buffer], input: &Buffer) -> Vec<u8> {
    let graph = nodes.iter().fold(empty(), |graph, node| graph.message(1, node));
    let graph = initializers.iter().fold(graph, |graph, tensor| graph.message(5, tensor));
    let graph = graph.bytes(2, b"by hand").message(11, input).message(12, &info("y", &[i64::MIN]));
    empty().message(7, &graph).message(8, &empty().bytes(1, b"").int(2, 18)).0
}

const BATCH: i64 = i64::MIN;

fn refusal(bytes: &[u8]) -> String {
    onnx_from_bytes("x.onnx", bytes, &OnnxOptions::default()).expect_err("refused").to_string()
}

#[test]
fn a_graph_made_by_hand_is_read() {
    let nodes = [node("MatMul", &["x", "w"], "a"), node("Relu", &["a"], "y")];
    let bytes = model(&nodes, &[floats("w", &[2, 3], &[0.5; 6])], &info("x", &[BATCH, 2]));
    let graph = onnx_from_bytes("x.onnx", &bytes, &OnnxOptions::default()).expect("a graph").graph;
    assert_eq!((graph.ops().len(), graph.parameter_count()), (2, 6));
}

#[test]
fn circles_and_unknown_names_are_refused() {
    let circle = [node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b"), node("Relu", &["b"], "y")];
    let error = refusal(&model(&circle, &[], &info("x", &[BATCH, 2])));
    assert!(error.contains("Add_of_a (Add)") && error.contains("'b'") && error.contains("in a circle"), "{error}");
    let twice = [node("Relu", &["x"], "y"), node("Tanh", &["x"], "y")];
    assert!(refusal(&model(&twice, &[], &info("x", &[BATCH, 2]))).contains("written before"));
    let nothing = [node("Relu", &["x"], "z")];
    assert!(refusal(&model(&nothing, &[], &info("x", &[BATCH, 2]))).contains("no node gives"));
}

#[test]
fn impossible_extents_are_refused() {
    let relu = [node("Relu", &["x"], "y")];
    for dims in [[BATCH, -5], [BATCH, 0], [BATCH, i64::MAX]] {
        let error = refusal(&model(&relu, &[], &info("x", &dims)));
        assert!(error.contains("x.onnx: node x") && error.contains("are possible"), "{error}");
    }
    let product = [node("MatMul", &["x", "w"], "y")];
    for dims in [[-2, 3], [1 << 40, 1 << 40]] {
        let error = refusal(&model(&product, &[floats("w", &dims, &[])], &info("x", &[BATCH, 2])));
        assert!(error.contains("has the extent -2") || error.contains("impossible shape"), "{error}");
    }
}

#[test]
fn computed_shapes_cannot_ask_for_endless_memory() {
    let huge = ints("n", &[1 << 40]);
    let filled = [node("ConstantOfShape", &["n"], "c"), node("Add", &["x", "c"], "y")];
    let error = refusal(&model(&filled, &[huge], &info("x", &[BATCH, 2])));
    assert!(error.contains("ConstantOfShape") && error.contains("elements"), "{error}");
    let (zero, limit, one) = (ints("zero", &[0]), ints("limit", &[i64::MAX]), ints("one", &[1]));
    let range = [node("Range", &["zero", "limit", "one"], "r"), node("Add", &["x", "r"], "y")];
    let error = refusal(&model(&range, &[zero, limit, one], &info("x", &[BATCH, 2])));
    assert!(error.contains("Range") && error.contains("elements"), "{error}");
    let many: Vec<Buffer> = (0..64)
        .map(|at| node("ConstantOfShape", &["n"], &format!("c{at}")))
        .chain([node("Relu", &["x"], "y")])
        .collect();
    let error = refusal(&model(&many, &[ints("n", &[1 << 23])], &info("x", &[BATCH, 2])));
    assert!(error.contains("constants of the graph"), "{error}");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let add = [node("Add", &["x", "val_1"], "y")];
    let error = refusal(&model(&add, &[floats("val_1", &[2], &[f32::NAN, 1.0])], &info("x", &[BATCH, 2])));
    assert!(error.contains("not a number"), "{error}");
}

#[test]
fn external_data_must_lie_beside_the_file_and_be_whole() {
    let folder = std::env::temp_dir().join(format!("cutplane-external-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("w.bin"), [0u8; 24]).expect("weights");
    let external = |location: &str, length: &str| {
        let entry = |key: &str, value: &str| empty().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
        let tensor = empty().int(1, 2).int(1, 3).int(2, 1).bytes(8, b"w").int(14, 1);
        let tensor = tensor.message(13, &entry("location", location)).message(13, &entry("length", length));
        let path = folder.join("x.onnx");
        let product = [node("MatMul", &["x", "w"], "y")];
        std::fs::write(&path, model(&product, &[tensor], &info("x", &[BATCH, 2]))).expect("a file");
        read_onnx(&path, &OnnxOptions::default())
    };
    let found = external("w.bin", "24").expect("a graph");
    assert_eq!(found.weights.read_param(&found.graph.params()[0]).expect("numbers"), [0.0; 6]);
    assert!(external("../w.bin", "24").expect_err("outside").to_string().contains("not beside the file"));
    assert!(external("/elsewhere/w.bin", "24").expect_err("outside").to_string().contains("not beside the file"));
    assert!(external("w.bin", "20").expect_err("short").to_string().contains("holds 20 bytes, and needs 24"));
    assert!(external("w.bin", "-1").expect_err("negative").to_string().contains("length = '-1'"));
    let missing = external("v.bin", "24").expect("only its weights are missing");
    assert!(missing.weights.read_param(&missing.graph.params()[0]).is_err());
    let _ = std::fs::remove_dir_all(&folder);
}

/// Ten thousand nodes without any name of a layer: read whole, joined, and folded into one block.
#[test]
fn ten_thousand_nodes_are_read() {
    let mut nodes = Vec::new();
    let mut before = "x".to_owned();
    for layer in 0..2500 {
        let name = |part: &str| format!("{part}{layer}");
        nodes.push(node("MatMul", &[&before, "w"], &name("m")).message(5, &attribute("unused", 1)));
        nodes.push(node("Add", &[&name("m"), "b.bias"], &name("a")));
        nodes.push(node("Relu", &[&name("a")], &name("r")));
        nodes.push(node("Add", &[&name("r"), &before], &name("s")));
        before = name("s");
    }
    nodes.push(node("Relu", &[&before], "y"));
    let weights = [floats("w", &[4, 4], &[0.1; 16]), floats("b.bias", &[4], &[0.0; 4])];
    let bytes = model(&nodes, &weights, &info("x", &[BATCH, 4]));
    let start = std::time::Instant::now();
    let graph = onnx_from_bytes("x.onnx", &bytes, &OnnxOptions::default()).expect("a graph").graph;
    let read = start.elapsed();
    let folded = cutplane_graph::fold(&graph);
    println!("{} nodes: read in {read:?}, read and folded in {:?}", nodes.len(), start.elapsed());
    assert_eq!(graph.ops().len(), 3 * 2500 + 1, "products and biases are linear layers");
    assert!(folded.classes.len() <= 3, "{} classes", folded.classes.len());
}
