//! Several clients for one dump of MariaDB or MySQL: each statement with rows goes to one that has nothing to do, everything else to the
//! first one, in its order.
//!
//! A dump has one table after the other, so several clients fill one table at once. InnoDB lets them. Tables of other engines would
//! make them wait for each other, those without a primary key would have their rows in another order, and those in partitions have
//! locks of several tables: the first client fills these alone, and those with a key that only one at a time can look at, or with
//! numbers that must rise. A table gets rows when it is made, and what needs all rows (triggers, views, routines) waits until they are
//! in.
//!
//! MariaDB locks an empty table as a whole for whoever has rows for it. Two who begin at once would wait for each other, so the first
//! statement with rows of a table is done before there is another.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::engine::feed::{ClientHeard, FeedError, Heard, Said};
use crate::engine::lines::{DecidedLines, LineEdits};
use crate::engine::mysql::marks::{mark, mark_done, with_lines_of_dump};
use crate::engine::mysql::parts::{SqlPlace, TRIGGERS, place_of};
use crate::engine::mysql::restore::{MysqlRun, judge, without_rows};
use crate::engine::mysql::statements::{StatementBounds, quoted_name};
use crate::engine::parts::DumpAspect;

const ROWS: &[u8] = b"INSERT INTO ";
/// Statements around rows that several clients do not need: nobody else is in a new database, and they would lock each other out.
const NEEDLESS: [&[u8]; 6] = [
    b"UNLOCK TABLES;",
    b"commit;",
    b"COMMIT;",
    b"set autocommit=0;",
    b"SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;",
    b"SET AUTOCOMMIT=@OLD_AUTOCOMMIT;",
];
/// The same, before and behind the name of a table.
const NEEDLESS_OF_TABLE: [(&[u8], &[u8]); 3] = [
    (b"LOCK TABLES ", b" WRITE;"),
    (b"/*!40000 ALTER TABLE ", b" DISABLE KEYS */;"),
    (b"/*!40000 ALTER TABLE ", b" ENABLE KEYS */;"),
];
/// How lines begin that tell of a table what it is kept by, and that its rows have an order.
const INNODB: &[u8] = b") ENGINE=InnoDB";
const PRIMARY_KEY: &[u8] = b"  PRIMARY KEY (";
/// What else lines have that tell that one client is to fill a table: partitions, keys of MariaDB for which a server locks what is
/// beside a row, so that two who fill the table have a deadlock, and the column whose numbers InnoDB wants to rise.
const FOR_ONE: [&[u8]; 5] = [b" PARTITION BY ", b" USING HASH", b" WITHOUT OVERLAPS", b"VECTOR KEY ", b"`FTS_DOC_ID`"];
/// As much of a line as tells what it is: a name has 64 characters, each of four bytes or two back-ticks.
const HEAD_BYTES: usize = 2048;
/// Bytes that are collected for a client before it gets them: rows are short lines.
const BUFFER_BYTES: usize = 64 * 1024;
/// Lines for which it is known where they stand in the dump, once a client has done them.
const KEPT_LINES: usize = 4096;
/// A client waits for what another one has begun, however long that takes.
const PATIENCE: &str = "innodb_lock_wait_timeout=86400, lock_wait_timeout=86400";
/// Ends a transaction that a dump may have begun, and has each statement be one: nobody else could go on, or rows would be lost.
const AUTOCOMMIT: &str = "SET SESSION autocommit=1;\n";

impl MysqlRun<'_> {
    /// Tells whether several clients are to fill the database.
    pub(super) fn is_filled_by_several(&self) -> bool {
        let wishes = self.restoring.wishes;
        // Rows alone are one transaction, and of what is made beside it must be known what was made when the rest fails.
        wishes.jobs > 1 && wishes.parts.aspect == DumpAspect::Whole && !wishes.parts.into_existing
    }

    /// Feeds the dump to several clients.
    pub(super) async fn fill_by_several(&self) -> Result<Heard, FeedError> {
        let plan = self.restoring.database;
        let server = self.server.clone();
        let asked = format!("SET SESSION {PATIENCE};");
        let may = blocking(move || server.run("asked to be patient", &asked).is_ok()).await;
        let settings = format!("{}{}", self.settings, if may { format!(", {PATIENCE}") } else { String::new() });
        let crew = Crew::of(self.restoring.wishes.jobs, &self.restoring.unique);
        let (adapt, cancel) = (self.adapted(), self.restoring.cancel.clone());
        let hearers = crew.hearers();
        let working = crew.clone();
        let spread = move |inputs| adapt(Box::new(SpreadRows::new(inputs, working, cancel)));
        let command = self.filling_setting(&plan.name, &settings);
        let ended = self.restoring.feed_several(&plan.main().path, &command, judge, hearers, spread).await?;
        crew.told(ended)
    }
}

