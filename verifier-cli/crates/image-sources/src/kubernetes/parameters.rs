//! Parameters of objects that are templates: OpenShift's Template, Tekton's tasks and pipelines, Argo's workflows.

use std::collections::BTreeMap;

use crate::yaml::Node;

/// The longest name that is made, in bytes: far beyond the longest reference.
const MAX_NAME: usize = 2048;

/// How a use of a parameter begins and ends. The longer openings come first.
const MARKS: [(&str, &str); 4] = [("${{", "}}"), ("{{", "}}"), ("$(", ")"), ("${", "}")];

/// The values that an object gives to its own parameters, by how they are used: `$(params.x)`.
#[derive(Debug, Default)]
pub struct Parameters<'n> {
    values: BTreeMap<String, Option<&'n Node>>,
}

/// A text with its parameters replaced, and the nodes that the values come from.
pub struct Substituted<'n> {
    pub text: String,
    pub from: Vec<&'n Node>,
}

/// Whether a text has a place where a parameter or a variable goes.
pub fn has_parameters(text: &str) -> bool {
    MARKS.iter().any(|(open, _)| text.contains(open))
}

impl<'n> Parameters<'n> {
    /// `parameters` of a `Template` of OpenShift: `${NAME}` and `${{NAME}}`.
    pub fn of_template(object: &'n Node) -> Parameters<'n> {
        let mut own = Parameters::default();
        for (name, value) in named(object.get("parameters"), "value") {
            own.values.insert(format!("${{{name}}}"), value);
            own.values.insert(format!("${{{{{name}}}}}"), value);
        }
        own
    }

    /// `arguments.parameters` of a workflow: `{{workflow.parameters.NAME}}`.
    pub fn of_workflow(specification: Option<&'n Node>) -> Parameters<'n> {
        let mut own = Parameters::default();
        let list = specification.and_then(|specification| specification.at(&["arguments", "parameters"]));
        for (name, value) in named(list, "value") {
            own.values.insert(format!("{{{{workflow.parameters.{name}}}}}"), value);
        }
        own
    }

    /// `params` of a task, a pipeline or a run of one: `$(params.NAME)`. What a run gives comes before the defaults; a
    /// parameter that the tasks within a pipeline have too is not known, since each task can give it another value.
    pub fn of_tekton(object: &'n Node) -> Parameters<'n> {
        let mut own = Parameters::default();
        for path in [&["spec", "taskSpec", "params"][..], &["spec", "pipelineSpec", "params"], &["spec", "params"]] {
            own.add_tekton(object.at(path));
        }
        for pipeline in [object.at(&["spec"]), object.at(&["spec", "pipelineSpec"])].into_iter().flatten() {
            let tasks = ["tasks", "finally"].into_iter().filter_map(|key| pipeline.get(key)).flat_map(Node::items);
            for (name, _) in tasks.flat_map(|task| named(task.at(&["taskSpec", "params"]), "default")) {
                own.values.insert(format!("$(params.{name})"), None);
            }
        }
        own
    }

    fn add_tekton(&mut self, list: Option<&'n Node>) {
        for key in ["default", "value"] {
            for (name, value) in named(list, key) {
                let slot = self.values.entry(format!("$(params.{name})")).or_default();
                *slot = value.or(*slot);
            }
        }
    }

    /// The text with each parameter replaced by its value.
    ///
    /// # Errors
    /// Which parameter has no value, as a reason for a user.
    pub fn substitute(&self, text: &str) -> Result<Substituted<'n>, String> {
        let (mut made, mut from, mut rest) = (String::new(), Vec::new(), text);
        while let Some((before, used, after)) = next_use(rest) {
            let value = self.values.get(&canonical(used)).copied().flatten();
            let value = value.and_then(|node| Some((node, node.text()?)));
            let Some((node, value)) = value.filter(|(_, value)| !has_parameters(value)) else {
                return Err(format!(
                    "the name of the image is made of {used}, whose value is not in this file: check what is deployed \
                     in the end"
                ));
            };
            made += before;
            made += value;
            from.push(node);
            rest = after;
            if made.len() > MAX_NAME {
                return Err(format!("with its parameters replaced the name is over {MAX_NAME} bytes"));
            }
        }
        made += rest;
        Ok(Substituted { text: made, from })
    }
}

/// The names in a list of parameters, and what each has under `key`.
fn named<'n>(list: Option<&'n Node>, key: &'static str) -> impl Iterator<Item = (&'n str, Option<&'n Node>)> {
    let items = list.into_iter().flat_map(Node::items);
    items.filter_map(move |item| {
        let value = item.get(key).filter(|value| value.text().is_some());
        Some((item.get("name")?.text()?, value))
    })
}

/// The text before the first use of a parameter, the use itself, and the text after it. What does not end is used up to
/// the end.
fn next_use(text: &str) -> Option<(&str, &str, &str)> {
    let (start, (_, close)) =
        MARKS.iter().filter_map(|mark| Some((text.find(mark.0)?, mark))).min_by_key(|(start, _)| *start)?;
    let (before, rest) = text.split_at(start);
    let end = rest.find(close).map_or(rest.len(), |end| end + close.len());
    let (used, after) = rest.split_at(end);
    Some((before, used, after))
}

/// Without blanks, and with the one form of Tekton's three: `$(params["x"])` and `$(inputs.params.x)` are
/// `$(params.x)`.
fn canonical(used: &str) -> String {
    let mut text: String = used.chars().filter(|c| !c.is_whitespace()).collect();
    if let Some(rest) = text.strip_prefix("$(inputs.params.") {
        text = format!("$(params.{rest}");
    }
    for (open, close) in [("$(params[\"", "\"])"), ("$(params['", "'])")] {
        if let Some(name) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            return format!("$(params.{name})");
        }
    }
    text
}
