//! A report as one HTML file that needs nothing else.

use std::fmt::Write as _;
use std::path::Path;

use crate::chart::write;
use crate::error::ReportError;

/// A report page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Title.
    pub title: String,
    /// What was done with what, line by line: name and value.
    pub facts: Vec<(String, String)>,
    /// The table, as plain text.
    pub table: String,
    /// Captions and SVG texts of the figures, in order.
    pub figures: Vec<(String, String)>,
}

const STYLE: &str = "body{font:16px/1.45 Ubuntu,Helvetica,Arial,sans-serif;color:#222;max-width:1200px;margin:32px auto;\
padding:0 20px}h1{font-weight:400}pre{overflow-x:auto;background:#f6f6f6;padding:14px;font-size:14px;line-height:1.3}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px}dt{color:#5f5f5f}dd{margin:0}\
figure{margin:36px 0}figure svg{max-width:100%;height:auto}figcaption{color:#5f5f5f;font-size:14px;margin-top:6px}";

/// The text of a page, figures inlined.
pub fn page_html(page: &Page) -> String {
    let title = escape(&page.title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<dl>\n"
    );
    for (name, value) in &page.facts {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    let _ = writeln!(html, "</dl>\n<pre>{}</pre>", escape(&page.table));
    for (caption, svg) in &page.figures {
        let _ = writeln!(html, "<figure>\n{}<figcaption>{}</figcaption>\n</figure>", sized(svg), escape(caption));
    }
    html.push_str("</body>\n</html>\n");
    html
}

/// Writes a page, whole or not at all.
///
/// # Errors
/// [`ReportError::Io`].
pub fn write_page(path: &Path, page: &Page) -> Result<(), ReportError> {
    write(path, page_html(page).as_bytes())
}

/// Figures are texts of this crate and go in as they are, with their role named for screen readers.
fn sized(svg: &str) -> String {
    svg.replacen("<svg ", "<svg role=\"img\" ", 1)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_figures_are_inlined() {
        let page = Page {
            title: "a < b".to_owned(),
            facts: vec![("model".to_owned(), "gpt & co".to_owned())],
            table: "plan <x>".to_owned(),
            figures: vec![("caption".to_owned(), "<svg width=\"1\"></svg>\n".to_owned())],
        };
        let html = page_html(&page);
        for part in ["<title>a &lt; b</title>", "<dd>gpt &amp; co</dd>", "plan &lt;x&gt;", "<svg role=\"img\" width"] {
            assert!(html.contains(part), "{part} in\n{html}");
        }
    }
}
