//! The values of charts of Helm: what they mean the templates of the chart decide.
//!
//! By convention `repository`, `tag` and similar keys under one key name an image. Where that is a registry, a name, and a
//! tag or a digest, nothing is left for the templates to add, and it is read. All else is noted.

use std::path::Path;

use super::{
    Reader,
    names::is_full_name,
    notes::chart_decides,
    split::{SplitImage, parts_of},
};
use crate::{model::SourceError, scan::FileScan, yaml::Node};

const REGISTRY: &str = "this registry may replace those of the images: give the rendered chart, \
    helm template … | taglog verify -f -";

/// Whether a document of a file is the values for a chart: the name of the file says so, and the document is a mapping.
pub fn is_helm_values(path: &Path, document: &Node) -> bool {
    document.is_mapping() && has_name_of_values(path)
}

/// Whether a file is called as values for a chart are: `values.yaml`, `values-prod.yaml`, `prod.values.json`.
pub fn has_name_of_values(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let stem = [".yaml", ".yml", ".json"].iter().find_map(|extension| name.strip_suffix(extension));
    let is_named = |stem: &str| stem.split(['-', '_', '.']).any(|word| word == "values");
    stem.is_some_and(is_named)
}

/// Reads the values for a chart. The defaults of a chart itself, beside its `Chart.yaml` or its templates, are only
/// noted: what is deployed is the rendered chart.
///
/// # Errors
/// An image with a template in it.
pub fn read_values(path: &Path, document: &Node, scan: &mut FileScan) -> Result<(), SourceError> {
    let mut reader = Reader::new(&[], scan);
    reader.within_custom = true;
    let is_own = ["Chart.yaml", "templates"].iter().any(|name| path.with_file_name(name).exists());
    if is_own { reader.note_values(document) } else { reader.helm_values(document) }
}

impl<'n> Reader<'_, 'n, '_> {
    /// Reads the images in values that are given to a chart, and notes what may be others.
    pub fn helm_values(&mut self, values: &'n Node) -> Result<(), SourceError> {
        self.values_below(values, false)?;
        self.note_values(values)?;
        self.mark(values);
        Ok(())
    }

    fn values_below(&mut self, node: &'n Node, under_image: bool) -> Result<(), SourceError> {
        if let Some(parts) = parts_of(node).filter(|parts| parts.is_certain || under_image) {
            self.values_image(&parts)?;
        }
        for (key, child) in node.children() {
            if key == Some("imageRegistry") && child.text().is_some_and(|text| !text.is_empty()) {
                self.mark(child);
                self.scan.leave_out(child.line, REGISTRY);
            }
            let is_image = key.is_some_and(|key| key.to_ascii_lowercase().ends_with("image"));
            if is_image && child.text().is_some_and(is_full_name) && !self.done.contains(&std::ptr::from_ref(child)) {
                self.image(child)?;
            }
            self.values_below(child, is_image)?;
        }
        Ok(())
    }

    /// An image of several values.
    pub fn values_image(&mut self, parts: &SplitImage<'n>) -> Result<(), SourceError> {
        if parts.has_registry && parts.is_complete {
            return self.image_in_parts(parts, &parts.name);
        }
        parts.parts.iter().for_each(|part| self.mark(part));
        self.scan.leave_out(parts.repository.line, &chart_decides(&parts.name));
        Ok(())
    }

    /// An image of one value.
    pub fn values_text(&mut self, value: &'n Node) -> Result<(), SourceError> {
        if value.text().is_some_and(is_full_name) {
            return self.image(value);
        }
        self.mark(value);
        self.scan.leave_out(value.line, &chart_decides(value.text().unwrap_or("")));
        Ok(())
    }
}
