//! The values that the variables of a job can have.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{
    MERGED,
    expand::{Name, Piece, pieces, replaced},
    merge::{Merged, Value},
};
use crate::{scan::FileScan, yaml::Node, yaml_number::scalar_text};

/// Combinations of values in which the images of one job are read. GitLab allows 200 jobs of one matrix.
const MAX_ENVIRONMENTS: usize = 1000;
/// Rules, values and combinations evaluated in one file: limits the time for many jobs with many of them.
const MAX_STEPS: usize = 3_000_000;
/// Jobs, and variables, of one matrix.
const MAX_MATRIX: usize = 2000;
const MAX_MATRIX_VARIABLES: usize = 64;
const TOO_MANY: &str = "too many combinations of variables: write the name of the image without them";

/// What is left of [`MAX_STEPS`].
pub struct Steps(Cell<usize>);

impl Default for Steps {
    fn default() -> Steps {
        Steps(Cell::new(MAX_STEPS))
    }
}

impl Steps {
    fn take(&self, count: usize) -> Result<(), String> {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| TOO_MANY.to_owned())
    }
}

/// The value of a variable as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Variable<'a> {
    Known {
        text: &'a str,
        /// Whether variables within it are replaced (`expand`).
        expanded: bool,
    },
    Unknown(String),
}

/// Variables, or inputs, that are set together.
type Scope<'a> = BTreeMap<Name<'a>, Variable<'a>>;

/// Everything that gives the variables of one job a value.
pub struct Choices<'a> {
    /// Of each of these, the strongest first, exactly one scope counts.
    dimensions: Vec<Vec<Scope<'a>>>,
    /// Inputs with a default, which whoever includes the file may change.
    open_inputs: BTreeSet<&'a str>,
    /// Why not all is known.
    incomplete: Option<String>,
}

