//! Figures of records.

use serde::Deserialize;

/// A figure of a definition.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FigureSpec {
    /// Its file name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Runs that it shows.
    pub runs: Vec<String>,
    /// Its form.
    pub form: FigureForm,
    /// Parameter of the horizontal axis; of bars, what groups them; of a scatter, unused.
    pub x: Option<String>,
    /// Parameter of the rows of a heat map.
    pub y: Option<String>,
    /// Parameters that tell the series apart.
    #[serde(default)]
    pub series: Vec<String>,
    /// Title of the horizontal axis.
    pub x_title: Option<String>,
    /// Title of the vertical axis; the unit if absent.
    pub y_title: Option<String>,
    /// Whether the horizontal axis is logarithmic.
    #[serde(default)]
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic.
    #[serde(default)]
    pub log_y: bool,
    /// Draws a line at ideal scaling: through the first predicted point, in proportion to the horizontal axis.
    #[serde(default)]
    pub ideal: bool,
}

/// Form of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FigureForm {
    /// Curves of predictions, dots of published values.
    Lines,
    /// Groups of bars, predicted beside published.
    Bars,
    /// Predicted against published, with the band of 10%.
    Scatter,
    /// Two parameters across and down, colour for the value.
    HeatMap,
}
