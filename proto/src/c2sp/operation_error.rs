//! The error of what reads stored data and can also refuse what it is asked for.

use thiserror::Error;

/// Why an operation on stored data failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OperationError<P, R> {
    /// What was asked for breaks a rule, whatever is stored; nothing was changed.
    #[error(transparent)]
    Refused(P),
    /// The data could not be read.
    #[error(transparent)]
    Reader(R),
}

impl<P, R> OperationError<P, R> {
    /// The caller's own error: a refusal turned into it by `refused`, a reader's error by its conversion.
    pub fn map_refused<E: From<R>>(self, refused: impl FnOnce(P) -> E) -> E {
        match self {
            OperationError::Refused(error) => refused(error),
            OperationError::Reader(error) => error.into(),
        }
    }

    /// The same error with another refusal.
    pub(crate) fn replace_refusal<Q>(self, refusal: Q) -> OperationError<Q, R> {
        match self {
            OperationError::Refused(_) => OperationError::Refused(refusal),
            OperationError::Reader(error) => OperationError::Reader(error),
        }
    }

    /// `None` for a refusal, for callers to whom it does not matter why.
    pub fn unless_refused<T>(result: Result<T, OperationError<P, R>>) -> Result<Option<T>, R> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(OperationError::Refused(_)) => Ok(None),
            Err(OperationError::Reader(error)) => Err(error),
        }
    }
}