impl<'a> Choices<'a> {
    /// In GitLab's precedence (docs.gitlab.com, "CI/CD variable precedence", and the pages of `parallel:matrix`,
    /// `rules:variables` and `workflow:rules:variables`): a value chosen from `options` when a pipeline is started,
    /// the rules of the job, its matrix, its variables, the rules of the workflow, the variables of the pipeline. What a
    /// project, a group or a run sets besides is not in the file.
    pub fn of_job(
        merged: &Merged<'a>,
        layers: &[&'a Node],
        inputs: Option<&'a Node>,
        steps: &Steps,
        scan: &FileScan,
    ) -> Choices<'a> {
        let collector = Collector { merged, steps, scan };
        let nothing =
            |reason| Choices { dimensions: Vec::new(), open_inputs: BTreeSet::new(), incomplete: Some(reason) };
        if let Err(reason) = steps.take(1) {
            return nothing(reason);
        }
        let globals = merged.global("variables");
        let own = merged.get(layers, "variables").ok().flatten().unwrap_or_default();
        // The variables of each layer are looked up in all layers.
        let names = |layers: &[&Node]| layers.iter().map(|layer| layer.children().len()).sum::<usize>();
        let lookups = names(&globals).saturating_add(names(&own).saturating_mul(own.len()));
        if let Err(reason) = steps.take(lookups) {
            return nothing(reason);
        }
        let mut incomplete = None;
        let mut or_none = |scopes: Result<Vec<Scope<'a>>, String>| {
            scopes.unwrap_or_else(|reason| {
                incomplete.get_or_insert(reason);
                Vec::new()
            })
        };
        let workflow = merged.global("workflow");
        let mut dimensions = collector.picked(&globals);
        dimensions.push(or_none(collector.rules(layers)));
        dimensions.push(or_none(collector.matrix(layers)));
        dimensions.push(vec![collector.scope(&own)]);
        let inherits_all = matches!(merged.get(layers, "inherit"), Ok(None));
        let inherited = |mut scope: Scope<'a>| {
            if inherits_all {
                return scope;
            }
            scope.retain(|name, _| matches!(name, Name::Variable(name) if merged.inherits(layers, "variables", name)));
            scope
        };
        dimensions.push(or_none(collector.rules(&workflow)).into_iter().map(inherited).collect());
        dimensions.push(vec![inherited(collector.scope(&globals))]);
        let (inputs, open_inputs) = collector.inputs(inputs);
        dimensions.extend(inputs);
        dimensions.iter_mut().filter(|scopes| scopes.is_empty()).for_each(|scopes| scopes.push(Scope::new()));
        Choices { dimensions, open_inputs, incomplete }
    }

    /// Every name that the text can become, and why it may also become another.
    pub fn results(&self, text: &'a str, steps: &Steps) -> BTreeSet<Result<String, String>> {
        let names = match self.names_in(text, steps) {
            Ok(names) => names,
            Err(reason) => return BTreeSet::from([Err(reason)]),
        };
        let mut results = BTreeSet::new();
        if let Some(reason) = self.incomplete.as_ref().filter(|_| !names.is_empty()) {
            results.insert(Err(reason.clone()));
        }
        let open = |name: &&Name<'a>| matches!(name, Name::Input(name) if self.open_inputs.contains(name));
        if let Some(Name::Input(name)) = names.iter().find(open) {
            let reason = format!(
                "input {name} has its default here, and another value where it is given one: check the merged pipeline too"
            );
            results.insert(Err(reason));
        }
        if self.dimensions.is_empty() {
            return results;
        }
        match self.environments(&names, steps) {
            Ok(environments) => {
                results.extend(environments.into_iter().map(|scopes| Environment::new(scopes).expand(text)));
            }
            Err(reason) => drop(results.insert(Err(reason))),
        }
        results
    }

    /// The variables that decide what a text becomes: those in it, and those in their values.
    fn names_in(&self, text: &'a str, steps: &Steps) -> Result<BTreeSet<Name<'a>>, String> {
        let mut names = BTreeSet::new();
        let mut texts = vec![text];
        while let Some(text) = texts.pop() {
            for name in pieces(text).iter().filter_map(name_of) {
                if names.insert(name) {
                    steps.take(self.dimensions.iter().map(Vec::len).sum())?;
                    let values = self.dimensions.iter().flatten().filter_map(|scope| scope.get(&name));
                    texts.extend(values.filter_map(|value| match value {
                        Variable::Known { text, expanded: true } => Some(*text),
                        _ => None,
                    }));
                }
            }
        }
        Ok(names)
    }

    /// One scope of each dimension, in all combinations; what none of these names needs is left away.
    fn environments(&self, names: &BTreeSet<Name<'a>>, steps: &Steps) -> Result<Vec<Vec<Scope<'a>>>, String> {
        let mut environments: Vec<Vec<Scope<'a>>> = vec![Vec::new()];
        for scopes in &self.dimensions {
            steps.take(scopes.len())?;
            let needed = |scope: &Scope<'a>| -> Scope<'a> {
                let named = names.iter().filter_map(|name| scope.get_key_value(name));
                named.map(|(name, value)| (*name, value.clone())).collect()
            };
            let distinct: BTreeSet<Scope<'a>> = scopes.iter().map(needed).collect();
            let count = environments.len().saturating_mul(distinct.len());
            if count > MAX_ENVIRONMENTS {
                return Err(TOO_MANY.to_owned());
            }
            steps.take(count.saturating_mul(names.len()))?;
            let with = |environment: &Vec<Scope<'a>>, scope: &Scope<'a>| {
                environment.iter().chain([scope]).cloned().collect::<Vec<_>>()
            };
            environments = environments
                .iter()
                .flat_map(|environment| distinct.iter().map(|scope| with(environment, scope)))
                .collect();
        }
        Ok(environments)
    }
}

fn name_of<'a>(piece: &Piece<'a>) -> Option<Name<'a>> {
    if let Piece::Named(name) = piece { Some(*name) } else { None }
}

/// Variables with one value each.
struct Environment<'a> {
    scopes: Vec<Scope<'a>>,
    /// The values of variables that were needed already. A variable that is being expanded is an error here: its definition is circular.
    values: HashMap<Name<'a>, Result<String, String>>,
    /// How many variables are being worked out.
    depth: usize,
}

