//! Options about the files that name images: the same in every command that reads them.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{context::Failure, session::now};
use taglog_base::text::{one_line, path_line};
use taglog_image_sources::{CrdPath, Exceptions, FoundImage, LeftOut, Options, Skipped};
use taglog_policy::{Exclusion, Policy};

/// What a walk reads, for help texts.
pub const FILE_KINDS: &str = "\
In a directory every file is read whose name stands for one of the kinds: Dockerfiles, *.yaml,
*.yml, *.json, and files of other tools (verifier-cli/docs/FILES.md). Hidden directories and
symbolic links are followed. Skipped are .git, node_modules, vendor, and what a .gitignore names
unless git tracks it; --verbose lists what is skipped. A directory or file in which nothing is
found is an error, unless --allow-empty is given.";

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
    /// Accept that a directory, a file or standard input names no image
    #[arg(long)]
    allow_empty: bool,
    /// Also list what was skipped in directories
    #[arg(short, long)]
    verbose: bool,
}

impl SourceOptions {
    /// For [`taglog_image_sources::read_with`], with the exceptions of the policy.
    pub fn options(&self, policy: &Policy) -> Result<Options, Failure> {
        Ok(Options {
            build_args: self.build_arg.iter().cloned().collect(),
            crd_paths: self.crd.clone(),
            check_built: self.check_built,
            allow_empty: self.allow_empty,
            exceptions: PolicyExceptions::of(policy)?.map(|exceptions| Arc::new(exceptions) as Arc<dyn Exceptions>),
        })
    }

    /// Lines for standard error: exceptions that have ended and, with --verbose, what was skipped.
    pub fn notes(&self, policy: &Policy, skipped: &[Skipped]) -> Vec<String> {
        let ended = policy.exclusions().iter().filter(|exclusion| !exclusion.applies(now()));
        let file = policy.path().map(|path| one_line(&path.display().to_string())).unwrap_or_default();
        let ended = ended.map(|exclusion| {
            let Exclusion { ignore, line, .. } = exclusion;
            format!("{file}:{line}: this exception ended on {}: remove it or set a later day", ignore.until)
        });
        let skipped = skipped.iter().filter(|_| self.verbose).map(Skipped::to_string);
        let total =
            (self.verbose && skipped.clone().next().is_some()).then(|| format!("{} skipped", skipped.clone().count()));
        ended.chain(skipped).chain(total).collect()
    }
}

/// The exceptions of a policy that hold at present.
#[derive(Debug)]
struct PolicyExceptions {
    exclusions: Vec<Exclusion>,
    /// The policy file, as it is shown.
    policy: String,
    /// Its directory, to which the exceptions' paths are relative.
    directory: PathBuf,
    working_directory: PathBuf,
}

impl PolicyExceptions {
    fn of(policy: &Policy) -> Result<Option<PolicyExceptions>, Failure> {
        let exclusions: Vec<Exclusion> =
            policy.exclusions().iter().filter(|exclusion| exclusion.applies(now())).cloned().collect();
        let Some(path) = policy.path().filter(|_| !exclusions.is_empty()) else { return Ok(None) };
        let failed = |error| Failure::usage(format!("{}: {error}", path_line(path)));
        let working_directory = std::env::current_dir().map_err(failed)?;
        let file = lexically_absolute(&working_directory, path);
        let directory = file.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Some(PolicyExceptions { exclusions, policy: path.display().to_string(), directory, working_directory }))
    }

    /// The path of a file as exceptions name it; `None` for one that is not below the policy's directory.
    fn relative(&self, file: &Path) -> Option<String> {
        if file == Path::new("-") {
            return Some("-".to_owned());
        }
        let path = lexically_absolute(&self.working_directory, file);
        let below = path.strip_prefix(&self.directory).ok()?;
        let parts: Option<Vec<&str>> = below.iter().map(OsStr::to_str).collect();
        Some(parts?.join("/"))
    }

    /// The reason of the first exception that covers something.
    fn reason(&self, file: &Path, covers: impl Fn(&Exclusion, &str) -> bool) -> Option<String> {
        let path = self.relative(file)?;
        let Exclusion { ignore, line, .. } = self.exclusions.iter().find(|exclusion| covers(exclusion, &path))?;
        Some(format!("{} (excluded until {}, {}:{line})", ignore.reason, ignore.until, self.policy))
    }
}

impl Exceptions for PolicyExceptions {
    fn of_file(&self, path: &Path) -> Option<String> {
        self.reason(path, Exclusion::covers_file)
    }

    fn of_image(&self, image: &FoundImage) -> Option<String> {
        let FoundImage { place, written, reference, .. } = image;
        let resolved = image.image().map_or_else(|_| reference.repository.to_string(), |image| image.to_string());
        let names = [written.as_str(), resolved.as_str(), reference.repository.as_str()];
        self.reason(Path::new(&place.file), |exclusion, path| exclusion.covers_image(path, place.line, &names))
    }

    fn of_left_out(&self, left_out: &LeftOut) -> Option<String> {
        let LeftOut { place, reason } = left_out;
        self.reason(Path::new(&place.file), |exclusion, path| exclusion.covers_note(path, place.line, reason))
    }
}

/// A path from the root on, without `.` and `..`; symbolic links stay.
pub fn lexically_absolute(working_directory: &Path, path: &Path) -> PathBuf {
    let mut absolute = PathBuf::new();
    for component in working_directory.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(absolute.pop()),
            other => absolute.push(other),
        }
    }
    absolute
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE: values from the environment are not read")?;
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name(name) { Ok((name.to_owned(), value.to_owned())) } else { Err("want NAME=VALUE".to_owned()) }
}
