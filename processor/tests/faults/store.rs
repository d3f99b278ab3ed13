//! An object store that does harm to one of its operations, and counts them all.
//!
//! What a client of S3 sees: an error comes after the client's own retries, so here it comes at once. A write whose
//! answer was lost is done; if the client asks again by itself, the store refuses it, because it is done.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(20);
/// How long an answer takes at most where a pace is set, in microseconds.
const PACE_US_MAX: u64 = 2_000;

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not done, and it was the last: the program is dead.
    Cut,
    /// It is done, its answer is lost, and it was the last.
    CutAfter,
    /// It is not done: 500 or 503.
    Unavailable(u16),
    /// It is not done, and that takes a while.
    Timeout,
    /// It is done, and answered with 500.
    AnswerLost,
    /// It is not done: another writer is at it (409), or the condition does not hold (412).
    Refused(u16),
    /// It is done, and a retry of the client's own is told so: 412.
    RefusedAfter,
    /// It is done, slowly.
    Delay,
}

/// The faults of a storm.
const STORM: [Fault; 8] = [
    Fault::Unavailable(500),
    Fault::Unavailable(503),
    Fault::Timeout,
    Fault::AnswerLost,
    Fault::Refused(409),
    Fault::Refused(412),
    Fault::RefusedAfter,
    Fault::Delay,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("killed before"),
            Self::CutAfter => f.write_str("killed after"),
            Self::Unavailable(status) => write!(f, "{status} at"),
            Self::Timeout => f.write_str("timeout at"),
            Self::AnswerLost => f.write_str("done, but 500 at"),
            Self::Refused(status) => write!(f, "{status} at"),
            Self::RefusedAfter => f.write_str("done, but 412 at"),
            Self::Delay => f.write_str("delay at"),
        }
    }
}

/// Which operations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All.
    All,
    /// Those that change the store.
    Writes,
}

/// One fault, at the operation `at` of those that count, from 0.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub at: usize,
    pub counted: Counted,
    pub fault: Fault,
}

/// What harm is done.
#[derive(Debug)]
pub enum Harm {
    None,
    /// Once.
    Once(Plan),
    /// To one of so many operations, with whatever fault but death, as the seed will have it.
    Storm {
        one_in: u32,
        seed: u64,
    },
}

/// A store in memory, the harm it does, and the count of what was asked.
#[derive(Clone, Debug)]
pub struct FaultyStore(Arc<State>);

#[derive(Debug)]
struct State {
    inner: InMemory,
    harm: Harm,
    storm: Mutex<fastrand::Rng>,
    /// Every operation takes a while of its own, so that several processors meet in ever other places.
    pace: Option<Mutex<fastrand::Rng>>,
    /// What it held at first and after each write, where that is wanted.
    states: Mutex<Option<Vec<InMemory>>>,
    all: AtomicUsize,
    writes: AtomicUsize,
    dead: AtomicBool,
    struck: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl FaultyStore {
    pub fn new(inner: InMemory, harm: Harm, pace_seed: Option<u64>) -> Self {
        let pace = pace_seed.map(|seed| Mutex::new(fastrand::Rng::with_seed(seed)));
        let seed = if let Harm::Storm { seed, .. } = harm { seed } else { 0 };
        let storm = Mutex::new(fastrand::Rng::with_seed(seed));
        let (all, writes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (dead, struck) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(State {
            inner,
            harm,
            storm,
            pace,
            states: Mutex::new(None),
            all,
            writes,
            dead,
            struck,
        }))
    }

    /// A store that does no harm and keeps what it held at first and after each write: what a program finds that
    /// was killed there.
    pub fn keeping_states(inner: InMemory) -> Self {
        let first = inner.fork();
        let store = Self::new(inner, Harm::None, None);
        *store.0.states.lock().unwrap() = Some(vec![first]);
        store
    }

    /// What it held at first and after each write.
    pub fn states(&self) -> Vec<InMemory> {
        self.0.states.lock().unwrap().clone().unwrap_or_default()
    }

    /// Operations asked for, and those of them that write.
    pub fn counts(&self) -> (usize, usize) {
        (self.0.all.load(Ordering::SeqCst), self.0.writes.load(Ordering::SeqCst))
    }

    /// Whether the planned harm was done.
    pub fn has_struck(&self) -> bool {
        self.0.struck.load(Ordering::SeqCst)
    }
}

impl State {
    /// The fault of this operation, if it is its turn; an error if the program is dead.
    fn turn(&self, kind: Kind, path: &str) -> Result<Option<Fault>> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(error(path, "the program is dead"));
        }
        let all = self.all.fetch_add(1, Ordering::SeqCst);
        let write = if kind == Kind::Write { Some(self.writes.fetch_add(1, Ordering::SeqCst)) } else { None };
        let plan = match self.harm {
            Harm::None => return Ok(None),
            Harm::Once(plan) => plan,
            Harm::Storm { one_in, .. } => return Ok(self.struck_in_storm(one_in)),
        };
        let turn = if plan.counted == Counted::All { Some(all) } else { write };
        if turn != Some(plan.at) || self.struck.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        if matches!(plan.fault, Fault::Cut | Fault::CutAfter) {
            self.dead.store(true, Ordering::SeqCst);
        }
        Ok(Some(plan.fault))
    }

    fn struck_in_storm(&self, one_in: u32) -> Option<Fault> {
        let mut rng = self.storm.lock().unwrap();
        let fault = *rng.choice(&STORM).unwrap();
        (rng.u32(..one_in) == 0).then_some(fault)
    }

    /// Does the operation, or not, and answers, or not.
    async fn ask<T>(
        &self,
        kind: Kind,
        path: &str,
        operation: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        if let Some(pace) = &self.pace {
            let us = pace.lock().unwrap().u64(..PACE_US_MAX);
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
        match self.turn(kind, path)? {
            None => {
                let done = operation.await?;
                if kind == Kind::Write
                    && let Some(states) = self.states.lock().unwrap().as_mut()
                {
                    states.push(self.inner.fork());
                }
                Ok(done)
            }
            Some(Fault::Delay) => {
                tokio::time::sleep(SLOW).await;
                operation.await
            }
            Some(fault @ (Fault::CutAfter | Fault::AnswerLost | Fault::RefusedAfter)) => {
                operation.await?;
                Err(refusal(fault, path))
            }
            Some(fault) => {
                if fault == Fault::Timeout {
                    tokio::time::sleep(SLOW).await;
                }
                Err(refusal(fault, path))
            }
        }
    }
}

