//! What must be true of the queue at any time.

use super::{ANY, Home, NONE, Queue, avoiding_lane, bound_lane, is_bound_lane, round_of};

impl<J> Queue<J> {
    /// Checks that the structures agree with each other, and that all is unused when no job waits.
    pub(in crate::balance) fn check(&self) {
        let mut queued = 0;
        let mut clients = 0;
        for (index, line) in self.lines.iter().enumerate() {
            let is_free = {
                let mut free = self.free_line;
                while free != NONE && free != index as u32 {
                    free = self.lines[free as usize].next;
                }
                free != NONE
            };
            if is_free {
                assert_eq!(line.len, 0);
                continue;
            }
            let (mut previous, mut place, mut len) = (NONE, line.first, 0);
            while place != NONE {
                let entry = &self.entries[place as usize];
                let waiting = entry.waiting.as_ref().expect("a linked entry holds a job");
                assert_eq!((entry.line, entry.previous), (index as u32, previous));
                assert!(
                    previous == NONE || self.number(previous) < entry.number,
                    "a line is in order"
                );
                assert_eq!(self.ids.get(&waiting.ticket.id), Some(&place));
                match line.home {
                    Home::Lane { bucket, lane } => {
                        let expected = match (waiting.bound, waiting.ticket.avoid) {
                            (Some(server), _) => bound_lane(server),
                            (None, avoid) => avoid.map_or(ANY, avoiding_lane),
                        };
                        assert_eq!((waiting.ticket.bucket.0, expected), (bucket, lane));
                    }
                    Home::Common { bucket, round } => {
                        assert_eq!(
                            (waiting.ticket.bucket.0, round_of(waiting.bound)),
                            (bucket, round)
                        );
                    }
                    Home::Client(client) => {
                        assert_eq!(waiting.ticket.key, Some(client.key));
                        assert_eq!(
                            (waiting.ticket.bucket.0, round_of(waiting.bound)),
                            (client.bucket, client.round)
                        );
                    }
                }
                (previous, place) = (place, entry.next);
                len += 1;
            }
            assert_eq!((line.last, line.len), (previous, len));
            queued += len as usize;
            if let Home::Client(client) = line.home {
                clients += 1;
                assert!(len > 0, "an empty client's line is freed");
                assert_eq!(self.clients.get(&client), Some(&(index as u32)));
            }
        }
        assert_eq!(self.clients.len(), clients);
        for bucket in &self.buckets {
            for round in &bucket.rounds {
                let (mut previous, mut line, mut len) = (NONE, round.first, 0);
                while line != NONE {
                    assert!(self.lines[line as usize].len > 0);
                    assert_eq!(self.lines[line as usize].previous, previous);
                    (previous, line) = (line, self.lines[line as usize].next);
                    len += 1;
                }
                assert_eq!((round.last, round.len), (previous, len));
            }
            let with_head = |lane: &u32| {
                let line = bucket.lanes[*lane as usize];
                !is_bound_lane(*lane) && line != NONE && self.lines[line as usize].len > 0
            };
            let heads = (0..bucket.lanes.len() as u32).filter(with_head).count();
            assert_eq!(bucket.heads.len(), heads);
        }
        let (mut free, mut place) = (0, self.free);
        while place != NONE {
            assert!(self.entries[place as usize].waiting.is_none());
            place = self.entries[place as usize].next;
            free += 1;
        }
        assert_eq!(queued + free, self.entries.len(), "no entry is lost");
        assert_eq!(
            (self.len, self.ids.len(), self.deadlines.len()),
            (queued, queued, queued)
        );
    }
}
