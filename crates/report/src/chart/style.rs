//! House style: colours, type sizes and margins, in one place.
//!
//! Colours are the palette of Okabe and Ito (2008, "Color Universal Design"), which people with the common forms of
//! colour blindness can tell apart. An activity has the same colour in every figure.

use std::sync::Once;

use cutplane_plan::Action;
use plotters::style::{FontStyle, RGBAColor, register_font};

use crate::error::ReportError;

/// A colour with opacity 1.
pub(crate) const fn rgb(hex: u32) -> RGBAColor {
    RGBAColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8, 1.0)
}

/// The same colour at another opacity.
pub(crate) const fn faded(color: RGBAColor, opacity: f64) -> RGBAColor {
    RGBAColor(color.0, color.1, color.2, opacity)
}

pub(crate) const INK: RGBAColor = rgb(0x22_22_22);
pub(crate) const MUTED: RGBAColor = rgb(0x5F_5F_5F);
pub(crate) const GRID: RGBAColor = rgb(0xE6_E6_E6);
pub(crate) const PAPER: RGBAColor = rgb(0xFF_FF_FF);
pub(crate) const HATCH: RGBAColor = rgb(0xC4_C4_C4);
pub(crate) const BUBBLE: RGBAColor = rgb(0xF1_F1_F1);
pub(crate) const BLUE: RGBAColor = rgb(0x00_72_B2);
pub(crate) const VERMILLION: RGBAColor = rgb(0xD5_5E_00);

/// Colours of series that are not activities, in the order of use.
pub(crate) const SERIES: [RGBAColor; 8] = [
    BLUE,
    VERMILLION,
    rgb(0x00_9E_73),
    rgb(0xCC_79_A7),
    rgb(0xE6_9F_00),
    rgb(0x56_B4_E9),
    rgb(0x22_22_22),
    rgb(0x99_99_99),
];

pub(crate) const TITLE: f64 = 21.0;
pub(crate) const SUBTITLE: f64 = 14.0;
pub(crate) const LABEL: f64 = 15.0;
pub(crate) const TICK: f64 = 13.5;
pub(crate) const SMALL: f64 = 12.5;

/// Margin around a figure.
pub(crate) const MARGIN: f64 = 18.0;
/// Height of title and subtitle together.
pub(crate) const HEADER: f64 = 62.0;

/// Family name in SVG files; the same name is registered with the embedded font for PNG files.
pub(crate) const FONT_FAMILY: &str = "Ubuntu, Helvetica, Arial, sans-serif";

/// Registers the embedded font, so that text in PNG files needs no font of the system.
pub(crate) fn fonts() -> Result<(), ReportError> {
    static ONCE: Once = Once::new();
    let mut known = Ok(());
    ONCE.call_once(|| {
        known = register_font(FONT_FAMILY, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| ReportError::draw("the embedded font is not readable"));
    });
    known
}

/// What a rank does at a time, as figures tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Loading inputs.
    Load,
    /// Forward pass.
    Forward,
    /// Backward pass.
    Backward,
    /// Sends and receives.
    PointToPoint,
    /// Gradient synchronisation.
    AllReduce,
    /// Optimizer step.
    Optimizer,
    /// Waiting or idle.
    Bubble,
}

impl Activity {
    /// All, in the stacking order of [`cutplane_record::Breakdown::parts`].
    pub const ALL: [Self; 7] =
        [Self::Load, Self::Forward, Self::Backward, Self::PointToPoint, Self::AllReduce, Self::Optimizer, Self::Bubble];

    /// The activity of an instruction.
    pub fn of(action: Action) -> Self {
        match action {
            Action::Load { .. } => Self::Load,
            Action::Forward { .. } => Self::Forward,
            Action::Backward { .. }
            | Action::BackwardInput { .. }
            | Action::BackwardWeight { .. }
            | Action::Recompute { .. } => Self::Backward,
            Action::Send { .. } | Action::Recv { .. } | Action::Push { .. } | Action::Pull { .. } => Self::PointToPoint,
            action if action.collective().is_some() => Self::AllReduce,
            _ => Self::Optimizer,
        }
    }

    /// Its name in legends.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::PointToPoint => "send/recv",
            Self::AllReduce => "all-reduce",
            Self::Optimizer => "optimizer",
            Self::Bubble => "bubble (waiting)",
        }
    }

    /// Its colour, as `0xRRGGBB`.
    pub const fn hex(self) -> u32 {
        match self {
            Self::Load => 0xCC_79_A7,
            Self::Forward => 0x56_B4_E9,
            Self::Backward => 0x00_72_B2,
            Self::PointToPoint => 0xE6_9F_00,
            Self::AllReduce => 0xD5_5E_00,
            Self::Optimizer => 0x00_9E_73,
            Self::Bubble => 0xF1_F1_F1,
        }
    }

    pub(crate) const fn color(self) -> RGBAColor {
        rgb(self.hex())
    }

    /// The colour in which text is readable on [`Activity::color`].
    pub(crate) const fn text_color(self) -> RGBAColor {
        match self {
            Self::Backward | Self::AllReduce | Self::Optimizer => PAPER,
            _ => INK,
        }
    }
}
