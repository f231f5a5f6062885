//! Checks of documents against the official SARIF schema and our own schemas.

use std::{path::PathBuf, process::Command};

use jsonschema::Validator;
use serde_json::Value;

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The official schema of SARIF 2.1.0, in the copy that NOTICE.md speaks of.
fn sarif_schema() -> Value {
    let text = include_str!("sarif-schema-2.1.0.json");
    // Its patterns of languages are no regular expressions by the rules of JSON Schema: a bracket closes nothing.
    let schema: Value = serde_json::from_str(&text.replace("{2}]?$", "{2}\\\\]?$")).unwrap();
    assert_eq!(schema["properties"]["version"]["enum"], serde_json::json!(["2.1.0"]));
    schema
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Our schema of `verify --output json`, made strict: what it does not describe is not allowed.
fn verify_schema() -> Value {
    let mut schema = read(&checkout().join("verifier-cli/schemas/verify.schema.json"));
    forbid_more(&mut schema);
    schema
}

fn forbid_more(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(forbid_more);
            if fields.get("properties").is_some_and(Value::is_object) && fields.get("type") == Some(&"object".into()) {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_more),
        _ => {}
    }
}

fn check(schema: &Value, document: &Value) {
    let validator: Validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

/// Checks an answer of `verify --output json`.
pub fn check_json(text: &str) -> Value {
    let document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    check(&verify_schema(), &document);
    document
}

/// Checks a SARIF log against the official schema.
pub fn check_sarif(text: &str) -> Value {
    let document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    check(&sarif_schema(), &document);
    document
}

/// Checks a JUnit report against our schema, with libxml2.
pub fn check_junit(text: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (file, schema) = (directory.path().join("report.xml"), checkout().join("verifier-cli/schemas/junit.xsd"));
    std::fs::write(&file, text).unwrap();
    let output =
        Command::new("xmllint").args(["--nonet", "--noout", "--schema"]).arg(schema).arg(file).output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_schemas_reject_invalid_documents() {
    let refused = |schema: &Value, document: Value| {
        assert!(!jsonschema::validator_for(schema).unwrap().is_valid(&document), "{document}");
    };
    refused(&sarif_schema(), serde_json::json!({ "version": "2.1.0" }));
    refused(&sarif_schema(), serde_json::json!({ "version": "2.1.0", "runs": [], "more": 1 }));
    refused(&verify_schema(), serde_json::json!({ "schema": "taglog/verify@v1" }));
}
