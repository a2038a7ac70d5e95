//! data-platform on a real PostgreSQL, against a platform that answers as it is told to.

mod background;
mod calling;
mod delivering;
mod document;
mod outside;
mod receiver;
