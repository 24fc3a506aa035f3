//! The few shapes that a figure is made of, on any plotters back end, in pixels.

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::{Color as _, RGBAColor, TextStyle};

use crate::error::ReportError;

/// A pixel of the surface; the origin is the upper left corner.
pub(crate) type Pixel = (i32, i32);

/// A plotters drawing area without its type parameter, so that each figure is one plain function.
pub(crate) trait Surface {
    fn size(&self) -> (u32, u32);
    fn rect(&self, corners: [Pixel; 2], color: RGBAColor) -> Result<(), ReportError>;
    fn path(&self, points: Vec<Pixel>, color: RGBAColor, width: u32) -> Result<(), ReportError>;
    fn polygon(&self, points: Vec<Pixel>, color: RGBAColor) -> Result<(), ReportError>;
    fn disc(&self, center: Pixel, radius: u32, color: RGBAColor) -> Result<(), ReportError>;
    fn text(&self, text: &str, style: &TextStyle<'_>, at: Pixel) -> Result<(), ReportError>;
    fn text_width(&self, text: &str, style: &TextStyle<'_>) -> Result<u32, ReportError>;
}

impl<B: DrawingBackend> Surface for DrawingArea<B, Shift> {
    fn size(&self) -> (u32, u32) {
        self.dim_in_pixel()
    }

    fn rect(&self, corners: [Pixel; 2], color: RGBAColor) -> Result<(), ReportError> {
        self.draw(&Rectangle::new(corners, color.filled())).map_err(ReportError::draw)
    }

    fn path(&self, points: Vec<Pixel>, color: RGBAColor, width: u32) -> Result<(), ReportError> {
        self.draw(&PathElement::new(points, color.stroke_width(width))).map_err(ReportError::draw)
    }

    fn polygon(&self, points: Vec<Pixel>, color: RGBAColor) -> Result<(), ReportError> {
        self.draw(&Polygon::new(points, color)).map_err(ReportError::draw)
    }

    fn disc(&self, center: Pixel, radius: u32, color: RGBAColor) -> Result<(), ReportError> {
        self.draw(&Circle::new(center, radius, color.filled())).map_err(ReportError::draw)
    }

    fn text(&self, text: &str, style: &TextStyle<'_>, at: Pixel) -> Result<(), ReportError> {
        self.draw_text(text, style, at).map_err(ReportError::draw)
    }

    fn text_width(&self, text: &str, style: &TextStyle<'_>) -> Result<u32, ReportError> {
        self.estimate_text_size(text, style).map(|(width, _)| width).map_err(ReportError::draw)
    }
}
