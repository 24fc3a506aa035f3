//! Matrix products: the best of a small menu of tiles, in whole waves over the multiprocessors, overlapped with the
//! traffic of the operands.
//!
//! A product of `[m, k]` with `[k, n]` is cut into tiles; each multiprocessor computes `q = ceil(tiles / multiprocessors)` of
//! them one after the other (the wave quantisation of NVIDIA's "Matrix Multiplication Background User's Guide"), at the
//! family's share of the peak, less for small tiles (they reload more than they compute) and for multiprocessors that
//! hold little work (nothing hides their latency). Products with few tiles may be split over `k`, at the price of adding
//! the parts up. Memory: each operand once; a multiprocessor draws only so much, hence small products do not reach the
//! bandwidth.

use super::facts::Peak;
use super::{GpuModel, Precision};

/// Tiles of libraries on matrix units, `[rows, columns]`; the transposed ones are tried too.
const TENSOR_TILES: [[f64; 2]; 7] =
    [[256.0, 128.0], [128.0, 128.0], [128.0, 64.0], [64.0, 64.0], [128.0, 32.0], [64.0, 32.0], [64.0, 16.0]];
/// Tiles of libraries on vector lanes.
const VECTOR_TILES: [[f64; 2]; 6] =
    [[128.0, 128.0], [128.0, 64.0], [64.0, 64.0], [128.0, 32.0], [32.0, 32.0], [128.0, 8.0]];
/// Parts that a product may be split into over its inner extent.
const SPLITS: [f64; 11] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Least inner extent of a part.
const LEAST_PART: f64 = 128.0;
/// Inner extents are padded to this.
const INNER_STEP: f64 = 32.0;
/// Elements of a tile of 128 x 128.
const UNIT_TILE: f64 = 16_384.0;
/// Elements of accumulators that a multiprocessor holds: two such tiles.
const RESIDENT_LIMIT: f64 = 2.0 * UNIT_TILE;
/// Share of the peak that 8-bit products reach over the share of 16-bit ones: the operands' way in does not double.
/// Assumed.
const NARROW: f64 = 0.92;
/// Throughput of 16-bit products whose rows do not start on 16 bytes, over that of aligned ones.
const MISALIGNED: f64 = 0.45;

/// A product and what it reads and writes; extents as floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Product {
    pub(crate) m: f64,
    pub(crate) n: f64,
    pub(crate) k: f64,
    pub(crate) batch: f64,
    /// Bytes of the two operands and the result in memory; smaller than the product's extents for convolutions.
    pub(crate) traffic: f64,
    /// Bytes of an operand's element.
    pub(crate) element: f64,
    /// Whether the library splits the inner extent.
    pub(crate) splits: bool,
}

impl Product {
    /// A plain product in a precision.
    pub(crate) fn plain(m: f64, n: f64, k: f64, batch: f64, precision: Precision) -> Self {
        let (element, output) = (precision.storage_bytes() as f64, precision.output_bytes() as f64);
        Self { m, n, k, batch, traffic: batch * ((m + n) * k * element + m * n * output), element, splits: true }
    }
}

impl GpuModel {
    /// Seconds of a plain product.
    pub(crate) fn matmul(&self, m: u64, n: u64, k: u64, batch: u64, precision: Precision) -> f64 {
        let product = Product::plain(m.max(1) as f64, n.max(1) as f64, k.max(1) as f64, batch as f64, precision);
        self.product(&product, self.facts.peak(precision), self.aligned(&[n, k], precision))
            + self.parameters.matmul_us * 1e-6
    }

    /// Throughput over that of aligned operands: matrix units want rows that start on 16 bytes.
    pub(crate) fn aligned(&self, extents: &[u64], precision: Precision) -> f64 {
        let step = 16 / precision.storage_bytes();
        let misaligned = extents.iter().any(|extent| extent % step != 0);
        if self.facts.peak(precision).tensor && misaligned { MISALIGNED } else { 1.0 }
    }

