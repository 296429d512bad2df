//! What most verbs need: the home folder and what is in it.

use super::{Failure, Global};
use crate::config::Config;
use crate::registry::{Home, Registry};
use crate::runtime::{self, Executor};
use crate::storage::Storage;

/// An open home folder.
pub struct Context {
    pub home: Home,
    pub storage: Storage,
    pub registry: Registry,
}

impl Context {
    /// Opens the home folder; makes it if it is not there.
    pub fn open(global: &Global) -> Result<Self, Failure> {
        let home = home(global)?;
        home.create().map_err(|error| {
            Failure::from(error)
                .context(format!("cannot create the home folder `{}`", home.path().display()))
                .with_hint("`--home DIR` or REENACT_HOME names another one")
        })?;
        let storage = Storage::open(&home.database())?;
        let registry = Registry::open(&home, storage.clone(), runtime::now())?;
        Ok(Self { home, storage, registry })
    }

    /// The operator's configuration with the grants of the command line.
    pub fn config(&self, global: &Global, grants: &[String]) -> Result<Config, Failure> {
        let config = match &global.config() {
            Some(path) => Config::load(path, true)?,
            None => Config::load(&self.home.path().join("reenact.toml"), false)?,
        };
        Ok(config.with_flags(grants)?)
    }

    /// An executor with the home's compile cache.
    pub fn executor(&self) -> Result<Executor, Failure> {
        Ok(Executor::new(Some(&self.home.cache()))?)
    }
}

/// `--home`, else REENACT_HOME, else `reenact` in the user's data folder.
fn home(global: &Global) -> Result<Home, Failure> {
    use etcetera::BaseStrategy;
    if let Some(path) = global.home() {
        return Ok(Home::at(path));
    }
    let base = etcetera::choose_base_strategy().map_err(|_| {
        Failure::new("cannot find the user's data folder")
            .with_hint("`--home DIR` or REENACT_HOME names the folder to use")
    })?;
    Ok(Home::at(base.data_dir().join("reenact")))
}
