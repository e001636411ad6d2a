//! The body of a response as its client gets it: how the client learns where the body ends.

use crate::http::{Length, ResponseFraming, Version};

use super::{write_chunk_size, write_last_chunk};

/// How a client learns where the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// The head says it: by a length, or because such a response has no body.
    Sized,
    /// The last chunk is the end.
    Chunks,
    /// The end of the connection is the end (HTTP/1.0).
    UntilClose,
}

impl Going {
    /// How a client of this version learns the end of a body of this length.
    pub fn of(length: Length, version: Version) -> Self {
        match (length, version) {
            (Length::None | Length::Known(_), _) => Self::Sized,
            (Length::Unknown, Version::Http10) => Self::UntilClose,
            (Length::Unknown, Version::Http11) => Self::Chunks,
        }
    }

    /// What the head has to declare for that.
    pub fn framing(self, length: Length) -> ResponseFraming {
        match (self, length) {
            (Self::Chunks, _) => ResponseFraming::Chunked,
            (Self::UntilClose, _) => ResponseFraming::UntilClose,
            (Self::Sized, Length::Known(length)) => ResponseFraming::Length(length),
            (Self::Sized, Length::None | Length::Unknown) => ResponseFraming::None,
        }
    }

    /// Appends what stands before a piece of content of so many bytes, and returns what stands
    /// behind it.
    #[must_use = "it belongs behind the content"]
    pub fn write_before(self, out: &mut Vec<u8>, content: usize) -> &'static [u8] {
        if self != Self::Chunks || content == 0 {
            return b"";
        }
        write_chunk_size(out, content);
        b"\r\n"
    }

    /// Appends the end of the body. `trailers` are lines, each with its CRLF; they are left out
    /// where the framing has no place for them.
    pub fn write_end(self, out: &mut Vec<u8>, trailers: &[u8]) {
        if self == Self::Chunks {
            write_last_chunk(out, trailers);
        }
    }

    /// A clean end of the connection would be taken for the end of the body: a response that broke
    /// off needs a reset.
    pub fn ends_with_connection(self) -> bool {
        self == Self::UntilClose
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_clients_take_the_end_of_a_connection_for_the_end_of_a_body() {
        use Version::{Http10, Http11};
        for version in [Http10, Http11] {
            assert_eq!(Going::of(Length::None, version), Going::Sized);
            assert_eq!(Going::of(Length::Known(0), version), Going::Sized);
        }
        assert_eq!(Going::of(Length::Unknown, Http11), Going::Chunks);
        assert_eq!(Going::of(Length::Unknown, Http10), Going::UntilClose);
        assert!(!Going::Sized.ends_with_connection() && !Going::Chunks.ends_with_connection());
        assert!(Going::UntilClose.ends_with_connection());
    }

    #[test]
    fn content_is_framed_piece_by_piece() {
        let written = |going: Going| {
            let mut out = Vec::new();
            for piece in [&b"hello"[..], b"", b"0123456789abcdef"] {
                let behind = going.write_before(&mut out, piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(behind);
            }
            going.write_end(&mut out, b"X: y\r\n");
            out
        };
        assert_eq!(
            written(Going::Chunks),
            b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n"
        );
        assert_eq!(written(Going::Sized), b"hello0123456789abcdef");
        assert_eq!(written(Going::UntilClose), b"hello0123456789abcdef");
    }

    #[test]
    fn the_head_declares_what_the_body_is_framed_with() {
        assert_eq!(
            Going::Sized.framing(Length::Known(3)),
            ResponseFraming::Length(3)
        );
        assert_eq!(Going::Sized.framing(Length::None), ResponseFraming::None);
        assert_eq!(
            Going::Chunks.framing(Length::Unknown),
            ResponseFraming::Chunked
        );
        assert_eq!(
            Going::UntilClose.framing(Length::Unknown),
            ResponseFraming::UntilClose
        );
    }
}