/// Several clients, and how far they are.
#[derive(Debug)]
struct Crew {
    state: Mutex<CrewState>,
    changed: Condvar,
    /// Tells marks from what else a client says.
    sign: String,
}

#[derive(Debug, Default)]
struct CrewState {
    /// For each client, the marks of what it has not done yet.
    busy: Vec<u64>,
    /// Clients that failed, or say no more, in the order in which they did.
    over: Vec<usize>,
    /// For each client, from which of its lines on which lines of the dump it reads.
    lines: Vec<Vec<(u64, u64)>>,
}

impl Crew {
    fn of(count: usize, sign: &str) -> Arc<Self> {
        let state = CrewState { busy: vec![0; count], lines: vec![Vec::new(); count], over: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), sign: sign.to_owned() })
    }

    fn state(&self) -> MutexGuard<'_, CrewState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what hears each client.
    fn hearers(self: &Arc<Self>) -> Vec<ClientHeard> {
        let hearer = |client: usize| {
            let crew = self.clone();
            Box::new(move |said: Option<&Said>| crew.hear(client, said)) as ClientHeard
        };
        (0..self.state().busy.len()).map(hearer).collect()
    }

    fn hear(&self, client: usize, said: Option<&Said>) {
        let mut state = self.state();
        match said {
            Some(Said::Done(sign)) if *sign == self.sign => state.busy[client] = state.busy[client].saturating_sub(1),
            Some(Said::Failed(_) | Said::Lost | Said::Over) | None if !state.over.contains(&client) => {
                state.over.push(client);
            }
            Some(_) | None => return,
        }
        self.changed.notify_all();
    }

    /// Waits until there is an answer, but no longer than until a client failed or ending is asked for. Then the rest of the dump is
    /// for nothing, which is told as if what reads it had gone.
    fn wait<T>(
        self: &Arc<Self>,
        cancel: &Cancel,
        mut answer: impl FnMut(&mut CrewState) -> Option<T>,
    ) -> io::Result<T> {
        let crew = self.clone();
        let _waking = cancel.wakes(move || {
            // Whoever looks has seen that ending is asked for, or waits by now.
            drop(crew.state());
            crew.changed.notify_all();
        });
        let mut state = self.state();
        loop {
            if !state.over.is_empty() || cancel.is_cancelled() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if let Some(found) = answer(&mut state) {
                return Ok(found);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns what was heard, or why it failed: what failed first is mostly the cause of the rest.
    fn told(&self, ended: Vec<Result<Heard, FeedError>>) -> Result<Heard, FeedError> {
        let state = self.state();
        let mut ended: Vec<(usize, Result<Heard, FeedError>)> = ended.into_iter().enumerate().collect();
        let turn = |client: &usize| state.over.iter().position(|it| it == client).unwrap_or(usize::MAX);
        ended.sort_by_key(|(client, _)| turn(client));
        let (mut all, mut failed) = (Heard::default(), None);
        for (client, answer) in ended {
            match answer {
                Ok(heard) => all.extend(heard),
                Err(error) => {
                    let error = without_rows(with_lines_of_dump(error, |line| state.line_of_dump(client, line)));
                    failed = Some(match failed {
                        None => error,
                        Some(first) => with_more(first, error),
                    });
                }
            }
        }
        failed.map_or(Ok(all), Err)
    }
}

impl CrewState {
    /// Returns the line of the dump that a client read as this one.
    fn line_of_dump(&self, client: usize, line: u64) -> u64 {
        let known = self.lines.get(client).and_then(|lines| lines.iter().rev().find(|(at, _)| *at <= line));
        known.map_or(line, |(at, of_dump)| of_dump + (line - at))
    }

    /// Forgets the lines of a client that has done them, where there are many.
    fn forget_lines(&mut self, client: usize) {
        if let Some(lines) = self.lines.get_mut(client).filter(|lines| lines.len() > KEPT_LINES) {
            lines.clear();
        }
    }
}

/// Adds what another client said to the error of the one that failed first.
fn with_more(first: FeedError, other: FeedError) -> FeedError {
    match (first, other) {
        (FeedError::Client { program, status, mut heard }, FeedError::Client { heard: more, .. }) => {
            heard.extend(more);
            FeedError::Client { program, status, heard }
        }
        (first, _) => first,
    }
}

/// A client as it is fed.
struct FedClient {
    input: BufWriter<Box<dyn Write + Send>>,
    /// Lines that it was given.
    lines: u64,
    /// The table that it was told of last, as it stands in back-ticks.
    table: Vec<u8>,
}

/// Who gets what is passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoesTo {
    All,
    One(usize),
    Nobody,
}

/// The client that makes everything.
const FIRST: usize = 0;

/// The table that was made last.
#[derive(Debug, Default)]
struct MadeTable {
    /// Its name, as it stands in back-ticks.
    name: Vec<u8>,
    is_innodb: bool,
    has_primary_key: bool,
    /// Something of it is for one client.
    is_for_one: bool,
}

impl MadeTable {
    /// Tells whether several clients may fill it at once.
    fn may_be_spread(&self) -> bool {
        self.is_innodb && self.has_primary_key && !self.is_for_one
    }
}

/// Gives a dump to several clients.
struct SpreadRows {
    clients: Vec<FedClient>,
    crew: Arc<Crew>,
    cancel: Cancel,
    statements: StatementBounds,
    is_behind_dashes: bool,
    place: SqlPlace,
    /// Nothing but settings stands at the head of the dump. All clients have them.
    is_understood: bool,
    made: MadeTable,
    /// Rows of the table go to all clients.
    is_spread: bool,
    /// Statements with its rows that went to one.
    spread_statements: u64,
    /// A statement with rows is passing. It begins a line, and no text in it has the end of one.
    is_rows: bool,
    goes_to: GoesTo,
    /// Lines that passed.
    line: u64,
    /// The first client has statements of which it is not known that they are done.
    is_first_behind: bool,
    /// Some client may have rows of which it is not known that they are in.
    are_rows_behind: bool,
    /// What is written would be for nothing.
    is_over: bool,
}

impl SpreadRows {
    fn new(inputs: Vec<Box<dyn Write + Send>>, crew: Arc<Crew>, cancel: Cancel) -> DecidedLines<Self> {
        let fed = |input| {
            let input = BufWriter::with_capacity(BUFFER_BYTES, input);
            FedClient { input, lines: 0, table: Vec::new() }
        };
        let edits = Self {
            clients: inputs.into_iter().map(fed).collect(),
            crew,
            cancel,
            statements: StatementBounds::default(),
            is_behind_dashes: false,
            place: SqlPlace::Start,
            is_understood: true,
            made: MadeTable::default(),
            is_spread: false,
            spread_statements: 0,
            is_rows: false,
            goes_to: GoesTo::All,
            line: 0,
            is_first_behind: false,
            are_rows_behind: false,
            is_over: false,
        };
        DecidedLines::new(edits, HEAD_BYTES)
    }

    /// Decides who gets the statement or comment that begins so. Tells whether it is a command to the client.
    fn begin(&mut self, line: &[u8]) -> io::Result<bool> {
        let is_command = self.statements.begin(line);
        let is_plain = !is_command && self.statements.are_plain();
        if is_plain {
            self.enter(line)?;
        }
        let is_comment = is_plain && (line.is_empty() || line.starts_with(b"--"));
        self.is_behind_dashes = line == b"--";
        let rows = line.strip_prefix(ROWS).filter(|rest| is_plain && quoted_name(rest).is_some());
        self.is_rows = rows.is_some();
        let behind = rows.and_then(|rest| rest.strip_prefix(b"`")?.strip_prefix(self.made.name.as_slice()));
        let is_of_table = behind.is_some_and(|rest| rest.starts_with(b"` "));
        let begins = |starts: &[&[u8]]| starts.iter().any(|start| line.starts_with(start));
        let is_needless = is_plain && is_needless(line);
        self.goes_to = match self.place {
            SqlPlace::Start if is_comment || is_setting(line) => GoesTo::All,
            SqlPlace::Rows if self.is_spread && is_of_table => GoesTo::One(self.idle()?),
            SqlPlace::Rows if self.is_spread && is_needless => GoesTo::Nobody,
            SqlPlace::Start => {
                // Settings come first. Those behind it might be for all as well.
                self.place = SqlPlace::Other("");
                self.is_understood = false;
                GoesTo::One(FIRST)
            }
            SqlPlace::Rows if is_comment || !self.is_spread && (is_needless || self.is_rows) => GoesTo::One(FIRST),
            SqlPlace::Made(_) if is_plain && !begins(&TRIGGERS) => GoesTo::One(FIRST),
            _ if is_comment => GoesTo::One(FIRST),
            _ => {
                // Nothing is known of it but that it came behind these rows.
                self.wait_for_rows()?;
                self.is_spread = false;
                GoesTo::One(FIRST)
            }
        };
        self.is_first_behind |= self.goes_to == GoesTo::One(FIRST) && !is_comment;
        Ok(is_command)
    }

    /// Notes that a part begins where a line says so.
    fn enter(&mut self, line: &[u8]) -> io::Result<()> {
        let Some((place, rest)) = place_of(line).filter(|_| self.is_behind_dashes) else { return Ok(()) };
        let name = rest.strip_suffix(b"`").unwrap_or_default();
        let is_of_table = !name.is_empty() && matches!(place, SqlPlace::Made("table") | SqlPlace::Rows);
        self.place = place;
        self.is_spread = false;
        if place == SqlPlace::Rows {
            let is_known = self.is_understood && is_of_table && self.made.name == name;
            self.is_spread = is_known && self.made.may_be_spread();
            self.spread_statements = 0;
        } else {
            self.made = MadeTable { name: name.to_vec(), ..MadeTable::default() };
        }
        if is_of_table {
            self.tell_table(FIRST, name)?;
        }
        let has_many_lines = self.crew.state().lines[FIRST].len() > KEPT_LINES;
        if self.is_spread {
            (0..self.clients.len()).try_for_each(|client| self.say(client, AUTOCOMMIT))?;
        }
        if self.is_spread || has_many_lines {
            self.wait_for_first()?;
        }
        Ok(())
    }

    /// Looks at a line of how a table is made.
    fn note_made(&mut self, head: &[u8]) {
        if self.place == SqlPlace::Made("table") {
            self.made.is_innodb |= head.starts_with(INNODB);
            self.made.has_primary_key |= head.starts_with(PRIMARY_KEY);
            // What is not seen of a long one may say anything.
            let has = |part: &&[u8]| memchr::memmem::find(head, part).is_some();
            self.made.is_for_one |= head.len() >= HEAD_BYTES || FOR_ONE.iter().any(has);
        }
    }

    /// Waits for a client that has nothing to do, and gives it the mark of the table.
    fn idle(&mut self) -> io::Result<usize> {
        if self.spread_statements == 1 {
            self.wait_for_rows()?;
        }
        self.spread_statements += 1;
        let found = self.crew.wait(&self.cancel, |state| {
            let idle = state.busy.iter().position(|busy| *busy == 0)?;
            state.forget_lines(idle);
            // For the statement that it gets now.
            state.busy[idle] += 1;
            Some(idle)
        })?;
        self.are_rows_behind = true;
        let name = self.made.name.clone();
        self.tell_table(found, &name)?;
        Ok(found)
    }

    /// Waits until the first client has done all it has.
    fn wait_for_first(&mut self) -> io::Result<()> {
        if !self.is_first_behind {
            return Ok(());
        }
        self.crew.state().busy[FIRST] += 1;
        self.ask_whether_done(FIRST)?;
        self.crew.wait(&self.cancel, |state| (state.busy[FIRST] == 0).then(|| state.forget_lines(FIRST)))?;
        self.is_first_behind = false;
        Ok(())
    }

    /// Waits until all rows that were given to clients are in.
    fn wait_for_rows(&mut self) -> io::Result<()> {
        if self.are_rows_behind {
            self.crew.wait(&self.cancel, |state| state.busy.iter().all(|busy| *busy == 0).then_some(()))?;
            self.are_rows_behind = false;
        }
        Ok(())
    }

    /// Lets a client say which table comes.
    fn tell_table(&mut self, client: usize, name: &[u8]) -> io::Result<()> {
        if self.clients[client].table == name {
            return Ok(());
        }
        self.clients[client].table = name.to_vec();
        self.is_first_behind |= client == FIRST;
        self.say(client, &mark(name))
    }

    /// Lets a client say when it has done all it was given, and gives it that.
    fn ask_whether_done(&mut self, client: usize) -> io::Result<()> {
        let mark = mark_done(&self.crew.sign);
        self.say(client, &mark)?;
        self.clients[client].input.flush()
    }

    /// Gives a client a line of our own.
    fn say(&mut self, client: usize, line: &str) -> io::Result<()> {
        let client = &mut self.clients[client];
        client.lines += 1;
        client.input.write_all(line.as_bytes())
    }

    /// Notes that a line of the dump begins.
    fn begin_line(&mut self) {
        let getting = match self.goes_to {
            GoesTo::All => 0..self.clients.len(),
            GoesTo::One(client) => client..client + 1,
            GoesTo::Nobody => return,
        };
        for client in getting {
            self.clients[client].lines += 1;
            let (line, of_dump) = (self.clients[client].lines, self.line);
            let mut state = self.crew.state();
            if state.line_of_dump(client, line) != of_dump {
                state.lines[client].push((line, of_dump));
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.goes_to {
            GoesTo::All => self.clients.iter_mut().try_for_each(|client| client.input.write_all(bytes)),
            GoesTo::One(client) => self.clients[client].input.write_all(bytes),
            GoesTo::Nobody => Ok(()),
        }
    }

    /// Does something, unless all of it is for nothing by now.
    fn unless_over(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.is_over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let done = work(self);
        self.is_over = done.is_err();
        done
    }
}

impl LineEdits for SpreadRows {
    fn decide(&mut self, head: &[u8]) -> io::Result<()> {
        self.unless_over(|this| {
            this.line += 1;
            let line = head.trim_ascii_end();
            let mut is_command = false;
            if !this.is_rows && this.statements.are_between() {
                is_command = this.begin(line)?;
            } else if !this.is_rows && this.statements.is_code() {
                this.note_made(head);
            }
            this.begin_line();
            if !is_command && !this.is_rows {
                this.statements.pass(head);
            }
            this.write(head)
        })
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unless_over(|this| {
            if !this.is_rows {
                this.statements.pass(bytes);
            }
            this.write(bytes)
        })
    }

    fn end_statement(&mut self) {
        if !std::mem::take(&mut self.is_rows) || !self.is_spread {
            return;
        }
        // What fails here fails again with the next statement.
        let _ = self.unless_over(|this| {
            let GoesTo::One(client) = this.goes_to else { return Ok(()) };
            this.ask_whether_done(client)
        });
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_over(|this| this.clients.iter_mut().try_for_each(|client| client.input.flush()))
    }

    fn cut_off(&mut self, held: &[u8]) {
        if !held.is_empty() {
            // Mostly there is nothing: a dump ends with a whole line. Whoever reads it says what is missing.
            let _ = self.decide(held);
        }
    }
}

/// Tells whether a line is one of the needless statements, all of it: what comes next is another.
fn is_needless(line: &[u8]) -> bool {
    let is_around_name = |(before, behind): &(&[u8], &[u8])| {
        let name = line.strip_prefix(*before).and_then(quoted_name);
        name.is_some_and(|(_, rest)| rest == *behind)
    };
    NEEDLESS.contains(&line) || NEEDLESS_OF_TABLE.iter().any(is_around_name)
}

/// Tells whether a line at the head of a dump sets something for the session.
fn is_setting(line: &[u8]) -> bool {
    let opened = [&b"/*!"[..], b"/*M!"].iter().find_map(|start| line.strip_prefix(*start));
    let behind = opened.map(|inner| &inner[inner.iter().take_while(|byte| byte.is_ascii_digit()).count()..]);
    // `/*M!999999\- enable the sandbox mode */` is one, too.
    line.starts_with(b"SET ") || behind.is_some_and(|rest| rest.starts_with(b" SET ") || rest.starts_with(b"\\-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n--\n-- Host: x\n/*!40101 SET NAMES utf8mb4 */;\n\n";
    const SIGN: &str = "5e";
    const END: &str = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n-- Dump completed\n";
    const TRIGGER: &str = "/*!50003 SET sql_mode = '' */ ;\nDELIMITER ;;\n/*!50003 CREATE*/ TRIGGER g BEGIN\n\
        INSERT INTO `a` VALUES (9);\nEND */;;\nDELIMITER ;\n";
    const VIEW: &str = "--\n-- Final view structure for view `v`\n--\n/*!50001 CREATE VIEW `v` AS select 1 */;\n";

    fn made(name: &str, key: &str, engine: &str) -> String {
        format!(
            "--\n-- Table structure for table `{name}`\n--\nDROP TABLE IF EXISTS `{name}`;\nCREATE TABLE `{name}` (\n  `x` int,\n\
             {key}) ENGINE={engine};\n"
        )
    }

    /// Rows of a table, a statement for each of the values.
    fn rows(name: &str, values: &[u32]) -> String {
        let statements =
            values.iter().map(|value| format!("INSERT INTO `{name}` VALUES\n({value},';'),\n({value},'');\n"));
        format!(
            "--\n-- Dumping data for table `{name}`\n--\nLOCK TABLES `{name}` WRITE;\n/*!40000 ALTER TABLE `{name}` DISABLE KEYS */;\n\
             {}/*!40000 ALTER TABLE `{name}` ENABLE KEYS */;\nUNLOCK TABLES;\n",
            statements.collect::<String>()
        )
    }

    /// What one of two clients got. All is done at once, but for the second rows of the first one: they are when the other has some.
    struct Got {
        number: usize,
        crew: Arc<Crew>,
        all: Arc<Mutex<[String; 2]>>,
        /// Statements with rows of the first one.
        rows: Arc<Mutex<u32>>,
    }

    impl Write for Got {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.all.lock().expect("unpoisoned")[self.number] += &text;
            let mut rows = self.rows.lock().expect("unpoisoned");
            for _ in text.matches(&mark_done(SIGN)) {
                *rows += u32::from(self.number == 0 && text.contains("INSERT") || self.number == 1 && *rows == 2);
                match (self.number, *rows) {
                    (0, 2) => continue,
                    (1, 3) => self.crew.hear(0, Some(&Said::Done(SIGN.into()))),
                    _ => {}
                }
                // What is not ours says nothing.
                self.crew.hear(self.number, Some(&Said::Done("other".into())));
                self.crew.hear(self.number, Some(&Said::Done(SIGN.into())));
            }
            if text.contains("TRIGGER") {
                assert!(self.crew.state().busy.iter().all(|busy| *busy == 0), "rows are in before there are triggers");
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fed(crew: &Arc<Crew>, cancel: &Cancel) -> (DecidedLines<SpreadRows>, Arc<Mutex<[String; 2]>>) {
        let (all, rows): (Arc<Mutex<[String; 2]>>, Arc<Mutex<u32>>) = Default::default();
        let got = |number| Got { number, crew: crew.clone(), all: all.clone(), rows: rows.clone() };
        let inputs = (0..2).map(|number| Box::new(got(number)) as Box<dyn Write + Send>).collect();
        (SpreadRows::new(inputs, crew.clone(), cancel.clone()), all)
    }

    /// Returns what two clients got, without our own lines.
    fn spread(dump: &str, piece: usize) -> [String; 2] {
        let crew = Crew::of(2, SIGN);
        let (mut spread, all) = fed(&crew, &Cancel::default());
        dump.as_bytes().chunks(piece).for_each(|part| spread.write_all(part).expect("written"));
        spread.flush().expect("written");
        drop(spread);
        let all = all.lock().expect("unpoisoned").clone();
        let state = crew.state();
        let lines: Vec<&str> = dump.split_inclusive('\n').collect();
        let mut client = 0;
        all.map(|text| {
            let is_ours = |line: &str| line.starts_with("SELECT 'coffre ") || line == AUTOCOMMIT;
            let got = text.split_inclusive('\n').zip(1..).filter(|(line, _)| !is_ours(line));
            let kept: String = got
                .map(|(line, at)| {
                    let of_dump = usize::try_from(state.line_of_dump(client, at)).expect("few");
                    assert_eq!(lines.get(of_dump - 1), Some(&line), "line {at} of client {client}");
                    line
                })
                .collect();
            client += 1;
            kept
        })
    }

    #[test]
    fn rows_are_spread_and_everything_else_keeps_its_order() {
        const KEY: &str = "  PRIMARY KEY (`x`)\n";
        let others = [
            made("m", KEY, "MyISAM"),
            rows("m", &[4, 5]),
            made("n", "  KEY (`x`)\n", "InnoDB"),
            rows("n", &[6, 7]),
            made("p", KEY, "InnoDB\n PARTITION BY HASH (`x`)"),
            rows("p", &[9, 10]),
            made("h", "  PRIMARY KEY (`x`),\n  UNIQUE KEY `y` (`y`) USING HASH\n", "InnoDB"),
            rows("h", &[11, 12]),
            made("f", "  `FTS_DOC_ID` bigint(20) unsigned NOT NULL,\n  PRIMARY KEY (`x`)\n", "InnoDB"),
            rows("f", &[13, 14]),
            made("l", &format!("  `y` enum('{}') DEFAULT NULL,\n{KEY}", "y".repeat(3000)), "InnoDB"),
            rows("l", &[15, 16]),
            made("b", KEY, "InnoDB AUTO_INCREMENT=3"),
        ]
        .concat();
        let before = [START, &made("a", KEY, "InnoDB")].concat();
        let dump = [&*before, &rows("a", &[1, 2, 3, 4]), TRIGGER, &others, &rows("b", &[8]), VIEW, END].concat();
        for piece in [1, 7, 100, dump.len()] {
            let [first, second] = spread(&dump, piece);
            let bare = |name: &str, values: &[u32]| {
                let all = rows(name, values);
                all.split_inclusive('\n').filter(|line| !line.contains("TABLE")).collect::<String>()
            };
            let expected = [&*before, &bare("a", &[1, 2, 4]), TRIGGER, &others, &bare("b", &[8]), VIEW, END].concat();
            assert_eq!(first, expected);
            let of_second = rows("a", &[3]);
            let of_second: String = of_second
                .split_inclusive('\n')
                .filter(|line| line.starts_with("INSERT") || line.starts_with('('))
                .collect();
            assert_eq!(second, format!("{START}--\n{of_second}"));
        }
    }

    #[test]
    fn a_dump_that_is_not_understood_goes_to_one_client() {
        let whole = [made("a", "  PRIMARY KEY (`x`)\n", "InnoDB"), rows("a", &[1, 2])].concat();
        for dump in [
            "CREATE TABLE `a` (x int);\nINSERT INTO `a` VALUES\n(1);\n".to_owned(),
            rows("a", &[1, 2]),
            format!("SELECT 1;\nSET TIME_ZONE='+00:00';\n{whole}"),
        ] {
            let [first, second] = spread(&dump, dump.len());
            let comments = dump.split_inclusive('\n').take_while(|line| line.starts_with("--"));
            // The head of a dump is for all, as far as it says nothing.
            assert!(comments.collect::<String>().starts_with(&second), "{second}");
            assert_eq!(first, dump);
        }
        let [first, second] = spread(&whole.replace("INSERT INTO `a`", "INSERT INTO `b`"), 100);
        assert!(first.matches("INSERT").count() == 2 && !second.contains("INSERT"), "{first}{second}");
    }

    #[test]
    fn nothing_but_whole_statements_is_left_out() {
        for line in
            ["LOCK TABLES `a``b` WRITE;", "/*!40000 ALTER TABLE `a` ENABLE KEYS */;", "UNLOCK TABLES;", "commit;"]
        {
            assert!(is_needless(line.as_bytes()), "{line}");
        }
        for line in [
            "LOCK TABLES `a",
            "/*!40000 ALTER TABLE `a` ENABLE KEYS */; DROP TABLE b;",
            "COMMIT",
            "set autocommit=0; x",
        ] {
            assert!(!is_needless(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn no_transaction_of_one_client_keeps_the_others_from_a_table() {
        let rows_of_one = rows("m", &[1]).replace("INSERT", "set autocommit=0;\nINSERT");
        let dump =
            [START, &made("m", "", "MyISAM"), &rows_of_one, &made("a", "  PRIMARY KEY (`x`)\n", "InnoDB")].concat();
        let (mut spread, all) = fed(&Crew::of(2, SIGN), &Cancel::default());
        spread.write_all(format!("{dump}{}", rows("a", &[2])).as_bytes()).expect("written");
        let first = all.lock().expect("unpoisoned")[0].clone();
        let at = |part: &str| first.find(part).expect(part);
        assert!(at("set autocommit=0") < at(AUTOCOMMIT) && at(AUTOCOMMIT) < at("INSERT INTO `a`"), "{first}");
    }

    #[test]
    fn nothing_goes_on_when_a_client_fails_or_ending_is_asked_for() {
        let key = "  PRIMARY KEY (`x`)\n";
        let dump = [START, &made("a", key, "InnoDB"), &rows("a", &[1])].concat();
        let more = "INSERT INTO `a` VALUES\n(2);\n";
        for is_failure in [true, false] {
            let (crew, cancel) = (Crew::of(2, SIGN), Cancel::default());
            let (mut spread, all) = fed(&crew, &cancel);
            spread.write_all(dump.as_bytes()).expect("written");
            match is_failure {
                true => crew.hear(1, Some(&Said::Failed(1))),
                false => cancel.cancel(),
            }
            for _ in 0..2 {
                let error = spread.write_all(more.as_bytes()).expect_err("over");
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
            assert_eq!(spread.flush().expect_err("over").kind(), io::ErrorKind::BrokenPipe);
            drop(spread);
            assert!(all.lock().expect("unpoisoned").iter().all(|text| !text.contains("(2)")));
        }
    }

    #[test]
    fn what_failed_first_is_told_first_with_its_line_of_the_dump() {
        let crew = Crew::of(3, SIGN);
        crew.state().lines = vec![vec![(1, 1)], vec![(1, 1), (9, 100)], vec![(1, 1), (9, 200)]];
        crew.hear(2, Some(&Said::Failed(1)));
        [0, 1, 2].iter().for_each(|client| crew.hear(*client, None));
        let failed = |line: &str| {
            let mut heard = Heard::default();
            heard.last.extend(["INSERT INTO `a` VALUES".to_owned(), line.to_owned()]);
            Err(FeedError::Client { program: "mariadb".to_owned(), status: 1, heard })
        };
        let ended = vec![
            Ok(Heard::default()),
            failed("ERROR 1 (x) at line 12: b"),
            failed("ERROR 2 (x) at line 9: at line 3: c"),
        ];
        let Err(FeedError::Client { heard, .. }) = crew.told(ended) else { panic!("it failed") };
        assert_eq!(heard.last, ["ERROR 2 (x) at line 200: at line 3: c", "ERROR 1 (x) at line 103: b"]);
        let changed = |text: &str| {
            let mut heard = Heard::default();
            heard.changes.insert(text.to_owned());
            Ok(heard)
        };
        let heard = Crew::of(2, SIGN).told(vec![changed("t: x"), changed("t: y")]).expect("well");
        assert_eq!(heard.changes.into_iter().collect::<Vec<_>>(), ["t: x", "t: y"]);
    }
}
