//! The windows whose recipes lie in a pack, each put together by that recipe and compared with its key.

use std::sync::Arc;

use crate::model::id::ChunkKey;
use crate::repository::index::own::OwnPack;
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::reader::range::GROUP_WINDOWS;
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};

impl Reader {
    /// Puts every window together whose recipe lies in a pack that was checked; returns the places of those that cannot be, with
    /// why. One that only some places of its parts do not make is right. In a pack that was moved meanwhile nothing is wrong.
    ///
    /// # Errors
    /// When something is out of reach.
    pub async fn check_windows(self: &Arc<Self>, pack: &PackInfo) -> Result<Vec<(ChunkPlace, ReadError)>, ReadError> {
        loop {
            let loads = self.index.loads();
            let wrong = self.check_windows_as_loaded(pack).await?;
            if wrong.is_empty() || !self.loaded_since(loads).await? {
                return Ok(wrong);
            }
            if !self.index.names(pack.id) {
                return Ok(Vec::new());
            }
        }
    }

    async fn check_windows_as_loaded(
        self: &Arc<Self>,
        pack: &PackInfo,
    ) -> Result<Vec<(ChunkPlace, ReadError)>, ReadError> {
        // A pack that tells nothing of itself is damaged, which whoever checked it was told.
        let Ok(own) = self.own_record(pack.id).await? else { return Ok(Vec::new()) };
        self.wrong_windows(recipes(&own)).await
    }

    /// Puts windows together, each by the recipe at its place; returns the places of those that cannot be, with why.
    ///
    /// # Errors
    /// When something is out of reach.
    pub(crate) async fn wrong_windows(
        self: &Arc<Self>,
        recipes: impl Iterator<Item = (ChunkKey, ChunkPlace)> + Send,
    ) -> Result<Vec<(ChunkPlace, ReadError)>, ReadError> {
        let mut wrong = Vec::new();
        let (mut group, mut bytes) = (Vec::new(), 0);
        for (key, location) in recipes {
            let window = WindowAt { key, id: None, length: None, location };
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
        wrong: &mut Vec<(ChunkPlace, ReadError)>,
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
}

/// The recipes in a pack, each with the key of its window, in the order in which they stand there.
fn recipes(own: &OwnPack) -> impl Iterator<Item = (ChunkKey, ChunkPlace)> + Send + '_ {
    own.places().filter(|(_, location)| location.codec.holds_recipes())
}
