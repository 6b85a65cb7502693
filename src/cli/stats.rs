//! `coffre stats`

use crate::cli::connect::GlobalArgs;
use crate::cli::events;
use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::table::{self, Column};
use crate::model::outcome::Ended;
use crate::model::units::ByteSize;
use crate::ops::stats::{KindStats, stats};
use crate::store::OpenMode;

const COLUMNS: [Column; 3] = [Column::left("OBJECTS"), Column::right("NUMBER"), Column::right("BYTES")];

pub async fn run(global: &GlobalArgs) -> Fallible<Exit> {
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let report = stats(&repository, &*monitor).await?;
    monitor.finish();
    let kind_name = |kind: crate::model::key::ObjectKind| kind.prefix().trim_end_matches('/');
    if global.json {
        let kinds = report.kinds.iter();
        output::json(&events::Stats {
            chunks: report.chunks,
            entries: report.entries,
            objects: kinds
                .map(|k| (kind_name(k.kind), events::Objects { bytes: k.bytes, objects: k.objects }))
                .collect(),
            repository: repository.id().to_string(),
            restored_bytes: report.restored_bytes,
            snapshots: report.snapshots,
            stored_bytes: report.stored_bytes,
            unique_bytes: report.unique_bytes,
            unreadable_snapshots: &report.unreadable,
        });
        return Ok(report.outcome().into());
    }
    let times = |large: u64, small: u64| match small {
        0 => String::new(),
        small if small >= large => String::new(),
        small => format!(", 1/{:.1} of that", large as f64 / small as f64),
    };
    output::line(&format!("repository     {}", repository.id()));
    output::line(&format!(
        "all snapshots  {} with {}: {} when restored",
        output::count(report.snapshots, "snapshot"),
        output::count(report.entries, "entry"),
        ByteSize(report.restored_bytes)
    ));
    let unique = ByteSize(report.unique_bytes);
    let saved = times(report.restored_bytes, report.unique_bytes);
    output::line(&format!("deduplicated   {unique} in {}{saved}", output::count(report.chunks, "chunk")));
    let saved = times(report.unique_bytes, report.stored_bytes);
    output::line(&format!("stored         {}{saved}", ByteSize(report.stored_bytes)));
    output::line("");
    let row = |kind: &KindStats| {
        vec![kind_name(kind.kind).to_owned(), output::grouped(kind.objects), ByteSize(kind.bytes).to_string()]
    };
    table::print(&COLUMNS, &report.kinds.iter().map(row).collect::<Vec<_>>());
    report.unreadable.iter().for_each(|why| output::say(why));
    Ok(report.outcome().into())
}
