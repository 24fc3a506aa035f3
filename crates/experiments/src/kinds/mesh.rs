//! Layouts of a mesh, as Mesh-TensorFlow has them.

use cutplane_sim::network::traffic::contraction_all_reduces;

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `mesh`.
pub(super) struct Mesh;

impl Kind for Mesh {
    fn name(&self) -> &'static str {
        "mesh"
    }

    fn about(&self) -> &'static str {
        "one contraction whose dimensions are split over the axes of a mesh"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("inputs", "dimensions of the inputs: 'batch hidden, hidden inner'"),
            ("output", "dimensions of the output: 'batch inner'"),
            ("layout", "mesh axis of each split dimension: 'batch=rows, inner=cols'"),
            ("sizes", "sizes of all dimensions: 'batch=128, hidden=512'"),
            ("axes", "sizes of the mesh axes: 'rows=2, cols=2'"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("all_reduces", "-", "mesh axes that the result is all-reduced over"),
            ("all_reduced_elements", "-", "elements of the result that a device all-reduces, over all axes"),
            ("weight_share", "-", "share of the second input that a device holds"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let inputs: Vec<Vec<&str>> = ask.text("inputs")?.split(',').map(words).collect();
        let output = words(ask.text("output")?);
        let layout = pairs(ask.text("layout")?)?;
        let inputs: Vec<&[&str]> = inputs.iter().map(Vec::as_slice).collect();
        let axes = contraction_all_reduces(&inputs, &output, &layout).map_err(|error| error.to_string())?;
        let share = |dimensions: &[&str]| -> Result<f64, String> {
            let split = dimensions.iter().filter_map(|name| layout.iter().find(|(own, _)| own == name));
            split.map(|(_, axis)| size(ask, "axes", axis)).try_fold(1.0, |share, size| Ok(share / size?))
        };
        let value = match metric {
            "all_reduces" => axes.len() as f64,
            "weight_share" => share(inputs.get(1).ok_or("'inputs' names one tensor: write two")?)?,
            _ => {
                let mut sizes = output.iter().map(|name| size(ask, "sizes", name));
                let elements = sizes.try_fold(1.0, |product, size| size.map(|size| product * size))?;
                axes.len() as f64 * elements * share(&output)?
            }
        };
        Ok(Answer::exact(value, "Mesh-TensorFlow's rule"))
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').ok_or_else(|| format!("'{part}': write NAME=VALUE"))).collect()
}

fn size(ask: &Ask<'_>, list: &str, name: &str) -> Result<f64, String> {
    let found = pairs(ask.text(list)?)?.into_iter().find(|(own, _)| *own == name);
    let number = found.and_then(|(_, size)| size.parse::<f64>().ok()).filter(|size| *size >= 1.0);
    number.ok_or_else(|| format!("'{list}' names no size of '{name}': add '{name}=2'"))
}
