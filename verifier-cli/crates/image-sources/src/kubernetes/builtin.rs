//! The kinds that Kubernetes itself has, by their API groups.

/// What one of Kubernetes' own kinds has to do with images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// It runs pods: the keys that lead to what holds the `spec` and the `metadata` of its pods.
    Pods(&'static [&'static str]),
    /// It names none.
    NoImage,
}

/// The groups that have, or once had, kinds with pods. `extensions` had those of `apps`.
const POD_GROUPS: [&str; 4] = ["", "apps", "batch", "extensions"];

/// The kinds that name no image. From the types that `k8s.io/api` v0.37.2 registers (`*/*/register.go`), with
/// `apiextensions.k8s.io`, `apiregistration.k8s.io`, and `PodSecurityPolicy` (removed in Kubernetes 1.25). Not among
/// them is `MutatingAdmissionPolicy`: its expressions can add containers.
const WITHOUT_IMAGES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    ("authentication.k8s.io", &["SelfSubjectReview", "TokenRequest", "TokenReview"]),
    (
        "authorization.k8s.io",
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    ),
    ("autoscaling", &["HorizontalPodAutoscaler", "Scale"]),
    ("certificates.k8s.io", &["CertificateSigningRequest", "ClusterTrustBundle", "PodCertificateRequest"]),
    ("coordination.k8s.io", &["Lease", "LeaseCandidate"]),
    ("discovery.k8s.io", &["EndpointSlice"]),
    ("events.k8s.io", &["Event"]),
    ("extensions", &["Ingress", "NetworkPolicy", "PodSecurityPolicy", "Scale"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", &["IPAddress", "Ingress", "IngressClass", "NetworkPolicy", "ServiceCIDR"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("policy", &["Eviction", "PodDisruptionBudget", "PodSecurityPolicy"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("resource.k8s.io", &["DeviceClass", "DeviceTaintRule", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    ("scheduling.k8s.io", &["PodGroup", "PriorityClass", "Workload"]),
    (
        "storage.k8s.io",
        &["CSIDriver", "CSINode", "CSIStorageCapacity", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"],
    ),
    ("storagemigration.k8s.io", &["StorageVersionMigration"]),
];

/// What is known of a kind, if it is one of Kubernetes' own. The core group is empty.
pub fn find(group: &str, kind: &str) -> Option<BuiltIn> {
    let pods = POD_GROUPS.contains(&group).then(|| pods_of(kind)).flatten();
    let without = || WITHOUT_IMAGES.iter().any(|(own, kinds)| *own == group && kinds.contains(&kind));
    pods.map(BuiltIn::Pods).or_else(|| without().then_some(BuiltIn::NoImage))
}

/// Where a kind has the template of its pods (`PodSpec` and `PodTemplateSpec` in `k8s.io/api`). `ScheduledJob` was the
/// first name of `CronJob`.
fn pods_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "Pod" => &[],
        "PodTemplate" => &["template"],
        "CronJob" | "ScheduledJob" => &["spec", "jobTemplate", "spec", "template"],
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            &["spec", "template"]
        }
        _ => return None,
    })
}
