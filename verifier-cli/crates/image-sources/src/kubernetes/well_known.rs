//! Where kinds that are not Kubernetes' own name images: facts from their custom resource definitions and Go types.

/// The kinds of an API group that have their images in the same places.
pub struct WellKnown {
    pub group: &'static str,
    pub kinds: &'static [&'static str],
    /// Paths, as those of `--crd`, that `places` begin from; empty is the object itself.
    roots: &'static [&'static str],
    /// Paths to pods, containers or names of images, from each of the roots; empty is the root itself.
    places: &'static [&'static str],
}

impl WellKnown {
    /// The paths to all places.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let join = |root: &str, place: &str| {
            if root.is_empty() || place.is_empty() { format!("{root}{place}") } else { format!("{root}.{place}") }
        };
        self.roots.iter().flat_map(move |root| self.places.iter().map(move |place| join(root, place)))
    }
}

/// What is known of a kind.
pub fn find(group: &str, kind: &str) -> impl Iterator<Item = &'static WellKnown> {
    WELL_KNOWN.iter().filter(move |known| known.group == group && known.kinds.contains(&kind))
}

const fn known(
    group: &'static str,
    kinds: &'static [&'static str],
    roots: &'static [&'static str],
    places: &'static [&'static str],
) -> WellKnown {
    WellKnown { group, kinds, roots, places }
}

/// The pod of a pod template.
const POD: &[&str] = &["template.spec"];
/// The object's own `spec`.
const SPEC: &[&str] = &["spec"];

/// The parts of a template of Argo Workflows that have containers; `""` is the template with its lists of sidecars,
/// init containers and volumes.
const ARGO_TEMPLATE: &[&str] = &["", "container", "script", "sidecars", "containerSet"];
/// The parts of a task of Tekton that have containers.
const TEKTON_TASK: &[&str] = &["", "steps", "stepTemplate", "sidecars"];
/// Where OpenShift's builds have the images that they begin with.
const BUILD: &[&str] = &[
    "strategy.dockerStrategy.from",
    "strategy.sourceStrategy.from",
    "strategy.sourceStrategy.runtimeImage",
    "strategy.customStrategy.from",
    "source.images.from",
];
const DEPLOYMENT_CONFIG: &[&str] = &["template.spec", "strategy.customParams"];
const STREAM: &[&str] = &["tags.from", "images.from", "repository.from"];
const RAY_CLUSTER: &[&str] = &["autoscalerOptions", "headGroupSpec.template.spec", "workerGroupSpecs.template.spec"];
const VIRTUAL_MACHINE: &[&str] = &["domain.firmware.kernelBoot.container", "volumes.containerDisk"];
const DATA_SOURCE: &[&str] = &["source.registry.url", "source.vddk.initImageURL"];

