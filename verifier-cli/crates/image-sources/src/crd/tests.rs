use proptest::prelude::*;

use super::*;
use crate::{Options, tests::read_text_with};

/// What is found, and what is noted, each with its line.
fn images(paths: &[&str], text: &str) -> (Vec<String>, Vec<String>) {
    let crd_paths = paths.iter().map(|path| path.parse().unwrap()).collect();
    let found = read_text_with("x.yaml", text, &Options { crd_paths, ..Options::default() }).unwrap();
    let images = found.images.iter().map(|image| format!("{} {}", image.place.line, image.written));
    let notes = found.left_out.iter().map(|note| format!("{} {}", note.place.line, note.reason));
    (images.collect(), notes.collect())
}

fn lines(notes: &[String]) -> Vec<&str> {
    notes.iter().filter_map(|note| note.split(' ').next()).collect()
}

const ROLLOUT: &str = "\
apiVersion: deploy.example/v1alpha1
kind: Rollout
spec:
  template:
    spec:
      initContainers: [{image: a:1}]
      containers:
        - image: b:2
  tools:
    one: {image: c:3}
    two: {image: d:4}
  names: [e:5, f:6]
";

#[test]
fn pods_containers_and_names() {
    for path in ["deploy.example/Rollout:spec.template.spec", "Rollout:spec.template.spec"] {
        let (found, notes) = images(&[path], ROLLOUT);
        assert_eq!(found, ["6 a:1", "8 b:2"], "{path}");
        assert_eq!(lines(&notes), ["10", "11"], "{notes:?}");
    }
    assert_eq!(images(&["Rollout:spec.template.spec.containers[].image"], ROLLOUT).0, ["8 b:2"]);
    assert_eq!(images(&["Rollout:spec.template.spec.containers"], ROLLOUT).0, ["8 b:2"]);
    assert_eq!(images(&["Rollout:spec.tools.*"], ROLLOUT).0, ["10 c:3", "11 d:4"]);
    assert_eq!(images(&["Rollout:spec[\"tools\"][\"one\"].image"], ROLLOUT).0, ["10 c:3"]);
    assert_eq!(images(&["Rollout:spec.tools[\"*\"]"], ROLLOUT).0, [""; 0]);
    assert_eq!(
        images(&["Rollout:spec.tools.two.image", "Rollout:spec.names"], ROLLOUT).0,
        ["11 d:4", "12 e:5", "12 f:6"]
    );
    assert_eq!(images(&["Rollout:spec.none"], ROLLOUT).0, [""; 0]);
    let (none, notes) = images(&["Rollout:spec.template"], ROLLOUT);
    assert!(none.is_empty() && notes[0].starts_with("5 the path of --crd leads to no image"), "{notes:?}");
}

#[test]
fn one_option_does_not_hide_the_other_images_of_a_kind() {
    let all = ["6", "8", "10", "11"];
    for (path, left) in [
        ("other.example/Rollout:spec.template.spec", &all[..]),
        ("Rollout:spec.none", &all),
        ("Rollout:spec.template.spec.containers", &["6", "10", "11"]),
        ("Rollout:spec.tools.*", &["6", "8"]),
    ] {
        assert_eq!(lines(&images(&[path], ROLLOUT).1), left, "{path}");
    }
    let both = ["Rollout:spec.template.spec", "Rollout:spec.tools.*"];
    assert_eq!(images(&both, ROLLOUT).1, [""; 0]);
}

#[test]
fn kinds_with_containers_are_not_passed_over() {
    let (none, notes) = images(&[], ROLLOUT);
    assert!(none.is_empty() && notes.len() == 4, "{none:?} {notes:?}");
    assert!(notes[1].starts_with("8 the images of kind Rollout are not read"), "{notes:?}");
    assert!(notes[1].ends_with("--crd deploy.example/Rollout:spec.template.spec"), "{notes:?}");
    let definition =
        "apiVersion: v1\nkind: X\nspec: {properties: {containers: {items: {properties: {image: {type: string}}}}}}\n";
    assert_eq!(images(&[], definition), (vec![], vec![]));
}

