//! Second factors: codes that change every 30 seconds (RFC 6238), recovery codes, and one-time
//! passes that a browser fetched.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;
use totp_rs::{Builder, Totp};

use super::{Auth, known::Known, throttle::Throttle};
use crate::{
    error::RegistryError,
    lifecycle::{SharedClock, random_hex},
    models::{Caller, Proof, SecondFactor, ShownPass, Timestamp, Username},
    storage::{
        AccountStore as _, AccountStoreExt as _, AccountsError, Claim, SecondFactorRecord, Secrets,
        SessionStore, UserRecord,
    },
};

/// What seeds are sealed for.
pub(crate) const SEED_SEAL: &str = "second-factor-seed";
/// How long whoever has used a recovery code may show it again: one command is many requests.
const RECOVERY_LASTS: Duration = Duration::from_secs(300);
/// How long after a request came its pass may be looked at; and how much longer used ones are
/// remembered, so that no slow request brings one back.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
const REMEMBERED_FOR: Duration = Duration::from_secs(3600 + 300);
const MAX_REMEMBERED: u64 = 10_000;

/// Looks at second factors. Cheap to clone.
#[derive(Clone)]
pub struct SecondFactors {
    accounts: Arc<Known>,
    secrets: Secrets,
    clock: SharedClock,
    throttle: Throttle,
    /// Where it is kept who showed a pass first, and which passes browsers fetched.
    sessions: Arc<dyn SessionStore>,
    /// Who showed a pass first, as far as this node knows: that never changes.
    used: Cache<String, Claim>,
    /// Held while a try is counted, so that those at once count one by one.
    looking: Arc<Mutex<()>>,
}

/// What a pass turned out to be.
enum Judgement {
    Right,
    /// A recovery code that counts once it is taken off the list.
    Recovery(String),
    Wrong,
}

impl std::fmt::Debug for SecondFactors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecondFactors")
    }
}

impl SecondFactors {
    /// Of these accounts; `secrets` seals their seeds.
    pub(super) fn new(
        accounts: Arc<Known>,
        sessions: Arc<dyn SessionStore>,
        secrets: Secrets,
        clock: SharedClock,
    ) -> Self {
        Self {
            accounts,
            sessions,
            secrets,
            throttle: Throttle::new(Arc::clone(&clock)),
            clock,
            used: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            looking: Arc::default(),
        }
    }

    /// Where the one-time passes are that browsers fetched.
    pub(super) fn sessions(&self) -> &dyn SessionStore {
        &*self.sessions
    }

    /// Those of nobody, with files in `folder`.
    #[cfg(test)]
    pub(crate) async fn of_nobody(folder: &std::path::Path) -> Self {
        let accounts = crate::storage::FileAccounts::open(folder.join("state.json")).await;
        let accounts = Arc::new(Known::new(Arc::new(accounts.unwrap())));
        let keys = crate::storage::FileKeys::new(folder.to_owned());
        let secrets = Secrets::open(&keys, None).await.unwrap();
        let sessions = Arc::new(crate::storage::MemorySessions::default());
        let clock = Arc::new(crate::lifecycle::SystemClock);
        Self::new(accounts, sessions, secrets, clock)
    }

    /// What `caller` has proved. Looks at her one-time pass, if she shows one.
    pub async fn proof(&self, caller: &Caller) -> Result<Proof, RegistryError> {
        match caller.username() {
            Some(user) => self.proof_of(&user, &caller.second_factor).await,
            None => Ok(Proof::None),
        }
    }

    /// Succeeds when `caller` may change her account, as far as her second factor goes.
    pub async fn require_for_account(&self, caller: &Caller) -> Result<(), RegistryError> {
        if caller.second_factor.mode.is_none() {
            return Ok(());
        }
        challenge_unless_given(self.proof(caller).await?, caller.display_name())
    }

    /// Succeeds when `caller` may change packages, as far as her second factor goes.
    pub async fn require_for_writes(&self, caller: &Caller) -> Result<(), RegistryError> {
        if caller.second_factor.leaves_writes_open() {
            return Ok(());
        }
        challenge_unless_given(self.proof(caller).await?, caller.display_name())
    }

    /// Lets `caller` show the `pass` that she typed into a form.
    pub fn show(&self, caller: &mut Caller, pass: SecretString, by: &str) {
        if caller.second_factor.mode.is_some() {
            caller.second_factor.shown = Some(ShownPass {
                pass,
                by: by.into(),
                at: self.clock.now(),
            });
        }
    }