/// The sources, by group: `catalog` is the JSON schemas that datreeio/CRDs-catalog (commit 7b1e26ef) made of each
/// project's custom resource definitions.
const WELL_KNOWN: &[WellKnown] = &[
    // argoproj/argo-workflows, pkg/apis/workflow/v1alpha1/workflow_types.go (WorkflowSpec, Template, inline templates)
    known(
        "argoproj.io",
        &["Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate"],
        &["spec.templates", "spec.templateDefaults", "spec.templates.steps.inline", "spec.templates.dag.tasks.inline"],
        ARGO_TEMPLATE,
    ),
    known("argoproj.io", &["Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate"], SPEC, &[""]),
    known("argoproj.io", &["CronWorkflow"], &["spec.workflowSpec"], &[""]),
    known(
        "argoproj.io",
        &["CronWorkflow"],
        &[
            "spec.workflowSpec.templates",
            "spec.workflowSpec.templateDefaults",
            "spec.workflowSpec.templates.steps.inline",
            "spec.workflowSpec.templates.dag.tasks.inline",
        ],
        ARGO_TEMPLATE,
    ),
    // argoproj/argo-rollouts (catalog)
    known("argoproj.io", &["Rollout"], SPEC, POD),
    known("argoproj.io", &["Experiment"], &["spec.templates"], POD),
    known(
        "argoproj.io",
        &["AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun"],
        &["spec.metrics.provider.job.spec"],
        POD,
    ),
    // tektoncd/pipeline, config/300-crds, pkg/apis/pipeline/v1 (EmbeddedTask, PipelineTask)
    known("tekton.dev", &["Task", "ClusterTask"], SPEC, TEKTON_TASK),
    known("tekton.dev", &["TaskRun"], &["spec.taskSpec"], TEKTON_TASK),
    known("tekton.dev", &["Pipeline"], &["spec.tasks.taskSpec", "spec.finally.taskSpec"], TEKTON_TASK),
    known(
        "tekton.dev",
        &["PipelineRun"],
        &["spec.pipelineSpec.tasks.taskSpec", "spec.pipelineSpec.finally.taskSpec"],
        TEKTON_TASK,
    ),
    known("tekton.dev", &["StepAction"], SPEC, &[""]),
    // knative/serving (catalog); knative/eventing, pkg/apis/sources/v1/container_types.go
    known("serving.knative.dev", &["Service", "Configuration"], SPEC, POD),
    known("serving.knative.dev", &["Revision"], SPEC, &[""]),
    known("caching.internal.knative.dev", &["Image"], SPEC, &[""]),
    known("sources.knative.dev", &["ContainerSource"], SPEC, POD),
    // openshift/api, {apps,build,image}/v1/types.go; the core group had these kinds in OpenShift 3
    known("apps.openshift.io", &["DeploymentConfig"], SPEC, DEPLOYMENT_CONFIG),
    known("", &["DeploymentConfig"], SPEC, DEPLOYMENT_CONFIG),
    known("build.openshift.io", &["BuildConfig", "Build"], SPEC, BUILD),
    known("", &["BuildConfig", "Build"], SPEC, BUILD),
    known("image.openshift.io", &["ImageStream", "ImageStreamImport"], SPEC, STREAM),
    known("", &["ImageStream", "ImageStreamImport"], SPEC, STREAM),
    // prometheus-operator/prometheus-operator (catalog)
    known(
        "monitoring.coreos.com",
        &["Prometheus", "PrometheusAgent", "ThanosRuler", "Alertmanager"],
        SPEC,
        &["", "thanos"],
    ),
    // volcano-sh/volcano, config/crd
    known("batch.volcano.sh", &["Job"], &["spec.tasks"], POD),
    known("batch.volcano.sh", &["CronJob"], &["spec.jobTemplate.spec.tasks"], POD),
    known("flow.volcano.sh", &["JobTemplate"], &["spec.tasks"], POD),
    known("flow.volcano.sh", &["JobFlow"], &["spec.flows.patch.jobSpec.tasks"], POD),
    // kubeflow/training-operator v1.8.1, manifests/base/crds; kubeflow/trainer v2.0.0, manifests/base/crds
    known("kubeflow.org", &["TFJob"], &["spec.tfReplicaSpecs.*"], POD),
    known("kubeflow.org", &["PyTorchJob"], &["spec.pytorchReplicaSpecs.*"], POD),
    known("kubeflow.org", &["MPIJob"], &["spec.mpiReplicaSpecs.*"], POD),
    known("kubeflow.org", &["MXJob"], &["spec.mxReplicaSpecs.*"], POD),
    known("kubeflow.org", &["PaddleJob"], &["spec.paddleReplicaSpecs.*"], POD),
    known("kubeflow.org", &["XGBoostJob"], &["spec.xgbReplicaSpecs.*"], POD),
    known(
        "trainer.kubeflow.org",
        &["ClusterTrainingRuntime", "TrainingRuntime"],
        &["spec.template.spec.replicatedJobs.template.spec"],
        POD,
    ),
    known("trainer.kubeflow.org", &["TrainJob"], SPEC, &["trainer"]),
    // ray-project/kuberay v1.5.0, ray-operator/config/crd/bases
    known("ray.io", &["RayCluster"], SPEC, RAY_CLUSTER),
    known("ray.io", &["RayJob"], &["spec.rayClusterSpec"], RAY_CLUSTER),
    known("ray.io", &["RayJob"], SPEC, &["submitterPodTemplate.spec"]),
    known("ray.io", &["RayService"], &["spec.rayClusterConfig"], RAY_CLUSTER),
    // kubernetes-sigs/jobset and kubernetes-sigs/lws, config/…/crd/bases
    known("jobset.x-k8s.io", &["JobSet"], &["spec.replicatedJobs.template.spec"], POD),
    known(
        "leaderworkerset.x-k8s.io",
        &["LeaderWorkerSet"],
        &["spec.leaderWorkerTemplate"],
        &["leaderTemplate.spec", "workerTemplate.spec"],
    ),
    // kubeflow/spark-operator (catalog)
    known("sparkoperator.k8s.io", &["SparkApplication"], &["spec", "spec.driver", "spec.executor"], &["", "sidecars"]),
    known(
        "sparkoperator.k8s.io",
        &["ScheduledSparkApplication"],
        &["spec.template", "spec.template.driver", "spec.template.executor"],
        &["", "sidecars"],
    ),
    // cloudnative-pg/cloudnative-pg (catalog)
    known("postgresql.cnpg.io", &["Cluster"], SPEC, &["imageName"]),
    known("postgresql.cnpg.io", &["ImageCatalog", "ClusterImageCatalog"], SPEC, &["images", "componentImages"]),
    known("postgresql.cnpg.io", &["Pooler"], SPEC, POD),
    // crossplane/crossplane (catalog)
    known("pkg.crossplane.io", &["Provider", "Configuration", "Function"], SPEC, &["package"]),
    known("pkg.crossplane.io", &["ProviderRevision", "ConfigurationRevision", "FunctionRevision"], SPEC, &[""]),
    known("pkg.crossplane.io", &["ControllerConfig"], SPEC, &[""]),
    known("pkg.crossplane.io", &["DeploymentRuntimeConfig"], &["spec.deploymentTemplate.spec"], POD),
    // openkruise/kruise, apis/apps/v1beta1/*_types.go and apis/apps/v1alpha1/*_types.go
    known("apps.kruise.io", &["CloneSet", "StatefulSet", "DaemonSet", "BroadcastJob"], SPEC, POD),
    known("apps.kruise.io", &["SidecarSet"], SPEC, &[""]),
    known(
        "apps.kruise.io",
        &["AdvancedCronJob"],
        &["spec.template"],
        &[
            "jobTemplate.spec.template.spec",
            "broadcastJobTemplate.spec.template.spec",
            "imageListPullJobTemplate.spec.images",
        ],
    ),
    known(
        "apps.kruise.io",
        &["UnitedDeployment"],
        &["spec.template"],
        &[
            "statefulSetTemplate.spec.template.spec",
            "advancedStatefulSetTemplate.spec.template.spec",
            "cloneSetTemplate.spec.template.spec",
            "deploymentTemplate.spec.template.spec",
        ],
    ),
    known("apps.kruise.io", &["EphemeralJob"], SPEC, &["template"]),
    known("apps.kruise.io", &["ImagePullJob"], SPEC, &["image"]),
    known("apps.kruise.io", &["ImageListPullJob"], SPEC, &["images"]),
    // kubevirt/kubevirt and kubevirt/containerized-data-importer (catalog)
    known("kubevirt.io", &["VirtualMachine"], &["spec.template.spec"], VIRTUAL_MACHINE),
    known("kubevirt.io", &["VirtualMachine"], &["spec.dataVolumeTemplates.spec"], DATA_SOURCE),
    known("kubevirt.io", &["VirtualMachineInstanceReplicaSet"], &["spec.template.spec"], VIRTUAL_MACHINE),
    known("kubevirt.io", &["VirtualMachineInstance", "VirtualMachineInstancePreset"], SPEC, VIRTUAL_MACHINE),
    known("cdi.kubevirt.io", &["DataVolume", "VolumeImportSource"], SPEC, DATA_SOURCE),
    known("cdi.kubevirt.io", &["DataImportCron"], &["spec.template.spec"], DATA_SOURCE),
    // strimzi/strimzi-kafka-operator (catalog, v1 and v1beta2)
    known(
        "kafka.strimzi.io",
        &["Kafka"],
        SPEC,
        &[
            "kafka",
            "kafka.brokerRackInitImage",
            "zookeeper",
            "kafkaExporter",
            "cruiseControl",
            "cruiseControl.tlsSidecar",
            "jmxTrans",
            "entityOperator.topicOperator",
            "entityOperator.userOperator",
            "entityOperator.tlsSidecar",
        ],
    ),
    known(
        "kafka.strimzi.io",
        &["KafkaConnect", "KafkaMirrorMaker", "KafkaMirrorMaker2", "KafkaBridge"],
        SPEC,
        &["", "clientRackInitImage"],
    ),
    // kedacore/keda (catalog)
    known("keda.sh", &["ScaledJob"], &["spec.jobTargetRef"], POD),
    // actions/actions-runner-controller (catalog)
    known("actions.github.com", &["AutoscalingRunnerSet"], SPEC, &["template.spec", "listenerTemplate.spec"]),
    // elastic/cloud-on-k8s (catalog): the podTemplate has a type of Kubernetes
    known("elasticsearch.k8s.elastic.co", &["Elasticsearch"], SPEC, &["", "nodeSets.podTemplate.spec"]),
    known("kibana.k8s.elastic.co", &["Kibana"], SPEC, &["", "podTemplate.spec"]),
    known("apm.k8s.elastic.co", &["ApmServer"], SPEC, &["", "podTemplate.spec"]),
    // flink-kubernetes-operator (catalog)
    known(
        "flink.apache.org",
        &["FlinkDeployment"],
        SPEC,
        &["", "podTemplate.spec", "jobManager.podTemplate.spec", "taskManager.podTemplate.spec"],
    ),
    // open-telemetry/opentelemetry-operator (catalog, v1beta1)
    known("opentelemetry.io", &["OpenTelemetryCollector"], SPEC, &["", "additionalContainers", "targetAllocator"]),
    // rook/rook, zalando/postgres-operator, rabbitmq/cluster-operator, grafana/grafana-operator (catalog)
    known("ceph.rook.io", &["CephCluster"], SPEC, &["cephVersion"]),
    known("acid.zalan.do", &["postgresql"], SPEC, &["", "dockerImage", "connectionPooler.dockerImage", "sidecars"]),
    known(
        "rabbitmq.com",
        &["RabbitmqCluster"],
        SPEC,
        &["", "override.statefulSet.spec.template.spec", "secretBackend.vault.defaultUserUpdaterImage"],
    ),
    known("grafana.integreatly.org", &["Grafana"], &["spec.deployment.spec"], POD),
];

