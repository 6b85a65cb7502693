//! Flags that say what is odd enough to flag a snapshot, and that it is right as it is.

use crate::ops::backup::AnomalyLimits;

/// Flags of `backup` about what is odd.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Anomalies")]
pub struct AnomalyArgs {
    /// Flag a stream or a path that holds less than this percentage of the median of earlier ones; 0 flags none
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    shrink_limit: u8,
    /// Flag a stream or a path that holds more than this percentage of the median of earlier ones, and 1 GiB more; 0 flags none
    #[arg(long, value_name = "PERCENT", default_value_t = 300)]
    growth_limit: u16,
    /// Flag a path of whose files more than this percentage, and at least 50, changed or are gone since the backup before; 0 flags none
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    change_limit: u8,
    /// Flag a path of whose files more than this percentage, and at least 10, came to look like random bytes, as encryption makes them; 0 flags none
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=100))]
    random_limit: u8,
    /// Flag a database that has less than this percentage of the tables of the backup before; 0 flags none
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    tables_limit: u8,
    /// Accept what was found odd, now or before: this snapshot is not flagged, and the next ones are compared with it
    #[arg(long)]
    pub accept_anomalies: bool,
}

impl AnomalyArgs {
    /// Returns from where on something is odd.
    pub fn limits(&self) -> AnomalyLimits {
        let part = |percent: u8| f64::from(percent) / 100.0;
        AnomalyLimits {
            shrink: part(self.shrink_limit),
            growth: f64::from(self.growth_limit) / 100.0,
            change: part(self.change_limit),
            random: part(self.random_limit),
            tables: part(self.tables_limit),
        }
    }
}
