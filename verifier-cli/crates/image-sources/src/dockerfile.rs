//! Dockerfiles and Containerfiles: the frontend that `# syntax=` names, `FROM`, `COPY --from` and `RUN --mount=from=`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use parse_dockerfile::{ArgInstruction, Flag, FromInstruction, Instruction, Span};

use regex::Regex;

use super::{
    heredoc,
    model::{SourceError, SourceProblem, SyntaxError},
    scan::{FileScan, WrittenName},
    variables::{Syntax, Unresolved, expand, words},
};

/// More variables than any Dockerfile has; what bounds the memory for their values.
const MAX_VARIABLES: usize = 1000;

/// The build argument that names another frontend than the file does, and its value for the one that BuildKit has built in
/// (docs.docker.com, "BuildKit built-in build args").
const SYNTAX: &str = "BUILDKIT_SYNTAX";
const BUILT_IN: &str = "dockerfile.v0";

/// Variables that a build knows without an `ARG` (docs.docker.com, "Automatic platform ARGs in the global scope").
const PLATFORM: [&str; 8] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
];

/// Finds the images that a Dockerfile builds on or copies from, with these values for its variables.
///
/// # Errors
/// A syntax that is not understood, with its line; a template.
pub fn read(text: &str, build_args: &BTreeMap<String, String>, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    let structure = analyze_structure(text).map_err(|broken| broken_or_template(text, broken, scan))?;
    let syntax = Syntax::Dockerfile { escape: structure.escape };
    let lines = Lines::new(text);
    let (stages, plain) = (structure.stages, structure.plain);
    let platform = PLATFORM.iter().filter_map(|name| build_args.get_key_value(*name));
    let globals = platform.map(|(name, value)| (name.clone(), value.clone())).collect();
    let earlier = HashSet::new();
    let mut build = Build { text, stages, lines, syntax, build_args, globals, stage: None, earlier, scan };
    build.frontend()?;
    for instruction in instructions(&plain) {
        let instruction = instruction.map_err(|broken| broken_or_template(text, broken, build.scan))?;
        build.instruction(&instruction)?;
    }
    Ok(())
}

fn broken_or_template(text: &str, broken: SyntaxError, scan: &FileScan<'_>) -> SourceError {
    let template = text.lines().nth(broken.line - 1).is_some_and(|line| line.contains("{{"));
    if template { scan.error(broken.line, SourceProblem::Template) } else { scan.broken(broken) }
}

/// What must be known before the first instruction is looked at.
struct DockerfileStructure {
    escape: char,
    /// The text without the bodies of here-documents.
    plain: String,
    stages: Stages,
}

fn analyze_structure(text: &str) -> Result<DockerfileStructure, SyntaxError> {
    let escape = escape_character(text)?;
    let plain = heredoc::without_bodies(text, escape)?;
    let mut stages = Stages::default();
    for instruction in instructions(&plain) {
        stages.add(&instruction?);
    }
    Ok(DockerfileStructure { escape, plain, stages })
}

/// What the escape directive says, which only stands among the comments at the top.
fn escape_character(text: &str) -> Result<char, SyntaxError> {
    let top = text.lines().take_while(|line| line.trim_start().starts_with('#'));
    let probe: String = top.flat_map(|line| [line, "\n"]).chain(["FROM scratch"]).collect();
    let parsed = parse_dockerfile::parse(&probe).map_err(syntax_error)?;
    Ok(parsed.parser_directives.escape.map_or('\\', |directive| directive.value.value))
}

/// A directive, and no other comment, to the byte as BuildKit tells them (moby/buildkit,
/// frontend/dockerfile/parser/directives.go): what it takes for one and we do not would hide all directives below.
static DIRECTIVE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*$").ok());

