//! Reading S3's XML, within bounds.
//!
//! [`parse`] takes a whole document, whose size the caller has bounded, and gives a tree of
//! elements. What no S3 client sends and attackers do (DOCTYPE, entities of their own, deep
//! nesting, hosts of attributes) is `MalformedXML`.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::error::{Code, S3Error};

/// S3's own documents are five deep at most.
const DEPTH_MAX: usize = 32;
/// A thousand keys with all that can be said of each, and some room.
const ELEMENTS_MAX: usize = 65_536;
/// Namespace declarations and `xsi:type`; nothing in S3 has more.
const ATTRIBUTES_MAX: usize = 16;

/// An element of a parsed document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Without its namespace prefix.
    pub name: String,
    /// The text directly in it. White space beside child elements is no text.
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// All children of this name.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

fn malformed() -> S3Error {
    S3Error::new(Code::MalformedXML)
}

/// The document's root element, which must have the name `root`.
pub fn parse(document: &[u8], root: &str) -> Result<Element, S3Error> {
    let text = std::str::from_utf8(document).map_err(|_| malformed())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    let mut done: Option<Element> = None;
    let mut elements = 0;
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(start) => {
                begin(&mut open, done.as_ref(), &mut elements, &start)?;
            }
            Event::Empty(start) => {
                begin(&mut open, done.as_ref(), &mut elements, &start)?;
                end(&mut open, &mut done);
            }
            Event::End(_) => end(&mut open, &mut done),
            Event::Text(text) => append(&mut open, &text.xml10_content())?,
            Event::CData(data) => append(&mut open, &data.xml10_content())?,
            Event::GeneralRef(reference) => append(&mut open, &resolve(&reference)?)?,
            Event::DocType(_) => return Err(malformed()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    match done {
        Some(element) if open.is_empty() && element.name == root => Ok(element),
        _ => Err(malformed()),
    }
}

fn begin(
    open: &mut Vec<Element>,
    done: Option<&Element>,
    elements: &mut usize,
    start: &BytesStart<'_>,
) -> Result<(), S3Error> {
    *elements += 1;
    if done.is_some() || open.len() >= DEPTH_MAX || *elements > ELEMENTS_MAX {
        return Err(malformed());
    }
    let mut attributes = 0;
    // The duplicate check compares each attribute with all others, so it is left out: the
    // number is bounded and nothing reads them.
    for attribute in start.attributes().with_checks(false) {
        attribute.map_err(|_| malformed())?;
        attributes += 1;
        if attributes > ATTRIBUTES_MAX {
            return Err(malformed());
        }
    }
    open.push(Element {
        name: start.local_name().as_ref().to_owned(),
        ..Element::default()
    });
    Ok(())
}

fn end(open: &mut Vec<Element>, done: &mut Option<Element>) {
    let Some(mut element) = open.pop() else {
        return;
    };
    if !element.children.is_empty() && element.text.trim().is_empty() {
        element.text.clear();
    }
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *done = Some(element),
    }
}

fn append(open: &mut [Element], text: &str) -> Result<(), S3Error> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(malformed()),
    }
    Ok(())
}

/// The five predefined entities and character references; no others exist without a DOCTYPE.
fn resolve(reference: &BytesRef<'_>) -> Result<String, S3Error> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| malformed())? {
        return Ok(character.to_string());
    }
    let text = resolve_predefined_entity(reference).ok_or_else(malformed)?;
    Ok(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Element, parse};
    use crate::error::{Code, S3Error};
    use crate::xml::write::Writer;

    fn read(text: &str) -> Result<Element, S3Error> {
        parse(text.as_bytes(), "R")
    }

    #[test]
    fn reads_text_entities_cdata_and_namespaces() {
        let text = "<?xml version=\"1.0\"?>\n<!-- c --><s:R xmlns:s=\"u\">\n <A>a &amp;&#x26; \
                    <![CDATA[<b>]]></A> <A/> <B> x </B></s:R>\n";
        let root = read(text).unwrap();
        assert_eq!(root.text, "");
        assert_eq!(root.child_text("A"), Some("a && <b>"));
        assert_eq!(root.children("A").count(), 2);
        assert_eq!(root.child_text("B"), Some(" x "));
    }

    #[test]
    fn a_24_what_no_client_sends_is_malformed() {
        let deep = format!("<R>{}{}</R>", "<a>".repeat(100), "</a>".repeat(100));
        let wide = format!("<R>{}</R>", "<a/>".repeat(100_000));
        let attributes: String = (0..1000).map(|n| format!(" a{n}=\"x\"")).collect();
        let namespaces: String = (0..1000).map(|n| format!(" xmlns:n{n}=\"x\"")).collect();
        for text in [
            "",
            " ",
            "<R>",
            "<R></X>",
            "<R></R><R></R>",
            "<R></R>x",
            "x<R></R>",
            "<X></X>",
            "</R>",
            "<R>&bomb;</R>",
            "<R>&#0x;</R>",
            "<!DOCTYPE R><R></R>",
            "<!DOCTYPE R [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><R>&a;</R>",
            &deep,
            &wide,
            &format!("<R{attributes}></R>"),
            &format!("<R{namespaces}></R>"),
        ] {
            let code = read(text).map_err(|error| error.code());
            assert_eq!(code, Err(Code::MalformedXML), "{text:.60}");
        }
        let utf16: Vec<u8> = "<R></R>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(parse(&utf16, "R").is_err());
        assert!(parse(b"<R>\xff</R>", "R").is_err());
    }

    #[test]
    fn a_23_what_is_written_reads_back() {
        let keys = [
            "a&<>\"'b",
            "tab\tnew\nline\rend",
            "\u{202e}rtl",
            "é e\u{301}",
            "😀",
        ];
        for key in keys {
            let mut writer = Writer::document("R");
            writer.text("K", key);
            writer.close("R");
            let text = writer.finish();
            assert_eq!(read(&text).unwrap().child_text("K"), Some(key));
        }
    }
}
