//! Deals of text, tokens and pictures.

mod files;
mod text;
