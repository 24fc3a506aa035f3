//! How deep a stacked recurrent network is, in cells that wait for one another.

/// Cells on the longest chain when layers are computed one after the other over the whole sequence: `T L`.
pub fn serial_depth(steps: u64, layers: u64) -> u64 {
    steps * layers
}

/// Cells on the longest chain when layer `l` computes step `t` as soon as `(l - 1, t)` and `(l, t - 1)` are there: diagonals of
/// a grid, `T + L - 1`.
pub fn wavefront_depth(steps: u64, layers: u64) -> u64 {
    if steps == 0 || layers == 0 { 0 } else { steps + layers - 1 }
}

/// Multiplications and additions of one step of one sample in a cell with `gates` gates (1, 3 of a GRU, 4 of an LSTM):
/// `2 g h (i + h)`.
pub fn cell_operations(gates: u64, inputs: u64, hidden: u64) -> u64 {
    2 * gates * hidden * (inputs + hidden)
}
