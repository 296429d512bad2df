//! A journal with a position: before it, the record; after it, what is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::decide::{Decision, Divergence, Found, Precision, Request, decide, diverged, is_equal};
use super::recorder::{Close, RecordError, Recorder};
use super::system;
use super::transcript::Transcript;
use crate::journal::{Body, Chain, Damage, Encoded, Entry, ErrorCode, Micros, Outcome};

/// A journal that is read, written, or read and then written.
pub struct Tape {
    recorded: Vec<(Entry, Encoded)>,
    position: usize,
    /// Where the record cannot be read further.
    damage: Option<Damage>,
    /// Takes what comes after the record; `None` if nothing may come.
    recorder: Option<Box<dyn Recorder>>,
    /// Takes every entry, as it is made anew; `None` if the record stays as it is.
    transcript: Option<Transcript>,
    precision: Precision,
    is_untouched: bool,
    chain: Chain,
    last_at: Micros,
    bytes: u64,
    used_up: UsedUp,
    /// The line of the entry that is at hand.
    line: Vec<u8>,
}

/// What a tape is made of.
pub struct Reel {
    /// Entries that the chain vouches for.
    pub recorded: Vec<(Entry, Encoded)>,
    /// The chain before them.
    pub chain: Chain,
    /// Bytes of the entries before them.
    pub bytes: u64,
    /// Where the record cannot be read further.
    pub damage: Option<Damage>,
    /// Takes what comes after the record; `None` if nothing may come.
    pub recorder: Option<Box<dyn Recorder>>,
    /// Takes all that the record holds, as another run makes it. Then there is no
    /// recorder.
    pub transcript: Option<Transcript>,
    pub precision: Precision,
    /// Nobody has gone on from the end of the record yet: what is under way there
    /// was begun by another run.
    pub is_untouched: bool,
}

impl Reel {
    /// A whole record, which goes on if there is a recorder.
    pub fn of(recorded: Vec<(Entry, Encoded)>, recorder: Option<Box<dyn Recorder>>) -> Self {
        let (chain, bytes, damage, transcript) = (Chain::default(), 0, None, None);
        let (precision, is_untouched) = (Precision::Exact, false);
        Self { recorded, chain, bytes, damage, recorder, transcript, precision, is_untouched }
    }
}

/// Tells, while the guest has the tape, whether what can be read of its record
/// is used up.
#[derive(Clone)]
pub struct UsedUp(Arc<AtomicBool>);

impl UsedUp {
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The journal does not go on from here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Halt {
    #[error("the replay diverged at entry {}", .0.index)]
    Diverged(Box<Divergence>),
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The record of an unfinished run ends here, and may not grow.
    #[error("the journal ends before the run does")]
    JournalOver,
    #[error(transparent)]
    Unrecordable(#[from] RecordError),
    /// The entry would make the journal larger than its limit.
    #[error("the journal is full")]
    Full,
    /// The run waits, and its guest is not kept loaded for that.
    #[error("the run waits for {}", .0.what())]
    Parked(Park),
    /// The host lets go of the run as it stands.
    #[error("the host has let go of the run")]
    Left,
}

/// What a run waits for that was unloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Park {
    /// When it has to go on at the latest.
    pub until: Micros,
    /// Calls about which people have to decide; none for a sleep.
    pub calls: Vec<u64>,
}

impl Park {
    fn what(&self) -> &'static str {
        if self.calls.is_empty() { "a time to pass" } else { "a person's approval" }
    }
}

impl Tape {
    /// A journal at its beginning.
    pub fn new(reel: Reel) -> Self {
        let Reel { recorded, chain, bytes, damage, recorder, transcript, .. } = reel;
        let Reel { precision, is_untouched, .. } = reel;
        let used_up = UsedUp(Arc::new(AtomicBool::new(recorded.is_empty())));
        Self {
            recorded,
            position: 0,
            damage,
            recorder,
            transcript,
            precision,
            is_untouched,
            chain,
            last_at: chain.last_at(),
            bytes,
            used_up,
            line: Vec::new(),
        }
    }

