//! The matrix that `nvidia-smi topo -m` prints.

use crate::error::ZooError;

use super::refuse;

/// How two devices, or a device and a network card, are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The same device.
    Itself,
    /// So many NVLinks.
    NvLink(usize),
    /// `PIX`, `PXB`: PCIe switches only.
    Switch,
    /// `PHB`, `NODE`: through the root complexes of one socket.
    Socket,
    /// `SYS`: through the link between sockets.
    System,
}

fn cell(text: &str) -> Option<Cell> {
    Some(match text {
        "X" => Cell::Itself,
        "PIX" | "PXB" => Cell::Switch,
        "PHB" | "NODE" | "SOC" => Cell::Socket,
        "SYS" => Cell::System,
        _ => Cell::NvLink(text.strip_prefix("NV")?.parse().ok().filter(|links| *links > 0)?),
    })
}

/// A parsed matrix.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    /// By device and column; the devices come first.
    cells: Vec<Vec<Cell>>,
    devices: usize,
    /// What follows a device's cells: the processors near it.
    affinity: Vec<Option<String>>,
}

impl Matrix {
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ZooError> {
        let remedy = "give what `nvidia-smi topo -m` prints, header included";
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let header = lines.find(|words| words.first() == Some(&"GPU0"));
        let Some(header) = header else { return Err(refuse(name, "the matrix has no header".to_owned(), remedy)) };
        let columns: Vec<&str> =
            header.into_iter().take_while(|word| !matches!(*word, "CPU" | "NUMA" | "GPU")).collect();
        let devices = columns.iter().filter(|column| is_device(column)).count();
        let mut matrix = Self { cells: Vec::new(), devices, affinity: Vec::new() };
        for words in lines {
            let Some((row, rest)) = words.split_first().filter(|(row, _)| is_device(row)) else { continue };
            if rest.len() < columns.len() {
                return Err(refuse(name, format!("row {row} has {} cells of {}", rest.len(), columns.len()), remedy));
            }
            let (cells, after) = rest.split_at(columns.len());
            let read = |text: &&str| cell(text).ok_or_else(|| refuse(name, format!("row {row} has '{text}'"), remedy));
            matrix.cells.push(cells.iter().map(read).collect::<Result<_, _>>()?);
            matrix.affinity.push(after.first().map(|first| (*first).to_owned()));
        }
        matrix.check(name, remedy)
    }

    fn check(self, name: &str, remedy: &str) -> Result<Self, ZooError> {
        let rows = self.cells.len();
        if rows != self.devices {
            return Err(refuse(name, format!("the matrix has {rows} rows for {} devices", self.devices), remedy));
        }
        let asymmetric = self.pairs().find(|(from, to, cell)| self.cells[*to][*from] != *cell);
        match asymmetric {
            None => Ok(self),
            Some((from, to, _)) => {
                Err(refuse(name, format!("GPU{from} sees GPU{to} otherwise than GPU{to} sees GPU{from}"), remedy))
            }
        }
    }

    pub(super) fn devices(&self) -> usize {
        self.devices
    }

    /// Every pair of devices once.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize, Cell)> {
        (0..self.devices).flat_map(move |to| (0..to).map(move |from| (from, to, self.cells[from][to])))
    }

    /// NVLinks of a device to the switch: where more than two devices all see each other over equally many, and no device
    /// has so many ports that they could be direct.
    pub(super) fn switched(&self) -> Option<usize> {
        let mut links = self.pairs().map(|(_, _, cell)| match cell {
            Cell::NvLink(links) => Some(links),
            _ => None,
        });
        let first = links.next()??;
        let alike = links.all(|other| other == Some(first));
        // Eighteen ports are the most that a device has had.
        (alike && self.devices > 2 && first * (self.devices - 1) > 18).then_some(first)
    }

    /// Devices by socket: those of one processor affinity, or else those that need no way through the link between sockets.
    pub(super) fn sockets(&self) -> Vec<Vec<usize>> {
        let known = self.affinity.iter().all(Option::is_some);
        groups(&(0..self.devices).collect::<Vec<_>>(), |a, b| {
            if known {
                self.affinity[a] == self.affinity[b]
            } else {
                matches!(self.cells[a][b], Cell::Switch | Cell::Socket)
            }
        })
    }

    /// The devices of a socket by PCIe switch: joined by one, or near the same network card.
    pub(super) fn pcie_switches(&self, socket: &[usize]) -> Vec<Vec<usize>> {
        let near_card = |a: usize, b: usize| {
            let cards = self.cells[a].iter().zip(&self.cells[b]).skip(self.devices);
            cards.into_iter().any(|(a, b)| (*a, *b) == (Cell::Switch, Cell::Switch))
        };
        groups(socket, |a, b| self.cells[a][b] == Cell::Switch || near_card(a, b))
    }
}

fn groups(devices: &[usize], together: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for device in devices {
        match groups.iter_mut().find(|group| group.iter().any(|other| together(*other, *device))) {
            Some(group) => group.push(*device),
            None => groups.push(vec![*device]),
        }
    }
    groups
}

fn is_device(word: &str) -> bool {
    word.strip_prefix("GPU").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}