#[test]
fn kinds_that_name_an_image_are_not_passed_over() {
    let object =
        |api: &str, image: &str| format!("apiVersion: {api}\nkind: Server\nspec:\n  main: {{image: {image}}}\n");
    for image in ["registry.example/db:4", "db", "$(params.db)"] {
        let (none, notes) = images(&[], &object("db.example.com/v1", image));
        assert!(none.is_empty() && notes.len() == 1, "{none:?} {notes:?}");
        assert!(notes[0].starts_with("4 the images of kind Server are not read"), "{notes:?}");
        assert!(notes[0].ends_with("--crd db.example.com/Server:spec.main"), "{notes:?}");
    }
    let found = images(&["db.example.com/Server:spec.main"], &object("db.example.com/v1", "registry.example/db:4"));
    assert_eq!(found, (vec!["4 registry.example/db:4".to_owned()], vec![]));
    let (_, notes) = images(&[], "apiVersion: db.example.com/v1\nkind: Tool\nimage: db:4\n");
    assert!(notes[0].ends_with("--crd db.example.com/Tool:image"), "{notes:?}");
    let parts = object("db.example.com/v1", "{registry: r.example, repository: db, tag: '4'}");
    assert!(images(&[], &parts).1[0].ends_with("--crd db.example.com/Server:spec.main.image"));
    assert_eq!(images(&["Server:spec.main.image"], &parts), (vec!["4 r.example/db:4".to_owned()], vec![]));
    // What is no container image, and what Kubernetes' own kinds hold.
    for image in ["https://example.com/logo", "logo.png", "true", "'a picture of it'", "'*:latest'", "''", "null"] {
        assert_eq!(images(&[], &object("db.example.com/v1", image)), (vec![], vec![]), "{image}");
    }
    for (api, kind) in
        [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")]
    {
        let own = object(api, "db:4").replace("Server", kind);
        assert_eq!(images(&[], &own), (vec![], vec![]), "{api} {kind}");
    }
}

#[test]
fn forms_that_are_refused() {
    for text in [
        "",
        "Rollout",
        "Rollout:",
        ":a",
        "a/b/C:d",
        "/C:d",
        "C:a..b",
        "C:a b",
        "C:a[0]",
        "argo_x/C:d",
        "C:.a",
        "C:a.",
        "C:[]",
        "C:a[\"b",
        "C:a[\"b\"",
        "C:a[\"b\"]c",
        "C:a[\"\\n\"]",
        "-:a",
    ] {
        assert!(text.parse::<CrdPath>().is_err(), "{text}");
    }
    let error = "x\u{1b}".parse::<CrdPath>().unwrap_err().to_string();
    assert!(!error.contains(char::is_control) && error.contains("Rollout:spec"), "{error}");
    assert!(format!("C:{}a", "a.".repeat(MAX_KEYS)).parse::<CrdPath>().is_err());
}

/// An object of a custom kind that has an image below these keys, as JSON.
fn object_with(kind: &str, keys: &[String]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let open: String = keys.iter().map(|key| format!("{}: {{", quoted(key))).collect();
    let close = "}".repeat(keys.len());
    format!("{{apiVersion: x.example/v1, kind: {kind}, spec: {{{open}image: 'r.example/a:1'{close}}}}}")
}

#[test]
fn suggested_options_are_quoted_for_a_shell() {
    let notes = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        images(&[], &object_with("Tool", &keys)).1.remove(0)
    };
    assert!(notes(&["a"]).ends_with("--crd x.example/Tool:spec.a"));
    assert!(notes(&["a.b/c"]).ends_with("--crd 'x.example/Tool:spec[\"a.b/c\"]'"));
    assert!(notes(&["a b", "c"]).ends_with("--crd 'x.example/Tool:spec[\"a b\"].c'"));
    assert!(notes(&["it's"]).ends_with("--crd 'x.example/Tool:spec.*'"));
    assert!(notes(&["*"]).ends_with("--crd 'x.example/Tool:spec[\"*\"]'"));
}

proptest! {
    #[test]
    fn a_suggested_option_leads_to_the_image(
        kind in "[A-Z][a-zA-Z0-9-]{0,12}",
        keys in prop::collection::vec(prop_oneof!["[a-z]{1,4}", "[ -~]{1,6}", "[a-z.\"\\\\\\[\\]/:*]{1,5}"], 1..5),
    ) {
        let text = object_with(&kind, &keys);
        let skipped = ["env", "args", "command"];
        prop_assume!(keys.iter().all(|key| !skipped.contains(&key.as_str()) && key != "<<" && !key.is_empty()));
        let (found, notes) = images(&[], &text);
        prop_assert!(found.is_empty() && notes.len() == 1, "{text}: {found:?} {notes:?}");
        if let Some((_, option)) = notes[0].split_once("--crd ") {
            let option = option.trim_matches('\'');
            prop_assert_eq!(images(&[option], &text), (vec!["1 r.example/a:1".to_owned()], vec![]), "{}", option);
        } else {
            prop_assert!(!is_kind(&kind), "{}", notes[0]);
        }
    }

    #[test]
    fn no_option_panics(text in "[a-zA-Z./:\\[\\]\"\\\\* ]{0,30}") {
        let _ = text.parse::<CrdPath>();
    }
}