/// Kinds that look as if they named an image that is run, and do not. `*` is every kind of the group.
const WITHOUT_IMAGES: &[(&str, &[&str])] = &[
    // prometheus-operator: what is scraped, and which alerts go where (`imageURL` is a picture).
    (
        "monitoring.coreos.com",
        &["ServiceMonitor", "PodMonitor", "Probe", "PrometheusRule", "AlertmanagerConfig", "ScrapeConfig"],
    ),
    // Flux: repositories whose tags are listed, and where sources are; nothing of it is run.
    ("image.toolkit.fluxcd.io", &["*"]),
    ("source.toolkit.fluxcd.io", &["GitRepository", "HelmRepository", "HelmChart", "Bucket"]),
    ("notification.toolkit.fluxcd.io", &["*"]),
    // Rules about which images may run.
    ("policy.sigstore.dev", &["*"]),
    ("constraints.gatekeeper.sh", &["*"]),
];

/// Whether a kind is known to name no image that is run.
pub fn names_none(group: &str, kind: &str) -> bool {
    let matches = |kinds: &[&str]| kinds.contains(&kind) || kinds == ["*"];
    WITHOUT_IMAGES.iter().any(|(own, kinds)| *own == group && matches(kinds))
}

/// Every path of the table, with its group and kinds.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = &'static WellKnown> {
    WELL_KNOWN.iter()
}
