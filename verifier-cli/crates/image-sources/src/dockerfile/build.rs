//! What the instructions of a Dockerfile build on and copy from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use super::{
    mount,
    parser::{Instruction, Keyword, Reading, is_stage_name},
    platform::{BuildPlatforms, PLATFORMS, Platform, is_open},
    shell::{Expansion, LexError, Variable, expand},
    text::{Word, lower_case},
};
use crate::variables::Unresolved;

/// More variables than any Dockerfile has; what bounds the memory for their values.
const MAX_VARIABLES: usize = 1000;
/// More FROM by platform, and variables for them, than any Dockerfile has; what bounds the time for all platforms.
const MAX_BY_PLATFORM: usize = 100;

/// The platforms with which a base is expanded first.
const DEFAULT: BuildPlatforms = BuildPlatforms { build: PLATFORMS[0], target: PLATFORMS[0] };

/// Something found at a place of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FoundReference {
    /// The bytes of the file; none where it is not there byte for byte.
    pub within: Range<usize>,
    pub kind: ReferenceKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReferenceKind {
    /// An image as it is written, and its name.
    Image(String, Result<String, Unresolved>),
    /// A name that is not checked, and why.
    Excluded(String, String),
    /// A reason why something is left out.
    LeftOut(String),
}

/// An instruction that no builder runs.
pub struct Refusal {
    pub place: usize,
    pub reason: String,
}

/// Finds the images of one reading of a file.
pub fn found_references(
    reading: &Reading,
    build_args: &BTreeMap<String, String>,
) -> Result<Vec<FoundReference>, Refusal> {
    let from = |instruction: &&Instruction| instruction.keyword == Keyword::From;
    let stages: Vec<Option<String>> = reading.instructions.iter().filter(from).map(stage_name).collect();
    let names = stages.iter().flatten().cloned().collect();
    let mut build = Build {
        escape: reading.escape,
        build_args,
        stages: stages.len(),
        names,
        earlier: HashSet::new(),
        global_words: Vec::new(),
        globals: Variables::new(),
        platforms: None,
        by_platform: 0,
        stage: None,
        environment: HashSet::new(),
        found: Vec::new(),
    };
    reading.instructions.iter().try_for_each(|instruction| build.instruction(instruction))?;
    Ok(build.found)
}

/// Stage names do not differ by case.
fn stage_name(from: &Instruction) -> Option<String> {
    from.words.get(2).map(|name| lower_case(&name.text))
}

type Variables = HashMap<String, Variable>;

struct Build<'a> {
    escape: char,
    build_args: &'a BTreeMap<String, String>,
    /// How many stages there are, and all their names: a copy may be from a later one.
    stages: usize,
    names: HashSet<String>,
    earlier: HashSet<String>,
    /// The variables before the first FROM, as they are written.
    global_words: Vec<Word>,
    /// Their values for the first platform.
    globals: Variables,
    /// Their values for all platforms, once they are needed.
    platforms: Option<Vec<(BuildPlatforms, Variables)>>,
    by_platform: usize,
    /// The variables of the stage.
    stage: Option<Variables>,
    /// Variables that any ENV sets; where a stage does not set them itself, it may have them from its base.
    environment: HashSet<String>,
    found: Vec<FoundReference>,
}

