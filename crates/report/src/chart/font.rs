//! Where the glyphs of the embedded font stand on a line.
//!
//! plotters draws each glyph of a line flush with its cell and forgets the bearing, the gap on its left, which sets
//! letters unevenly. So a line is set glyph by glyph, from the font's own tables (OpenType 1.9: `cmap` format 4,
//! `hhea`, `hmtx`).

use epaint_default_fonts::UBUNTU_LIGHT;

/// Advance and left bearing of a glyph, as shares of the type size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Glyph {
    pub(crate) advance: f64,
    pub(crate) bearing: f64,
}

/// The glyph of a character; `None` when the font has none.
pub(crate) fn glyph(letter: char) -> Option<Glyph> {
    let index = glyph_index(u16::try_from(u32::from(letter)).ok()?)?;
    let (hhea, hmtx) = (table(*b"hhea")?, table(*b"hmtx")?);
    let long = usize::from(word(hhea, 34)?);
    if index >= long {
        return None;
    }
    // plotters takes the type size as the height from descender to ascender.
    let height = f64::from(signed(hhea, 4)?) - f64::from(signed(hhea, 6)?);
    let advance = f64::from(word(hmtx, index * 4)?) / height;
    Some(Glyph { advance, bearing: f64::from(signed(hmtx, index * 4 + 2)?) / height })
}

fn word(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn signed(data: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn long(data: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// A table of the font, found in the directory at the start of the file.
fn table(tag: [u8; 4]) -> Option<&'static [u8]> {
    let count = usize::from(word(UBUNTU_LIGHT, 4)?);
    let entry = (0..count).map(|i| 12 + 16 * i).find(|at| UBUNTU_LIGHT.get(*at..at + 4) == Some(&tag[..]))?;
    let (start, length) = (long(UBUNTU_LIGHT, entry + 8)?, long(UBUNTU_LIGHT, entry + 12)?);
    UBUNTU_LIGHT.get(start..start + length)
}

/// The subtable of `cmap` in format 4.
fn unicode_map() -> Option<&'static [u8]> {
    let cmap = table(*b"cmap")?;
    let count = usize::from(word(cmap, 2)?);
    (0..count).find_map(|i| cmap.get(long(cmap, 8 + 8 * i)?..).filter(|map| word(map, 0) == Some(4)))
}

/// Looks a character up in segments of consecutive codes; glyph 0 stands for what is missing.
fn glyph_index(code: u16) -> Option<usize> {
    let map = unicode_map()?;
    let doubled = usize::from(word(map, 6)?);
    let (ends, starts) = (14, 16 + doubled);
    let (deltas, offsets) = (starts + doubled, starts + 2 * doubled);
    let segment = (0..doubled).step_by(2).find(|i| word(map, ends + i).is_some_and(|end| code <= end))?;
    let (start, delta) = (word(map, starts + segment)?, word(map, deltas + segment)?);
    let inside = code.checked_sub(start)?;
    let offset = usize::from(word(map, offsets + segment)?);
    let found = match offset {
        0 => code.wrapping_add(delta),
        _ => match word(map, offsets + segment + offset + 2 * usize::from(inside))? {
            0 => 0,
            found => found.wrapping_add(delta),
        },
    };
    (found != 0).then_some(usize::from(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_those_of_the_file() {
        // Read from the file with another reader: ascender 932, descender -189; digits are equally wide.
        let widths: Vec<f64> = ('0'..='9').map(|digit| glyph(digit).expect("a digit").advance * 1121.0).collect();
        assert!(widths.iter().all(|width| (width - widths[0]).abs() < 1e-9), "{widths:?}");
        let (thin, wide) = (glyph('i').expect("i"), glyph('m').expect("m"));
        assert!(thin.advance < 0.5 * wide.advance && thin.bearing > 0.05);
    }

    #[test]
    fn every_character_of_the_figures_is_there() {
        for letter in "abcxyzABCXYZ0189 .,:;%+-=*()/·µ_…'\"<>".chars() {
            assert!(glyph(letter).is_some(), "{letter}");
        }
        assert_eq!(glyph('漢'), None);
    }
}
