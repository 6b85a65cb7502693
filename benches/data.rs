//! Makes the data that `benches/compare` measures with: the same bytes for the same arguments, on every machine.
//!
//! ```text
//! cargo bench --bench data -- dump DAY MEGABYTES        > shop.sql   a plain dump as of day 1, 2, 3 …
//! cargo bench --bench data -- noise SEED MEGABYTES      > noise      bytes that cannot be compressed
//! cargo bench --bench data -- small DIRECTORY COUNT                  that many small files
//! cargo bench --bench data -- edit DIRECTORY ONE_IN ROUND            appends a line to one file in so many
//! ```
//!
//! A dump is that of a table in heap order. Every day 0.2 % of its rows are deleted, 0.5 % updated and 1 % inserted. Changes
//! come to whole orders of one to four tickets in the newer half of the table; what is written fills the holes of the day
//! before and then the end, as it does in PostgreSQL.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Mean length of a row.
const ROW_BYTES: u64 = 187;
/// Marks a place in the heap without a row.
const HOLE: u64 = u64::MAX;

/// Numbers that depend on the seed alone (splitmix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const NAMES: [&str; 32] = [
    "Camille", "Jean", "Louise", "Hugo", "Chloé", "Gabriel", "Léa", "Arthur", "Manon", "Jules", "Emma", "Louis",
    "Jade", "Raphaël", "Alice", "Lucas", "Inès", "Adam", "Sarah", "Paul", "Anna", "Noah", "Eva", "Tom", "Rose",
    "Ethan", "Julia", "Nathan", "Zoé", "Théo", "Nina", "Maël",
];
const HOSTS: [&str; 8] =
    ["gmail.com", "orange.fr", "free.fr", "laposte.net", "outlook.com", "yahoo.fr", "sfr.fr", "example.eu"];
const STATES: [&str; 4] = ["paid", "paid", "used", "refunded"];

/// Writes the row of ticket `id` after `version` changes.
fn write_row(out: &mut impl Write, id: u64, version: u64) -> io::Result<()> {
    let mut fixed = Dice(id);
    let mut changed = Dice(id ^ version.wrapping_mul(0xa076_1d64_78bd_642f));
    let (high, low) = (fixed.next(), fixed.next());
    let (first, last) = (NAMES[fixed.below(32) as usize], NAMES[fixed.below(32) as usize]);
    let (event, minute) = (4000 + id / 9000, id / 3);
    let stamp = |minute: u64, fraction: u64| {
        let (day, minute) = (minute / 1440, minute % 1440);
        format!(
            "20{:02}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00",
            20 + day / 336 % 7,
            day / 28 % 12 + 1,
            day % 28 + 1,
            minute / 60,
            minute % 60,
            fraction % 60,
            fraction / 60 % 1_000_000
        )
    };
    writeln!(
        out,
        "{id}\t{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\t{event}\t{}{}\t{}\tEUR\t{}\t{}\t{}\t{}.{}{}@{}\t{first} {last}\t{{\"gate\": \"{}\", \"scan\": {}}}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff,
        char::from(b'A' + fixed.below(20) as u8),
        fixed.below(60) + 1,
        [1250, 2500, 3900, 4500, 8900][fixed.below(5) as usize],
        STATES[changed.below(4) as usize],
        stamp(minute, fixed.below(60)),
        stamp(minute + version * 1440, changed.below(60)),
        first.to_lowercase(),
        last.to_lowercase(),
        fixed.below(100),
        HOSTS[fixed.below(8) as usize],
        char::from(b'A' + changed.below(6) as u8),
        changed.below(1000),
    )
}

