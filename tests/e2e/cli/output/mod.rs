//! What `taglog verify` prints for humans, programs and CI systems, and how shells, Docker, GitHub and GitLab call it.

mod fixture;
mod github;
mod gitlab;
mod hostile_names;
mod machine_readable;
pub mod schemas;
mod shells_and_docker;
mod text;
