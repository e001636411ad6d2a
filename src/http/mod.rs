//! What HTTP means, without I/O: methods, versions, fields, heads (RFC 9110, RFC 9112).

mod edits;
mod field;
pub mod fold;
mod head;
mod method;
mod version;

pub use edits::Edits;
pub use field::{FieldId, NAMING};
pub use head::{
    BodyFraming, Field, Length, RequestHead, ResponseFraming, ResponseHead, Span, TargetForm,
};
pub use method::Method;
pub use version::Version;
