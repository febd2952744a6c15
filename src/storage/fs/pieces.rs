//! [`Pieces`]: a file that is sent while it is read.

use std::{fs::File, io, io::IoSliceMut, ops::Range, os::unix::fs::FileExt as _, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// The largest piece that is read at once, in bytes. Few calls, and one piece, with what its reader
/// has not taken yet, still fits into a processor's own cache while it is sent on.
const PIECE: usize = 384 * 1024;

/// Reads a file piece by piece, into memory that is used again once a piece has been sent.
///
/// What the system has in memory is read here and now: to hand it to another thread would take as
/// long as the reading. What is still on the disk is waited for on the blocking pool.
#[derive(Debug)]
pub struct Pieces {
    file: Arc<File>,
    /// The pieces that were read last. One is being sent while the next one is read.
    sent: [Bytes; 2],
    /// Whether the file system can tell what is in memory.
    can_tell: bool,
}

impl Pieces {
    /// The pieces of `file`.
    pub fn of(file: Arc<File>) -> Self {
        Self {
            file,
            sent: [Bytes::new(), Bytes::new()],
            can_tell: true,
        }
    }

    /// The beginning of `part`, at most 384 KiB, and at least one byte.
    ///
    /// # Errors
    /// The file ends before `part` begins, or cannot be read.
    pub async fn next(&mut self, part: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(part.end.saturating_sub(part.start)).unwrap_or(PIECE);
        let mut piece = self.room();
        piece.resize(length.min(PIECE), 0);
        let count = match self.read_from_memory(&mut piece, part.start)? {
            Some(count) => count,
            None => {
                let file = Arc::clone(&self.file);
                let work = move || {
                    let count = file.read_at(&mut piece, part.start)?;
                    Ok::<_, io::Error>((piece, count))
                };
                let read = tokio::task::spawn_blocking(work).await;
                let count;
                (piece, count) = read.map_err(io::Error::other)??;
                count
            }
        };
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(count);
        let piece = piece.freeze();
        let [older, newer] = &mut self.sent;
        *older = std::mem::replace(newer, piece.clone());
        Ok(piece)
    }

    /// Memory of a piece that has been sent, or new memory.
    fn room(&mut self) -> BytesMut {
        for sent in self.sent.iter_mut().rev() {
            match std::mem::take(sent).try_into_mut() {
                Ok(room) => return room,
                Err(held) => *sent = held,
            }
        }
        BytesMut::default()
    }

    /// Reads what is in memory; `None` where that is nothing, or nobody can tell.
    fn read_from_memory(&mut self, into: &mut [u8], at: u64) -> io::Result<Option<usize>> {
        while self.can_tell {
            let mut slices = [IoSliceMut::new(into)];
            match preadv2(&*self.file, &mut slices, at, ReadWriteFlags::NOWAIT) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.can_tell = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    async fn whole(pieces: &mut Pieces, part: Range<u64>) -> io::Result<Vec<u8>> {
        let (mut all, mut at) = (Vec::new(), part.start);
        while at < part.end {
            let piece = pieces.next(at..part.end).await?;
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            at += u64::try_from(piece.len()).unwrap();
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn every_byte_once() {
        let bytes: Vec<u8> = (0..PIECE * 3 + 7)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        for can_tell in [true, false] {
            let mut pieces = Pieces::of(file(&bytes));
            pieces.can_tell = can_tell;
            let length = u64::try_from(bytes.len()).unwrap();
            assert_eq!(whole(&mut pieces, 0..length).await.unwrap(), bytes);
            assert_eq!(whole(&mut pieces, 5..6).await.unwrap(), [5]);
            let error = whole(&mut pieces, 0..length + 1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn what_was_sent_makes_room_and_what_is_held_is_not_touched() {
        let bytes = [
            vec![1; PIECE],
            vec![2; PIECE],
            vec![3; PIECE],
            vec![4; PIECE],
        ]
        .concat();
        let mut pieces = Pieces::of(file(&bytes));
        let length = u64::try_from(bytes.len()).unwrap();
        let step = u64::try_from(PIECE).unwrap();
        let first = pieces.next(0..length).await.unwrap();
        let second = pieces.next(step..length).await.unwrap();
        let place = second.as_ptr();
        drop(second);
        let third = pieces.next(2 * step..length).await.unwrap();
        let fourth = pieces.next(3 * step..length).await.unwrap();
        assert_eq!(third.as_ptr(), place);
        assert_ne!(fourth.as_ptr(), place);
        assert!(first.iter().all(|&byte| byte == 1));
        assert!(third.iter().all(|&byte| byte == 3));
        assert!(fourth.iter().all(|&byte| byte == 4));
    }
}