impl<'a> Environment<'a> {
    fn new(scopes: Vec<Scope<'a>>) -> Environment<'a> {
        Environment { scopes, values: HashMap::new(), depth: 0 }
    }

    fn expand(&mut self, text: &'a str) -> Result<String, String> {
        replaced(text, |name| self.value_of(name))
    }

    fn value_of(&mut self, name: Name<'a>) -> Result<String, String> {
        if let Some(value) = self.values.get(&name) {
            return value.clone();
        }
        if self.depth == MAX_DEPTH {
            return Err(CIRCULAR.to_owned());
        }
        self.values.insert(name, Err(CIRCULAR.to_owned()));
        self.depth += 1;
        let found = self.scopes.iter().find_map(|scope| scope.get(&name)).cloned();
        let value = match found {
            Some(Variable::Known { text, expanded: true }) => self.expand(text),
            Some(Variable::Known { text, expanded: false }) => Ok(text.to_owned()),
            Some(Variable::Unknown(reason)) => Err(reason),
            None => Err(no_value(name)),
        };
        self.depth -= 1;
        self.values.insert(name, value.clone());
        value
    }
}

/// How deep variables may stand in the values of variables.
const MAX_DEPTH: usize = 64;
const CIRCULAR: &str =
    "a variable is defined by itself, or through too many others: write the name of the image without it";

fn no_value(name: Name<'_>) -> String {
    match name {
        Name::Variable(name) if name.starts_with("CI_") => {
            format!("variable {name} is set by GitLab, so that only a run of the pipeline knows which image it is")
        }
        Name::Variable(name) => {
            format!("variable {name} has no value in this file: give it one under variables, or write the image out")
        }
        Name::Input(name) => {
            format!("input {name} gets its value where this file is included: check the merged pipeline")
        }
        Name::Other(text) => format!("$[[ {text} ]] has a value only in GitLab: check the merged pipeline"),
    }
}

/// Collects the scopes of a file.
struct Collector<'c, 'a, 't> {
    merged: &'c Merged<'a>,
    steps: &'c Steps,
    scan: &'c FileScan<'t>,
}