    /// Time of the newest entry.
    pub fn now(&self) -> Micros {
        self.last_at
    }

    /// The next entry to be appended is not older than `time`, whatever the
    /// system's clock says.
    pub fn advance_to(&mut self, time: Micros) {
        self.last_at = self.last_at.max(time);
    }

    /// Lets go of the record, which is of no more use, to save its memory.
    pub fn forget_record(&mut self) {
        (self.recorded, self.position) = (Vec::new(), 0);
    }

    /// A view of whether the record is used up that follows the position.
    pub fn used_up(&self) -> UsedUp {
        self.used_up.clone()
    }

    /// Hash of the newest entry.
    pub fn head(&self) -> crate::revision::Digest {
        self.chain.head()
    }

    /// Entries up to the position.
    pub fn entries(&self) -> u64 {
        self.chain.next_seq()
    }

    /// Bytes of the entries up to the position.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the record is not used up yet.
    pub fn is_recorded(&self) -> bool {
        self.position < self.recorded.len() || self.damage.is_some()
    }

    /// Whether what is under way at the end of the record was begun by another run.
    pub fn is_untouched(&self) -> bool {
        self.is_untouched
    }

    /// The transcript of a guest that goes its own way.
    pub fn departed(&self) -> Option<&Transcript> {
        self.transcript.as_ref().filter(|transcript| transcript.has_departed())
    }

    /// The recorded entry at the position. Damage shows here and not earlier.
    pub fn peek(&self) -> Result<Option<&Entry>, Halt> {
        match (self.recorded.get(self.position), &self.damage) {
            (Some((entry, _)), _) => Ok(Some(entry)),
            (None, Some(damage)) => Err(damage.clone().into()),
            (None, None) if self.may_grow() => Ok(None),
            (None, None) => Err(Halt::JournalOver),
        }
    }

    fn may_grow(&self) -> bool {
        self.recorder.is_some() || self.departed().is_some()
    }

    /// The recorded entry at the position is not what the run waits for. It goes on
    /// without the record if that is allowed.
    pub fn diverge(&mut self, found: Found) -> Result<(), Halt> {
        let (entry, _) = &self.recorded[self.position];
        self.depart(Box::new(diverged(entry, found)))
    }

