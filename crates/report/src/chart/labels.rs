//! Placing names beside points without overlaps, and breaking names over lines.

use super::canvas::{Area, Canvas, Point};
use crate::error::ReportError;

/// Where a label went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placed {
    /// The rectangle of the text.
    pub(crate) area: Area,
    /// Where a leader line meets the text; `None` when the label touches its point.
    pub(crate) leader: Option<Point>,
}

/// Directions around a point, most readable first.
const DIRECTIONS: [Point; 12] = [
    (1.0, 0.0),
    (-1.0, 0.0),
    (1.0, 0.7),
    (-1.0, -0.7),
    (1.0, -0.7),
    (-1.0, 0.7),
    (0.35, 1.0),
    (-0.35, -1.0),
    (1.0, 1.6),
    (-1.0, -1.6),
    (1.0, 0.35),
    (-1.0, -0.35),
];
/// Gap between a point and its label, in points; beyond the first a leader line is drawn.
const DISTANCES: [f64; 8] = [9.0, 24.0, 40.0, 58.0, 80.0, 105.0, 135.0, 170.0];

/// What labels keep clear of.
pub(crate) struct Obstacles {
    /// The labels stay inside.
    pub(crate) bounds: Area,
    /// Covered ground: marks, legends.
    pub(crate) areas: Vec<Area>,
    /// Lines that no text should cross.
    pub(crate) lines: Vec<(Point, Point)>,
}

/// Places labels of the given sizes beside `points`, clear of each other and of `obstacles`; where all is taken, where
/// it overlaps least. Crowded points choose first.
pub(crate) fn place(points: &[Point], sizes: &[Point], mut obstacles: Obstacles) -> Vec<Placed> {
    let crowd = |i: usize| points.iter().filter(|p| distance(**p, points[i]) < 60.0).count();
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(crowd(*i)));
    let mut placed = vec![None; points.len()];
    for i in order {
        let priced = candidates(points[i], sizes[i]).map(|label| (cost(&label, points[i], &obstacles), label));
        let Some((_, best)) = priced.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        obstacles.areas.push(best.area.inset(-2.0));
        obstacles.lines.extend(best.leader.map(|end| (points[i], end)));
        placed[i] = Some(best);
    }
    placed.into_iter().flatten().collect()
}

fn distance(a: Point, b: Point) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

fn candidates(point: Point, size: Point) -> impl Iterator<Item = Placed> {
    let all = DISTANCES.into_iter().flat_map(|gap| DIRECTIONS.into_iter().map(move |direction| (gap, direction)));
    all.map(move |(gap, direction)| candidate(point, size, gap, direction))
}

fn candidate((x, y): Point, (width, height): Point, gap: f64, (dx, dy): Point) -> Placed {
    let (edge, middle) = (x + gap * dx, y + gap * dy);
    let left = if dx < 0.0 { edge - width } else { edge };
    let area = Area::new(left, middle - height / 2.0, left + width, middle + height / 2.0);
    let leader = (gap > DISTANCES[0]).then_some((edge - 3.0 * dx.signum(), middle));
    Placed { area, leader }
}

fn cost(label: &Placed, point: Point, obstacles: &Obstacles) -> f64 {
    let overlap: f64 = obstacles.areas.iter().map(|other| label.area.overlap(other)).sum();
    let outside = if obstacles.bounds.contains(&label.area) { 0.0 } else { 1e6 };
    let struck = obstacles.lines.iter().filter(|line| hits(**line, &label.area)).count();
    let leader = label.leader.map_or(0.0, |end| leader_cost(point, end, obstacles));
    overlap * 40.0 + outside + struck as f64 * 250.0 + leader
}

/// Long leaders cost a little, those that cross lines or marks much.
fn leader_cost(point: Point, end: Point, obstacles: &Obstacles) -> f64 {
    let over = obstacles.lines.iter().filter(|other| cross((point, end), **other)).count();
    let others = obstacles.areas.iter().filter(|area| !area.contains(&Area::new(point.0, point.1, point.0, point.1)));
    let through = others.filter(|area| hits((point, end), area)).count();
    12.0 + distance(point, end) + over as f64 * 60.0 + through as f64 * 300.0
}

/// Whether two segments cross.
fn cross((a, b): (Point, Point), (c, d): (Point, Point)) -> bool {
    let side = |p: Point, q: Point, r: Point| (q.0 - p.0) * (r.1 - p.1) - (q.1 - p.1) * (r.0 - p.0);
    side(a, b, c) * side(a, b, d) < 0.0 && side(c, d, a) * side(c, d, b) < 0.0
}

