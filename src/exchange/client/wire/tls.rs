//! The reading side of TLS.

use std::io::{self, Read};
use std::sync::Arc;

use super::ending::Ending;
use super::push::forget_wire;
use super::shared::{Guarded, Wire};

/// What came out of ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The client has said that it sends no more.
    Ended,
    /// Nothing without more ciphertext.
    More,
    /// The number of bytes of plaintext.
    Plain(usize),
}

/// TLS failed; the alert is on its way.
#[derive(Debug)]
pub struct TlsError(pub rustls::Error);

impl<T: Guarded, E: Ending> Wire<T, E> {
    /// Feeds ciphertext in and takes plaintext out. What TLS has to say to that goes out in its
    /// order.
    pub fn feed(self: &Arc<Self>, cipher: &mut &[u8], into: &mut [u8]) -> Result<Fed, TlsError> {
        let mut out = self.out.lock();
        let fed = loop {
            let Some(tls) = &mut out.tls else {
                return Ok(Fed::Ended);
            };
            match tls.reader().read(into) {
                Ok(0) => break Ok(Fed::Ended),
                Ok(length) => break Ok(Fed::Plain(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break Ok(Fed::Ended),
            }
            if cipher.is_empty() {
                break Ok(Fed::More);
            }
            let read = tls.read_tls(cipher);
            let processed = tls.process_new_packets();
            if tls.wants_write() {
                self.wait_sent(&mut out);
                self.push_tls(&mut out);
                // A session says nothing more in most cases; there are many.
                forget_wire();
            }
            match (read, processed) {
                (_, Err(error)) => break Err(TlsError(error)),
                (Err(error), _) => break Err(TlsError(rustls::Error::General(error.to_string()))),
                (Ok(_), Ok(_)) => {}
            }
        };
        if !out.turn.is_busy() {
            self.call_courier(&mut out);
        }
        fed
    }

    /// The handshake is over.
    pub fn is_greeted(&self) -> bool {
        self.out
            .lock()
            .tls
            .as_ref()
            .is_none_or(|tls| !tls.is_handshaking())
    }
}