impl Build<'_> {
    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Refusal> {
        match instruction.keyword {
            Keyword::Arg if !instruction.on_build => self.arg(instruction)?,
            Keyword::Env if !instruction.on_build => self.env(instruction)?,
            Keyword::From => self.from(instruction),
            Keyword::Copy | Keyword::Add | Keyword::Run => self.flags(instruction)?,
            Keyword::Arg | Keyword::Env | Keyword::OnBuild | Keyword::Other => {}
        }
        self.unknown_flags(instruction);
        Ok(())
    }

    /// A flag that is not known here could name an image.
    fn unknown_flags(&mut self, instruction: &Instruction) {
        let known: &[&str] = match instruction.keyword {
            Keyword::From => &["platform"],
            Keyword::Copy => &["from", "chown", "chmod", "link", "parents", "exclude"],
            Keyword::Add => &["chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"],
            Keyword::Run => &["mount", "network", "security", "device"],
            _ => return,
        };
        for flag in &instruction.flags {
            let (name, _) = name_and_value(flag);
            if !known.contains(&name) {
                let reason = format!("the flag --{name} is not known: check by hand whether it names an image");
                self.found.push(FoundReference { within: flag.range(), kind: ReferenceKind::LeftOut(reason) });
            }
        }
    }

    fn arg(&mut self, arg: &Instruction) -> Result<(), Refusal> {
        for word in &arg.words {
            let (scope, platforms) = match &self.stage {
                Some(stage) => (stage, None),
                None => (&self.globals, Some(DEFAULT)),
            };
            let (name, value) = self.declared(word, scope, platforms).map_err(|error| refusal(word, &error))?;
            let scope = match self.stage.as_mut() {
                Some(stage) => stage,
                None => {
                    self.global_words.push(word.clone());
                    &mut self.globals
                }
            };
            if self.environment.contains(&name) {
                scope.insert(name.clone(), Variable::Unresolved(Unresolved::Environment(name)));
            } else if let Some(value) = value {
                scope.insert(name, value);
            }
        }
        self.bounded(arg)
    }

    fn bounded(&self, instruction: &Instruction) -> Result<(), Refusal> {
        let stage = self.stage.as_ref().map_or(0, HashMap::len);
        if stage.max(self.global_words.len()) <= MAX_VARIABLES {
            return Ok(());
        }
        Err(Refusal { place: instruction.place, reason: format!("over {MAX_VARIABLES} variables") })
    }

    /// `NAME=default`, or `NAME`, which in a stage takes the value from before the first FROM. What the build says comes
    /// before both.
    fn declared(
        &self,
        word: &Word,
        scope: &Variables,
        platform: Option<BuildPlatforms>,
    ) -> Result<(String, Option<Variable>), LexError> {
        let (name, default) = match word.text.split_once('=') {
            Some((name, default)) => (name, Some(default)),
            None => (word.text.as_str(), None),
        };
        let value = match (self.build_args.get(name), default) {
            (Some(value), _) => Some(known(value)),
            (None, Some(default)) => {
                let value = expand(default, self.escape, &|name| self.lookup(name, scope, platform))?;
                Some(value.map_or_else(Variable::Unresolved, Variable::Value)).map(|value| named(value, name))
            }
            (None, None) if platform.is_none() => self.global(name),
            (None, None) => None,
        };
        Ok((name.to_owned(), value))
    }

    /// The value that a stage takes from before the first FROM.
    fn global(&self, name: &str) -> Option<Variable> {
        match self.lookup(name, &self.globals, Some(DEFAULT)) {
            Variable::Unset => None,
            Variable::Value(Expansion { platform: Some(name), .. }) => {
                Some(Variable::Unresolved(Unresolved::BuildArgument(name)))
            }
            value => Some(value),
        }
    }

    /// A variable in a scope; with a platform, in that before the first FROM, where the automatic ones are known.
    fn lookup(&self, name: &str, scope: &Variables, platform: Option<BuildPlatforms>) -> Variable {
        if let Some(variable) = scope.get(name) {
            return variable.clone();
        }
        let Some(platforms) = platform else {
            let inherited = self.environment.contains(name);
            let reason = || Variable::Unresolved(Unresolved::Environment(name.to_owned()));
            return if inherited { reason() } else { Variable::Unset };
        };
        match (platforms.value(name), self.build_args.get(name)) {
            (Some(_), Some(value)) => known(value),
            (Some(text), None) => Variable::Value(Expansion { text, platform: Some(name.to_owned()) }),
            (None, Some(value)) if is_open(name) => known(value),
            (None, None) if is_open(name) => Variable::Unresolved(Unresolved::BuildArgument(name.to_owned())),
            (None, _) => Variable::Unset,
        }
    }

    fn env(&mut self, env: &Instruction) -> Result<(), Refusal> {
        let mut set = Vec::new();
        for word in &env.words {
            let Some((name, value)) = word.text.split_once('=') else { continue };
            let Some(stage) = self.stage.as_ref() else { continue };
            let value = expand(value, self.escape, &|name| self.lookup(name, stage, None));
            let value = value.map_err(|error| refusal(word, &error))?;
            set.push((name.to_owned(), value.map_or_else(Variable::Unresolved, Variable::Value)));
        }
        self.environment.extend(set.iter().map(|(name, _)| name.clone()));
        if let Some(stage) = self.stage.as_mut() {
            stage.extend(set);
        }
        self.bounded(env)
    }

    fn from(&mut self, from: &Instruction) {
        let Some(base) = from.words.first() else { return };
        self.base(base);
        self.earlier.extend(stage_name(from));
        self.stage = Some(Variables::new());
    }

    fn base(&mut self, base: &Word) {
        match expand(&base.text, self.escape, &|name| self.lookup(name, &self.globals, Some(DEFAULT))) {
            Err(error) => self.image(base, Err(Unresolved::Syntax(error.to_string()))),
            Ok(Err(unresolved)) => self.image(base, Err(unresolved)),
            Ok(Ok(Expansion { text, platform: None })) => {
                if !self.is_earlier(&text) {
                    self.image(base, Ok(text));
                }
            }
            Ok(Ok(Expansion { platform: Some(variable), .. })) => self.base_by_platform(base, &variable),
        }
    }

    fn is_earlier(&self, name: &str) -> bool {
        name == "scratch" || self.earlier.contains(&lower_case(name))
    }

    fn image(&mut self, written: &Word, name: Result<String, Unresolved>) {
        let kind = ReferenceKind::Image(written.text.clone(), name);
        self.found.push(FoundReference { within: written.range(), kind });
    }

    /// A base that depends on the platform is a stage for some, or it cannot be determined which image it is.
    fn base_by_platform(&mut self, base: &Word, variable: &str) {
        let unresolved = || Unresolved::BuildArgument(variable.to_owned());
        let names = match self.names_by_platform(base) {
            Ok(names) => names,
            Err(reason) => return self.image(base, Err(reason.unwrap_or_else(unresolved))),
        };
        let (stages, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|(name, _)| self.is_earlier(name));
        if stages.is_empty() && others.len() > 1 {
            return self.image(base, Err(unresolved()));
        }
        // A name made like those of the stages is a stage that the file does not have for that platform.
        let missing = |(name, platforms): &(String, Vec<Platform>)| {
            !stages.is_empty()
                && is_stage_name(&lower_case(name))
                && platforms.iter().all(|platform| platform.is_named_in(name))
        };
        let (missing, images): (Vec<_>, Vec<_>) = others.into_iter().partition(missing);
        images.into_iter().for_each(|(name, _)| self.image(base, Ok(name)));
        if let Some((name, platforms)) = missing.first() {
            let platform = platforms.first().map(|platform| platform.name()).unwrap_or_default();
            let reason = format!(
                "a stage of this file on the platforms that it has stages for; on others, as {platform}, the build fails \
                 or takes an image, as {name}"
            );
            self.found.push(FoundReference {
                within: base.range(),
                kind: ReferenceKind::Excluded(base.text.clone(), reason),
            });
        }
    }

    /// What a base is called on which platforms.
    fn names_by_platform(&mut self, base: &Word) -> Result<BTreeMap<String, Vec<Platform>>, Option<Unresolved>> {
        self.by_platform += 1;
        if self.by_platform > MAX_BY_PLATFORM || self.global_words.len() > MAX_BY_PLATFORM {
            return Err(None);
        }
        if self.platforms.is_none() {
            self.platforms = Some(self.globals_by_platform());
        }
        let mut names = BTreeMap::<String, Vec<Platform>>::new();
        for (platforms, globals) in self.platforms.iter().flatten() {
            let name = expand(&base.text, self.escape, &|name| self.lookup(name, globals, Some(*platforms)));
            let name = name.map_err(|error| Unresolved::Syntax(error.to_string()))??;
            let known = names.entry(name.text).or_default();
            let platform = if name.platform.is_some_and(|name| name.starts_with("BUILD")) {
                platforms.build
            } else {
                platforms.target
            };
            if !known.contains(&platform) {
                known.push(platform);
            }
        }
        Ok(names)
    }

    fn globals_by_platform(&self) -> Vec<(BuildPlatforms, Variables)> {
        BuildPlatforms::all()
            .map(|platforms| {
                let mut globals = Variables::new();
                for word in &self.global_words {
                    // Errors were found when the variable was declared.
                    if let Ok((name, Some(value))) = self.declared(word, &globals, Some(platforms)) {
                        globals.insert(name, value);
                    }
                }
                (platforms, globals)
            })
            .collect()
    }

    fn flags(&mut self, instruction: &Instruction) -> Result<(), Refusal> {
        for flag in &instruction.flags {
            let (name, Some(value)) = name_and_value(flag) else { continue };
            match (instruction.keyword, name) {
                (Keyword::Copy, "from") => self.copied_from(&value, instruction.on_build, true),
                (Keyword::Run, "mount") => {
                    let sources = mount::sources(&value).map_err(|reason| refusal(flag, &reason))?;
                    sources.iter().for_each(|source| self.copied_from(source, instruction.on_build, false));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A stage by name or, for COPY, by number, or an image. BuildKit takes no variables here; others do.
    fn copied_from(&mut self, written: &Word, on_build: bool, numbers: bool) {
        if written.text.is_empty() {
            return;
        }
        let nothing = Variables::new();
        let scope = self.stage.as_ref().filter(|_| !on_build).unwrap_or(&nothing);
        let escape = if on_build { '\\' } else { self.escape };
        let name = match expand(&written.text, escape, &|name| self.lookup(name, scope, None)) {
            Err(error) => Err(Unresolved::Syntax(error.to_string())),
            Ok(value) => value.map(|value| value.text),
        };
        let Ok(name) = name else { return self.image(written, name) };
        if let Some(number) = name.parse::<i64>().ok().filter(|_| numbers) {
            let exists = usize::try_from(number).is_ok_and(|number| number < self.stages);
            if !exists && !on_build {
                let reason = format!("there is no stage {number}: stages count from 0");
                self.found.push(FoundReference { within: written.range(), kind: ReferenceKind::LeftOut(reason) });
            }
            return;
        }
        if name != "scratch" && !self.names.contains(&lower_case(&name)) {
            self.image(written, Ok(name));
        }
    }
}

fn known(value: &str) -> Variable {
    Variable::Value(Expansion { text: value.to_owned(), platform: None })
}

/// Reports the variable that whoever builds can give, not one within its default.
fn named(value: Variable, name: &str) -> Variable {
    match value {
        Variable::Unresolved(Unresolved::BuildArgument(_)) => {
            Variable::Unresolved(Unresolved::BuildArgument(name.to_owned()))
        }
        other => other,
    }
}

fn refusal(word: &Word, reason: &impl ToString) -> Refusal {
    Refusal { place: word.place().unwrap_or_default(), reason: reason.to_string() }
}

/// The name of a flag without its dashes, and its value.
fn name_and_value(flag: &Word) -> (&str, Option<Word>) {
    let name = &flag.text[2.min(flag.text.len())..];
    match name.split_once('=') {
        Some((name, value)) => (name, Some(flag.part(flag.text.len() - value.len()..flag.text.len()))),
        None => (name, None),
    }
}
