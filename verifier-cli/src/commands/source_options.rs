//! What people say about the files that name images: the same options in every command that reads them.

use clap::Args;

use taglog_image_sources::{CrdPath, Options};

/// What is known about the files beyond what is in them.
#[derive(Debug, Args)]
pub struct SourceOptions {
    /// The value of a variable (ARG) of Dockerfiles, as for 'docker build', BUILDKIT_SYNTAX included; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    build_arg: Vec<(String, String)>,
    /// Where custom kinds of Kubernetes objects have pods, containers or images, such as
    /// argoproj.io/Rollout:spec.template.spec; may be repeated
    #[arg(long, value_name = "[GROUP/]KIND:PATH")]
    crd: Vec<CrdPath>,
    /// Also check the images that Compose services build and name themselves (build and image in one service)
    #[arg(long)]
    check_built: bool,
}

impl SourceOptions {
    /// For [`taglog_image_sources::read_with`].
    pub fn options(&self) -> Options {
        Options {
            build_args: self.build_arg.iter().cloned().collect(),
            crd_paths: self.crd.clone(),
            check_built: self.check_built,
        }
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE: values from the environment are not read")?;
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name(name) { Ok((name.to_owned(), value.to_owned())) } else { Err("want NAME=VALUE".to_owned()) }
}
