//! A figure as two files, SVG and PNG, each written whole or not at all.

use std::path::{Path, PathBuf};

use cutplane_plan::write_atomically;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::drawing::IntoDrawingArea;

use super::canvas::{Canvas, Rendering};
use crate::error::ReportError;

/// Units of an SVG file a point: plotters knows whole units only.
const SVG_SCALE: u32 = 10;
/// Pixels of a PNG file a point.
const PNG_SCALE: u32 = 2;
/// Pixels drawn for each pixel written, along each axis: plotters leaves the edges of shapes jagged.
const OVERSAMPLING: u32 = 2;

/// Size of a figure in points: width, height.
pub type Size = (u32, u32);

/// The files of a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The vector file.
    pub svg: PathBuf,
    /// The pixel file, two pixels a point.
    pub png: PathBuf,
}

/// Draws a figure twice and writes `{stem}.svg` and `{stem}.png`.
///
/// # Errors
/// [`ReportError::Io`] when the folder cannot be written; whatever `draw` says.
pub fn save<F>(stem: &Path, size: Size, draw: F) -> Result<Saved, ReportError>
where
    F: Fn(&Canvas<'_>) -> Result<(), ReportError>,
{
    let saved = Saved { svg: with_ending(stem, "svg"), png: with_ending(stem, "png") };
    write(&saved.svg, svg(size, &draw)?.as_bytes())?;
    write(&saved.png, &png(size, &draw, folder(stem))?)?;
    Ok(saved)
}

/// Draws a figure into the text of an SVG file, as [`save`] writes it.
///
/// # Errors
/// Whatever `draw` says.
pub fn svg<F>((width, height): Size, draw: F) -> Result<String, ReportError>
where
    F: Fn(&Canvas<'_>) -> Result<(), ReportError>,
{
    let mut text = String::new();
    let (wide, high) = (width * SVG_SCALE, height * SVG_SCALE);
    {
        let area = SVGBackend::with_string(&mut text, (wide, high)).into_drawing_area();
        draw(&Canvas::new(&area, f64::from(SVG_SCALE), Rendering::Vector)?)?;
        area.present().map_err(ReportError::draw)?;
    }
    let units = format!("width=\"{wide}\" height=\"{high}\"");
    Ok(text.replacen(&units, &format!("width=\"{width}\" height=\"{height}\""), 1))
}

fn png<F>((width, height): Size, draw: &F, folder: &Path) -> Result<Vec<u8>, ReportError>
where
    F: Fn(&Canvas<'_>) -> Result<(), ReportError>,
{
    let scale = PNG_SCALE * OVERSAMPLING;
    let (wide, high) = (width * scale, height * scale);
    let mut pixels = vec![0; (wide * high * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area();
        draw(&Canvas::new(&area, f64::from(scale), Rendering::Raster)?)?;
        area.present().map_err(ReportError::draw)?;
    }
    encode(&shrink(&pixels, wide as usize), (width * PNG_SCALE, height * PNG_SCALE), folder)
}

/// The mean of each square of [`OVERSAMPLING`] by [`OVERSAMPLING`] pixels.
fn shrink(pixels: &[u8], wide: usize) -> Vec<u8> {
    let step = OVERSAMPLING as usize;
    let high = pixels.len() / 3 / wide;
    let mean = |x: usize, y: usize, channel: usize| -> u8 {
        let inside = (0..step * step).map(|i| ((y * step + i / step) * wide + x * step + i % step) * 3 + channel);
        (inside.map(|i| u32::from(pixels[i])).sum::<u32>() / (step * step) as u32) as u8
    };
    let places = (0..high / step).flat_map(|y| (0..wide / step).map(move |x| (x, y)));
    places.flat_map(|(x, y)| [0, 1, 2].map(|channel| mean(x, y, channel))).collect()
}

/// Encodes RGB pixels; plotters encodes into a file only, so one is made and removed.
fn encode(pixels: &[u8], size: Size, folder: &Path) -> Result<Vec<u8>, ReportError> {
    let io = |source| ReportError::Io { path: folder.to_owned(), source };
    let file = tempfile::Builder::new().prefix(".cutplane-").suffix(".png").tempfile_in(folder).map_err(io)?;
    {
        let mut backend = BitMapBackend::new(file.path(), size);
        backend.blit_bitmap((0, 0), size, pixels).map_err(ReportError::draw)?;
        backend.present().map_err(ReportError::draw)?;
    }
    std::fs::read(file.path()).map_err(io)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `stem` with `.ending` appended; a dot in the stem is no ending.
fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), ReportError> {
    write_atomically(path, contents).map_err(|source| ReportError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_takes_the_mean_of_each_square() {
        // Two squares side by side: one black and white in halves, one of a single grey.
        let row = |left: [u8; 2]| [[left[0]; 3], [left[1]; 3], [40; 3], [40; 3]].concat();
        let pixels = [row([0, 255]), row([255, 0])].concat();
        assert_eq!(shrink(&pixels, 4), vec![127, 127, 127, 40, 40, 40]);
    }

    #[test]
    fn a_dot_in_the_stem_stays() {
        assert_eq!(with_ending(Path::new("out/v1.2"), "svg"), Path::new("out/v1.2.svg"));
    }
}
