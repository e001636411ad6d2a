//! The reading side of TLS.

use std::io::{self, Read};
use std::sync::Arc;

use super::write::forget_wire;
use super::{Client, Fed, TlsError};

impl Client {
    /// Feeds ciphertext in and takes plaintext out. What TLS has to say to that goes out in its
    /// order.
    pub fn feed(self: &Arc<Self>, cipher: &mut &[u8], into: &mut [u8]) -> Result<Fed, TlsError> {
        let mut reply = self.reply.lock();
        let fed = loop {
            let Some(tls) = &mut reply.tls else {
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
                self.wait_sent(&mut reply);
                self.push_tls(&mut reply);
                // A session says nothing more in most cases; there are many.
                forget_wire();
            }
            match (read, processed) {
                (_, Err(error)) => break Err(TlsError(error)),
                (Err(error), _) => break Err(TlsError(rustls::Error::General(error.to_string()))),
                (Ok(_), Ok(_)) => {}
            }
        };
        if reply.open.is_none() {
            self.call_courier(&mut reply);
        }
        fed
    }

    /// The handshake is over.
    pub fn is_greeted(&self) -> bool {
        self.reply
            .lock()
            .tls
            .as_ref()
            .is_none_or(|tls| !tls.is_handshaking())
    }
}
