//! What a job has after `extends` and `!reference`, in GitLab's order: first jobs are merged with those that they extend
//! (lib/gitlab/ci/config/extendable/entry.rb), then references are replaced (lib/gitlab/ci/config/yaml/tags).

use crate::yaml::Node;

/// How far `!reference` is followed; GitLab allows as much.
const MAX_REFERENCES: usize = 10;
/// How deep `extends` may be nested; GitLab allows as much.
const MAX_EXTENDS: usize = 11;
/// Items of one list, those of lists that it refers to included; beyond what any pipeline has.
const MAX_ITEMS: usize = 1000;
/// Jobs that one job is made of; beyond what any pipeline has.
const MAX_LAYERS: usize = 100;

/// A value of one pipeline: the layers of a mapping, the strongest first, or a single node of another type.
pub type Value<'a> = Vec<&'a Node>;
/// `Err` has the line of a reference that leads to nothing.
pub type Lookup<'a> = Result<Option<Value<'a>>, usize>;

/// A job and those that it extends, the strongest first.
pub struct JobLayers<'a> {
    pub nodes: Value<'a>,
    /// What is extended and not in the file, or too far away.
    pub incomplete: Option<&'a Node>,
}

/// A pipeline as GitLab sees it after merging.
pub struct Merged<'a> {
    document: &'a Node,
}

impl<'a> Merged<'a> {
    pub fn new(document: &'a Node) -> Merged<'a> {
        Merged { document }
    }

    pub fn layers(&self, job: &'a Node) -> JobLayers<'a> {
        let mut layers = JobLayers { nodes: Vec::new(), incomplete: None };
        self.add_layers(job, 0, &mut layers);
        layers
    }

    fn add_layers(&self, job: &'a Node, depth: usize, layers: &mut JobLayers<'a>) {
        layers.nodes.push(job);
        let Some(extends) = job.get("extends").filter(|extends| !extends.is_null()) else { return };
        let mut bases: Vec<&Node> = if extends.is_sequence() { extends.items().collect() } else { vec![extends] };
        // Of several the last is the strongest.
        bases.reverse();
        for base in bases {
            let named = base.text().and_then(|name| self.document.get(name)).filter(|base| base.is_mapping());
            match named.filter(|_| depth < MAX_EXTENDS && layers.nodes.len() < MAX_LAYERS) {
                Some(job) => self.add_layers(job, depth + 1, layers),
                None => layers.incomplete = Some(base),
            }
        }
    }

    /// What the layers of a mapping have under a key, references replaced.
    pub fn get(&self, layers: &[&'a Node], key: &str) -> Lookup<'a> {
        self.get_at(layers, key, MAX_REFERENCES)
    }

    fn get_at(&self, layers: &[&'a Node], key: &str, references: usize) -> Lookup<'a> {
        let mut value = Value::new();
        for node in layers.iter().filter_map(|layer| layer.get(key)) {
            // Only mappings are merged: anything else replaces what is weaker, and is replaced by what is stronger.
            if node.is_mapping() || value.is_empty() {
                value.push(node);
            }
            if !node.is_mapping() {
                break;
            }
        }
        match value.first() {
            None => Ok(None),
            Some(node) if node.is_null() => Ok(None),
            Some(node) if node.is_reference() => self.referred(node, references).map(Some),
            Some(_) => Ok(Some(value)),
        }
    }

    /// What `!reference [job, key, …]` leads to.
    fn referred(&self, reference: &'a Node, references: usize) -> Result<Value<'a>, usize> {
        let failed = || reference.line;
        let left = references.checked_sub(1).ok_or_else(failed)?;
        let mut keys = reference.items().map(Node::text);
        let first = keys.next().flatten().and_then(|name| self.document.get(name)).ok_or_else(failed)?;
        let mut value = match first {
            job if job.is_mapping() => self.layers(job).nodes,
            hop if hop.is_reference() => self.referred(hop, left).map_err(|_| failed())?,
            other => vec![other],
        };
        for key in keys {
            let looked = self.get_at(&value, key.ok_or_else(failed)?, left);
            value = looked.map_err(|_| failed())?.ok_or_else(failed)?;
        }
        Ok(value)
    }

    /// The items of a list; a reference among them to a list stands for the items of that.
    pub fn items(&self, list: &'a Node) -> Vec<Result<Value<'a>, usize>> {
        let (mut items, mut left) = (Vec::new(), MAX_ITEMS);
        self.add_items(list, MAX_REFERENCES, &mut left, &mut items);
        items
    }

    /// Adds the items of a list, of which `left` more are looked at: lists that refer to lists many times each would take
    /// exponential time.
    fn add_items(&self, list: &'a Node, depth: usize, left: &mut usize, items: &mut Vec<Result<Value<'a>, usize>>) {
        for item in list.items() {
            let Some(fewer) = left.checked_sub(1) else {
                // Said once: the other lists that are cut say nothing new.
                if !matches!(items.last(), Some(Err(_))) {
                    items.push(Err(item.line));
                }
                return;
            };
            *left = fewer;
            let value = if item.is_reference() { self.referred(item, MAX_REFERENCES) } else { Ok(vec![item]) };
            match (value.as_deref(), depth.checked_sub(1)) {
                (Ok([nested]), Some(depth)) if nested.is_sequence() => self.add_items(nested, depth, left, items),
                (Ok([nested]), None) if nested.is_sequence() => items.push(Err(item.line)),
                _ => items.push(value),
            }
        }
    }

    /// What the pipeline has for jobs without an `image` or `services` of their own.
    pub fn default(&self, key: &str) -> Lookup<'a> {
        let default: Value<'a> = self.document.get("default").into_iter().collect();
        match self.get(&default, key) {
            Ok(None) => self.get(&[self.document], key),
            found => found,
        }
    }

    /// What the whole pipeline has under a key.
    pub fn global(&self, key: &str) -> Value<'a> {
        self.get(&[self.document], key).ok().flatten().unwrap_or_default()
    }

    /// Whether a job takes this `default` or global variable (`variables`): `inherit` says all, none, or which.
    pub fn inherits(&self, layers: &[&'a Node], what: &str, name: &str) -> bool {
        let inherit = self.get(layers, "inherit").ok().flatten().unwrap_or_default();
        match self.get(&inherit, what).ok().flatten().as_deref() {
            Some([list]) if list.is_sequence() => list.items().any(|item| item.text() == Some(name)),
            Some([word]) => word.text() != Some("false"),
            _ => true,
        }
    }
}
