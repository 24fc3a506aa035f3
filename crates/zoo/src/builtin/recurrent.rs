//! The four shapes of a recurrent network, stacks of each cell, GNMT and ELMo.

use cutplane_graph::Cell;

use super::{Blueprint, BuiltInModel, Family};
use crate::recurrent::{Elmo, Gnmt, Network, Shape};

fn vanilla(shape: Shape) -> Network {
    Network::new(shape, Cell::RnnTanh, 1, 128, 128)
}

fn stacked(cell: Cell) -> Network {
    Network::new(Shape::Aligned, cell, 2, 256, 512)
}

pub(super) fn models() -> Vec<BuiltInModel> {
    let model = BuiltInModel::new;
    let network = |make| (Family::Recurrent, Blueprint::Network(make));
    vec![
        model("rnn-one-to-one", "vector to class, no recurrence", network(|| vanilla(Shape::OneToOne)), 1, 0),
        model("rnn-one-to-many", "vector to text, a step an operator", network(|| vanilla(Shape::OneToMany)), 32, 0),
        model("rnn-many-to-one", "text to class", network(|| vanilla(Shape::ManyToOne)), 64, 0),
        model("rnn-many-to-many", "text to its next characters", network(|| vanilla(Shape::Aligned)), 64, 0),
        model("rnn-encoder-decoder", "text to text", network(|| vanilla(Shape::EncoderDecoder)), 64, 0),
        model("rnn-stacked", "2 layers of 512 units over bytes", network(|| stacked(Cell::RnnTanh)), 64, 0),
        model("gru-stacked", "2 layers of 512 units over bytes", network(|| stacked(Cell::Gru)), 64, 0),
        model("lstm-stacked", "2 layers of 512 units over bytes", network(|| stacked(Cell::Lstm)), 64, 0),
        model("gnmt", "GNMT of 8 + 8 layers", (Family::Recurrent, Blueprint::Gnmt(Gnmt::wmt16)), 50, 280_757_249),
        model(
            "elmo",
            "ELMo; --vocab adds the softmax that it is trained with",
            (Family::Recurrent, Blueprint::Elmo(Elmo::original)),
            20,
            93_600_848,
        ),
    ]
}