/// Whether a segment passes through a rectangle.
fn hits((a, b): (Point, Point), area: &Area) -> bool {
    let sides = [(area.left, area.top), (area.right, area.top), (area.right, area.bottom), (area.left, area.bottom)];
    let inside = |(x, y): Point| (area.left..=area.right).contains(&x) && (area.top..=area.bottom).contains(&y);
    inside(a) || inside(b) || (0..4).any(|i| cross((a, b), (sides[i], sides[(i + 1) % 4])))
}

/// Breaks a name over at most `most` lines of at most `width`: at spaces and after hyphens, inside a word where it must
/// be; what is left over ends in an ellipsis.
pub(crate) fn wrap(
    canvas: &Canvas<'_>,
    name: &str,
    size: f64,
    width: f64,
    most: usize,
) -> Result<Vec<String>, ReportError> {
    let mut lines = vec![String::new()];
    for piece in pieces(name) {
        for part in split_wide(canvas, piece, size, width)? {
            let line = lines.last().map_or("", String::as_str);
            let joined = format!("{line}{part}");
            if !line.is_empty() && canvas.text_width(joined.trim_end(), size)? > width {
                lines.push(part);
            } else {
                lines.pop();
                lines.push(joined);
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        lines[most - 1].push('…');
    }
    Ok(lines.iter().map(|line| line.trim_end().to_owned()).collect())
}

/// A piece cut into parts that fit; one part when it fits whole.
fn split_wide(canvas: &Canvas<'_>, piece: &str, size: f64, width: f64) -> Result<Vec<String>, ReportError> {
    let mut parts = vec![String::new()];
    for letter in piece.chars() {
        let longer = format!("{}{letter}", parts.last().map_or("", String::as_str));
        if longer.chars().count() > 1 && canvas.text_width(longer.trim_end(), size)? > width {
            parts.push(letter.to_string());
        } else {
            parts.pop();
            parts.push(longer);
        }
    }
    Ok(parts)
}

/// The parts of a name that stay together, each with the space or hyphen that ends it.
fn pieces(name: &str) -> impl Iterator<Item = &str> {
    name.split_inclusive([' ', '-', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(bounds: Area) -> Obstacles {
        Obstacles { bounds, areas: Vec::new(), lines: Vec::new() }
    }

    #[test]
    fn labels_of_a_crowd_do_not_overlap() {
        let points: Vec<Point> =
            (0..10).map(|i| (300.0 + f64::from(i % 4) * 5.0, 300.0 + f64::from(i) * 3.0)).collect();
        let sizes = vec![(120.0, 14.0); points.len()];
        let bounds = Area::new(0.0, 0.0, 640.0, 640.0);
        let placed = place(&points, &sizes, inside(bounds));
        assert_eq!(placed.len(), points.len());
        for (i, a) in placed.iter().enumerate() {
            assert!(bounds.contains(&a.area));
            for b in &placed[i + 1..] {
                assert!(a.area.overlap(&b.area) == 0.0, "{a:?} over {b:?}");
            }
        }
    }

    #[test]
    fn a_lone_label_touches_its_point() {
        let placed = place(&[(50.0, 50.0)], &[(30.0, 14.0)], inside(Area::new(0.0, 0.0, 200.0, 100.0)));
        assert_eq!(placed, vec![Placed { area: Area::new(59.0, 43.0, 89.0, 57.0), leader: None }]);
    }

    #[test]
    fn no_label_lies_on_a_line() {
        let line = ((0.0, 50.0), (200.0, 50.0));
        let obstacles = Obstacles { lines: vec![line], ..inside(Area::new(0.0, 0.0, 200.0, 100.0)) };
        let placed = place(&[(50.0, 50.0)], &[(30.0, 14.0)], obstacles);
        assert!(!hits(line, &placed[0].area), "{placed:?}");
    }

    #[test]
    fn a_segment_through_a_rectangle_is_noticed_without_an_end_inside() {
        let area = Area::new(10.0, 10.0, 20.0, 12.0);
        assert!(hits(((0.0, 11.0), (100.0, 11.0)), &area));
        assert!(!hits(((0.0, 9.0), (100.0, 9.0)), &area));
    }

    #[test]
    fn names_break_at_spaces_and_after_hyphens() {
        assert_eq!(pieces("data-parallel x2").collect::<Vec<_>>(), ["data-", "parallel ", "x2"]);
    }
}
