//! Runs several futures at once in one task. Unlike spawned tasks, they may borrow.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// Runs all to the end of the last. The results are in the order of the futures.
pub(crate) async fn join_all<T>(work: Vec<impl Future<Output = T>>) -> Vec<T> {
    enum Slot<F, T> {
        Running(Pin<Box<F>>),
        Done(Option<T>),
    }
    let mut slots: Vec<_> = work.into_iter().map(|work| Slot::Running(Box::pin(work))).collect();
    poll_fn(|cx| {
        let mut is_pending = false;
        for slot in &mut slots {
            if let Slot::Running(work) = slot {
                match work.as_mut().poll(cx) {
                    Poll::Ready(result) => *slot = Slot::Done(Some(result)),
                    Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending {
            return Poll::Pending;
        }
        let results = slots.iter_mut().filter_map(|slot| match slot {
            Slot::Done(result) => result.take(),
            Slot::Running(_) => None,
        });
        Poll::Ready(results.collect())
    })
    .await
}
