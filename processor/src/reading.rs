//! An object on its way from bronze: read, unpacked, taken apart and judged, one part after another.
//!
//! Memory holds one part, whatever the object's size. An object that fits into a part is read whole, as many are; a
//! larger one range by range, and each of its parts counts only if the object has not changed meanwhile.

use bytes::Bytes;

use crate::bronze::{BronzeKey, Format, Packing};
use crate::check::Checker;
use crate::decode::{FrameHeader, Part, Parts, Place, Taken, expanded_bytes_max, weigh};
use crate::examine::{ExamineError, Examined, Failing, examine_part, judges_objects};
use crate::lake::{BronzeObject, Lake, LakeError, Ranges};

/// Most batches of an object: each is named in its one row of the ledger.
pub const BATCHES_MAX: u64 = 1_000_000;

/// An object that could not be examined; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// It could not be examined.
    #[error(transparent)]
    Examine(#[from] ExamineError),
    /// It has more batches than the ledger names.
    #[error("{key} has more than {BATCHES_MAX} batches; split it")]
    TooManyBatches {
        /// The object.
        key: String,
    },
}

impl ObjectError {
    /// Whether a check of severity `fail` found bad rows: the run stops for the dataset.
    pub fn stops(&self) -> bool {
        matches!(self, Self::Examine(ExamineError::Failed { .. }))
    }
}

/// An object that is being read.
pub(crate) struct Reading<'a> {
    object: &'a BronzeObject,
    key: &'a BronzeKey,
    source: Source,
    /// With the blocking work between two parts.
    parts: Option<Parts>,
    rows_in: u64,
    failing: Failing,
    frames: Vec<FrameHeader>,
}

/// Where the bytes come from.
enum Source {
    Whole(Bytes),
    Ranges(Box<Ranges>),
}

impl<'a> Reading<'a> {
    /// Opens a listed object.
    pub(crate) async fn open(
        lake: &Lake,
        object: &'a BronzeObject,
        key: &'a BronzeKey,
    ) -> Result<Self, LakeError> {
        let limits = lake.limits();
        let source = if object.bytes <= limits.bytes_max as u64 {
            Source::Whole(lake.read_as_listed(object).await?)
        } else {
            Source::Ranges(Box::new(lake.ranges(object).await?))
        };
        let parts = match &source {
            Source::Whole(bytes) => Parts::open(key, bytes.clone(), limits),
            Source::Ranges(ranges) => {
                let (key, ranges) = (key.clone(), ranges.as_ref().clone());
                blocking(move || Parts::open(&key, ranges, limits)).await
            }
        };
        let (failing, frames) = (Failing::default(), Vec::new());
        Ok(Self { object, key, source, parts: Some(parts), rows_in: 0, failing, frames })
    }

    /// Reads the next part; `false` if there is none.
    pub(crate) async fn fill(&mut self) -> Result<bool, LakeError> {
        let Some(mut parts) = self.parts.take() else { return Ok(false) };
        let (parts, filled) = blocking(move || {
            let filled = parts.fill();
            (parts, filled)
        })
        .await;
        self.parts = Some(parts);
        if let Source::Ranges(ranges) = &self.source {
            match ranges.failure() {
                Some(failure) => return Err(failure),
                None => ranges.check_unchanged().await?,
            }
        }
        Ok(filled)
    }

    /// The part that was read.
    pub(crate) fn part(&self) -> Option<Part<'_>> {
        self.parts.as_ref().map(Parts::part)
    }

    /// Goes on behind what was taken of the part.
    pub(crate) fn pass(&mut self, taken: &Taken) {
        if let Some(parts) = &mut self.parts {
            parts.pass(taken);
        }
    }

    /// Reads and judges the first part, and then the next one that has rows or batches, or the last one; `None` if there is none.
    pub(crate) async fn next(&mut self, checker: &Checker) -> Result<Option<Examined>, ObjectError> {
        while self.fill().await? {
            let Some(part) = self.part() else { break };
            let is_first = part.first() == Place::default();
            let (examined, taken) = examine_part(checker, &self.key.key, &part, self.object.modified_ms)?;
            self.pass(&taken);
            self.rows_in += examined.rows_in;
            self.failing.add(&examined.failing);
            if judges_objects(checker.contract()) {
                self.frames.extend(examined.frames.iter().cloned());
            }
            let says_something = examined.rows_in > 0 || !examined.frames.is_empty();
            if is_first || says_something || self.is_done() {
                return Ok(Some(examined));
            }
        }
        Ok(None)
    }

    /// Whether the object declares that it expands further than any may; nothing of it is unpacked.
    pub(crate) fn is_too_heavy(&self) -> bool {
        self.parts.as_ref().is_some_and(Parts::is_too_heavy)
    }

    /// Whether all of the object was taken.
    pub(crate) fn is_done(&self) -> bool {
        self.parts.as_ref().is_some_and(Parts::is_done)
    }

    /// Bytes that were taken of the object, unpacked.
    pub(crate) fn bytes(&self) -> usize {
        self.part().map_or(0, |part| part.first().offset)
    }

    /// Once all parts are judged: whether a check that concerns the whole object lets it pass.
    pub(crate) fn verdict(&self, checker: &Checker) -> Result<(), ExamineError> {
        self.failing.verdict(checker.contract(), &self.key.key, self.rows_in, &self.frames)
    }

    /// Before an object of several parts is worked on: the most that it may expand to, if it expands further.
    pub(crate) async fn too_heavy(&mut self, lake: &Lake) -> Result<Option<u64>, ObjectError> {
        let bytes_max = match self.key.packing {
            Packing::Plain if self.key.format != Format::Frames => return Ok(None),
            Packing::Plain => u64::MAX,
            _ => expanded_bytes_max(self.object.bytes, &lake.limits()),
        };
        let key = self.key.clone();
        let weight = match &self.source {
            Source::Whole(bytes) => {
                let bytes = bytes.clone();
                blocking(move || weigh(&key, bytes, bytes_max)).await
            }
            Source::Ranges(ranges) => {
                let (ranges, object) = (ranges.as_ref().clone(), ranges.as_ref().clone());
                let weight = blocking(move || weigh(&key, object, bytes_max)).await;
                if let Some(failure) = ranges.failure() {
                    return Err(failure.into());
                }
                weight
            }
        };
        if weight.frames > BATCHES_MAX {
            return Err(ObjectError::TooManyBatches { key: self.key.key.clone() });
        }
        Ok((weight.bytes > bytes_max).then_some(bytes_max))
    }
}

/// Does the work where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
