//! Options that stand in each other's place: which was said where, and which counts.

use std::fmt;

use clap::parser::ValueSource;

/// What was said, each with its name, before one of it is chosen: what was typed comes before variables, these before the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenOptions<T> {
    /// Options, as they were typed.
    pub options: Vec<(&'static str, T)>,
    /// Variables that are set.
    pub variables: Vec<(&'static str, T)>,
    /// Keys of the configuration.
    pub configured: Vec<(&'static str, T)>,
}

impl<T> Default for GivenOptions<T> {
    fn default() -> Self {
        Self { options: Vec::new(), variables: Vec::new(), configured: Vec::new() }
    }
}

impl<T> fmt::Debug for GivenOptions<T> {
    /// The names alone: what they say may have a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |named: &[(&'static str, T)]| named.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        write!(
            f,
            "GivenOptions({:?}, {:?}, {:?})",
            names(&self.options),
            names(&self.variables),
            names(&self.configured)
        )
    }
}

impl<T> GivenOptions<T> {
    /// Takes what options say, each with its name, that of its variable, and where it was said.
    pub fn of<const N: usize>(said: [(Option<T>, [&'static str; 2], Option<ValueSource>); N]) -> Self {
        let mut given = Self::default();
        for (value, [option, variable], said) in said {
            let Some(value) = value else { continue };
            match said {
                Some(ValueSource::CommandLine) => given.options.push((option, value)),
                Some(ValueSource::DefaultValue) => given.configured.push((option.trim_start_matches('-'), value)),
                _ => given.variables.push((variable, value)),
            }
        }
        given
    }

    /// Returns all of it, what counts more first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.options.iter().chain(&self.variables).chain(&self.configured).map(|(_, value)| value)
    }

    /// Chooses what counts.
    ///
    /// # Errors
    /// A sentence that names the two which contradict each other.
    pub fn choose(&self) -> Result<Option<&T>, String> {
        for named in [&self.options, &self.variables, &self.configured] {
            match named.as_slice() {
                [] => {}
                [(_, value)] => return Ok(Some(value)),
                [(first, _), (second, _), ..] => {
                    return Err(format!("{first} and {second} are both given; keep the one that is meant"));
                }
            }
        }
        Ok(None)
    }
}
