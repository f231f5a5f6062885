use crate::{
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
    let names =
        ["1 docker/dockerfile:1", "2 library/golang:1.23", "8 library/busybox:1.36", "9 library/later", "10 library/a"];
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
        let options = Options { build_args: [("BUILDKIT_SYNTAX".into(), syntax.into())].into(), ..Options::default() };
        let text = "# syntax=a:1\nFROM scratch\n";
        let found = read_bytes("Dockerfile".as_ref(), text.as_bytes(), &options).unwrap();
        found.images.into_iter().map(|image| (image.written, image.span)).collect::<Vec<_>>()
    };
    assert_eq!(found(" b/c:2 --x"), [("b/c:2".to_owned(), None)]);
    assert_eq!(found("dockerfile.v0"), []);
}

#[test]
fn images_that_run_mounts_are_found() {
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
    for (note, want) in notes.iter().zip(["3 variable A", "4 variable B", "5 variable TARGETARCH", "7 variable L"]) {
        assert!(note.starts_with(want), "{note}");
    }
    assert_eq!(notes.len(), 6, "{notes:?}");
    let scoped = crate::tests::summary("Dockerfile", "ARG V=1\nFROM scratch\nCOPY --from=a:$V /a /b\n");
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
    assert!(notes.len() == 1 && notes[0].starts_with("1001 with its variables replaced"), "{notes:?}");
    assert_eq!(images, [format!("1002 docker.io/library/{}", "x".repeat(64))]);
    let many: String = (0..1100).map(|i| format!("ARG A{i}=\n")).collect();
    assert_eq!(refusal("Dockerfile", &format!("{many}FROM a\n")).0, 1001);
}
