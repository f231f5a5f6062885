//! Shared by long-running commands: an HTTP listener with limits, and supervision of tasks.

pub mod listener;
pub mod task_group;