    fn depart(&mut self, divergence: Box<Divergence>) -> Result<(), Halt> {
        let Some(transcript) = &self.transcript else { return Err(Halt::Diverged(divergence)) };
        transcript.depart(divergence, &self.recorded, self.position).map_err(Halt::Diverged)?;
        self.forget_record();
        // From here on the guest is its own record, which has no end.
        self.used_up.0.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Puts `request` at the position: matches it with the record, or appends it.
    /// An appended entry may take the journal to `max_bytes` but not beyond.
    pub fn put(&mut self, request: Request, max_bytes: u64) -> Result<(), Halt> {
        let recorded = self.peek()?;
        if recorded.is_some_and(was_full) && !matches!(request.body, Body::Ended(_)) {
            self.prove_full(&request, max_bytes)?;
        }
        match decide(self.peek()?, &request, self.precision) {
            Decision::Recorded => self.pass(request),
            Decision::Divergence(divergence) => {
                self.depart(divergence)?;
                self.append(request, max_bytes)
            }
            Decision::Beyond => self.append(request, max_bytes),
        }
    }

    /// The record ended because the journal was full: `request`, made anew, must
    /// not have fitted either.
    fn prove_full(&mut self, request: &Request, max_bytes: u64) -> Result<(), Halt> {
        let (entry, _) = &self.recorded[self.position];
        let again = Entry { body: request.body.clone(), fuel: request.fuel, ..entry.clone() };
        again.encode(&mut self.line);
        let bytes = self.bytes + self.line.len() as u64;
        if bytes > max_bytes { Err(Halt::Full) } else { Ok(()) }
    }

    /// Moves past the recorded entry, which `request` has just matched.
    fn pass(&mut self, request: Request) -> Result<(), Halt> {
        if self.transcript.is_some() {
            return self.transcribe(request);
        }
        let (entry, encoded) = &self.recorded[self.position];
        if self.precision == Precision::Exact && is_equal(entry, &request) {
            // The entry is made anew: equal bytes prove the whole record so far.
            let Request { fuel, body } = request;
            let again = Entry { seq: entry.seq, at: entry.at, fuel, body };
            again.encode(&mut self.line);
            if self.line != encoded.bytes {
                let found = Request { fuel: again.fuel, body: again.body };
                return self.diverge(Found::Request(found));
            }
        }
        self.chain.pass(encoded, entry.at);
        self.last_at = entry.at;
        self.bytes += encoded.bytes.len() as u64;
        self.position += 1;
        self.used_up.0.store(self.position == self.recorded.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes the recorded entry, which `request` has just matched, as this guest
    /// makes it.
    fn transcribe(&mut self, request: Request) -> Result<(), Halt> {
        let (entry, _) = &self.recorded[self.position];
        let Request { fuel, body } = request;
        let again = Entry { seq: self.chain.next_seq(), at: entry.at, fuel, body };
        self.write(again, u64::MAX)?;
        self.position += 1;
        self.used_up.0.store(self.position == self.recorded.len(), Ordering::Relaxed);
        Ok(())
    }

    fn append(&mut self, request: Request, max_bytes: u64) -> Result<(), Halt> {
        if !self.may_grow() {
            return Err(Halt::JournalOver);
        }
        let at = match &self.recorder {
            // The clock of the system may be set back; the journal's never is.
            Some(_) => system::now().max(self.last_at),
            None => self.last_at,
        };
        let Request { fuel, body } = request;
        self.write(Entry { seq: self.chain.next_seq(), at, fuel, body }, max_bytes)
    }

    fn write(&mut self, entry: Entry, max_bytes: u64) -> Result<(), Halt> {
        let (fuel, at) = (entry.fuel, entry.at);
        entry.encode(&mut self.line);
        let bytes = self.bytes + self.line.len() as u64;
        if bytes > max_bytes {
            return Err(Halt::Full);
        }
        let encoded = self.chain.push_encoded(&entry, self.line.as_slice().to_vec());
        self.last_at = at;
        self.bytes = bytes;
        match (&mut self.recorder, &self.transcript) {
            (Some(recorder), _) => recorder.push(encoded, fuel, at),
            (None, Some(transcript)) => transcript.push(entry, encoded),
            (None, None) => {}
        }
        Ok(())
    }

    /// Whether the recorder has fallen so far behind that the guest should wait.
    pub fn is_behind(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_behind())
    }

    /// Returns when every entry up to the position is durable.
    pub async fn commit(&mut self) -> Result<(), Halt> {
        if let Some(recorder) = &mut self.recorder {
            recorder.commit().await?;
        }
        Ok(())
    }

    /// Closes the journal after its last entry.
    pub async fn finish(&mut self, close: Close) -> Result<(), Halt> {
        if let Some((entry, _)) = self.recorded.get(self.position) {
            let what = "it follows the entry that ended the run".to_owned();
            return Err(Damage { index: entry.seq, what }.into());
        }
        if let Some(damage) = &self.damage {
            return Err(damage.clone().into());
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.finish(close).await?;
        }
        Ok(())
    }
}

/// Whether the run ended at this entry because its journal was full.
fn was_full(entry: &Entry) -> bool {
    let Body::Ended(ended) = &entry.body else { return false };
    matches!(&ended.outcome, Outcome::Error(error) if error.code == ErrorCode::JournalTooLarge)
}
