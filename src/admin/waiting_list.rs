//! [`WaitingList`]: texts that are sent later, in memory as long as they are few.

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;

use super::answer::Pen;
use crate::{
    error::RegistryError,
    storage::{FileBlob, StorageError, TemporaryBlob, TemporaryFolder},
};

/// What is held in memory of a list, in bytes, before it goes to disk.
const IN_MEMORY: usize = 64 * 1024;

/// The elements of an array in JSON.
#[derive(Default)]
pub(super) struct WaitingList {
    text: String,
    file: Option<TemporaryBlob<()>>,
}

impl WaitingList {
    pub(super) async fn push(
        &mut self,
        folder: &TemporaryFolder,
        element: &str,
    ) -> Result<(), StorageError> {
        if !self.text.is_empty() || self.file.is_some() {
            self.text.push(',');
        }
        self.text.push_str(&json!(element).to_string());
        if self.text.len() >= IN_MEMORY {
            let text = Bytes::from(std::mem::take(&mut self.text));
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(folder.create(()).await?),
            };
            file.write(text).await?;
        }
        Ok(())
    }

    pub(super) async fn write(self, pen: &mut Pen) -> Result<(), RegistryError> {
        if let Some(mut file) = self.file {
            file.flush().await?;
            let length = file.written();
            let blob = FileBlob {
                file: file.reader()?,
                length,
            };
            let mut pieces = Box::pin(blob.into_stream(0..length));
            while let Some(piece) = pieces.next().await {
                let read = |error| StorageError::io("reading a report", error);
                pen.write(piece.map_err(read)?).await;
            }
        }
        if !self.text.is_empty() {
            pen.write(self.text).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_list_goes_to_disk_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = TemporaryFolder::open(&folder.path().join("tmp")).unwrap();
        let mut list = WaitingList::default();
        let elements: Vec<String> = (0..40_000).map(|number| format!("@s/\"{number}")).collect();
        for element in &elements {
            list.push(&folder, element).await.unwrap();
            assert!(list.text.len() < IN_MEMORY);
        }
        assert!(list.file.is_some());
        let (mut pen, mut written) = Pen::for_test();
        let written = async {
            let mut text = String::new();
            while let Some(piece) = written.recv().await {
                text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
            }
            text
        };
        let write = async move { list.write(&mut pen).await.unwrap() };
        let ((), text) = tokio::join!(write, written);
        let read: Vec<String> = serde_json::from_str(&format!("[{text}]")).unwrap();
        assert_eq!(read, elements);
    }
}
