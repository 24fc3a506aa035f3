//! A canvas in points, whatever the resolution below it.

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontDesc, FontFamily, FontStyle, FontTransform, RGBAColor, TextStyle};

use super::font::{Glyph, glyph};
use super::style::{FONT_FAMILY, INK, PAPER, fonts};
use super::surface::{Pixel, Surface};
use crate::error::ReportError;

/// A point of the canvas: x to the right, y down.
pub(crate) type Point = (f64, f64);

/// Who turns text into shapes: the two place it at different heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// The viewer of the file (SVG).
    Vector,
    /// plotters itself, pixel by pixel.
    Raster,
}

/// Where figures are drawn: a plotters drawing area of any back end, measured in points.
pub struct Canvas<'a> {
    surface: &'a dyn Surface,
    scale: f64,
    rendering: Rendering,
}

/// An upright rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

impl Area {
    pub(crate) const fn new(left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Self { left, top, right, bottom }
    }

    pub(crate) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// The rectangle made smaller by `by` on each side.
    pub(crate) fn inset(&self, by: f64) -> Self {
        Self::new(self.left + by, self.top + by, self.right - by, self.bottom - by)
    }

    /// Area that two rectangles share.
    pub(crate) fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// Whether `other` lies inside.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        other.left >= self.left && other.right <= self.right && other.top >= self.top && other.bottom <= self.bottom
    }
}

/// How a text is written.
#[derive(Clone, Copy)]
pub(crate) struct Ink {
    size: f64,
    color: RGBAColor,
    h: HPos,
    v: VPos,
    upward: bool,
}

impl Ink {
    /// Dark, to the right of the point and centred on its height.
    pub(crate) fn new(size: f64) -> Self {
        Self { size, color: INK, h: HPos::Left, v: VPos::Center, upward: false }
    }

    pub(crate) fn color(self, color: RGBAColor) -> Self {
        Self { color, ..self }
    }

    pub(crate) fn centered(self) -> Self {
        Self { h: HPos::Center, ..self }
    }

    pub(crate) fn right(self) -> Self {
        Self { h: HPos::Right, ..self }
    }

    /// Written from below to above.
    pub(crate) fn upward(self) -> Self {
        Self { upward: true, ..self }
    }

    fn style(self, scale: f64) -> TextStyle<'static> {
        let font = FontDesc::new(FontFamily::Name(FONT_FAMILY), self.size * scale, FontStyle::Normal);
        let font = if self.upward { font.transform(FontTransform::Rotate270) } else { font };
        let mut style = TextStyle::from(font).pos(Pos::new(self.h, self.v));
        style.color = self.color.to_backend_color();
        style
    }
}

impl Rendering {
    /// How far below the anchor plotters has to start, as a share of the type size, so that capitals stand centred.
    const fn shift(self) -> f64 {
        match self {
            Self::Vector => 0.05,
            Self::Raster => 0.20,
        }
    }
}

impl<'a> Canvas<'a> {
    /// A canvas over a whole drawing area, `scale` pixels a point; makes it white.
    ///
    /// # Errors
    /// [`ReportError::Draw`].
    pub fn new<B: DrawingBackend>(
        area: &'a DrawingArea<B, Shift>,
        scale: f64,
        rendering: Rendering,
    ) -> Result<Self, ReportError> {
        fonts()?;
        let canvas = Self { surface: area, scale, rendering };
        let (width, height) = canvas.size();
        canvas.fill(&Area::new(0.0, 0.0, width, height), PAPER)?;
        Ok(canvas)
    }

    /// Width and height in points.
    pub fn size(&self) -> (f64, f64) {
        let (width, height) = self.surface.size();
        (f64::from(width) / self.scale, f64::from(height) / self.scale)
    }

