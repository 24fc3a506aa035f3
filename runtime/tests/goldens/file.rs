//! Reads a file of goldens.

use std::collections::HashMap;
use std::path::Path;

use cutplane_runtime::HostTensor;
use safetensors::{Dtype, SafeTensors};

/// Tensors by name, and what the file says of itself.
pub(crate) struct File {
    pub(crate) tensors: HashMap<String, HostTensor>,
    metadata: HashMap<String, String>,
}

impl File {
    pub(crate) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let tensors = SafeTensors::deserialize(&bytes).expect("whole");
        let tensors = tensors.iter().map(|(name, view)| {
            let words = view.data().chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).expect("four bytes"));
            let tensor = match view.dtype() {
                Dtype::F32 => HostTensor::f32(view.shape(), words.map(f32::from_le_bytes).collect()),
                Dtype::I32 => HostTensor::i32(view.shape(), words.map(i32::from_le_bytes).collect()),
                other => panic!("{name} is {other:?}"),
            };
            (name.to_owned(), tensor)
        });
        Self { tensors: tensors.collect(), metadata: header.metadata().clone().unwrap_or_default() }
    }

    /// A field of the metadata, as JSON.
    pub(crate) fn field<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_str(&self.metadata[name]).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn floats(&self, name: &str) -> &[f32] {
        self.tensors.get(name).and_then(HostTensor::as_f32).unwrap_or_else(|| panic!("no floats {name}"))
    }
}

/// Largest difference relative to the largest number, or to `floor` where that is larger.
pub(crate) fn difference(got: &[f32], expected: &[f32], floor: f32) -> f32 {
    assert_eq!(got.len(), expected.len(), "numbers");
    let largest = expected.iter().fold(floor, |max, x| max.max(x.abs()));
    // A NaN is as far off as can be.
    let off = |(a, b): (&f32, &f32)| if (a - b).is_finite() { (a - b).abs() } else { f32::INFINITY };
    let worst = got.iter().zip(expected).map(off).fold(0.0, f32::max);
    if worst == 0.0 { 0.0 } else { worst / largest }
}