    /// Seconds of the fastest way to compute a product at `throughput` times the family's share of the peak, without the
    /// fixed time.
    pub(crate) fn product(&self, product: &Product, peak: Peak, throughput: f64) -> f64 {
        let share = if peak.tensor { self.parameters.tensor_efficiency } else { self.parameters.vector_efficiency };
        let share = if product.element < 1.5 { share * NARROW } else { share };
        let rate = peak.flops * share * throughput / self.facts.multiprocessors;
        let tiles: &[[f64; 2]] = if peak.tensor { &TENSOR_TILES } else { &VECTOR_TILES };
        let mut best = f64::INFINITY;
        for &[long, short] in tiles {
            best = self.with_tile(product, [long, short], rate, best);
            if long > short {
                best = self.with_tile(product, [short, long], rate, best);
            }
        }
        best
    }

    /// Seconds with tiles of one shape, over as many parts of the inner extent as suit it; `best` where that is less.
    fn with_tile(&self, product: &Product, [rows, columns]: [f64; 2], rate: f64, best: f64) -> f64 {
        let tiles = (product.m / rows).ceil() * (product.n / columns).ceil() * product.batch;
        let rate = rate * saturation(mean_side(rows, columns), mean_side(256.0, 128.0), self.parameters.tile_half);
        let most = if product.splits { 4.0 * self.facts.multiprocessors / tiles } else { 1.0 };
        let useful = |parts: &f64| *parts <= 1.0 || (*parts <= most && product.k >= parts * LEAST_PART);
        let ways = SPLITS.into_iter().take_while(useful);
        ways.fold(best, |best, parts| self.in_parts(product, rows * columns, [tiles, parts, rate], best))
    }

    /// Seconds of `tiles` tiles, each in `parts` parts that a multiprocessor with `rate` operations a second computes; `best`
    /// where that is less.
    fn in_parts(&self, product: &Product, area: f64, [tiles, parts, rate]: [f64; 3], best: f64) -> f64 {
        let (facts, fitted) = (&self.facts, &self.parameters);
        let blocks = tiles * parts;
        let inner = (product.k / parts / INNER_STEP).ceil() * INNER_STEP;
        let queue = (blocks / facts.multiprocessors).ceil();
        let resident = (queue * area).min(RESIDENT_LIMIT) / UNIT_TILE;
        let busy = saturation(resident, RESIDENT_LIMIT / UNIT_TILE, fitted.resident_half);
        let arithmetic = queue * 2.0 * area * inner / (rate * busy);
        let drawing = (blocks / facts.multiprocessors).min(1.0) * fitted.multiprocessor_bandwidth;
        let cached = facts.bandwidth * fitted.cache_bandwidth * drawing.min(1.0);
        let memory = product.traffic / (facts.bandwidth * fitted.operand_bandwidth * drawing.min(1.0));
        let partial = (parts - 1.0) * product.m * product.n * product.batch * 8.0 / cached;
        let split = if parts > 1.0 { partial + fitted.split_us * 1e-6 } else { 0.0 };
        // Roots are dear: most ways are worse without them.
        let least = arithmetic.max(memory) + split;
        if least < best { best.min(self.overlapped(arithmetic, memory) + split) } else { best }
    }

    /// Two times that hide one another but for the family's overlap.
    pub(crate) fn overlapped(&self, a: f64, b: f64) -> f64 {
        let (long, short) = if a > b { (a, b) } else { (b, a) };
        if long <= 0.0 {
            0.0
        } else {
            long * (1.0 + (short / long).powf(self.parameters.overlap)).powf(1.0 / self.parameters.overlap)
        }
    }
}

/// `x / (x + half)`, over what it is at `most`.
fn saturation(x: f64, most: f64, half: f64) -> f64 {
    x / (x + half) * ((most + half) / most)
}

/// Harmonic mean of the sides of a tile: elements computed for each element loaded.
fn mean_side(rows: f64, columns: f64) -> f64 {
    2.0 * rows * columns / (rows + columns)
}
