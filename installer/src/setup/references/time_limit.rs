//! Examines one item after another and skips one that takes too long: a disk that does not answer must not block a
//! package manager.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// Time limit for one user's files.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Maximum number of items that may exceed the limit; after that, nothing more is examined.
const PATIENCE: usize = 3;

/// The result for each item; `None` for an item that took too long, or that was not examined because too many others
/// did. Blocked threads are left behind; they end with the process.
pub fn each<T, R>(
    items: Vec<T>,
    limit: Duration,
    look: impl Fn(&T) -> R + Send + Sync + 'static,
) -> Vec<(T, Option<R>)>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
{
    let look = Arc::new(look);
    let mut results = Vec::new();
    let mut items = items.into_iter().peekable();
    let mut late = 0;
    while items.peek().is_some() && late < PATIENCE {
        let rest: Vec<T> = items.clone().collect();
        let answers = begin(rest, Arc::clone(&look));
        for item in items.by_ref() {
            let result = answers.recv_timeout(limit).ok();
            let is_late = result.is_none();
            results.push((item, result));
            if is_late {
                late += 1;
                break;
            }
        }
    }
    results.extend(items.map(|item| (item, None)));
    results
}

/// Examines all items on a thread, or on this one if no thread can be started.
fn begin<T, R>(items: Vec<T>, look: Arc<impl Fn(&T) -> R + Send + Sync + 'static>) -> Receiver<R>
where
    T: Send + Clone + 'static,
    R: Send + 'static,
{
    let (tell, answers) = mpsc::channel();
    let again = (items.clone(), Arc::clone(&look), tell.clone());
    let started = thread::Builder::new().spawn(move || {
        for item in &items {
            if tell.send(look(item)).is_err() {
                return;
            }
        }
    });
    if started.is_err() {
        let (items, look, tell) = again;
        for item in &items {
            // The receiver still exists, so sending cannot fail.
            let _ = tell.send(look(item));
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_answer_keeps_no_other() {
        let look = |item: &u64| {
            if item % 2 == 1 {
                thread::sleep(Duration::from_secs(60));
            }
            item * 10
        };
        let limit = Duration::from_millis(200);
        let results = each(vec![0, 1, 2, 4], limit, look);
        assert_eq!(
            results,
            [(0, Some(0)), (1, None), (2, Some(20)), (4, Some(40))]
        );
        let results = each(vec![1, 3, 5, 7, 8], limit, look);
        assert!(results.iter().all(|(_, result)| result.is_none()));
        assert_eq!(results.len(), 5);
    }
}