impl<'a> Collector<'_, 'a, '_> {
    /// The `variables` that a job or a rule has.
    fn variables(&self, layers: &[&'a Node]) -> Scope<'a> {
        let variables = self.merged.get(layers, "variables").ok().flatten();
        self.scope(&variables.unwrap_or_default())
    }

    fn scope(&self, layers: &[&'a Node]) -> Scope<'a> {
        let mut scope = Scope::new();
        for (name, _) in layers.iter().flat_map(|layer| layer.entries()) {
            if let Some(value) = self.value_under(layers, name) {
                scope.entry(Name::Variable(name)).or_insert(value);
            }
        }
        scope
    }

    /// A variable is a text, or a mapping with `value`.
    fn value_under(&self, layers: &[&'a Node], name: &str) -> Option<Variable<'a>> {
        let value = match self.merged.get(layers, name) {
            Ok(value) => value?,
            Err(_) => return Some(Variable::Unknown(format!("the value of variable {name} is not in this file"))),
        };
        if !value.first()?.is_mapping() {
            return value.first().map(|node| self.variable(node, true));
        }
        let part = |key: &str| self.merged.get(&value, key).ok().flatten()?.first().copied();
        let expanded = part("expand").and_then(Node::text) != Some("false");
        part("value").map(|node| self.variable(node, expanded))
    }

    fn variable(&self, node: &'a Node, expanded: bool) -> Variable<'a> {
        match scalar_text(node, self.scan) {
            Ok(text) => Variable::Known { text, expanded },
            Err(reason) => Variable::Unknown(reason),
        }
    }

    /// For each variable of the pipeline with `options`: none of them, or one.
    fn picked(&self, globals: &[&'a Node]) -> Vec<Vec<Scope<'a>>> {
        let mut dimensions = Vec::new();
        for (name, variable) in globals.iter().flat_map(|layer| layer.entries()) {
            let options: Vec<&Node> = variable.get("options").into_iter().flat_map(Node::items).collect();
            if !options.is_empty() {
                let picked = options
                    .into_iter()
                    .map(|option| Scope::from([(Name::Variable(name), self.variable(option, true))]));
                dimensions.push([Scope::new()].into_iter().chain(picked).collect());
            }
        }
        dimensions
    }

    /// The variables of each rule that may apply. Without rules there is nothing to choose from.
    fn rules(&self, holder: &[&'a Node]) -> Result<Vec<Scope<'a>>, String> {
        let elsewhere = |_| format!("rules that are not in this file may set variables: {MERGED}");
        let rules = self.merged.get(holder, "rules").map_err(elsewhere)?.unwrap_or_default();
        let mut scopes = Vec::new();
        for rule in rules.iter().flat_map(|rules| self.merged.items(rules)) {
            self.steps.take(1)?;
            let rule = rule.map_err(elsewhere)?;
            let never = rule.first().and_then(|rule| rule.get("when")).and_then(Node::text) == Some("never");
            if !never {
                scopes.push(self.variables(&rule));
            }
        }
        Ok(scopes)
    }

    /// The variables of each job that `parallel:matrix` makes of one.
    fn matrix(&self, layers: &[&'a Node]) -> Result<Vec<Scope<'a>>, String> {
        let parallel = self.merged.get(layers, "parallel").ok().flatten().unwrap_or_default();
        let matrix = match self.merged.get(&parallel, "matrix") {
            Ok(None) => return Ok(Vec::new()),
            Ok(Some(matrix)) if matrix.iter().all(|matrix| matrix.is_sequence()) => matrix,
            _ => {
                return Err(
                    "the matrix of this job is not a list in this file, so that its variables are unknown".to_owned()
                );
            }
        };
        let mut all = Vec::new();
        for entry in matrix.iter().flat_map(|matrix| self.merged.items(matrix)) {
            let entry = entry.map_err(|_| "a part of the matrix is not in this file".to_owned())?;
            all.extend(self.products(&entry)?);
        }
        Ok(all)
    }

    /// Each variable of an entry is a value or a list of values.
    fn products(&self, entry: &[&'a Node]) -> Result<Vec<Scope<'a>>, String> {
        let mut products = vec![Scope::new()];
        let names: BTreeSet<&str> = entry.iter().flat_map(|layer| layer.entries()).map(|(name, _)| name).collect();
        if names.len() > MAX_MATRIX_VARIABLES {
            return Err(TOO_MANY.to_owned());
        }
        for name in names {
            let unknown = |_| format!("the values of {name} in the matrix are not in this file");
            let value = self.merged.get(entry, name).map_err(unknown)?.unwrap_or_default();
            let mut values = Vec::new();
            for node in value {
                if node.is_sequence() {
                    let items = self.merged.items(node).into_iter().collect::<Result<Vec<Value<'a>>, usize>>();
                    values.extend(items.map_err(unknown)?.into_iter().flatten());
                } else {
                    values.push(node);
                }
            }
            let count = products.len().saturating_mul(values.len());
            if count > MAX_MATRIX {
                return Err(TOO_MANY.to_owned());
            }
            self.steps.take(count)?;
            let with = |scope: &Scope<'a>, node: &'a Node| {
                let mut scope = scope.clone();
                scope.insert(Name::Variable(name), self.variable(node, true));
                scope
            };
            if !values.is_empty() {
                products = products.iter().flat_map(|scope| values.iter().map(|node| with(scope, node))).collect();
            }
        }
        Ok(products)
    }

    /// The values that inputs can have, and those inputs that may have others.
    fn inputs(&self, inputs: Option<&'a Node>) -> (Vec<Vec<Scope<'a>>>, BTreeSet<&'a str>) {
        let (mut dimensions, mut open) = (Vec::new(), BTreeSet::new());
        for (name, input) in inputs.into_iter().flat_map(Node::entries) {
            let rules = || input.get("rules").into_iter().flat_map(Node::items);
            let options = |holder: &'a Node| holder.get("options").into_iter().flat_map(Node::items);
            let default = |holder: &'a Node| holder.get("default").filter(|default| !default.is_null());
            let values = options(input).chain(default(input));
            let values = values.chain(rules().flat_map(options)).chain(rules().filter_map(default));
            let scopes: Vec<Scope<'a>> =
                values.map(|value| Scope::from([(Name::Input(name), self.variable(value, true))])).collect();
            if options(input).next().is_none() && !scopes.is_empty() {
                open.insert(name);
            }
            dimensions.push(scopes);
        }
        (dimensions, open)
    }
}
