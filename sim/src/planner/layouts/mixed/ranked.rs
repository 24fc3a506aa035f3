//! The best few of what is found, best first.

/// What anything further must stay below to be among the best `top_k`; `None` while there are fewer.
pub(super) fn cutoff<T, V>(best: &[T], top_k: usize, value: impl Fn(&T) -> V) -> Option<V> {
    best.get(top_k.max(1) - 1).map(value)
}

/// Takes `found` in behind all that are no worse, and keeps `top_k`.
pub(super) fn insert<T, V: PartialOrd>(best: &mut Vec<T>, found: T, top_k: usize, value: impl Fn(&T) -> V) {
    let own = value(&found);
    let at = best.partition_point(|known| value(known) <= own);
    best.insert(at, found);
    best.truncate(top_k.max(1));
}
