//! What the objects' properties show: asked of the loop at most every tenth of a second, however many clients look.
//!
//! One `GetAll` reads its properties one by one; they all come from the same answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::refusal::Refusal;
use super::request::{Answer, JailView, ManagerView, Request};
use crate::engine::ban::JailName;

/// How long an answer is shown.
const FRESH: Duration = Duration::from_millis(100);

/// All jails by name.
pub type Jails = BTreeMap<JailName, JailView>;

/// The last answers.
#[derive(Debug)]
pub struct Views {
    requests: mpsc::Sender<Request>,
    manager: Mutex<Option<Kept<ManagerView>>>,
    jails: Mutex<Option<Kept<Jails>>>,
    /// Counts what makes an answer old before its time.
    events: AtomicU64,
}

#[derive(Debug)]
struct Kept<T> {
    value: Arc<T>,
    asked: Instant,
    events: u64,
}

impl Views {
    /// Nothing was asked yet.
    pub fn new(requests: mpsc::Sender<Request>) -> Views {
        Views { requests, manager: Mutex::new(None), jails: Mutex::new(None), events: AtomicU64::new(0) }
    }

    /// Something changed: the next look asks anew.
    pub fn expire(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// The manager's.
    pub async fn manager(&self) -> Result<Arc<ManagerView>, Refusal> {
        self.look(&self.manager, |answer| Request::Status { answer }, |view| view).await
    }

    /// Every jail's.
    pub async fn jails(&self) -> Result<Arc<Jails>, Refusal> {
        let by_name = |views: Vec<JailView>| views.into_iter().map(|view| (view.name.clone(), view)).collect();
        self.look(&self.jails, |answer| Request::Jails { answer }, by_name).await
    }

    /// Holding the lock while the loop answers makes all who look at once share one question.
    async fn look<A, T>(
        &self,
        kept: &Mutex<Option<Kept<T>>>,
        request: impl FnOnce(Answer<A>) -> Request,
        shape: impl FnOnce(A) -> T,
    ) -> Result<Arc<T>, Refusal> {
        let mut kept = kept.lock().await;
        let events = self.events.load(Ordering::Relaxed);
        if let Some(last) = kept.as_ref().filter(|last| last.events == events && last.asked.elapsed() < FRESH) {
            return Ok(Arc::clone(&last.value));
        }
        let asked = Instant::now();
        let (answer, reply) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Refusal::stopping())?;
        let value = Arc::new(shape(reply.await.map_err(|_| Refusal::stopping())?));
        *kept = Some(Kept { value: Arc::clone(&value), asked, events });
        Ok(value)
    }
}
