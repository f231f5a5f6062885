//! Kinds of files that are recognised by name and not read. One that can name an image is noted where it first does.

use super::guess::{has_variable, is_image_key, is_image_name};
use crate::{
    kind::FileName,
    model::{SourceError, SourceProblem},
    scan::FileScan,
};

/// A kind that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotRead {
    /// docker buildx bake in HCL (docs.docker.com, "Bake file reference").
    Bake,
    /// Terraform and OpenTofu (developer.hashicorp.com/terraform/language).
    Terraform,
    /// Nomad's jobs (developer.hashicorp.com/nomad/docs/job-specification).
    Nomad,
    /// Other HCL, as that of Terragrunt, Waypoint and Packer.
    Hcl,
    /// Earthly (docs.earthly.dev, "Earthfile reference").
    Earthfile,
    /// Jenkins (jenkins.io/doc/book/pipeline/docker).
    Jenkinsfile,
    /// Fly (fly.io/docs/reference/configuration).
    Fly,
}

impl NotRead {
    /// The kind of file that has this name.
    pub fn of_name(name: &FileName<'_>) -> Option<NotRead> {
        let lower = name.lower.as_str();
        Some(match name.extension() {
            "hcl" if lower.starts_with("docker-bake") => NotRead::Bake,
            "hcl" if lower.ends_with(".nomad.hcl") => NotRead::Nomad,
            "hcl" => NotRead::Hcl,
            "tf" | "tofu" => NotRead::Terraform,
            "json" if lower.ends_with(".tf.json") => NotRead::Terraform,
            "nomad" => NotRead::Nomad,
            "earth" => NotRead::Earthfile,
            "jenkinsfile" => NotRead::Jenkinsfile,
            _ if lower == "earthfile" => NotRead::Earthfile,
            _ if lower.starts_with("jenkinsfile") => NotRead::Jenkinsfile,
            _ if lower == "fly.toml" => NotRead::Fly,
            _ => return None,
        })
    }

    /// What it is, and what to do about its images.
    pub fn describe(self) -> (&'static str, &'static str) {
        let excluded = "name its images to 'taglog verify', and exclude the file in taglog.toml";
        match self {
            NotRead::Bake => {
                ("a bake file in HCL", "give it as JSON, as with 'docker buildx bake --print | taglog … -f -'")
            }
            NotRead::Terraform => ("a Terraform file", excluded),
            NotRead::Nomad => ("a Nomad job", excluded),
            NotRead::Hcl => ("a file in HCL", excluded),
            NotRead::Earthfile => ("an Earthfile", excluded),
            NotRead::Jenkinsfile => ("a Jenkinsfile", excluded),
            NotRead::Fly => ("a configuration of Fly", excluded),
        }
    }

    /// Whether a line can name an image, in a file that is about containers or not.
    fn names_image(self, line: &str, containers: bool) -> bool {
        let computed = containers && is_computed_image(line);
        match self {
            NotRead::Earthfile => earthfile_image(line),
            NotRead::Bake => {
                line.contains("docker-image://")
                    || line.contains("dockerfile-inline")
                    || (!line.starts_with("tags") && literals(line).any(|literal| literal.is_assigned_image()))
            }
            NotRead::Jenkinsfile => literals(line).any(|literal| literal.is_image() || literal.is_docker_argument()),
            NotRead::Terraform => {
                let resource = |text: &str| {
                    matches!(text, "docker_image" | "docker_container" | "docker_registry_image" | "docker_service")
                };
                computed || literals(line).any(|literal| literal.is_image() || resource(literal.text))
            }
            NotRead::Nomad => computed || literals(line).any(|literal| literal.is_image() || literal.key == "image"),
            NotRead::Hcl | NotRead::Fly => computed || literals(line).any(|literal| literal.is_image()),
        }
    }
}

/// Notes the first line of a file of this kind that can name an image.
///
/// # Errors
/// No line can: the file is of a kind that is not read.
pub fn read(kind: NotRead, text: &str, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let (what, remedy) = kind.describe();
    let containers = kind == NotRead::Nomad || text.contains("container");
    let found = text.lines().position(|line| kind.names_image(uncommented(line), containers));
    match found {
        Some(index) => {
            scan.leave_out(index + 1, &format!("{what} is not read, and can name an image here: {remedy}"));
            Ok(())
        }
        None => Err(scan.error(1, SourceProblem::NotRead(what))),
    }
}

/// `image = var.image`: a key for images with a value that is computed.
fn is_computed_image(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let value = value.trim();
    let computed = value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.contains(['.', '(']);
    is_image_key(key.rsplit(['{', ' ']).find(|word| !word.is_empty()).unwrap_or_default()) && computed
}

fn uncommented(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') || line.starts_with("//") { "" } else { line }
}

/// `FROM` with anything but another target, and images that are loaded or pulled for a Docker within.
fn earthfile_image(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    let mut argument = words.clone().skip_while(|word| word.starts_with("--"));
    let from = first == "FROM"
        && argument.next().is_some_and(|image| !image.contains('+') && image != "scratch" && image != "DOCKERFILE");
    from || words.any(|word| word.starts_with("--pull"))
}

/// A text in quotes, and what stands before it.
struct Literal<'l> {
    text: &'l str,
    /// The last word before it.
    key: &'l str,
    /// Whether an equals sign or a colon stands between them.
    is_assigned: bool,
}

impl Literal<'_> {
    /// Whether a key for images has a value that could be one.
    fn is_image(&self) -> bool {
        is_image_key(self.key) && (is_image_name(self.text) || (has_variable(self.text) && !self.text.contains(' ')))
    }

    /// Whether any key has the full name of an image.
    fn is_assigned_image(&self) -> bool {
        self.is_assigned && self.text.contains(':') && !self.text.starts_with("target:") && is_image_name(self.text)
    }

    /// `agent { docker 'x' }`, `docker.image('x')`.
    fn is_docker_argument(&self) -> bool {
        matches!(self.key, "docker" | "image" | "docker.image") && !self.is_assigned
    }
}

/// The texts in quotes of a line.
fn literals(line: &str) -> impl Iterator<Item = Literal<'_>> {
    let (mut rest, mut previous) = (line, "");
    std::iter::from_fn(move || {
        let (before, quoted) = rest.split_at_checked(rest.find(['"', '\''])?)?;
        let quote = quoted.chars().next()?;
        let (text, after) = quoted.get(1..)?.split_once(quote)?;
        rest = after;
        let before = before.trim_end().trim_end_matches('(').trim_end();
        let key = before.trim_end_matches(['=', ':']).trim_end();
        let is_assigned = key.len() < before.len();
        let start =
            key.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))).map_or(0, |at| at + 1);
        // In JSON, the key is a text in quotes as well.
        let key = if key.is_empty() && is_assigned { previous } else { key.get(start..)? };
        previous = text;
        Some(Literal { text, key, is_assigned })
    })
}
