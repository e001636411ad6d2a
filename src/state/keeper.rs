//! Keeps the state file true.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::time::after;

use super::held::{self, HeldFile, HeldServer};

/// A write that has failed is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes to the state file, and remembers what it has written. One thread has it.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    /// What was written last; `None` if that is not known.
    written: Option<Vec<HeldServer>>,
    /// After a failure: when to try again.
    again: Option<Instant>,
}

impl Keeper {
    /// A keeper of the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
            again: None,
        }
    }

    /// Writes down the servers that are `held`, if they are not those that were written last, or in
    /// any case if `is_asked`. May be called as often as one likes: after a failure a second passes
    /// before the next attempt.
    pub fn keep(&mut self, held: Vec<HeldServer>, is_asked: bool, now: Instant) {
        // `since` is not compared: it is rounded to the second, and not always alike.
        let is_like = |written: &Vec<HeldServer>| {
            written.len() == held.len()
                && written
                    .iter()
                    .zip(&held)
                    .all(|(one, other)| one.is_like(other))
        };
        if is_asked {
            self.written = None;
        }
        let is_known = self.written.as_ref().is_some_and(is_like);
        if is_known || self.again.is_some_and(|again| now < again) {
            return;
        }
        match self.write(&held) {
            Ok(()) => (self.written, self.again) = (Some(held), None),
            Err(error) => {
                if self.again.is_none() {
                    log::error!("servers kept offline are not remembered: {error}");
                }
                (self.written, self.again) = (None, Some(after(now, AGAIN)));
            }
        }
    }

    /// The last call of [`Self::keep`] before the end: a failure before does not delay it.
    pub fn keep_finally(mut self, held: Vec<HeldServer>, is_asked: bool, now: Instant) {
        self.again = None;
        self.keep(held, is_asked, now);
    }

    fn write(&self, held: &[HeldServer]) -> io::Result<()> {
        if held.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let change = |file: &mut HeldFile| {
            // A server that somebody has released meanwhile is still held until the next reload. A
            // release from before its last fall is over.
            file.released
                .retain(|released| held.iter().any(|held| released.is_of(held)));
            file.held = held.to_vec();
            file.held
                .retain(|held| !file.released.iter().any(|released| released.is_of(held)));
        };
        match held::update(&self.path, change) {
            // The file was damaged and is out of the way now.
            Err(error) if !self.path.exists() => {
                log::error!("{error}");
                held::update(&self.path, change)
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;

    fn held(server: &str) -> HeldServer {
        HeldServer {
            cluster: "shop".to_owned(),
            server: server.to_owned(),
            address: "127.0.0.1:6901".to_owned(),
            cause: "why".to_owned(),
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    fn written(keeper: &Keeper) -> Vec<String> {
        let file = held::load(&keeper.path).unwrap();
        file.held.into_iter().map(|held| held.server).collect()
    }

    #[test]
    fn the_file_is_written_when_something_has_changed_or_somebody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(folder.path().join("state.json"));
        let now = Instant::now();
        keeper.keep(Vec::new(), false, now);
        assert!(!keeper.path.exists(), "there is nothing to be told");
        keeper.keep(vec![held("one")], false, now);
        assert_eq!(written(&keeper), ["one"]);
        fs::remove_file(&keeper.path).unwrap();
        let mut alike = held("one");
        alike.since += Duration::from_secs(1);
        keeper.keep(vec![alike], false, now);
        assert!(!keeper.path.exists(), "it is no news");
        keeper.keep(vec![held("one")], true, now);
        assert_eq!(written(&keeper), ["one"]);
        keeper.keep_finally(Vec::new(), false, now);
        assert!(
            held::load(&folder.path().join("state.json"))
                .unwrap()
                .held
                .is_empty()
        );
    }

    #[test]
    fn a_write_that_fails_is_tried_again_a_second_later() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("in the way");
        fs::write(&in_the_way, "x").unwrap();
        let mut keeper = Keeper::new(in_the_way.join("state.json"));
        let now = Instant::now();
        keeper.keep(vec![held("one")], false, now);
        fs::remove_file(&in_the_way).unwrap();
        keeper.keep(vec![held("one")], true, now + AGAIN / 2);
        assert!(!keeper.path.exists());
        keeper.keep(vec![held("one")], false, now + AGAIN);
        assert_eq!(written(&keeper), ["one"]);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(folder.path().join("state.json"));
        fs::write(&keeper.path, "{").unwrap();
        keeper.keep(vec![held("one")], false, Instant::now());
        assert_eq!(written(&keeper), ["one"]);
        assert!(folder.path().join("state.json.damaged").exists());
    }

    #[test]
    fn a_server_that_was_released_is_not_written_as_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(folder.path().join("state.json"));
        let now = Instant::now();
        keeper.keep(vec![held("one"), held("two")], false, now);
        let at = held("one").since + Duration::from_secs(60);
        held::update(&keeper.path, |file| file.release("shop/one", "anna", at)).unwrap();
        keeper.keep(vec![held("one"), held("two")], true, now);
        assert_eq!(written(&keeper), ["two"]);
        // The balancer has taken it over: it is forgotten.
        keeper.keep(vec![held("two")], false, now);
        assert!(held::load(&keeper.path).unwrap().released.is_empty());
    }
}
