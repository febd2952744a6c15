//! Takes the document of a `PUT` from the wire; attachments go straight to disk.

use std::io;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;

use super::{
    body::PublishBody,
    hashing::TarballHasher,
    scanner::{AttachmentSink, ScanLimits, Scanner},
};
use crate::{
    error::RegistryError,
    registry::room::{Room, Taken},
    storage::{Observer, TemporaryBlob, TemporaryFolder},
};

impl Observer for TarballHasher {
    fn observe(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Bytes of documents, without their attachments, that may be on their way in at the same time.
/// Parsed they take about as much again.
const ROOM: usize = 256 * 1024 * 1024;
const REFUSAL: &str = "too many documents are on their way in, try again";

/// Memory for documents on their way in.
pub(in crate::registry) fn room() -> Room {
    Room::of(ROOM, REFUSAL)
}

/// A document that has come completely, with its attachments on disk.
#[derive(Debug)]
pub struct Received {
    /// The document.
    pub(in crate::registry) body: PublishBody,
    /// Key and data of each attachment that had data.
    pub(in crate::registry) attachments: Vec<(String, TemporaryBlob<TarballHasher>)>,
    /// The room that the document takes; free when this is dropped.
    pub(in crate::registry) taken: Taken,
}

/// Reads `body` to its end. Memory is its metadata and a few hundred KiB, however large the
/// attachments are. An error of the stream is passed on.
pub(in crate::registry) async fn receive<S>(
    body: S,
    folder: &TemporaryFolder,
    room: &Room,
) -> Result<Received, RegistryError>
where
    S: Stream<Item = Result<Bytes, RegistryError>> + Send,
{
    let mut body = std::pin::pin!(body);
    let mut scanner = Scanner::new(ScanLimits::default());
    let mut taken = room.take()?;
    let mut attachments: Vec<(String, TemporaryBlob<TarballHasher>)> = Vec::new();
    while let Some(chunk) = body.next().await {
        let mut pieces = Pieces::default();
        scanner.feed(&chunk?, &mut pieces)?;
        taken.grow_to(scanner.kept())?;
        for piece in pieces.0 {
            match piece {
                Piece::Begin(name) => {
                    let blob = folder.create(TarballHasher::default()).await?;
                    attachments.push((name, blob));
                }
                Piece::Bytes(bytes) => {
                    if let Some((_, blob)) = attachments.last_mut() {
                        blob.write(bytes).await?;
                    }
                }
            }
        }
    }
    let scanned = scanner.finish()?;
    for (_, blob) in &mut attachments {
        blob.finish().await?;
    }
    Ok(Received {
        body: PublishBody::parse(&scanned)?,
        attachments,
        taken,
    })
}

/// What the scanner found in one chunk, to be written when it is done: the disk is asynchronous
/// and the scanner is not.
#[derive(Default)]
struct Pieces(Vec<Piece>);

enum Piece {
    Begin(String),
    Bytes(Bytes),
}

impl AttachmentSink for Pieces {
    fn begin(&mut self, name: &str) -> io::Result<()> {
        self.0.push(Piece::Begin(name.to_owned()));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.push(Piece::Bytes(Bytes::copy_from_slice(bytes)));
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use futures_util::stream;

    use super::*;
    use crate::registry::room::STEP;

    #[tokio::test]
    async fn attachments_arrive_whatever_the_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = TemporaryFolder::open(folder.path()).unwrap();
        let data = STANDARD.encode(b"hello ".repeat(1000));
        let document = format!(
            r#"{{"name":"n","_attachments":{{"n-1.0.0.tgz":{{"data":"{data}","length":6000}}}}}}"#
        );
        for size in [1, 7, 1000, document.len()] {
            let chunks: Vec<_> = document
                .as_bytes()
                .chunks(size)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect();
            let received = receive(stream::iter(chunks), &temporary, &room()).await;
            let received = received.unwrap();
            let (name, blob) = &received.attachments[0];
            assert_eq!(name, "n-1.0.0.tgz");
            assert_eq!(blob.written(), 6000);
            assert_eq!(
                std::fs::read_to_string(blob.path()).unwrap(),
                "hello ".repeat(1000)
            );
            assert_eq!(received.body.name.as_deref(), Some("n"));
            drop(received);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_broken_body_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = TemporaryFolder::open(folder.path()).unwrap();
        let start = Bytes::from_static(br#"{"_attachments":{"a.tgz":{"data":"aGVsbG8"#);
        let hang_up = || Err(RegistryError::bad_request("gone"));
        let cut = stream::iter(vec![Ok(start.clone())]);
        assert!(receive(cut, &temporary, &room()).await.is_err());
        let failed = stream::iter(vec![Ok(start), hang_up()]);
        assert_eq!(
            receive(failed, &temporary, &room())
                .await
                .unwrap_err()
                .to_string(),
            "gone"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn documents_share_their_room() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = TemporaryFolder::open(folder.path()).unwrap();
        let room = Room::of(4 * STEP, REFUSAL);
        let document = |length: usize| {
            let text = format!(r#"{{"x":"{}"}}"#, "x".repeat(length));
            stream::iter([Ok(Bytes::from(text))])
        };
        let first = receive(document(2 * STEP), &temporary, &room)
            .await
            .unwrap();
        let second = receive(document(2 * STEP), &temporary, &room).await;
        assert_eq!(second.unwrap_err().status(), 503);
        receive(document(10), &temporary, &room).await.unwrap();
        drop(first);
        receive(document(2 * STEP), &temporary, &room)
            .await
            .unwrap();
    }
}
