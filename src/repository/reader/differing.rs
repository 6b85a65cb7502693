//! Finding where two trees differ without reading what they share: equal nodes have equal ids.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::tree::Node;
use crate::model::id::ChunkId;
use crate::model::snapshot::TreeRoot;
use crate::repository::reader::told::TreeNode;
use crate::repository::reader::walk::TreeWalk;
use crate::repository::reader::{ReadError, Reader};

impl Reader {
    /// Walks two trees, leaving out the leaves that both have.
    ///
    /// An entry that is the same in both may still be given by both, when its leaf differs; an entry that is not the
    /// same is given always. Inner nodes are read level by level, so the cost is that of the difference.
    ///
    /// # Errors
    /// When an inner node cannot be read. Leaves that cannot be read are told by the walks.
    pub async fn differing(
        self: &Arc<Self>,
        left: TreeRoot,
        right: TreeRoot,
    ) -> Result<(TreeWalk, TreeWalk), ReadError> {
        let (mut left, mut right) = (Level::top(left), Level::top(right));
        loop {
            if left.depth == right.depth {
                let of_left: HashSet<ChunkId> = left.nodes.iter().map(|node| node.id).collect();
                let common: HashSet<ChunkId> =
                    right.nodes.iter().map(|node| node.id).filter(|id| of_left.contains(id)).collect();
                left.nodes.retain(|node| !common.contains(&node.id));
                right.nodes.retain(|node| !common.contains(&node.id));
            }
            if left.depth.max(right.depth) == 1 {
                return Ok((self.walk_leaves(left.nodes), self.walk_leaves(right.nodes)));
            }
            let deepest = left.depth.max(right.depth);
            for level in [&mut left, &mut right] {
                if level.depth == deepest {
                    level.descend(self).await?;
                }
            }
        }
    }
}

/// The nodes of one depth that are still of interest, in path order.
struct Level {
    depth: u8,
    nodes: Vec<TreeNode>,
}

impl Level {
    fn top(root: TreeRoot) -> Self {
        Self { depth: root.depth, nodes: vec![TreeNode::root(root)] }
    }

    async fn descend(&mut self, reader: &Arc<Reader>) -> Result<(), ReadError> {
        let mut below = Vec::new();
        for told in &self.nodes {
            let Node::Children(children) = reader.node(told).await? else {
                unreachable!("checked to be of this level")
            };
            below.extend(told.children(&children));
        }
        self.nodes = below;
        self.depth -= 1;
        Ok(())
    }
}
