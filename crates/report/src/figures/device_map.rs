//! The devices of a cluster with what a plan puts on each.

use plotters::style::RGBAColor;

use crate::chart::Size;
use crate::chart::canvas::{Area, Canvas, Ink};
use crate::chart::labels::wrap;
use crate::chart::legend::{Swatch, header, row};
use crate::chart::style::{GRID, HEADER, INK, MARGIN, MUTED, SERIES, SMALL, faded};
use crate::error::ReportError;

/// Widest row of devices, in devices.
const ACROSS: usize = 8;
/// Width and height of a device, points.
const CELL: (f64, f64) = (92.0, 46.0);
/// Hosts beside each other.
const HOSTS: usize = 2;
/// Hosts that are drawn; of more, the first tell the story.
const MOST_HOSTS: usize = 16;

/// A device with its part of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedDevice {
    /// What it does, in a few words.
    pub text: String,
    /// Its stage: devices of one stage have one colour.
    pub stage: usize,
}

/// A host with its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedHost {
    /// Its name.
    pub name: String,
    /// Its devices, in order.
    pub devices: Vec<MappedDevice>,
}

/// Devices with a plan on them.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceMap<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below it.
    pub subtitle: &'a str,
    /// What joins the hosts.
    pub network: &'a str,
    /// The hosts.
    pub hosts: &'a [MappedHost],
}

fn rows_of(host: &MappedHost) -> usize {
    host.devices.len().div_ceil(ACROSS).max(1)
}

fn host_size(figure: &[MappedHost]) -> (f64, f64) {
    let across = figure.iter().map(|host| host.devices.len().min(ACROSS)).max().unwrap_or(1);
    let down = figure.iter().map(rows_of).max().unwrap_or(1);
    (across as f64 * CELL.0 + 20.0, down as f64 * CELL.1 + 44.0)
}

/// Size of [`device_map`], in points.
pub fn device_map_size(hosts: &[MappedHost]) -> Size {
    let (width, height) = host_size(hosts);
    let shown = hosts.len().min(MOST_HOSTS);
    let lines = shown.div_ceil(HOSTS).max(1);
    let across = shown.clamp(1, HOSTS) as f64;
    (
        (across * (width + 24.0) + 2.0 * MARGIN).max(620.0) as u32,
        (HEADER + 80.0 + lines as f64 * (height + 26.0)) as u32,
    )
}

/// Draws hosts as boxes of devices, coloured by stage, joined by a line for the network.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn device_map(canvas: &Canvas<'_>, figure: &DeviceMap<'_>) -> Result<(), ReportError> {
    header(canvas, MARGIN, figure.title, figure.subtitle)?;
    let stages = figure.hosts.iter().flat_map(|host| &host.devices).map(|device| device.stage).max().unwrap_or(0);
    let names: Vec<String> = (0..=stages.min(SERIES.len() - 1)).map(|stage| format!("stage {stage}")).collect();
    let entries: Vec<(Swatch, &str)> =
        names.iter().enumerate().map(|(stage, name)| (Swatch::Box(color(stage)), name.as_str())).collect();
    let below = row(canvas, (MARGIN, HEADER + 16.0), canvas.size().0 - MARGIN, &entries)?;
    let (width, height) = host_size(figure.hosts);
    let shown = figure.hosts.iter().take(MOST_HOSTS);
    for (at, host) in shown.enumerate() {
        let left = MARGIN + (at % HOSTS) as f64 * (width + 24.0);
        let top = below + 26.0 + (at / HOSTS) as f64 * (height + 26.0);
        let area = Area::new(left, top, left + width, top + height);
        if at > 0 {
            let to = if at % HOSTS == 0 { (area.left + 30.0, area.top) } else { (area.left, area.top + 16.0) };
            let from = if at % HOSTS == 0 { (to.0, to.1 - 26.0) } else { (to.0 - 24.0, to.1) };
            canvas.line(&[from, to], MUTED, 2.0)?;
        }
        draw_host(canvas, &area, host)?;
    }
    let hidden = figure.hosts.len().saturating_sub(MOST_HOSTS);
    let more = if hidden > 0 { format!(" · and {hidden} hosts more") } else { String::new() };
    let text = format!("between hosts: {}{more}", figure.network);
    canvas.text(&text, (MARGIN, canvas.size().1 - 20.0), Ink::new(SMALL).color(MUTED))
}

fn color(stage: usize) -> RGBAColor {
    SERIES[stage % SERIES.len()]
}

fn draw_host(canvas: &Canvas<'_>, area: &Area, host: &MappedHost) -> Result<(), ReportError> {
    canvas.frame(area, GRID, 1.5)?;
    canvas.text(&host.name, (area.left + 10.0, area.top + 16.0), Ink::new(SMALL).color(INK))?;
    for (at, device) in host.devices.iter().enumerate() {
        let left = area.left + 10.0 + (at % ACROSS) as f64 * CELL.0;
        let top = area.top + 32.0 + (at / ACROSS) as f64 * CELL.1;
        let cell = Area::new(left + 2.0, top + 2.0, left + CELL.0 - 2.0, top + CELL.1 - 2.0);
        canvas.fill(&cell, faded(color(device.stage), 0.22))?;
        canvas.frame(&cell, color(device.stage), 1.4)?;
        for (line, text) in wrap(canvas, &device.text, SMALL, CELL.0 - 10.0, 2)?.iter().enumerate() {
            let at = (left + CELL.0 / 2.0, top + 15.0 + 16.0 * line as f64);
            canvas.text(text, at, Ink::new(SMALL).centered())?;
        }
    }
    Ok(())
}
