//! Authorizations that registries have accepted, so that not every request starts with a 401.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use taglog_proto::name::Repository;

/// The most repositories whose authorizations are kept. Tokens are valid for minutes and repositories are mostly processed
/// one after the other, so the oldest authorization is dropped first.
const MAX_AUTHORIZATIONS: usize = 1024;

/// The value of an `Authorization` header. `Debug` does not show the secret.
#[derive(Clone)]
pub(super) enum AuthScheme {
    /// User and password.
    Basic(String, String),
    /// A token.
    Bearer(String),
}

impl fmt::Debug for AuthScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthScheme::Basic(..) => "Basic(..)",
            AuthScheme::Bearer(_) => "Bearer(..)",
        })
    }
}

/// The credentials or token for one repository.
#[derive(Debug, Clone)]
pub(super) struct Authorization {
    pub(super) auth: AuthScheme,
    /// Whether it was obtained with stored credentials.
    pub(super) logged_in: bool,
}

/// The last accepted authorization of each repository. No expiry is kept: a refused authorization is renewed, so that only
/// the registry's clock counts.
#[derive(Debug, Default)]
pub(super) struct AuthorizationCache {
    slots: Mutex<HashMap<Repository, CacheSlot>>,
}

#[derive(Debug, Clone)]
struct CacheSlot {
    /// Locked while a log-in is under way, so that concurrent requests for one repository log in once.
    authorization: Arc<tokio::sync::Mutex<Option<Arc<Authorization>>>>,
    renewed: Instant,
}

impl AuthorizationCache {
    /// The last accepted authorization of `repository`; waits for a log-in that is under way.
    pub(super) async fn get(&self, repository: &Repository) -> Option<Arc<Authorization>> {
        let slot = self.slots().get(repository).cloned()?;
        slot.authorization.lock().await.clone()
    }

    /// Logs in, unless another task has done so meanwhile.
    pub(super) async fn renew<E>(
        &self,
        repository: &Repository,
        log_in: impl Future<Output = Result<Authorization, E>>,
    ) -> Result<Arc<Authorization>, E> {
        let slot = self.slot(repository);
        let mut kept = slot.authorization.lock().await;
        if let Some(authorization) = &*kept {
            return Ok(authorization.clone());
        }
        let authorization = Arc::new(log_in.await?);
        *kept = Some(authorization.clone());
        Ok(authorization)
    }

    /// Drops an authorization that was refused, unless it was already replaced.
    pub(super) async fn invalidate(&self, repository: &Repository, refused: &Arc<Authorization>) {
        let Some(slot) = self.slots().get(repository).cloned() else {
            return;
        };
        let mut kept = slot.authorization.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, refused)) {
            *kept = None;
        }
    }

    /// The slot of a repository; a new one evicts the one that was renewed longest ago.
    fn slot(&self, repository: &Repository) -> CacheSlot {
        let mut slots = self.slots();
        let renewed = Instant::now();
        if let Some(slot) = slots.get_mut(repository) {
            slot.renewed = renewed;
            return slot.clone();
        }
        if slots.len() >= MAX_AUTHORIZATIONS {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.renewed).map(|(repository, _)| repository.clone());
            oldest.and_then(|oldest| slots.remove(&oldest));
        }
        let slot = CacheSlot { authorization: Arc::default(), renewed };
        slots.insert(repository.clone(), slot.clone());
        slot
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Repository, CacheSlot>> {
        // A panic elsewhere cannot leave the map half changed: nothing in here panics between two changes.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn repository(number: usize) -> Repository {
        Repository::parse(&format!("reg.example/team/app{number}")).unwrap()
    }

    async fn granted() -> Result<Authorization, Infallible> {
        Ok(Authorization { auth: AuthScheme::Bearer(String::new()), logged_in: false })
    }

    async fn refused() -> Result<Authorization, &'static str> {
        Err("a log-in was not needed")
    }

    #[tokio::test]
    async fn the_oldest_authorization_is_evicted() {
        let cache = AuthorizationCache::default();
        for number in 0..MAX_AUTHORIZATIONS {
            cache.renew(&repository(number), granted()).await.unwrap();
        }
        cache.renew(&repository(0), granted()).await.unwrap();
        for number in MAX_AUTHORIZATIONS..MAX_AUTHORIZATIONS + 10 {
            cache.renew(&repository(number), granted()).await.unwrap();
        }
        assert_eq!(cache.slots().len(), MAX_AUTHORIZATIONS);
        assert!(cache.get(&repository(0)).await.is_some(), "renewed a moment ago");
        assert!(cache.get(&repository(1)).await.is_none());
        assert!(cache.get(&repository(MAX_AUTHORIZATIONS + 9)).await.is_some());
    }

    #[tokio::test]
    async fn only_the_refused_authorization_is_invalidated() {
        let cache = AuthorizationCache::default();
        let first = cache.renew(&repository(0), granted()).await.unwrap();
        cache.invalidate(&repository(0), &first).await;
        assert!(cache.get(&repository(0)).await.is_none());
        let second = cache.renew(&repository(0), granted()).await.unwrap();
        cache.invalidate(&repository(0), &first).await;
        let kept = cache.renew(&repository(0), refused()).await.unwrap();
        assert!(Arc::ptr_eq(&kept, &second));
    }
}
