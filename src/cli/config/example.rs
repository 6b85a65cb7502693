//! An example of the configuration, with an explanation of each part.

/// Returns the example.
pub fn example() -> &'static str {
    include_str!("../../../examples/coffre.toml")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cli;
    use crate::cli::config::Configuration;

    #[test]
    fn the_example_is_understood_and_so_is_each_of_its_jobs() {
        let config = Arc::new(Configuration::of(&cli::command(), example()).expect("right"));
        assert_eq!((config.jobs.len(), config.repositories.len()), (2, 2));
        for job in config.jobs.keys() {
            let line = ["coffre", "backup", "--job", job];
            let matches = cli::command().try_get_matches_from(line).expect("understood");
            let applied = config.applied(&matches).expect("no variable");
            let program = applied.onto(cli::command(), "backup");
            program.try_get_matches_from(line).expect("understood with what the file says");
        }
    }
}