    /// What the second factor of `user` protects, and the `pass` that `by` shows; and whether her account is
    /// disabled.
    pub(super) async fn of(
        &self,
        user: &Username,
        pass: Option<&SecretString>,
        by: &str,
    ) -> Result<(SecondFactor, bool), RegistryError> {
        let record = self.accounts.known_user(user).await?;
        let is_disabled = record.as_ref().is_some_and(|user| user.disabled.is_some());
        let mode = record.as_ref().and_then(|user| active(user));
        let Some(mode) = mode.map(|factor| factor.mode) else {
            return Ok((SecondFactor::default(), is_disabled));
        };
        let shown = pass.map(|pass| ShownPass {
            pass: pass.clone(),
            by: by.into(),
            at: self.clock.now(),
        });
        let factor = SecondFactor {
            mode: Some(mode),
            is_bypassed: false,
            shown,
        };
        Ok((factor, is_disabled))
    }

    pub(super) async fn proof_of(
        &self,
        user: &Username,
        factor: &SecondFactor,
    ) -> Result<Proof, RegistryError> {
        let is_right = match &factor.shown {
            Some(shown) => self.is_right(user, shown).await?,
            None => false,
        };
        Ok(match (is_right, factor.is_bypassed, &factor.shown) {
            (true, ..) => Proof::Given,
            (false, true, _) => Proof::Bypassed,
            (false, false, Some(_)) => Proof::Wrong,
            (false, false, None) => Proof::None,
        })
    }

    async fn is_right(&self, user: &Username, shown: &ShownPass) -> Result<bool, RegistryError> {
        let record = self.accounts.user(user).await?;
        let Some(factor) = record.as_ref().and_then(|user| active(user)) else {
            return Ok(false);
        };
        match self.judge_within_limits(user, factor, shown).await? {
            Judgement::Right => Ok(true),
            Judgement::Wrong => Ok(false),
            Judgement::Recovery(hash) => {
                self.use_recovery_code(user, &hash).await?;
                Ok(true)
            }
        }
    }

    /// Whether `code` is one of a second factor that is not confirmed yet, unless there were too
    /// many wrong ones.
    pub(super) fn confirms(
        &self,
        user: &Username,
        pending: &SecondFactorRecord,
        code: &str,
    ) -> Result<bool, RegistryError> {
        let _one_by_one = self.looking.lock();
        self.begin(user)?;
        let is_right = self.step_of(pending, code, self.clock.now())?.is_some();
        if is_right {
            self.throttle.succeeded(user, None);
        }
        Ok(is_right)
    }

    /// Counts a try. Whoever gets here has shown a password or a token: no stranger can lock
    /// anybody out.
    fn begin(&self, user: &Username) -> Result<(), RegistryError> {
        self.throttle.begin(user, None).map_err(too_many)
    }

    /// The judgement of a pass, unless there were too many wrong ones.
    async fn judge_within_limits(
        &self,
        user: &Username,
        factor: &SecondFactorRecord,
        shown: &ShownPass,
    ) -> Result<Judgement, RegistryError> {
        self.throttle.look(user, None).map_err(too_many)?;
        let judgement = self.judge(user, factor, shown).await?;
        let _one_by_one = self.looking.lock();
        self.begin(user)?;
        if matches!(judgement, Judgement::Wrong) {
            tracing::info!(user.name = %user, "wrong one-time pass");
        } else {
            self.throttle.succeeded(user, None);
        }
        Ok(judgement)
    }

    async fn judge(
        &self,
        user: &Username,
        factor: &SecondFactorRecord,
        shown: &ShownPass,
    ) -> Result<Judgement, RegistryError> {
        let now = self.clock.now();
        if now > shown.at.plus(LONGEST_REQUEST) {
            return Ok(Judgement::Wrong);
        }
        let pass: String = shown.pass.expose_secret().split_whitespace().collect();
        let right = |is_right: bool| {
            if is_right {
                Judgement::Right
            } else {
                Judgement::Wrong
            }
        };
        if let Some(step) = self.step_of(factor, &pass, shown.at)? {
            // Of codes, the 30 seconds are the pass.
            let first = self
                .claim(format!("code/{user}/{step}"), shown, now)
                .await?;
            return Ok(right(*first.by == *shown.by));
        }
        let hash = hash_of(&pass);
        let key = format!("recovery/{user}/{}/{hash}", hash_of(&factor.seed));
        let is_unused = factor.recovery.contains(&hash);
        let first = if is_unused {
            Some(self.claim(key, shown, now).await?)
        } else {
            self.claimed(&key).await?
        };
        if let Some(first) = first {
            let is_same = *first.by == *shown.by && shown.at <= first.at.plus(RECOVERY_LASTS);
            return Ok(match (is_same, is_unused) {
                (false, _) => Judgement::Wrong,
                (true, false) => Judgement::Right,
                (true, true) => Judgement::Recovery(hash),
            });
        }
        let fetched = self.sessions.pass(&hash).await?;
        let was_fetched =
            fetched.is_some_and(|(whose, expires)| whose == *user && expires > shown.at);
        Ok(right(was_fetched))
    }

