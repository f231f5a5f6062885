//! Finds the images that files name: Dockerfiles, Compose files, Kubernetes manifests.