/// Where the image is named that BuildKit runs to read the file (docs.docker.com, "Custom Dockerfile syntax"): among the
/// directives at the top, of which there may be a line for a shell before them. What follows the name is for the frontend.
fn syntax_directive(text: &str) -> Option<Range<usize>> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let shell = at == 0 && line.starts_with("#!");
        if !shell {
            let line = line.strip_suffix('\n').unwrap_or(line);
            let line = line.strip_suffix('\r').unwrap_or(line);
            let comment = line.strip_prefix('#')?.trim_start();
            let directive = DIRECTIVE.as_ref()?.captures(comment)?;
            match directive[1].to_ascii_lowercase().as_str() {
                "syntax" => {
                    let value = directive.get(2)?;
                    let start = at + line.len() - comment.len() + value.start();
                    return Some(start..start + value.as_str().find(' ').unwrap_or(value.len()));
                }
                "escape" | "check" => {}
                _ => return None,
            }
        }
        at += line.len();
    }
    None
}

fn instructions(plain: &str) -> impl Iterator<Item = Result<Instruction<'_>, SyntaxError>> {
    let (parsed, failed) = match parse_dockerfile::parse_iter(plain) {
        Ok(parsed) => (Some(parsed), None),
        Err(error) => (None, Some(Err(error))),
    };
    parsed.into_iter().flatten().chain(failed).map(|instruction| instruction.map_err(syntax_error))
}

fn syntax_error(error: parse_dockerfile::Error) -> SyntaxError {
    SyntaxError { line: error.line().max(1), reason: format!("{error:#}") }
}

/// The stages of the whole file: a copy may be from a later one.
#[derive(Default)]
struct Stages {
    count: u64,
    names: HashSet<String>,
}

impl Stages {
    fn add(&mut self, instruction: &Instruction<'_>) {
        if let Instruction::From(from) = instruction {
            self.count += 1;
            self.names.extend(stage_name(from));
        }
    }
}

/// Stage names do not differ by case.
fn stage_name(from: &FromInstruction<'_>) -> Option<String> {
    from.as_.as_ref().map(|(_, name)| name.value.to_lowercase())
}

type Variables = HashMap<String, String>;

/// A build as far as it has been read.
struct Build<'a, 't> {
    text: &'a str,
    stages: Stages,
    lines: Lines,
    syntax: Syntax,
    /// What whoever builds says of variables.
    build_args: &'a BTreeMap<String, String>,
    /// The variables before the first FROM.
    globals: Variables,
    /// The variables of the stage; `None` before the first FROM.
    stage: Option<Variables>,
    /// The names of the stages so far.
    earlier: HashSet<String>,
    scan: &'a mut FileScan<'t>,
}

impl Build<'_, '_> {
    /// The image that reads the file, and so decides what the others are.
    fn frontend(&mut self) -> Result<(), SourceError> {
        let text = self.text;
        let asked = self.build_args.get(SYNTAX).map(|value| value.trim().split(' ').next().unwrap_or_default());
        match (asked, syntax_directive(text)) {
            (Some(BUILT_IN), _) | (None, None) => Ok(()),
            (Some(image), _) => self.image(image, 0..0, Ok(image.to_owned())),
            (None, Some(within)) => self.image(&text[within.clone()], within.clone(), Ok(text[within].to_owned())),
        }
    }

    fn instruction(&mut self, instruction: &Instruction<'_>) -> Result<(), SourceError> {
        match instruction {
            Instruction::Arg(arg) => self.arg(arg),
            Instruction::From(from) => self.from(from),
            Instruction::Copy(copy) => copy.options.iter().try_for_each(|flag| self.copy_flag(flag)),
            Instruction::Run(run) => run.options.iter().try_for_each(|flag| self.run_flag(flag)),
            Instruction::Onbuild(onbuild) => self.instruction(&onbuild.instruction),
            _ => Ok(()),
        }
    }

    fn arg(&mut self, arg: &ArgInstruction<'_>) -> Result<(), SourceError> {
        let line = self.lines.at(&arg.arg.span);
        let Syntax::Dockerfile { escape } = self.syntax else { return Ok(()) };
        let Some(words) = words(&arg.arguments.value, escape) else {
            return Err(self.scan.broken(SyntaxError { line, reason: "a quote in ARG does not end".to_owned() }));
        };
        for word in words {
            self.declare(&word);
        }
        if self.stage.as_ref().unwrap_or(&self.globals).len() > MAX_VARIABLES {
            return Err(self.scan.broken(SyntaxError { line, reason: format!("over {MAX_VARIABLES} variables") }));
        }
        Ok(())
    }

