//! Which ranks take part in a collective, and how they lie on the fabric.

use super::error::NetworkError;

/// The ranks of one collective, placed regularly: the same number on every node, evenly spaced.
///
/// Ranks are numbered node by node. A group of 8 data-parallel replicas with tensor parallelism 4 inside nodes of 8 has
/// `ranks = 8, ranks_per_node = 2, stride = 4, simultaneous = 4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Ranks that take part.
    pub ranks: usize,
    /// Of these, how many sit on each node.
    pub ranks_per_node: usize,
    /// Distance between neighbours inside a node, in ranks; 1 for consecutive ranks.
    pub stride: usize,
    /// Distance between neighbouring nodes of the group, in nodes; 1 for consecutive nodes.
    pub node_stride: usize,
    /// Groups on the same nodes that run the same collective at the same moment and share the nodes' network cards, this
    /// one included.
    pub simultaneous: usize,
}

impl Group {
    /// `ranks` consecutive ranks, `ranks_per_node` on each node, alone.
    ///
    /// # Errors
    /// [`NetworkError::Group`] when there are no ranks, or the nodes do not divide them.
    pub fn new(ranks: usize, ranks_per_node: usize) -> Result<Self, NetworkError> {
        let refuse = |field, value, remedy| Err(NetworkError::Group { field, value, remedy });
        match (ranks, ranks_per_node) {
            (0, _) => refuse("ranks", 0, "a group has at least one rank"),
            (_, 0) => refuse("ranks_per_node", 0, "a node of the group holds at least one of its ranks"),
            (ranks, each) if !ranks.is_multiple_of(each.min(ranks)) => {
                refuse("ranks_per_node", each, "it must divide the number of ranks")
            }
            (ranks, each) => {
                Ok(Self { ranks, ranks_per_node: each.min(ranks), stride: 1, node_stride: 1, simultaneous: 1 })
            }
        }
    }

    /// `ranks` ranks, each `stride` after the one before in the numbering of a fabric whose nodes hold `node` ranks: what a
    /// mesh axis with `stride` ranks inside it gives. The groups beside it on the same nodes run at the same moment.
    ///
    /// # Errors
    /// [`NetworkError::Group`] when a number is zero, or `stride` and `node` do not divide each other.
    pub fn strided(ranks: usize, stride: usize, node: usize) -> Result<Self, NetworkError> {
        let refuse = |field, value, remedy| Err(NetworkError::Group { field, value, remedy });
        if stride == 0 || node == 0 {
            return refuse("stride", stride, "stride and node size are at least 1");
        }
        if stride >= node {
            if !stride.is_multiple_of(node) {
                return refuse("stride", stride, "it must be a multiple of the node size, or divide it");
            }
            let spread = Self::new(ranks, 1)?;
            return Ok(Self { node_stride: stride / node, simultaneous: node, ..spread });
        }
        if !node.is_multiple_of(stride) {
            return refuse("stride", stride, "it must divide the node size, or be a multiple of it");
        }
        let each = node / stride;
        let packed = Self::new(ranks, each)?;
        let simultaneous = if ranks >= each { stride } else { node / ranks.max(1) };
        Ok(Self { stride, simultaneous, ..packed })
    }

    /// The same group with `simultaneous` groups at once on its nodes.
    #[must_use]
    pub fn beside(self, simultaneous: usize) -> Self {
        Self { simultaneous: simultaneous.max(1), ..self }
    }

    /// Nodes that the group spans.
    pub fn nodes(&self) -> usize {
        self.ranks / self.ranks_per_node.max(1)
    }
}