    fn pixel(&self, (x, y): Point) -> Pixel {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn pixels(&self, points: &[Point]) -> Vec<Pixel> {
        points.iter().map(|point| self.pixel(*point)).collect()
    }

    pub(crate) fn fill(&self, area: &Area, color: RGBAColor) -> Result<(), ReportError> {
        self.surface.rect([self.pixel((area.left, area.top)), self.pixel((area.right, area.bottom))], color)
    }

    /// The outline of a rectangle.
    pub(crate) fn frame(&self, area: &Area, color: RGBAColor, width: f64) -> Result<(), ReportError> {
        let Area { left, top, right, bottom } = *area;
        self.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], color, width)
    }

    pub(crate) fn line(&self, points: &[Point], color: RGBAColor, width: f64) -> Result<(), ReportError> {
        // Repeated pixels have no direction, which the rasteriser needs.
        let mut pixels = self.pixels(points);
        pixels.dedup();
        if pixels.len() < 2 {
            return Ok(());
        }
        self.surface.path(pixels, color, (width * self.scale).round().max(1.0) as u32)
    }

    /// A straight line in dashes of `on` points with gaps of `off`.
    pub(crate) fn dashes(
        &self,
        from: Point,
        to: Point,
        color: RGBAColor,
        width: f64,
        (on, off): (f64, f64),
    ) -> Result<(), ReportError> {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |t: f64| (from.0 + (to.0 - from.0) * t / length, from.1 + (to.1 - from.1) * t / length);
        let mut start = 0.0;
        while start < length {
            self.line(&[at(start), at((start + on).min(length))], color, width)?;
            start += on + off;
        }
        Ok(())
    }

    pub(crate) fn polygon(&self, points: &[Point], color: RGBAColor) -> Result<(), ReportError> {
        self.surface.polygon(self.pixels(points), color)
    }

    pub(crate) fn disc(&self, center: Point, radius: f64, color: RGBAColor) -> Result<(), ReportError> {
        self.surface.disc(self.pixel(center), (radius * self.scale).round() as u32, color)
    }

    /// A disc with a white rim, readable on any ground.
    pub(crate) fn dot(&self, center: Point, radius: f64, color: RGBAColor) -> Result<(), ReportError> {
        self.disc(center, radius + 1.2, PAPER)?;
        self.disc(center, radius, color)
    }

    /// A five-pointed star with a white rim.
    pub(crate) fn star(&self, center: Point, radius: f64, color: RGBAColor) -> Result<(), ReportError> {
        self.polygon(&star(center, radius * 1.3), PAPER)?;
        self.polygon(&star(center, radius), color)
    }

    /// Diagonal lines across a rectangle, `gap` points apart; they line up between rectangles.
    pub(crate) fn hatch(&self, area: &Area, color: RGBAColor, gap: f64) -> Result<(), ReportError> {
        let mut sum = ((area.left + area.top) / gap).ceil() * gap;
        while sum < area.right + area.bottom {
            let (x0, x1) = ((sum - area.bottom).max(area.left), (sum - area.top).min(area.right));
            self.line(&[(x0, sum - x0), (x1, sum - x1)], color, 0.8)?;
            sum += gap;
        }
        Ok(())
    }

    pub(crate) fn text(&self, text: &str, at: Point, ink: Ink) -> Result<(), ReportError> {
        let shift = self.rendering.shift() * ink.size;
        let at = if ink.upward { (at.0 + shift, at.1) } else { (at.0, at.1 + shift) };
        let glyphs: Option<Vec<Glyph>> = text.chars().map(glyph).collect();
        match glyphs.filter(|_| self.rendering == Rendering::Raster) {
            Some(glyphs) => self.set(text, &glyphs, at, ink),
            None => self.surface.text(text, &ink.style(self.scale), self.pixel(at)),
        }
    }

    /// Sets a line glyph by glyph.
    fn set(&self, text: &str, glyphs: &[Glyph], at: Point, ink: Ink) -> Result<(), ReportError> {
        let width = glyphs.iter().map(|glyph| glyph.advance).sum::<f64>() * ink.size;
        let mut pen = match ink.h {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        let style = Ink { h: HPos::Left, ..ink }.style(self.scale);
        for (letter, glyph) in text.chars().zip(glyphs) {
            let along = pen + glyph.bearing * ink.size;
            let place = if ink.upward { (at.0, at.1 - along) } else { (at.0 + along, at.1) };
            self.surface.text(letter.encode_utf8(&mut [0; 4]), &style, self.pixel(place))?;
            pen += glyph.advance * ink.size;
        }
        Ok(())
    }

    /// Width of a text in points.
    pub(crate) fn text_width(&self, text: &str, size: f64) -> Result<f64, ReportError> {
        Ok(f64::from(self.surface.text_width(text, &Ink::new(size).style(self.scale))?) / self.scale)
    }
}

fn star((x, y): Point, radius: f64) -> Vec<Point> {
    (0..10)
        .map(|corner| {
            let angle = std::f64::consts::PI * (f64::from(corner) / 5.0 - 0.5);
            let r = if corner % 2 == 0 { radius } else { radius * 0.42 };
            (x + r * angle.cos(), y + r * angle.sin())
        })
        .collect()
}
