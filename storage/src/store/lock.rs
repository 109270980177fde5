//! Locks that a panic does not poison.
//!
//! A lock of the standard library returns an error after a thread has panicked while it held it.
//! Here a panic ends one request, one job or one step of a worker; it is logged, and the process
//! continues. If a poisoned lock failed everybody else, one panic would stop a disk or the store.
//! So these locks return the guard in any case. Code that holds one must not panic while the value
//! behind it is inconsistent.

use std::sync::{self, LockResult, PoisonError};

pub use std::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// A mutex whose `lock` always returns the guard.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(sync::Mutex<T>);

/// A reader-writer lock whose `read` and `write` always return the guard.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized>(sync::RwLock<T>);

/// A condition variable for the guards of a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock. Blocks.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        unpoisoned(self.0.lock())
    }

    pub fn get_mut(&mut self) -> &mut T {
        unpoisoned(self.0.get_mut())
    }
}

impl<T> RwLock<T> {
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer holds the lock. Blocks.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        unpoisoned(self.0.read())
    }

    /// Waits until nobody else holds the lock. Blocks.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        unpoisoned(self.0.write())
    }
}

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar(sync::Condvar::new())
    }

    /// Releases the lock, waits for a notification, and locks again. It may return without one, so
    /// the caller checks its condition again. Blocks.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        unpoisoned(self.0.wait(guard))
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_under_a_lock_leaves_it_usable() {
        let mut mutex = Mutex::new(1);
        let lock = RwLock::new(1);
        std::thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let mut number = mutex.lock();
                *number = 2;
                let _writer = lock.write();
                panic!("with both locks held");
            });
            assert!(panicked.join().is_err());
        });
        assert_eq!(*mutex.lock(), 2);
        assert_eq!(*mutex.get_mut(), 2);
        assert_eq!(*lock.read(), 1);
        *lock.write() = 3;
        assert_eq!(*lock.read(), 3);
    }

    #[test]
    fn a_waiting_thread_sees_the_change_that_it_is_notified_of() {
        let (ready, changed) = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut ready = ready.lock();
                while !*ready {
                    ready = changed.wait(ready);
                }
            });
            *ready.lock() = true;
            changed.notify_all();
        });
        assert!(*ready.lock());
    }
}
