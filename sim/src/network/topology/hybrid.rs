//! One message over several channels at once, such as NVLink and PCIe (Blink, section 4).

/// A way for bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// Bandwidth, bytes/s.
    pub bandwidth: f64,
    /// Time before the first byte moves, s; what it costs to switch the channel on counts here.
    pub latency: f64,
}

/// A message split over channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Bytes of each channel, in the order given.
    pub bytes: Vec<f64>,
    /// When the last byte is there, s.
    pub seconds: f64,
}

/// The split that ends soonest: all channels used end together, at `T = (n + sum B a) / sum B`, and one whose latency is
/// above `T` is left out. Without channels nothing arrives.
pub fn split_over_channels(bytes: f64, channels: &[Channel]) -> Split {
    let mut by_latency: Vec<&Channel> = channels.iter().filter(|channel| channel.bandwidth > 0.0).collect();
    by_latency.sort_by(|a, b| a.latency.total_cmp(&b.latency));
    let (mut width, mut head_start, mut seconds) = (0.0, 0.0, f64::INFINITY);
    for channel in by_latency {
        if channel.latency >= seconds {
            break;
        }
        width += channel.bandwidth;
        head_start += channel.bandwidth * channel.latency;
        seconds = (bytes + head_start) / width;
    }
    let share = |channel: &Channel| (channel.bandwidth * (seconds - channel.latency)).max(0.0);
    let bytes = if seconds.is_finite() { channels.iter().map(share).collect() } else { vec![0.0; channels.len()] };
    Split { bytes, seconds }
}
