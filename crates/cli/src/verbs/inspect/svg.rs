//! A drawing as plain SVG: rows from top to bottom, boxes of a row side by side, arrows that skip rows bent around.

use super::drawing::{Drawing, Group};

const BOX_WIDTH: f64 = 250.0;
const BOX_HEIGHT: f64 = 36.0;
const GAP: f64 = 18.0;
const ROW: f64 = 62.0;
const MARGIN: f64 = 60.0;
const CHARACTERS: usize = 40;

/// Middle of the top of every box, and the size of the whole.
struct Layout {
    boxes: Vec<(f64, f64)>,
    width: f64,
    height: f64,
}

impl Layout {
    /// Boxes of a row stand in the order of what they read, so that branches stay apart.
    fn new(drawing: &Drawing) -> Self {
        let rows = drawing.nodes.iter().map(|node| node.rank).max().unwrap_or(0) + 1;
        let mut row_of: Vec<Vec<usize>> = vec![Vec::new(); rows];
        for (index, node) in drawing.nodes.iter().enumerate() {
            row_of[node.rank].push(index);
        }
        let widest = row_of.iter().map(Vec::len).max().unwrap_or(1);
        let width = MARGIN * 2.0 + widest as f64 * (BOX_WIDTH + GAP);
        let mut parents: Vec<Vec<usize>> = vec![Vec::new(); drawing.nodes.len()];
        drawing.edges.iter().for_each(|(from, to)| parents[*to].push(*from));
        let mut boxes = vec![(width / 2.0, 0.0); drawing.nodes.len()];
        for (rank, row) in row_of.iter_mut().enumerate() {
            let wish = |node: &usize| {
                let above = &parents[*node];
                above.iter().map(|parent| boxes[*parent].0).sum::<f64>() / above.len().max(1) as f64
            };
            row.sort_by(|a, b| wish(a).total_cmp(&wish(b)));
            let left = width / 2.0 - (row.len() as f64 - 1.0) * (BOX_WIDTH + GAP) / 2.0;
            for (place, node) in row.iter().enumerate() {
                boxes[*node] = (left + place as f64 * (BOX_WIDTH + GAP), MARGIN + rank as f64 * ROW);
            }
        }
        Self { boxes, width, height: MARGIN * 2.0 + rows as f64 * ROW }
    }
}

/// The drawing as an SVG file.
pub(super) fn render(drawing: &Drawing) -> String {
    let layout = Layout::new(drawing);
    let (width, height) = (layout.width, layout.height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" \
         markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{}\" y=\"26\" text-anchor=\"middle\" \
         font-size=\"16\">{}</text>\n",
        width / 2.0,
        escaped(&drawing.title)
    );
    for group in drawing.groups.iter().filter(|group| group.count > 1 || group.nodes.len() > 1) {
        text.push_str(&frame(group, &layout));
    }
    for edge in &drawing.edges {
        text.push_str(&arrow(drawing, &layout, *edge));
    }
    for (node, (x, y)) in drawing.nodes.iter().zip(&layout.boxes) {
        text.push_str(&boxed(&node.title, &node.detail, *x, *y));
    }
    text.push_str("</svg>\n");
    text
}

fn frame(group: &Group, layout: &Layout) -> String {
    let boxes = &layout.boxes[group.nodes.clone()];
    let (mut left, mut right, mut top, mut bottom) = (f64::MAX, f64::MIN, f64::MAX, f64::MIN);
    for (x, y) in boxes {
        (left, right) = (left.min(x - BOX_WIDTH / 2.0 - 8.0), right.max(x + BOX_WIDTH / 2.0 + 8.0));
        (top, bottom) = (top.min(y - 15.0), bottom.max(y + BOX_HEIGHT + 7.0));
    }
    let (fill, times) = match group.count {
        1 => ("#f6f6f6", String::new()),
        count => ("#e8f1fb", format!(" × {count}")),
    };
    let (width, height) = (right - left, bottom - top);
    format!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\" stroke=\"#bbb\"/>\n\
         <text x=\"{}\" y=\"{}\" fill=\"#333\" font-weight=\"bold\">{}</text>\n",
        left + 8.0,
        top + 11.0,
        escaped(&(shortened(&group.name, CHARACTERS) + &times))
    )
}

fn boxed(title: &str, detail: &str, x: f64, y: f64) -> String {
    let left = x - BOX_WIDTH / 2.0;
    format!(
        "<rect x=\"{left}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"white\" stroke=\"#456\"/>\n\
         <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" \
         fill=\"#666\" font-size=\"9\">{}</text>\n",
        y + 15.0,
        escaped(&shortened(title, CHARACTERS)),
        y + 28.0,
        escaped(&shortened(detail, CHARACTERS + 10))
    )
}

/// Straight to the next row; further down along a curve beside the boxes between.
fn arrow(drawing: &Drawing, layout: &Layout, (from, to): (usize, usize)) -> String {
    let ((x1, y1), (x2, y2)) = (layout.boxes[from], layout.boxes[to]);
    let start = y1 + BOX_HEIGHT;
    let path = if drawing.nodes[to].rank - drawing.nodes[from].rank <= 1 {
        format!("M{x1} {start} L{x2} {y2}")
    } else {
        let side = x1.max(x2) + BOX_WIDTH / 2.0 + 14.0 + ((y2 - start) / 40.0).min(24.0);
        format!("M{x1} {start} C{side} {} {side} {} {x2} {y2}", start + 40.0, y2 - 40.0)
    };
    format!("<path d=\"{path}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#arrow)\"/>\n")
}

fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
