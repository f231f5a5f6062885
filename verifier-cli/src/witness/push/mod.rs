//! Watching by push: registries and their webhooks say that it is time to look.
