//! What HTTP means, without I/O: methods, versions, fields, heads (RFC 9110, RFC 9112).

mod edits;
mod field;
pub mod fold;
mod head;
mod method;

pub use edits::Edits;
pub use field::{FieldId, NAMING};
pub use head::{BodyFraming, Field, RequestHead, ResponseFraming, ResponseHead, Span, TargetForm};
pub use method::Method;

/// The two HTTP/1 versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}
