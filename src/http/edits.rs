//! What is changed in a request head on its way to a server, whatever protocol that server speaks.

use super::FieldId;

/// Changes to a parsed request head: fields of the client that are left out, and fields that are
/// added. Made once and filled again and again.
///
/// The added fields lie in one text, each as `name: value CRLF`: HTTP/1 copies the text at once,
/// other protocols take names and values from it ([`Self::added`]).
#[derive(Clone, Debug, Default)]
pub struct Edits {
    omitted: &'static [FieldId],
    lines: Vec<u8>,
}

impl Edits {
    /// Forgets every change. Room for at most `room` bytes of added fields is kept.
    pub fn clear(&mut self, room: usize) {
        self.omitted = &[];
        self.lines.clear();
        self.lines.shrink_to(room);
    }

    /// Leaves out exactly these fields of the client.
    pub fn omit(&mut self, fields: &'static [FieldId]) {
        self.omitted = fields;
    }

    /// Returns whether the client's fields with this meaning are left out.
    pub fn omits(&self, field: FieldId) -> bool {
        self.omitted.contains(&field)
    }

    /// Adds a field whose value consists of these parts.
    pub fn add(&mut self, name: &str, value: &[&[u8]]) {
        self.add_written(name, |line| {
            for part in value {
                line.extend_from_slice(part);
            }
        });
    }

    /// Adds a field whose value is what `write_value` appends: no control byte, and no space at
    /// either end.
    pub fn add_written(&mut self, name: &str, write_value: impl FnOnce(&mut Vec<u8>)) {
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        write_value(&mut self.lines);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// The added fields as the field lines of HTTP/1, each with its CRLF.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The added fields as names and values, in the order in which they were added.
    pub fn added(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.lines();
        std::iter::from_fn(move || {
            let colon = memchr::memchr(b':', rest)?;
            let end = memchr::memchr(b'\r', rest)?;
            let field = (rest.get(..colon)?, rest.get(colon + 2..end)?);
            rest = rest.get(end + 2..)?;
            Some(field)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_fields_are_one_text_and_names_with_values() {
        let mut edits = Edits::default();
        edits.omit(&[FieldId::Via]);
        edits.add("Via", &[b"1.1 ", b"juggler"]);
        edits.add_written("X-Forwarded-Host", |value| {
            value.extend_from_slice(b"a:80");
        });
        edits.add("X-Empty", &[]);
        assert_eq!(
            edits.lines(),
            b"Via: 1.1 juggler\r\nX-Forwarded-Host: a:80\r\nX-Empty: \r\n"
        );
        let added: Vec<(&[u8], &[u8])> = edits.added().collect();
        assert_eq!(
            added,
            [
                (&b"Via"[..], &b"1.1 juggler"[..]),
                (b"X-Forwarded-Host", b"a:80"),
                (b"X-Empty", b""),
            ]
        );
        assert!(edits.omits(FieldId::Via) && !edits.omits(FieldId::Host));
        edits.clear(0);
        assert_eq!(edits.added().count(), 0);
        assert!(!edits.omits(FieldId::Via));
    }
}
