//! Custom kinds whose images are not whole names at a path: charts of Helm, Kustomize within other objects, images that
//! are results of builds, and templates with parameters.

use std::collections::BTreeMap;

use super::{
    ObjectKind, Reader,
    names::{KeyKind, has_registry, key_kind, may_name_image, without_scheme},
    notes::chart_decides,
    parameters::Parameters,
    split::SplitImage,
};
use crate::{crd::places_at, model::SourceError, yaml::Node};

const CHART: &str =
    "the images of this chart are not in this file: give the rendered chart, helm template … | taglog verify -f -";
const BUILT: &str = "the name that a build gives to its result";
/// Keys of the old form of the operator for Prometheus, which make up one name.
const BASE_IMAGE: &str = "baseImage is put together with the tag, sha or version: write the whole name under image";

/// The parameters that an object of this kind gives values to, if it is a template of its own.
pub fn parameters<'n>(own: ObjectKind<'_>, object: &'n Node) -> Option<Parameters<'n>> {
    match (own.group, own.kind) {
        ("template.openshift.io" | "", "Template") => Some(Parameters::of_template(object)),
        ("tekton.dev", _) => Some(Parameters::of_tekton(object)),
        ("argoproj.io", "CronWorkflow") => Some(Parameters::of_workflow(object.at(&["spec", "workflowSpec"]))),
        ("argoproj.io", "Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate") => {
            Some(Parameters::of_workflow(object.get("spec")))
        }
        _ => None,
    }
}

