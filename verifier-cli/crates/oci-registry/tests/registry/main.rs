//! The registry client against servers that answer what no honest registry would, and against a real one.
#![allow(clippy::unwrap_used, clippy::expect_used)] // What fails in here fails the test.

mod common;
mod hostile;
mod real;
mod resolution;
mod tags;
