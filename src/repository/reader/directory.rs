//! One directory without its subtrees, or one entry: the tree is searched, not walked.
//! What it needs of it [`Scope`] tells.

use std::sync::Arc;

use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::snapshot::TreeRoot;
use crate::repository::reader::Reader;
use crate::repository::reader::scope::Scope;
use crate::repository::reader::walk::{DamagedTree, TreeWalk};

impl Reader {
    /// Walks what is directly in the directory `directory`, or at the top, and the entry of that directory itself.
    ///
    /// Nodes that hold only what lies deeper are not read: the cost is that of the directory, not of what is below.
    pub fn walk_directory(self: &Arc<Self>, root: TreeRoot, directory: Option<EntryPath>) -> TreeWalk {
        TreeWalk::of(self, root, Scope::Directly(directory))
    }

    /// Returns the entry at `path`, if there is one. One node of each level is read.
    ///
    /// # Errors
    /// When the part of the tree where it would be cannot be read.
    pub async fn entry(self: &Arc<Self>, root: TreeRoot, path: EntryPath) -> Result<Option<Entry>, DamagedTree> {
        TreeWalk::of(self, root, Scope::Alone(path)).next().await.transpose()
    }
}
