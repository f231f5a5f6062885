//! Verdicts on histories made up for the purpose, and files as people write them.

mod files;
mod locks;
mod make;
mod moves;
mod settling;
mod totality;
mod verdicts;
