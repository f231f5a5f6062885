//! Compose files: what services, jobs, their hooks, volumes and builds name, and models (compose-spec/compose-go v2.16.2,
//! schema/compose-spec.json; docker/compose v5, pkg/compose/pull.go).

mod build;
mod build_contexts;
mod dotenv;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use self::{build_contexts::BuildContexts, dotenv::DotEnv};
use super::{
    Options,
    model::SourceError,
    scan::{FileScan, WrittenName},
    variables::{Unresolved, expand},
    yaml::Node,
};

/// How to get one file out of several, with all variables replaced.
const WHOLE: &str = "pipe the whole project, 'docker compose config | taglog … -f -'";
/// How far `extends` is followed within a file.
const MAX_EXTENDS: usize = 16;
/// Keys of the whole file; all others are services in files of the first format, which has no `services`.
const TOP_LEVEL: [&str; 10] =
    ["version", "name", "include", "services", "jobs", "models", "networks", "volumes", "secrets", "configs"];
/// What a service of the first format has at least one of.
const FIRST_FORMAT_KEYS: [&str; 3] = ["image", "build", "extends"];
/// Commands that run around a service. Only those of `pre_start` have containers, and so images, of their own; should the
/// others get them, they are read already.
const HOOKS: [&str; 3] = ["pre_start", "post_start", "pre_stop"];

/// Whether a document says of itself that it is a Compose file.
pub fn is_compose(document: &Node) -> bool {
    document.get("services").is_some_and(Node::is_mapping)
}

/// Finds the images of a Compose file. What other files add is not read, but noted. All profiles count. Extension fields
/// (`x-…`), `develop`, networks, configs and secrets name no images.
///
/// # Errors
/// An image with a template in it, or a broken `dockerfile_inline`.
pub fn read(document: &Node, options: &Options, scan: &mut FileScan) -> Result<(), SourceError> {
    if let Some(include) = written(document, "include") {
        scan.leave_out(include.line, &format!("more services come from the files under include: {WHOLE}"));
    }
    for key in ["services", "jobs"] {
        if let Some(list) = written(document, key).filter(|list| !list.is_mapping()) {
            scan.leave_out(list.line, &format!("{key} must be a mapping of names: its images are not read"));
        }
    }
    let project = Project::new(document, options, scan);
    project.services.values().try_for_each(|service| project.read_service(service, scan))?;
    for model in document.get("models").into_iter().flat_map(Node::values) {
        // Models are OCI artifacts with tags, pulled as images are. Whether Docker Model Runner takes a digest is not
        // documented, so that none is written there.
        if let Some(name) = written(model, "model") {
            project.values.read_image(name, Pinnable::No, scan)?;
        }
    }
    Ok(())
}

/// The directory of the file at a path; standard input has the working directory. `None` for a path that is not UTF-8: it
/// was made printable, and does not lead to the file any more.
fn directory_of(path: &str) -> Option<PathBuf> {
    let is_exact = !path.contains(char::REPLACEMENT_CHARACTER);
    Path::new(path).parent().filter(|_| is_exact).map(Path::to_owned)
}

/// What stands under a key, unless that is nothing.
fn written<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    node.get(key).filter(|value| !value.is_null())
}

/// Whether a digest may be written behind the name of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pinnable {
    Yes,
    No,
}

/// The values of variables. The environment is not read; what `.env` sets is unknown.
struct Values {
    dotenv: DotEnv,
    build_contexts: BuildContexts,
}

impl Values {
    /// The text with its variables replaced by their defaults.
    fn resolve(&self, text: &str) -> Result<String, String> {
        let asked = RefCell::new(Vec::new());
        let resolved = expand(text, &|name| {
            asked.borrow_mut().push(name.to_owned());
            None
        });
        if let Some(name) = asked.borrow().iter().find(|name| self.dotenv.sets(name)) {
            return Err(format!("the file .env may set the variable {name}, and is not read: {WHOLE}"));
        }
        resolved.map_err(|unresolved| match unresolved {
            Unresolved::Unknown(name) => format!(
                "variable {name} has no default in this file; Docker Compose takes it from .env or the environment: {WHOLE}"
            ),
            other => other.to_string(),
        })
    }

    /// Adds the image that a value names.
    fn read_image(&self, node: &Node, pinnable: Pinnable, scan: &mut FileScan) -> Result<(), SourceError> {
        let Some(text) = node.text() else {
            scan.leave_out(node.line, "the name of the image is not a text");
            return Ok(());
        };
        let within = if pinnable == Pinnable::Yes { node.span() } else { 0..0 };
        scan.image_or_reason(&WrittenName { line: node.line, text, within, prefix: "" }, self.resolve(text))
    }
}

/// The services and jobs of one file.
struct Project<'a> {
    services: BTreeMap<&'a str, &'a Node>,
    values: Values,
    /// Names that services give to what they build, with the service.
    built: HashMap<String, &'a str>,
    check_built: bool,
}