    /// Who has shown a pass first: whoever shows it now, if nobody has.
    async fn claim(
        &self,
        key: String,
        shown: &ShownPass,
        now: Timestamp,
    ) -> Result<Claim, RegistryError> {
        if let Some(first) = self.used.get(&key) {
            return Ok(first);
        }
        let claim = Claim {
            by: (*shown.by).to_owned(),
            at: now,
        };
        let until = now.plus(REMEMBERED_FOR);
        let first = self.sessions.claim(&key, claim, until).await?;
        self.used.insert(key, first.clone());
        Ok(first)
    }

    async fn claimed(&self, key: &str) -> Result<Option<Claim>, RegistryError> {
        match self.used.get(key) {
            Some(first) => Ok(Some(first)),
            None => Ok(self.sessions.claimed(key).await?),
        }
    }

    /// Takes the code off the list; another request of the same command may have been quicker.
    async fn use_recovery_code(&self, user: &Username, hash: &str) -> Result<(), RegistryError> {
        let used = self.edit(user, |factor| {
            if let Some(factor) = factor {
                factor.recovery.retain(|known| known != hash);
            }
            Ok(())
        });
        used.await?;
        tracing::info!(user.name = %user, "recovery code used");
        Ok(())
    }

    pub(super) fn seal(&self, seed: &[u8]) -> String {
        self.secrets.seal(SEED_SEAL, seed)
    }

    /// The 30 seconds that `code`, which is shown at `at`, is of; `None` for a wrong one.
    fn step_of(
        &self,
        factor: &SecondFactorRecord,
        code: &str,
        at: Timestamp,
    ) -> Result<Option<u64>, RegistryError> {
        if !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let seed = self.secrets.unseal(SEED_SEAL, &factor.seed);
        let totp: Totp = Builder::new()
            .with_secret(seed.map_err(RegistryError::internal)?)
            .build()
            .map_err(|error| RegistryError::internal(error.to_string()))?;
        let seconds = u64::try_from(at.unix_millis() / 1000).unwrap_or(0);
        Ok(totp.check(code, seconds))
    }

    pub(super) async fn edit<T>(
        &self,
        user: &Username,
        mut edit: impl FnMut(&mut Option<SecondFactorRecord>) -> Result<T, AccountsError> + Send,
    ) -> Result<T, RegistryError>
    where
        T: Send,
    {
        let edit = |record: &mut UserRecord| edit(&mut record.second_factor);
        Ok(self
            .accounts
            .change_user(user, self.clock.now(), edit)
            .await?)
    }
}

impl Auth {
    /// What looks at second factors.
    pub fn second_factors(&self) -> &SecondFactors {
        &self.second_factors
    }

    /// Succeeds when `user` has no second factor or `pass` is a proof of it; for logins, where a
    /// pass counts once.
    pub(super) async fn require_second_factor(
        &self,
        user: &Username,
        pass: Option<&SecretString>,
    ) -> Result<(), RegistryError> {
        let by = random_hex::<16>();
        let (factor, _) = self.second_factors.of(user, pass, &by).await?;
        if factor.mode.is_none() {
            return Ok(());
        }
        let proof = self.second_factors.proof_of(user, &factor).await?;
        challenge_unless_given(proof, user.as_str())
    }
}

fn too_many(retry_after: Duration) -> RegistryError {
    RegistryError::RateLimited {
        message: "too many wrong one-time passes, try again later".to_owned(),
        retry_after,
    }
}

fn challenge_unless_given(proof: Proof, user: &str) -> Result<(), RegistryError> {
    match proof {
        Proof::Given => Ok(()),
        proof => Err(RegistryError::one_time_pass_required(
            user,
            proof == Proof::Wrong,
        )),
    }
}

/// The second factor of `user`, if she has shown a code of it once.
fn active(user: &UserRecord) -> Option<&SecondFactorRecord> {
    user.second_factor.as_ref().filter(|factor| !factor.pending)
}

pub(super) fn hash_of(pass: &str) -> String {
    hex::encode(sha2::Sha256::digest(pass))
}
