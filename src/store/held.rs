//! What transfers have open, by their number.
//!
//! The table's lock is held to look something up and never while a disk is waited for, so a
//! transfer on a slow disk delays no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::TransferId;

/// A table with at most one `T` for each transfer.
pub(super) struct Held<T>(Mutex<HashMap<TransferId, Arc<T>>>);

impl<T> Held<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Keeps `held` for the transfer, in place of what it had.
    pub(super) fn put(&self, transfer: TransferId, held: T) {
        lock(&self.0).insert(transfer, Arc::new(held));
    }

    /// What the transfer has.
    pub(super) fn get(&self, transfer: TransferId) -> Option<Arc<T>> {
        lock(&self.0).get(&transfer).cloned()
    }

    /// What the transfer had, which is forgotten.
    pub(super) fn take(&self, transfer: TransferId) -> Option<Arc<T>> {
        lock(&self.0).remove(&transfer)
    }
}

/// Locks, also where a job panicked with the lock: that is the fault of one transfer, whose hash
/// check still stands, and no reason for the node to go down.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
