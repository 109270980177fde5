//! Notes about write ids, in temporary files: a store has more of them than fit into memory.

use std::sync::Arc;

use drystone_store::env::{Env, File, OpenMode, ScratchDir};
use drystone_store::error::Result;
use drystone_store::types::WriteId;

/// The number of parts: one for each first byte of a write id.
const PARTS: usize = 256;
/// The bytes of a part that wait in memory.
const BUFFER_BYTES: usize = 16 << 10;

/// Notes about write ids, each of the same length, in one file for each first byte.
pub struct Spill {
    env: Arc<dyn Env>,
    note_bytes: usize,
    parts: Vec<Part>,
    scratch: ScratchDir,
}

#[derive(Default)]
struct Part {
    file: Option<Arc<dyn File>>,
    written: u64,
    buffer: Vec<u8>,
}

impl Spill {
    pub fn new(env: Arc<dyn Env>, note_bytes: usize) -> Result<Spill> {
        Ok(Spill {
            scratch: ScratchDir::create(env.clone(), "fsck-")?,
            env,
            note_bytes,
            parts: (0..PARTS).map(|_| Part::default()).collect(),
        })
    }

    pub fn add(&mut self, id: WriteId, note: &[u8]) -> Result<()> {
        assert_eq!(note.len(), self.note_bytes);
        let part = &mut self.parts[usize::from(id.0[0])];
        part.buffer.extend_from_slice(&id.0);
        part.buffer.extend_from_slice(note);
        if part.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        if part.file.is_none() {
            let path = self.scratch.path().join(format!("{:02x}", id.0[0]));
            part.file = Some(self.env.files().open(&path, OpenMode::CreateEmpty)?);
        }
        if let Some(file) = &part.file {
            file.write_all_at(&part.buffer, part.written)?;
        }
        part.written += part.buffer.len() as u64;
        part.buffer.clear();
        Ok(())
    }

    /// Takes out the notes about write ids with this first byte, in the order in which they came.
    pub fn take(&mut self, first: u8) -> Result<Vec<(WriteId, Vec<u8>)>> {
        let part = std::mem::take(&mut self.parts[usize::from(first)]);
        let mut bytes = vec![0; part.written as usize];
        if part.file.is_some() {
            // By its path, as the file was opened to be written.
            let path = self.scratch.path().join(format!("{first:02x}"));
            let file = self.env.files().open(&path, OpenMode::Read)?;
            file.read_exact_at(&mut bytes, 0)?;
        }
        bytes.extend_from_slice(&part.buffer);
        let notes = bytes.chunks_exact(16 + self.note_bytes).map(|note| {
            let (id, note) = note.split_at(16);
            let id = id.try_into().expect("it is 16 bytes long");
            (WriteId(id), note.to_vec())
        });
        Ok(notes.collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use drystone_store::env::SystemEnv;

    #[test]
    fn r_31_notes_come_back_by_the_first_byte_however_many_they_are() {
        let mut spill = Spill::new(Arc::new(SystemEnv), 8).unwrap();
        let id = |n: u64| {
            let mut id = [(n % 3) as u8; 16];
            id[8..].copy_from_slice(&n.to_be_bytes());
            WriteId(id)
        };
        for n in 0..5000 {
            spill.add(id(n), &n.to_be_bytes()).unwrap();
        }
        for first in 0..=u8::MAX {
            let expected: Vec<_> = (0..5000)
                .filter(|n| n % 3 == u64::from(first))
                .map(|n| (id(n), n.to_be_bytes().to_vec()))
                .collect();
            assert!(spill.take(first).unwrap() == expected, "{first}");
        }
    }
}
