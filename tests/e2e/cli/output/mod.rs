//! What `taglog verify` prints for people, programs and CI systems, and the ways in which shells, Docker, GitHub and
//! GitLab call it.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;
#[path = "outputs/github.rs"]
mod github;
#[path = "outputs/gitlab.rs"]
mod gitlab;
#[path = "outputs/hostile.rs"]
mod hostile;
#[path = "outputs/programs.rs"]
mod programs;
#[path = "outputs/scene.rs"]
mod scene;
#[path = "outputs/schemas.rs"]
mod schemas;
#[path = "outputs/shells.rs"]
mod shells;
#[path = "outputs/text.rs"]
mod text;