impl<'n> Reader<'_, 'n, '_> {
    /// Reads what the paths of the table of well-known kinds cannot say.
    pub fn special_parts(&mut self, object: &'n Node, own: ObjectKind<'n>) -> Result<(), SourceError> {
        match (own.group, own.kind) {
            ("helm.toolkit.fluxcd.io", "HelmRelease") => self.helm_release(object),
            ("helm.cattle.io", "HelmChart") => {
                self.leave_out_at(object, "spec", CHART);
                Ok(())
            }
            ("argoproj.io", "Application") => self.argo_sources(object, ["spec.source", "spec.sources"]),
            ("argoproj.io", "ApplicationSet") => {
                self.argo_sources(object, ["spec.template.spec.source", "spec.template.spec.sources"])
            }
            ("kustomize.toolkit.fluxcd.io", "Kustomization") => self.kustomize_images(object, "spec.images"),
            ("source.toolkit.fluxcd.io", "OCIRepository") => self.oci_repository(object),
            ("monitoring.coreos.com", _) => {
                self.base_image(object, "spec");
                self.base_image(object, "spec.thanos");
                Ok(())
            }
            ("postgresql.cnpg.io", "Cluster") => {
                let reason = "the image comes from this catalog: check the object ImageCatalog or ClusterImageCatalog";
                self.leave_out_at(object, "spec.imageCatalogRef", reason);
                Ok(())
            }
            ("build.openshift.io" | "", "BuildConfig" | "Build") => {
                self.built(object, "spec.output.to.name");
                self.leave_out_at(
                    object,
                    "spec.source.dockerfile",
                    "this Dockerfile is not read: give it as a file of its own",
                );
                Ok(())
            }
            ("kafka.strimzi.io", "KafkaConnect") => {
                self.built(object, "spec.build.output.image");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn leave_out_at(&mut self, object: &'n Node, path: &str, reason: &str) {
        for place in places_at(object, path) {
            self.scan.leave_out(place.line, reason);
        }
    }

    /// The result of a build, which a deploy does not pull by this object.
    fn built(&mut self, object: &'n Node, path: &str) {
        for place in places_at(object, path) {
            self.mark(place);
            self.scan.exclude(place.line, place.text().unwrap_or(""), BUILT);
        }
    }

    /// Prometheus and similar kinds: where there is an `image`, the older keys do not count (CRD of the operator).
    fn base_image(&mut self, object: &'n Node, path: &str) {
        for place in places_at(object, path) {
            let Some(base) = place.get("baseImage") else { continue };
            self.mark(base);
            if place.get("image").is_none_or(Node::is_null) {
                self.scan.leave_out(base.line, BASE_IMAGE);
            }
        }
    }

    /// A reference of OpenShift: `{kind: DockerImage, name: …}`. Whether the mapping is a reference.
    pub fn object_reference(&mut self, place: &'n Node) -> Result<bool, SourceError> {
        let (Some(kind), Some(name)) = (place.get("kind").and_then(Node::text), place.get("name")) else {
            return Ok(false);
        };
        match kind {
            "DockerImage" => self.image(name)?,
            "ImageStreamTag" | "ImageStreamImage" if name.text().is_some_and(|name| name.contains([':', '@'])) => {
                self.scan.leave_out(name.line, "which image this is only the image stream in the cluster knows");
            }
            // A tag that follows another one of the same image stream.
            "ImageStreamTag" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn helm_release(&mut self, object: &'n Node) -> Result<(), SourceError> {
        // One with none of these is a patch of other settings: it deploys nothing by itself.
        let chart = ["chart", "chartRef", "values", "valuesFrom"].into_iter().find_map(|key| object.at(&["spec", key]));
        if let Some(chart) = chart {
            self.scan.leave_out(chart.line, CHART);
        }
        if let Some(values) = object.at(&["spec", "values"]) {
            self.helm_values(values)?;
        }
        self.kustomize_images(object, "spec.postRenderers.kustomize.images")
    }

    fn kustomize_images(&mut self, object: &'n Node, path: &str) -> Result<(), SourceError> {
        places_at(object, path).into_iter().try_for_each(|entry| self.kustomize_image(entry))
    }

    fn argo_sources(&mut self, object: &'n Node, paths: [&str; 2]) -> Result<(), SourceError> {
        for source in paths.into_iter().flat_map(|path| places_at(object, path)) {
            if let Some(chart) = ["chart", "helm"].into_iter().find_map(|key| source.get(key)) {
                self.scan.leave_out(chart.line, CHART);
            }
            if let Some(values) = source.at(&["helm", "valuesObject"]) {
                self.helm_values(values)?;
            }
            self.helm_parameters(source)?;
            let images = source.at(&["kustomize", "images"]);
            images.into_iter().flat_map(Node::items).try_for_each(|image| self.kustomize_override(image))?;
        }
        Ok(())
    }

    /// `helm.parameters` of Argo CD: a list of names of values and of what they are set to.
    fn helm_parameters(&mut self, source: &'n Node) -> Result<(), SourceError> {
        let list = source.at(&["helm", "parameters"]).into_iter().flat_map(Node::items);
        let pair = |item: &'n Node| Some((item.get("name")?.text()?, item.get("value")?));
        let values: BTreeMap<&str, &'n Node> =
            list.filter_map(pair).filter(|(_, value)| value.text().is_some_and(|text| !text.is_empty())).collect();
        for (name, value) in &values {
            let (above, last) = name.rfind('.').map_or(("", *name), |dot| name.split_at(dot + 1));
            let sibling = |key: &str| values.get(format!("{above}{key}").as_str()).copied().and_then(Node::text);
            if last == "repository" {
                let parts = parameter_parts(value, [sibling("registry"), sibling("tag"), sibling("digest")]);
                self.values_image(&parts)?;
            } else if key_kind(last, None, "") != KeyKind::Other
                && value.text().is_some_and(|text| may_name_image(KeyKind::LikeImage, text))
            {
                self.values_text(value)?;
            } else if last.to_ascii_lowercase().ends_with("tag") && sibling("repository").is_none() {
                self.mark(value);
                self.scan.leave_out(value.line, &chart_decides(&format!("with {name} set here")));
            }
        }
        Ok(())
    }

    /// An artifact that Flux pulls: `url` without a tag, and `ref` with the tag or the digest.
    fn oci_repository(&mut self, object: &'n Node) -> Result<(), SourceError> {
        let Some(url) = object.at(&["spec", "url"]).filter(|url| url.text().is_some()) else { return Ok(()) };
        let part = |key: &str| object.at(&["spec", "ref", key]);
        self.mark(url);
        if let (Some(semver), None) = (part("semver"), part("digest")) {
            let reason = "which tag a range of versions means only the registry knows: name a tag or a digest";
            self.scan.leave_out(semver.line, reason);
            return Ok(());
        }
        // Of both, the digest is what counts.
        let tag = part("tag").filter(|_| part("digest").is_none());
        let parts = parameter_parts(url, [None, tag.and_then(Node::text), part("digest").and_then(Node::text)]);
        let name = without_scheme(&parts.name).1.to_owned();
        self.image_in_parts(&parts, &name)
    }
}

/// An image of which the repository has a value in the file, and the other parts are known.
fn parameter_parts<'n>(repository: &'n Node, [registry, tag, digest]: [Option<&str>; 3]) -> SplitImage<'n> {
    let registry = registry.map_or_else(String::new, |registry| format!("{registry}/"));
    let tag_text = tag.map_or_else(String::new, |tag| format!(":{tag}"));
    let digest_text = digest.map_or_else(String::new, |digest| format!("@{digest}"));
    let name = format!("{registry}{}", repository.text().unwrap_or(""));
    SplitImage {
        repository,
        has_registry: has_registry(&name),
        name: format!("{name}{tag_text}{digest_text}"),
        is_complete: tag.is_some() || digest.is_some(),
        is_certain: true,
        parts: vec![repository],
    }
}