    /// `NAME=default`, or `NAME`, which in a stage takes the default from before the first FROM. What the build says
    /// comes before both.
    fn declare(&mut self, word: &str) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, expand(default, self.syntax, &self.in_scope()).ok()),
            None => (word, self.globals.get(word).cloned()),
        };
        let value = self.build_args.get(name).cloned().or(default);
        let scope = self.stage.as_mut().unwrap_or(&mut self.globals);
        match value {
            Some(value) => scope.insert(name.to_owned(), value),
            None => scope.remove(name),
        };
    }

    fn in_scope(&self) -> impl Fn(&str) -> Option<String> {
        let scope = self.stage.as_ref().unwrap_or(&self.globals);
        |name| scope.get(name).cloned()
    }

    fn from(&mut self, from: &FromInstruction<'_>) -> Result<(), SourceError> {
        let written = &*from.image.value;
        let resolved = expand(written, self.syntax, &|name| self.globals.get(name).cloned());
        let is_stage = |name: &String| name == "scratch" || self.earlier.contains(&name.to_lowercase());
        let known = resolved.as_ref().is_ok_and(is_stage);
        self.earlier.extend(stage_name(from));
        self.stage = Some(Variables::new());
        if known { Ok(()) } else { self.image(written, from.image.span.clone(), resolved) }
    }

    fn image(
        &mut self,
        text: &str,
        within: Range<usize>,
        resolved: Result<String, Unresolved>,
    ) -> Result<(), SourceError> {
        self.scan.image(&WrittenName { line: self.lines.at(&within), text, within, prefix: "" }, resolved)
    }

    fn copy_flag(&mut self, flag: &Flag<'_>) -> Result<(), SourceError> {
        match &flag.value {
            Some(value) if flag.name.value == "from" => self.copied_from(&value.value, value.span.clone()),
            _ => Ok(()),
        }
    }

    fn run_flag(&mut self, flag: &Flag<'_>) -> Result<(), SourceError> {
        let Some(value) = flag.value.as_ref().filter(|_| flag.name.value == "mount") else { return Ok(()) };
        // Escapes and continued lines within the value leave no telling where a field of it stands.
        let verbatim = self.text.get(value.span.clone()) == Some(&*value.value);
        let mut start = value.span.start;
        for field in value.value.split(',') {
            let end = start + field.len();
            if let Some((key, from)) = field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from")) {
                let within = if verbatim { start + key.len() + 1..end } else { value.span.start..value.span.start };
                self.copied_from(from, within)?;
            }
            start = end + 1;
        }
        Ok(())
    }

    /// A stage by name or number, or an image.
    fn copied_from(&mut self, written: &str, within: Range<usize>) -> Result<(), SourceError> {
        let resolved = expand(written, self.syntax, &self.in_scope());
        let Ok(name) = &resolved else { return self.image(written, within, resolved) };
        if let Ok(index) = name.parse::<u64>() {
            if index >= self.stages.count {
                let line = self.lines.at(&within);
                self.scan.leave_out(line, &format!("there is no stage {index}: stages count from 0"));
            }
            return Ok(());
        }
        if name == "scratch" || self.stages.names.contains(&name.to_lowercase()) {
            return Ok(());
        }
        self.image(written, within, resolved)
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line in which a span begins, from 1 on.
    fn at(&self, span: &Span) -> usize {
        self.0.partition_point(|newline| *newline < span.start) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Options, SourceProblem, read_bytes,
        tests::{refusal, summary},
    };

    fn images(text: &str) -> Vec<String> {
        let (images, notes) = summary("Dockerfile", text);
        assert_eq!(notes, [""; 0]);
        images
    }

    fn notes(text: &str) -> Vec<String> {
        let (images, notes) = summary("Dockerfile", text);
        assert_eq!(images, [""; 0]);
        notes
    }

    #[test]
    fn stages_and_scratch_are_no_images() {
        let text = "\
# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.23 AS Build
from scratch as empty
FROM BUILD
COPY --from=build --chown=1:1 /a /b
COPY --from=0 /a /b
COPY --from=later /a /b
COPY --chown=1 --from=busybox:1.36 /a /b
FROM later
FROM a AS later
";
        let names = [
            "1 docker/dockerfile:1",
            "2 library/golang:1.23",
            "8 library/busybox:1.36",
            "9 library/later",
            "10 library/a",
        ];
        assert_eq!(images(text), names.map(|name| name.replacen(' ', " docker.io/", 1)));
        let none = notes("FROM scratch\nCOPY --from=1 /a /b\n");
        assert!(none.len() == 1 && none[0].starts_with("2 there is no stage 1"), "{none:?}");
    }

    /// As BuildKit detects it (moby/buildkit, frontend/dockerfile/parser/directives.go).
    #[test]
    fn the_frontend_is_an_image() {
        let frontend = |top: &str| images(&format!("{top}FROM scratch\n"));
        for top in [
            "#syntax=a/b:1\n",
            "# Syntax\t= \t a/b:1  \r\n",
            "# escape=`\n# check=skip=all\n# syntax=a/b:1 --more x\n",
            "#!/usr/bin/env x\n# syntax=a/b:1\n",
            "# syntax=a/b:1\n# about=it\n# syntax=c\n",
            "# check= \n# syntax=a/b:1\n",
            "# check=\t\n#\u{a0}check=\u{a0}\n# syntax =\ta/b:1 \n",
        ] {
            let line = top.lines().position(|line| line.contains("a/b")).unwrap() + 1;
            assert_eq!(frontend(top), [format!("{line} docker.io/a/b:1")], "{top}");
        }
        for top in [
            "# about\n# syntax=a\n",
            "\n# syntax=a\n",
            " # syntax=a\n",
            "# x=1\n# syntax=a\n",
            "# syntax a\n",
            "# syntax=\n",
        ] {
            assert_eq!(frontend(top), [""; 0], "{top}");
        }
        assert!(notes("# syntax=A b\nFROM scratch\n")[0].starts_with("1 "));
        assert!(notes("# syntax= \nFROM scratch\n")[0].starts_with("1 the name of the image is empty"));
    }

    #[test]
    fn a_build_argument_names_another_frontend() {
        let found = |syntax: &str| {
            let options =
                Options { build_args: [("BUILDKIT_SYNTAX".into(), syntax.into())].into(), ..Options::default() };
            let text = "# syntax=a:1\nFROM scratch\n";
            let found = read_bytes("Dockerfile".as_ref(), text.as_bytes(), &options).unwrap();
            found.images.into_iter().map(|image| (image.written, image.span)).collect::<Vec<_>>()
        };
        assert_eq!(found(" b/c:2 --x"), [("b/c:2".to_owned(), None)]);
        assert_eq!(found("dockerfile.v0"), []);
    }

    #[test]
    fn mounts() {
        let text = "FROM scratch\nRUN --mount=type=bind,from=a:1,target=/x \\\n  --mount=type=cache,target=/y \\\n  --mount=from=b:2 true\n";
        assert_eq!(images(text), ["2 docker.io/library/a:1", "4 docker.io/library/b:2"]);
        assert_eq!(
            images("FROM scratch AS s\nRUN --mount=from=s,target=/x true\nONBUILD COPY --from=c:3 /a /b\n"),
            ["3 docker.io/library/c:3"]
        );
    }

    #[test]
    fn arguments_with_defaults() {
        let text = "\
ARG VERSION=1.36 BASE=\"busybox\" EMPTY=
ARG FULL=${BASE}:${VERSION}
ARG UNSET
FROM $FULL
FROM ${BASE}${UNSET:+-x}:${UNSET:-2}${VERSION:+-y}
FROM 'a:$1'\"\"
ARG VERSION
ARG LOCAL=c
COPY --from=b:${VERSION} /a /b
COPY --from=$LOCAL /a /b
FROM ${EMPTY:-z}
";
        let (images, notes) = summary("Dockerfile", text);
        assert_eq!(
            images,
            [
                "4 docker.io/library/busybox:1.36",
                "5 docker.io/library/busybox:2-y",
                "9 docker.io/library/b:1.36",
                "10 docker.io/library/c",
                "11 docker.io/library/z"
            ]
        );
        assert!(notes.len() == 1 && notes[0].starts_with("6 tag \"$1\""), "{notes:?}");
    }

    #[test]
    fn unknown_variables_are_noted() {
        let text = "ARG A\nARG B=x-$A\nFROM $A\nFROM b:$B\nFROM c-$TARGETARCH\nARG L=1\nFROM d:$L\nARG B=1\nFROM e:$B\nFROM f:${X#y}\n";
        let notes = notes(text);
        for (note, want) in notes.iter().zip(["3 variable A", "4 variable B", "5 variable TARGETARCH", "7 variable L"])
        {
            assert!(note.starts_with(want), "{note}");
        }
        assert_eq!(notes.len(), 6, "{notes:?}");
        let scoped = super::super::tests::summary("Dockerfile", "ARG V=1\nFROM scratch\nCOPY --from=a:$V /a /b\n");
        assert!(scoped.1[0].starts_with("3 variable V"), "{scoped:?}");
    }

    #[test]
    fn continuations_escapes_and_line_ends() {
        let plain = "FROM \\\n  # comment\n\n  a:1 \\\n  AS b\nCOPY --from=c \\\n  /x /y\n";
        let want = ["4 docker.io/library/a:1", "6 docker.io/library/c"];
        assert_eq!(images(plain), want);
        assert_eq!(images(&plain.replace('\n', "\r\n")), want);
        assert_eq!(
            images(&format!("# escape=`\n{}", plain.replace('\\', "`"))),
            ["5 docker.io/library/a:1", "7 docker.io/library/c"]
        );
        assert_eq!(
            images("# Escape = `\nFROM a\nRUN dir C:\\\nCOPY --from=b C:\\ D:\\\n"),
            ["2 docker.io/library/a", "4 docker.io/library/b"]
        );
        // The escape character also continues the line that begins a here-document, and stands in values.
        assert_eq!(
            images("# escape=`\nARG A=`$1\nFROM a\nRUN x `\n <<EOF\nFROM b\nEOF\nFROM c${A:+d}\n"),
            ["3 docker.io/library/a", "8 docker.io/library/cd"]
        );
    }

    #[test]
    fn here_documents_are_no_instructions() {
        let text = "\
FROM a
RUN <<EOF
FROM b
EOF
RUN cat <<-'ONE' > x; cat <<\"TWO\" > y
FROM c
	ONE
COPY --from=d / /
TWO
COPY <<A <<B /dest/
FROM e
A
FROM f
B
FROM g
";
        assert_eq!(images(text), ["1 docker.io/library/a", "15 docker.io/library/g"]);
    }

    #[test]
    fn broken_files_say_where() {
        let broken = |text, line| {
            let (at, problem) = refusal("Dockerfile", text);
            assert!(at == line && matches!(problem, SourceProblem::SyntaxError(_)), "{text}: {at} {problem}");
        };
        broken("", 1);
        broken("RUN a\n", 1);
        broken("FROM a\n\nFORM b\n", 3);
        broken("FROM a\nRUN <<EOF\nb\n", 2);
        broken("FROM a b\n", 1);
        broken("FROM a\nARG b='c\n", 2);
        broken("# escape=x\nFROM a\n", 1);
        assert_eq!(refusal("Dockerfile", "ARG a\nFROM {{ image }}\n"), (2, SourceProblem::Template));
        assert_eq!(refusal("Dockerfile", "FROM {{image}}:1\n"), (1, SourceProblem::Template));
    }

    #[test]
    fn variables_are_bounded() {
        let doubling: String = (1..1000).map(|i| format!("ARG A{i}=$A{0}$A{0}\n", i - 1)).collect();
        let (images, notes) = summary("Dockerfile", &format!("ARG A0=x\n{doubling}FROM $A999\nFROM $A6\n"));
        assert!(notes.len() == 1 && notes[0].starts_with("1001 variable A999"), "{notes:?}");
        assert_eq!(images, [format!("1002 docker.io/library/{}", "x".repeat(64))]);
        let many: String = (0..1100).map(|i| format!("ARG A{i}=\n")).collect();
        assert_eq!(refusal("Dockerfile", &format!("{many}FROM a\n")).0, 1001);
    }
}
