//! The states that one key can have, and the effect of each operation on them.
//!
//! A key is a stack of versions, the current one on top; in a bucket without versions it has at
//! most one. Values are distinguished by their entity tags: bytes are compared where they are read.

/// The checker's number for an entity tag or for the id of a version.
pub type Name = u32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// `None`: a delete marker.
    pub etag: Option<Name>,
    /// `None`: the server did not say.
    pub id: Option<Name>,
}

impl Version {
    fn is(&self, seen: &Version) -> bool {
        let same_id = match (self.id, seen.id) {
            (Some(own), Some(seen)) => own == seen,
            _ => true,
        };
        self.etag == seen.etag && same_id
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State(pub Vec<Version>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    Absent,
    Match(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Write(Version, Condition),
    /// A delete of the current version; the marker's id where the bucket keeps versions.
    Delete(Option<Name>, Condition),
    DeleteVersion(Name),
    Read(Option<Version>),
    ReadVersion(Name, Option<Version>),
    /// All versions, the newest first.
    ReadAll(Vec<Version>),
    /// Refused because the condition did not hold.
    Refused(Condition),
    Nothing,
}

impl State {
    pub fn current(&self) -> Option<&Version> {
        self.0.last().filter(|version| version.etag.is_some())
    }

    fn holds(&self, condition: Condition) -> bool {
        match condition {
            Condition::None => true,
            Condition::Absent => self.current().is_none(),
            Condition::Match(etag) => self.current().is_some_and(|now| now.etag == Some(etag)),
        }
    }

    /// Returns the state after `act`, if `act` can have had its outcome here.
    pub fn after(&self, act: &Act, versioned: bool) -> Option<State> {
        let mut next = self.clone();
        let holds = match act {
            Act::Write(version, condition) => {
                if !versioned {
                    next.0.clear();
                }
                next.0.push(version.clone());
                self.holds(*condition)
            }
            Act::Delete(id, condition) => {
                match versioned {
                    true => next.0.push(Version {
                        etag: None,
                        id: *id,
                    }),
                    false => next.0.clear(),
                }
                self.holds(*condition)
            }
            Act::DeleteVersion(id) => {
                next.0.retain(|version| version.id != Some(*id));
                true
            }
            Act::Read(seen) => match (self.current(), seen) {
                (Some(now), Some(seen)) => now.is(seen),
                (None, None) => true,
                _ => false,
            },
            Act::ReadVersion(id, seen) => {
                let found = self.0.iter().find(|version| version.id == Some(*id));
                match (found, seen) {
                    (Some(found), Some(seen)) => found.is(seen),
                    (None, None) => true,
                    // The server never gave its id: the version may be any of those.
                    (None, Some(seen)) => self.0.iter().any(|version| version.is(seen)),
                    (Some(_), None) => false,
                }
            }
            Act::ReadAll(seen) => {
                let mut pairs = self.0.iter().rev().zip(seen);
                self.0.len() == seen.len() && pairs.all(|(now, seen)| now.is(seen))
            }
            Act::Refused(condition) => !self.holds(*condition),
            Act::Nothing => true,
        };
        holds.then_some(next)
    }
}
