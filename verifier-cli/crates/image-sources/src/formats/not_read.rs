//! Kinds of files that are recognised by name and not read. One that can name an image is noted where it first does.

use super::guess::{has_variable, is_image_key, is_image_name, is_other_file};
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
            "tf" | "tofu" | "tfvars" => NotRead::Terraform,
            "json" if lower.ends_with(".tf.json") || lower.ends_with(".tfvars.json") => NotRead::Terraform,
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

    /// Whether a line can name an image.
    fn names_image(self, line: &str) -> bool {
        match self {
            NotRead::Earthfile => earthfile_image(line) || (!line.starts_with("SAVE IMAGE") && has_image_key(line)),
            NotRead::Bake => bake_image(line),
            NotRead::Jenkinsfile => {
                has_image_key(line)
                    || groovy_argument(line)
                    || literals(line).any(|literal| literal.is_image() || literal.is_docker_argument())
            }
            NotRead::Terraform | NotRead::Hcl => {
                has_image_key(line) || literals(line).any(|literal| literal.is_image() || literal.is_of_terraform())
            }
            NotRead::Nomad => has_image_key(line) || literals(line).any(|literal| literal.is_image()),
            NotRead::Fly => has_image_key(line) || literals(line).any(|literal| literal.key.ends_with("builder")),
        }
    }
}

/// Notes the first line of a file of this kind that can name an image.
///
/// # Errors
/// No line can: the file is of a kind that is not read.
pub fn read(kind: NotRead, text: &str, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let (what, remedy) = kind.describe();
    let found = text.lines().position(|line| kind.names_image(uncommented(line)));
    match found {
        Some(index) => {
            scan.leave_out(index + 1, &format!("{what} is not read, and can name an image here: {remedy}"));
            Ok(())
        }
        None => Err(scan.error(1, SourceProblem::NotRead(what))),
    }
}

/// `image = "nginx"`, `"image": var.image`, `- image: evil/app:1`: a key for images with anything that can be one. When in
/// doubt it is.
fn has_image_key(line: &str) -> bool {
    line.match_indices([':', '=']).any(|(at, _)| {
        let (before, after) = line.split_at(at);
        let before = before.trim_end().trim_end_matches(['"', '\'']);
        let key = before.rsplit(|c: char| !is_key_character(c)).next().unwrap_or_default();
        is_image_key(key) && can_be_value(key, after.get(1..).unwrap_or_default().trim())
    })
}

fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// Whether a value can be an image: no comparison, no text in words, no address, no file of another kind, and no result.
fn can_be_value(key: &str, value: &str) -> bool {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let literal = quote.and_then(|quote| value.get(1..)?.split_once(quote)).map(|(literal, _)| literal);
    match literal {
        // Of the many things that are called container, only what looks like an image.
        Some(text) if key == "container" => is_image_name(text),
        Some(text) if has_variable(text) => true,
        Some(text) => {
            !text.is_empty()
                && !text.contains(char::is_whitespace)
                && !text.starts_with("http://")
                && !text.starts_with("https://")
                && !is_other_file(text)
        }
        None => {
            let word = value.trim_end_matches([',', ';', '}', ' ']);
            let is_other = value.starts_with(['=', '~'])
                || value.starts_with("docker.build(")
                || matches!(word, "true" | "false" | "null")
                || (key == "container" && value.is_empty());
            !is_other
        }
    }
}

/// `image IMAGE`, `docker env.IMAGE`, `docker.image(name)`: what is called with something computed.
fn groovy_argument(line: &str) -> bool {
    let call = |start: &str| {
        let mut words = start.trim().trim_end_matches('}').split_whitespace();
        let is_call = matches!(words.next(), Some("image" | "docker"));
        is_call && words.next().is_some_and(|word| word != "{") && words.next().is_none()
    };
    line.contains("docker.image(") || line.split('{').any(call)
}

/// Contexts, arguments and caches of a bake file.
fn bake_image(line: &str) -> bool {
    let value = !line.starts_with("tags") && !line.starts_with("output");
    line.contains("docker-image://")
        || line.contains("dockerfile-inline")
        || (line.starts_with("cache-from") && line.contains("ref="))
        || (value && (has_image_key(line) || literals(line).any(|literal| literal.is_assigned_image())))
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

    /// Resources that are images or containers, variables for images, and values for images in charts of Helm.
    fn is_of_terraform(&self) -> bool {
        let resource =
            matches!(self.text, "docker_image" | "docker_container" | "docker_registry_image" | "docker_service");
        let value = self.key == "name" && self.text.split('.').any(is_image_key);
        resource || value || (self.key == "variable" && self.text != "container" && is_image_key(self.text))
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
        let start = key.rfind(|c: char| !is_key_character(c)).map_or(0, |at| at + 1);
        // In JSON, the key is a text in quotes as well.
        let key = if key.is_empty() && is_assigned { previous } else { key.get(start..)? };
        previous = text;
        Some(Literal { text, key, is_assigned })
    })
}
