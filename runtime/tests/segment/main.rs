//! Segments: any cut gives the whole model's numbers, and every operator's gradients are its derivatives.

mod cuts;
mod dropout;
mod gradients;
mod precision;
mod support;