fn dump(day: u64, megabytes: u64, out: &mut impl Write) -> io::Result<()> {
    let rows = megabytes * 1_000_000 / ROW_BYTES;
    // Each place holds a row's id and version.
    let mut heap: Vec<(u64, u64)> = (1..=rows).map(|id| (id, 0)).collect();
    let mut next_id = rows + 1;
    let mut holes: Vec<usize> = Vec::new();
    for today in 2..=day {
        let mut dice = Dice(today << 32);
        let mut freed = Vec::new();
        let mut written: Vec<(u64, u64)> = Vec::new();
        while (freed.len() as u64) < rows * 7 / 1000 {
            let newer = heap.len() as u64 / 2;
            let first = (newer + dice.below(newer)) as usize;
            let is_update = dice.below(7) < 5;
            let tickets = 1 + dice.below(4) as usize;
            for at in first..heap.len().min(first + tickets) {
                let (id, version) = std::mem::replace(&mut heap[at], (HOLE, 0));
                if id != HOLE {
                    freed.push(at);
                    written.extend(is_update.then_some((id, version + 1)));
                }
            }
        }
        written.extend((0..rows / 100).map(|i| (next_id + i, 0)));
        next_id += rows / 100;
        for row in written {
            match holes.pop() {
                Some(hole) => heap[hole] = row,
                None => heap.push(row),
            }
        }
        holes = freed;
    }
    writeln!(out, "--\n-- PostgreSQL database dump\n--\n\nCOPY public.tickets FROM stdin;")?;
    for (id, version) in heap.into_iter().filter(|&(id, _)| id != HOLE) {
        write_row(out, id, version)?;
    }
    writeln!(out, "\\.\n\n--\n-- PostgreSQL database dump complete\n--")
}

fn noise(seed: u64, megabytes: u64, out: &mut impl Write) -> io::Result<()> {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut block = vec![0; 1_000_000];
    for _ in 0..megabytes {
        stream.fill(&mut block);
        out.write_all(&block)?;
    }
    Ok(())
}

/// Files of 100 bytes to 10 kB, 200 in a directory: templates, mails and settings, a few of them compressed already.
fn small(directory: &Path, count: u64) -> io::Result<()> {
    let mut content = Vec::new();
    for i in 0..count {
        let mut dice = Dice(i | 1 << 40);
        let inside = directory.join(format!("d{:03}/e{:03}", i / 200 / 40, i / 200 % 40));
        if i % 200 == 0 {
            fs::create_dir_all(&inside)?;
        }
        let size = 100 + dice.below(100) * dice.below(100);
        content.clear();
        if i % 20 == 0 {
            content.extend((0..size / 8 + 1).flat_map(|_| dice.next().to_le_bytes()));
        } else {
            while (content.len() as u64) < size {
                write_row(&mut content, dice.below(10_000_000), 0)?;
            }
        }
        content.truncate(size as usize);
        fs::write(inside.join(format!("{i:06}.{}", ["html", "eml", "json", "ini"][i as usize % 4])), &content)?;
    }
    Ok(())
}

/// Appends a line to one regular file in `one_in`, in path order, others in each round.
fn edit(directory: &Path, one_in: u64, round: u64) -> io::Result<()> {
    let (mut pending, mut files) = (vec![directory.to_path_buf()], Vec::new());
    while let Some(directory) = pending.pop() {
        for item in fs::read_dir(directory)? {
            let item = item?;
            match item.file_type()? {
                kind if kind.is_dir() => pending.push(item.path()),
                kind if kind.is_file() => files.push(item.path()),
                _ => {}
            }
        }
    }
    files.sort();
    let chosen = files.iter().skip((round % one_in) as usize).step_by(one_in as usize);
    for path in chosen {
        writeln!(fs::File::options().append(true).open(path)?, "/* changed in round {round} */")?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no number"));
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    match words[..] {
        ["dump", day, megabytes] => dump(number(day), number(megabytes), &mut out)?,
        ["noise", seed, megabytes] => noise(number(seed), number(megabytes), &mut out)?,
        ["small", directory, count] => small(&PathBuf::from(directory), number(count))?,
        ["edit", directory, one_in, round] => edit(&PathBuf::from(directory), number(one_in), number(round))?,
        // `cargo bench` without arguments runs all benches, this one too.
        [] => {}
        _ => panic!("see the top of benches/data.rs"),
    }
    out.flush()
}
