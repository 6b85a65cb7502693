//! The windows whose recipes lie in a pack, each put together by that recipe and compared with its key.

use std::sync::Arc;

use crate::format::pack::{PackDirectory, TRAILER_LEN};
use crate::repository::index::table::{Location, PackInfo};
use crate::repository::reader::pack::open_directory;
use crate::repository::reader::range::GROUP_WINDOWS;
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};

impl Reader {
    /// Puts every window together whose recipe lies in a pack that was checked; returns the places of those that cannot be, with
    /// why. One that only some places of its parts do not make is right.
    ///
    /// # Errors
    /// When something is out of reach.
    pub async fn check_windows(self: &Arc<Self>, pack: &PackInfo) -> Result<Vec<(Location, ReadError)>, ReadError> {
        let Some(directory) = self.own_directory(pack).await? else { return Ok(Vec::new()) };
        let mut wrong = Vec::new();
        let (mut group, mut bytes) = (Vec::new(), 0);
        for window in windows(pack, &directory) {
            let length = match self.recipe(&window.location).await {
                Ok(recipe) => u64::from(recipe.length()),
                Err(error) if error.is_damage() => {
                    wrong.push((window.location, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if bytes + length > self.group_bytes() || group.len() >= GROUP_WINDOWS {
                self.check_group(std::mem::take(&mut group), &mut wrong).await?;
                bytes = 0;
            }
            bytes += length;
            group.push(window);
        }
        self.check_group(group, &mut wrong).await?;
        Ok(wrong)
    }

    async fn check_group(
        self: &Arc<Self>,
        group: Vec<WindowAt>,
        wrong: &mut Vec<(Location, ReadError)>,
    ) -> Result<(), ReadError> {
        let _room = self.windows.group().await;
        let failed: Vec<bool> = self.windows_at(&group).await.into_iter().map(|answer| answer.is_err()).collect();
        for (window, _) in group.iter().zip(failed).filter(|(_, failed)| *failed) {
            match self.window(window).await {
                Ok(_) => {}
                Err(error) if error.is_damage() => wrong.push((window.location, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a pack's own directory. `None` where it is damaged, which whoever checked the pack was told.
    async fn own_directory(self: &Arc<Self>, pack: &PackInfo) -> Result<Option<PackDirectory>, ReadError> {
        let size = u64::from(pack.size);
        let Some(trailer) = size.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
        let lost = |error: ReadError| if error.is_damage() { Ok(None) } else { Err(error) };
        let trailer = match self.fetch(pack.id, trailer..size).await {
            Ok(from) => from.bytes,
            Err(error) => return lost(error),
        };
        let Ok((opener, tail)) = self.open_trailer(pack, &trailer) else { return Ok(None) };
        let start = u64::from(tail.directory_offset);
        match self.fetch(pack.id, start..start + u64::from(tail.directory_len)).await {
            Ok(from) => Ok(open_directory(&opener, &tail, &from.bytes).ok()),
            Err(error) => lost(error),
        }
    }
}

/// The windows whose recipes are in a pack, in the order in which they stand there.
fn windows(pack: &PackInfo, directory: &PackDirectory) -> Vec<WindowAt> {
    let (mut windows, mut frame_offset) = (Vec::new(), 0);
    for (number, frame) in (0u32..).zip(&directory.frames) {
        let mut offset = 0;
        for &(key, length) in &frame.chunks {
            let location = Location {
                pack: pack.id,
                kind: pack.kind,
                frame: number,
                frame_offset,
                sealed_len: frame.sealed_len,
                plain_len: frame.plain_len,
                codec: frame.codec,
                offset,
                length,
            };
            offset += length;
            if frame.codec.holds_recipes() {
                windows.push(WindowAt { key, id: None, length: None, location });
            }
        }
        frame_offset += frame.sealed_len;
    }
    windows
}
