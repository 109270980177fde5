//! Writing S3's XML.
//!
//! [`Writer`] escapes as S3 does: what XML can't hold as a character goes out as a numeric
//! reference.

use std::fmt::Write as _;

/// The namespace of S3's documents.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// The namespace of `xsi:type` in grants.
pub const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// The beginning of every document.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Builds a document, element by element.
#[derive(Debug)]
pub struct Writer {
    out: String,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    /// Begins with the XML declaration.
    pub fn new() -> Writer {
        Writer {
            out: DECLARATION.to_owned(),
        }
    }

    /// Begins with the declaration and the opened root in S3's namespace.
    pub fn document(root: &str) -> Writer {
        let mut writer = Writer::new();
        writer.open_with(root, &[("xmlns", NAMESPACE)]);
        writer
    }

    pub fn open(&mut self, name: &str) {
        self.open_with(name, &[]);
    }

    pub fn open_with(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
    }

    pub fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with a text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(&mut self.out, text);
        self.close(name);
    }

    /// Text in the element that is open.
    pub fn content(&mut self, text: &str) {
        escape(&mut self.out, text);
    }

    /// An element with anything that can be written, as text.
    pub fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        self.text(name, &value.to_string());
    }

    pub fn empty(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str("/>");
    }

    /// The document. Every element must have been closed.
    pub fn finish(self) -> String {
        self.out
    }
}

/// As S3 escapes: the five that XML reserves (the apostrophe stays), and every control character
/// as a reference, so that a line break in a key survives the reader's normalising. Characters
/// that XML 1.0 has no form for go out as references as well: that is what S3 does, and asking
/// for `encoding-type=url` is the way around.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a string can't fail.
                let _ = write!(out, "&#x{:x};", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Writer;

    #[test]
    fn control_characters_leave_as_references() {
        let mut writer = Writer::new();
        writer.text("K", "a\u{1}\r\n'");
        assert!(writer.finish().ends_with("<K>a&#x1;&#xd;&#xa;'</K>"));
    }
}
