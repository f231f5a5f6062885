//! The tasks of a long-running command. If one of them ends or panics unexpectedly, all are stopped.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks of a running command, each with a name for messages.
#[derive(Debug, Default)]
pub struct TaskGroup(JoinSet<&'static str>);

impl TaskGroup {
    /// Spawns a task; `what` names it in the error of [`run`](Self::run).
    pub fn start(&mut self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            what
        });
    }

    /// Waits until `stop` is cancelled and all tasks have ended. If a task ends before, `stop` is cancelled. Tasks that have
    /// not ended `stop_time` after the cancellation are aborted.
    ///
    /// # Errors
    /// The name of the task that ended unexpectedly.
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
                    tracing::warn!("{} tasks did not end in time and are aborted", self.0.len());
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
                Some(Ok(what)) => format!("{what} has ended unexpectedly"),
                Some(Err(error)) => format!("a task has panicked: {error}"),
            };
            tracing::error!("{why}: all other tasks are stopped");
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

    /// Tasks that end when `stop` is cancelled.
    fn stoppable(stop: &CancellationToken) -> TaskGroup {
        let mut tasks = TaskGroup::default();
        for _ in 0..2 {
            tasks.start("stoppable", stop.clone().cancelled_owned());
        }
        tasks
    }

    async fn outcome(tasks: TaskGroup, stop: &CancellationToken, stop_time: Duration) -> Result<(), String> {
        tokio::time::timeout(PATIENCE, tasks.run(stop, stop_time)).await.expect("the tasks did not end")
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_unexpectedly_stops_all() {
        let stop = CancellationToken::new();
        let mut tasks = stoppable(&stop);
        tasks.start("failing", async { panic!("broken") });
        let why = outcome(tasks, &stop, 2 * PATIENCE).await.unwrap_err();
        assert!(why.contains("panicked"), "{why}");

        let stop = CancellationToken::new();
        let mut tasks = stoppable(&stop);
        tasks.start("returning", async {});
        let why = outcome(tasks, &stop, 2 * PATIENCE).await.unwrap_err();
        assert!(why.contains("returning"), "{why}");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_aborted() {
        let stop = CancellationToken::new();
        let mut tasks = stoppable(&stop);
        tasks.start("going on", pending());
        stop.cancel();
        assert_eq!(outcome(tasks, &stop, Duration::from_millis(20)).await, Ok(()));
    }

    #[tokio::test]
    async fn tasks_that_end_after_the_stop_are_not_an_error() {
        let stop = CancellationToken::new();
        let tasks = stoppable(&stop);
        let mut running = std::pin::pin!(tasks.run(&stop, PATIENCE));
        assert!(futures_util::poll!(&mut running).is_pending());
        stop.cancel();
        // The tasks end before `run` is polled again.
        tokio::task::yield_now().await;
        assert_eq!(running.await, Ok(()));
    }

    #[tokio::test]
    async fn without_tasks_it_waits_for_the_stop() {
        let stop = CancellationToken::new();
        let mut running = std::pin::pin!(TaskGroup::default().run(&stop, PATIENCE));
        assert!(futures_util::poll!(&mut running).is_pending());
        stop.cancel();
        assert_eq!(running.await, Ok(()));
    }
}