fn error(path: &str, what: &str) -> Error {
    Error::Generic { store: "faulty", source: format!("{what}: {path}").into() }
}

/// As `object_store`'s client of S3 puts it.
fn refusal(fault: Fault, path: &str) -> Error {
    let (source, at) = (fault.to_string().into(), path.to_owned());
    match fault {
        Fault::Refused(409) | Fault::RefusedAfter => Error::AlreadyExists { path: at, source },
        Fault::Refused(_) => Error::Precondition { path: at, source },
        _ => error(path, &fault.to_string()),
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty store")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.ask(Kind::Write, at.as_ref(), self.0.inner.put_opts(at, bytes, options)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let opened = self.0.inner.put_multipart_opts(at, options);
        let inner = self.0.ask(Kind::Read, at.as_ref(), opened).await?;
        Ok(Box::new(FaultyUpload { state: Arc::clone(&self.0), at: at.clone(), inner }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.ask(Kind::Read, at.as_ref(), self.0.inner.get_opts(at, options)).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.ask(Kind::Read, at.as_ref(), self.0.inner.get_ranges(at, ranges)).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let state = Arc::clone(&self.0);
        keys.and_then(move |at| {
            let state = Arc::clone(&state);
            async move {
                let one = futures::stream::once(futures::future::ready(Ok(at.clone()))).boxed();
                let removed = state.inner.delete_stream(one).try_collect::<Vec<_>>();
                state.ask(Kind::Write, at.as_ref(), removed).await?;
                Ok(at)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.0.inner.list(prefix), prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.0.inner.list_with_offset(prefix, offset), prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.0.inner.list_with_delimiter(prefix);
        self.0.ask(Kind::Read, prefix.map_or("", AsRef::as_ref), listed).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.ask(Kind::Write, to.as_ref(), self.0.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.ask(Kind::Write, to.as_ref(), self.0.inner.rename_opts(from, to, options)).await
    }
}

impl FaultyStore {
    fn listed(
        &self,
        listed: BoxStream<'static, Result<ObjectMeta>>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (state, prefix) = (Arc::clone(&self.0), prefix.map(Path::to_string).unwrap_or_default());
        let page = async move { state.ask(Kind::Read, &prefix, listed.try_collect::<Vec<_>>()).await };
        let page = page.map(|page| match page {
            Ok(page) => page.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        page.map(futures::stream::iter).flatten_stream().boxed()
    }
}

/// An upload in parts: nothing is there before it is complete.
#[derive(Debug)]
struct FaultyUpload {
    state: Arc<State>,
    at: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, bytes: PutPayload) -> UploadPart {
        let (state, at, part) = (Arc::clone(&self.state), self.at.clone(), self.inner.put_part(bytes));
        async move { state.ask(Kind::Read, at.as_ref(), part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.state.ask(Kind::Write, self.at.as_ref(), self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.state.ask(Kind::Read, self.at.as_ref(), self.inner.abort()).await
    }
}
