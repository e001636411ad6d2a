//! Which fault a malformed request is.

use crate::fault::Fault;
use crate::proto::h1::Malformed;

/// The fault that a client is refused with for this.
pub(super) fn fault_of(malformed: Malformed) -> Fault {
    match malformed {
        Malformed::Expect => Fault::ExpectationFailed,
        Malformed::HeadTooLarge | Malformed::TooManyFields => Fault::HeadTooLarge,
        Malformed::MethodNotImplemented | Malformed::UnknownCoding => Fault::NotImplemented,
        Malformed::TargetTooLong => Fault::TargetTooLong,
        Malformed::Version => Fault::VersionNotSupported,
        Malformed::BareLineEnd
        | Malformed::Chunk
        | Malformed::ContentLength
        | Malformed::ControlByte
        | Malformed::FieldName
        | Malformed::Host
        | Malformed::LengthAndEncoding
        | Malformed::LookAlike
        | Malformed::MaxForwards
        | Malformed::ObsoleteFold
        | Malformed::StartLine
        | Malformed::Target
        | Malformed::Trailer
        | Malformed::TransferEncoding => Fault::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_status_that_rfc_9110_and_6585_give_it() {
        for (malformed, status) in [
            (Malformed::Expect, 417),
            (Malformed::HeadTooLarge, 431),
            (Malformed::TooManyFields, 431),
            (Malformed::MethodNotImplemented, 501),
            (Malformed::UnknownCoding, 501),
            (Malformed::TargetTooLong, 414),
            (Malformed::Version, 505),
            (Malformed::LookAlike, 400),
            (Malformed::TransferEncoding, 400),
        ] {
            assert_eq!(fault_of(malformed).status(), status, "{malformed:?}");
        }
    }
}
