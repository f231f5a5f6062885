//! What registries have accepted so far, so that not every request begins with a refusal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use oci_client::secrets::RegistryAuth;
use taglog_proto::name::Repository;

/// How many repositories' grants are kept. Tokens live for minutes, and whoever asks about many repositories asks
/// about one after the other: what was granted longest ago is of the least use.
const MOST_GRANTS: usize = 1024;

/// What to send to one registry for one repository. (`RegistryAuth` hides its secrets when printed.)
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) authorization: RegistryAuth,
    /// Whether stored credentials went into it.
    pub(super) logged_in: bool,
}

/// What each repository last accepted. No expiry is kept: a registry that refuses a grant makes us ask for a new
/// one, and its clock counts, not ours.
#[derive(Debug, Default)]
pub(super) struct Grants {
    slots: Mutex<HashMap<Repository, Slot>>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Locked for as long as a log-in takes, so that a hundred requests for one repository log in once.
    grant: Arc<tokio::sync::Mutex<Option<Arc<Grant>>>>,
    renewed: Instant,
}

impl Grants {
    /// What `repository` last accepted; waits for a log-in that is under way.
    pub(super) async fn of(&self, repository: &Repository) -> Option<Arc<Grant>> {
        let slot = self.slots().get(repository).cloned()?;
        slot.grant.lock().await.clone()
    }

    /// Logs in, unless somebody else has meanwhile.
    pub(super) async fn renew<E>(
        &self,
        repository: &Repository,
        log_in: impl Future<Output = Result<Grant, E>>,
    ) -> Result<Arc<Grant>, E> {
        let slot = self.slot(repository);
        let mut kept = slot.grant.lock().await;
        if let Some(grant) = &*kept {
            return Ok(grant.clone());
        }
        let grant = Arc::new(log_in.await?);
        *kept = Some(grant.clone());
        Ok(grant)
    }

    /// Drops a grant that was refused, unless another has taken its place.
    pub(super) async fn forget(&self, repository: &Repository, refused: &Arc<Grant>) {
        let Some(slot) = self.slots().get(repository).cloned() else {
            return;
        };
        let mut kept = slot.grant.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, refused)) {
            *kept = None;
        }
    }

    /// The slot to renew, made where there is none, at the cost of the one renewed longest ago.
    fn slot(&self, repository: &Repository) -> Slot {
        let mut slots = self.slots();
        let renewed = Instant::now();
        if let Some(slot) = slots.get_mut(repository) {
            slot.renewed = renewed;
            return slot.clone();
        }
        if slots.len() >= MOST_GRANTS {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.renewed).map(|(repository, _)| repository.clone());
            oldest.and_then(|oldest| slots.remove(&oldest));
        }
        let slot = Slot { grant: Arc::default(), renewed };
        slots.insert(repository.clone(), slot.clone());
        slot
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Repository, Slot>> {
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

    async fn granted() -> Result<Grant, Infallible> {
        Ok(Grant { authorization: RegistryAuth::Anonymous, logged_in: false })
    }

    async fn refused() -> Result<Grant, &'static str> {
        Err("a log-in was not needed")
    }

    #[tokio::test]
    async fn grants_of_long_ago_go() {
        let grants = Grants::default();
        for number in 0..MOST_GRANTS {
            grants.renew(&repository(number), granted()).await.unwrap();
        }
        grants.renew(&repository(0), granted()).await.unwrap();
        for number in MOST_GRANTS..MOST_GRANTS + 10 {
            grants.renew(&repository(number), granted()).await.unwrap();
        }
        assert_eq!(grants.slots().len(), MOST_GRANTS);
        assert!(grants.of(&repository(0)).await.is_some(), "renewed a moment ago");
        assert!(grants.of(&repository(1)).await.is_none());
        assert!(grants.of(&repository(MOST_GRANTS + 9)).await.is_some());
    }

    #[tokio::test]
    async fn only_the_grant_that_was_refused_is_forgotten() {
        let grants = Grants::default();
        let first = grants.renew(&repository(0), granted()).await.unwrap();
        grants.forget(&repository(0), &first).await;
        assert!(grants.of(&repository(0)).await.is_none());
        let second = grants.renew(&repository(0), granted()).await.unwrap();
        grants.forget(&repository(0), &first).await;
        let kept = grants.renew(&repository(0), refused()).await.unwrap();
        assert!(Arc::ptr_eq(&kept, &second));
    }
}