impl<'a> Project<'a> {
    fn new(document: &'a Node, options: &Options, scan: &FileScan) -> Project<'a> {
        let listed = |key: &str| document.get(key).into_iter().flat_map(Node::entries);
        let first_format = document.get("services").is_none();
        let is_service = |(key, value): &(&str, &Node)| {
            !TOP_LEVEL.contains(key) && FIRST_FORMAT_KEYS.iter().any(|key| value.get(key).is_some())
        };
        let services = listed("services")
            .chain(listed("jobs"))
            .chain(document.entries().filter(|entry| first_format && is_service(entry)))
            .collect();
        let values = Values { dotenv: DotEnv::beside(scan.path()), build_contexts: BuildContexts::new(scan.path()) };
        let mut project = Project { services, values, built: HashMap::new(), check_built: options.check_built };
        project.built = project.built_names(document);
        project
    }

    /// A service of a profile builds nothing while the profile is not enabled, and jobs are not started by 'up'.
    fn built_names(&self, document: &'a Node) -> HashMap<String, &'a str> {
        let is_started = |name: &str, service: &'a Node| {
            document.get("jobs").is_none_or(|jobs| jobs.get(name).is_none())
                && self.inherited(service, "profiles").is_none()
        };
        let services = self.services.iter().filter(|(name, service)| is_started(name, service));
        let built = services.filter(|(_, service)| self.inherited(service, "build").is_some());
        let name = |service: &Node| self.values.resolve(self.inherited(service, "image")?.text()?).ok();
        built.filter_map(|(service, node)| Some((name(node)?, *service))).collect()
    }

    /// What a service has under a key, itself or from a service of this file that it extends. An explicit null ends the
    /// search: after `!reset` there is none, and else the service is checked without need.
    fn inherited(&self, service: &'a Node, key: &str) -> Option<&'a Node> {
        let mut service = service;
        for _ in 0..MAX_EXTENDS {
            if let Some(value) = service.get(key) {
                return Some(value).filter(|value| !value.is_null());
            }
            let extends = service.get("extends").filter(|extends| extends.get("file").is_none())?;
            let name = if extends.is_mapping() { extends.get("service")? } else { extends };
            service = self.services.get(name.text()?)?;
        }
        None
    }

    fn read_service(&self, service: &'a Node, scan: &mut FileScan) -> Result<(), SourceError> {
        if !service.is_mapping() && !service.is_null() {
            scan.leave_out(service.line, "a service must be a mapping: its images are not read");
        }
        if let Some(file) = service.at(&["extends", "file"]) {
            scan.leave_out(file.line, &format!("more comes from the file that is extended: {WHOLE}"));
        }
        if let Some(image) = written(service, "image") {
            self.read_service_image(service, image, scan)?;
        }
        if let Some(build) = written(service, "build") {
            build::read(build, &self.values, scan)?;
        }
        self.read_volumes(service, scan)?;
        for hook in HOOKS.iter().filter_map(|key| service.get(key)).flat_map(Node::items) {
            if let Some(image) = written(hook, "image") {
                self.values.read_image(image, Pinnable::Yes, scan)?;
            }
            self.read_volumes(hook, scan)?;
        }
        Ok(())
    }

    /// The image that a service runs. With `build` it is the name that the result gets: `docker build` refuses a digest
    /// there, and Compose only pulls it where no image of that name is present, or where `pull_policy` says so.
    fn read_service_image(&self, service: &'a Node, image: &'a Node, scan: &mut FileScan) -> Result<(), SourceError> {
        let Some(text) = image.text() else { return self.values.read_image(image, Pinnable::No, scan) };
        let builder = match self.inherited(service, "build") {
            Some(_) => Some("this service".to_owned()),
            None => {
                let name = self.values.resolve(text).ok();
                name.and_then(|name| self.built.get(&name)).map(|service| format!("service {service}"))
            }
        };
        let Some(builder) = builder else { return self.values.read_image(image, Pinnable::Yes, scan) };
        match self.pulling(service) {
            Pulling::FromRegistry => self.values.read_image(image, Pinnable::No, scan),
            _ if self.check_built => self.values.read_image(image, Pinnable::No, scan),
            Pulling::Never => {
                scan.exclude(image.line, text, &format!("{builder} builds it, and it is never pulled"));
                Ok(())
            }
            Pulling::IfMissing => {
                let reason = format!(
                    "{builder} builds it; before the first build Compose tries to pull it, unless pull_policy: build is set"
                );
                scan.exclude(image.line, text, &reason);
                Ok(())
            }
        }
    }

    /// What becomes of the image of a service with `build` (docker/compose v5, `mustPull` in pkg/compose/pull.go).
    fn pulling(&self, service: &'a Node) -> Pulling {
        let Some(policy) = self.inherited(service, "pull_policy") else { return Pulling::IfMissing };
        match policy.text().map(|text| self.values.resolve(text)) {
            Some(Ok(policy)) if matches!(policy.as_str(), "never" | "build") => Pulling::Never,
            Some(Ok(policy)) if policy.is_empty() => Pulling::IfMissing,
            _ => Pulling::FromRegistry,
        }
    }

    /// Volumes that are images. The short form (`SOURCE:TARGET`) cannot name one.
    fn read_volumes(&self, container: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
        for volume in container.get("volumes").into_iter().flat_map(Node::items) {
            let kind = volume.get("type").and_then(Node::text).map(|kind| self.values.resolve(kind));
            let may_be_image = kind.is_some_and(|kind| kind.is_err() || kind.is_ok_and(|kind| kind == "image"));
            if let Some(image) = written(volume, "source").filter(|_| may_be_image) {
                self.values.read_image(image, Pinnable::Yes, scan)?;
            }
        }
        Ok(())
    }
}

/// When the name of what a service builds is pulled.
enum Pulling {
    /// `never` and `build`.
    Never,
    /// No policy: only if there is no image of that name on the machine.
    IfMissing,
    /// A policy that names the registry as a source, or one that is not known.
    FromRegistry,
}
