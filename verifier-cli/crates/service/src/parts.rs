//! The tasks that a long-running command is made of: none of them may end unnoticed.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks of a running command, each with what it does.
#[derive(Debug, Default)]
pub struct Parts(JoinSet<&'static str>);

impl Parts {
    /// Starts one; `what` it does is said when it ends although nobody asked it to.
    pub fn start(&mut self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            what
        });
    }

    /// Waits for the stop and until all have ended, and stops all when one does so by itself. What has not ended
    /// `stop_time` after the stop is aborted.
    ///
    /// # Errors
    /// Which one has ended by itself, in words.
    pub async fn run(mut self, stop: &CancellationToken, stop_time: Duration) -> Result<(), String> {
        let mut outcome = Ok(());
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(stop_time).await;
        };
        let mut deadline = std::pin::pin!(deadline);
        loop {
            let ended = tokio::select! {
                ended = self.0.join_next() => ended,
                () = &mut deadline => {
                    tracing::warn!("{} tasks did not end in time and are broken off", self.0.len());
                    self.0.shutdown().await;
                    return outcome;
                }
            };
            let why = match ended {
                None => {
                    stop.cancelled().await;
                    return outcome;
                }
                Some(Ok(_)) if stop.is_cancelled() => continue,
                Some(Ok(what)) => format!("{what} has ended by itself"),
                Some(Err(error)) => format!("a part of the program has died: {error}"),
            };
            tracing::error!("{why}: everything is stopped");
            stop.cancel();
            outcome = outcome.and(Err(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Parts that end when they are told to.
    fn obedient(stop: &CancellationToken) -> Parts {
        let mut parts = Parts::default();
        for _ in 0..2 {
            parts.start("obeying", stop.clone().cancelled_owned());
        }
        parts
    }

    async fn outcome(parts: Parts, stop: &CancellationToken, stop_time: Duration) -> Result<(), String> {
        tokio::time::timeout(PATIENCE, parts.run(stop, stop_time)).await.expect("the parts go on")
    }

    #[tokio::test]
    async fn a_part_that_dies_or_ends_by_itself_stops_all() {
        let stop = CancellationToken::new();
        let mut parts = obedient(&stop);
        parts.start("failing", async { panic!("broken") });
        let why = outcome(parts, &stop, 2 * PATIENCE).await.unwrap_err();
        assert!(why.contains("died"), "{why}");

        let stop = CancellationToken::new();
        let mut parts = obedient(&stop);
        parts.start("lazing", async {});
        let why = outcome(parts, &stop, 2 * PATIENCE).await.unwrap_err();
        assert!(why.contains("lazing"), "{why}");
    }

    #[tokio::test]
    async fn a_part_that_does_not_stop_is_aborted() {
        let stop = CancellationToken::new();
        let mut parts = obedient(&stop);
        parts.start("going on", pending());
        stop.cancel();
        assert_eq!(outcome(parts, &stop, Duration::from_millis(20)).await, Ok(()));
    }

    #[tokio::test]
    async fn parts_that_stop_sooner_than_it_is_noticed_have_not_ended_by_themselves() {
        let stop = CancellationToken::new();
        let parts = obedient(&stop);
        let mut running = std::pin::pin!(parts.run(&stop, PATIENCE));
        assert!(futures_util::poll!(&mut running).is_pending());
        stop.cancel();
        // They end before anybody looks at the stop.
        tokio::task::yield_now().await;
        assert_eq!(running.await, Ok(()));
    }

    #[tokio::test]
    async fn without_parts_it_waits_for_the_stop() {
        let stop = CancellationToken::new();
        let mut running = std::pin::pin!(Parts::default().run(&stop, PATIENCE));
        assert!(futures_util::poll!(&mut running).is_pending());
        stop.cancel();
        assert_eq!(running.await, Ok(()));
    }
}
