//! What a dump of SQL does not carry: columns whose values or definitions come back as others.
//!
//! The dump programs write what the server gives them as text. MySQL writes the decimals, dates and blobs that JSON can hold
//! as numbers and texts, and as those they are read. Both servers keep the members of `ENUM` and `SET`, and MariaDB keeps plain
//! defaults, in a character set of three bytes, and write `?` for what is beyond; the rows that have such a member lose it
//! when they are put back. Columns with a masking policy (MySQL since 9.7) are given out as others to those whom it is for, without a word.
//! (`FLOAT` is told apart: those digits are all that any client is shown.)

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::database::major;
use crate::engine::mysql::server::{Mysql, ServerFacts};
use crate::engine::mysql::sql::{identifier, is_database, literal};
use crate::model::id::unhex;

/// Questions in one run of the client.
const BATCH: usize = 100;
/// The condition that a column is shown to some users as another.
const MASKED: &str = "extra LIKE '%MASKING POLICY%'";

/// A column that may be concerned.
#[derive(Debug)]
struct LossyColumn {
    kind: String,
    table: String,
    name: String,
    /// As SQL would declare it.
    declared: String,
}

impl Mysql {
    /// Lists the columns of a database that a dump of SQL changes, each with what is changed. Looks into their rows, and so can
    /// take as long as reading them; it ends with the error of an interrupted client when ending is asked for.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn losses(&self, server: &ServerFacts, database: &str, cancel: &Cancel) -> Result<Vec<String>, DatabaseError> {
        let columns = self.concerned(server, database, cancel)?;
        let asked = format!("asked what of {database:?} a dump of SQL changes");
        let mut found = Vec::new();
        for batch in columns.chunks(BATCH) {
            let questions: Vec<String> = batch
                .iter()
                .enumerate()
                .map(|(at, column)| column.question(server, database).replace("{at}", &at.to_string()))
                .collect();
            let answers = self.run_unless(&asked, &questions.concat(), cancel)?;
            let mut changed: Vec<usize> = answers.iter().filter_map(|line| line.parse().ok()).collect();
            changed.dedup();
            found.extend(changed.iter().filter_map(|&at| batch.get(at)).map(LossyColumn::told));
        }
        Ok(found)
    }

    /// Lists the columns that may be concerned.
    fn concerned(
        &self,
        server: &ServerFacts,
        database: &str,
        cancel: &Cancel,
    ) -> Result<Vec<LossyColumn>, DatabaseError> {
        let hex = |column: &str| format!("HEX(CONVERT({column} USING utf8mb4))");
        let plain_default = match server.is_mariadb() {
            true => "OR column_default LIKE '\\'%?%' AND COALESCE(generation_expression, '') = ''",
            false => "",
        };
        let statement = format!(
            "SELECT CASE WHEN {MASKED} THEN 'masked' WHEN data_type IN ('enum', 'set', 'json') THEN data_type ELSE 'default' END,
                   {}, {}, {}
               FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
               WHERE {} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
                 AND ({MASKED} OR data_type IN ('enum', 'set') AND column_type LIKE '%?%'
                      OR data_type = 'json' AND COALESCE(generation_expression, '') = '' {plain_default})
               ORDER BY table_name, ordinal_position;",
            hex("table_name"),
            hex("column_name"),
            hex("column_type"),
            is_database("table_schema", database),
        );
        let lines = self.run_unless(&format!("asked for the columns of {database:?}"), &statement, cancel)?;
        let column = |line: &String| {
            let mut fields = line.split('\t');
            let kind = fields.next()?.to_owned();
            let mut text = || String::from_utf8(unhex(fields.next()?)?).ok();
            Some(LossyColumn { kind, table: text()?, name: text()?, declared: text()? })
        };
        let columns: Option<Vec<LossyColumn>> = lines.iter().map(column).collect();
        columns.ok_or_else(|| DatabaseError::answer(&self.url().server(), lines.join("\n").as_bytes()))
    }
}

impl LossyColumn {
    /// Writes statements that print `{at}` when the column is changed.
    fn question(&self, server: &ServerFacts, database: &str) -> String {
        let table = format!("{}.{}", identifier(database), identifier(&self.table));
        let column = format!("{table}.{}", identifier(&self.name));
        match self.kind.as_str() {
            // Before 8.0 only what would be written otherwise can be found.
            "json" if major(&server.version) < 8 => format!(
                "SELECT {{at}} FROM {table} WHERE CAST({column} AS CHAR) <> CAST(CAST(CAST({column} AS CHAR) AS JSON) AS CHAR)
                   LIMIT 1;\n"
            ),
            // All values at any depth: elements of arrays, and members of objects. Not by `EXISTS`, for which MySQL 9.7 may look
            // into one row only and take that for all.
            "json" => format!(
                "SELECT {{at}} FROM {table} JOIN JSON_TABLE(JSON_ARRAY({column}), '$' COLUMNS (
                   NESTED PATH '$**[*]' COLUMNS (element JSON PATH '$'), NESTED PATH '$**.*' COLUMNS (member JSON PATH '$'))) parts
                   WHERE COALESCE(JSON_TYPE(element), JSON_TYPE(member)) NOT IN
                     ('NULL', 'OBJECT', 'ARRAY', 'BOOLEAN', 'INTEGER', 'UNSIGNED INTEGER', 'DOUBLE', 'STRING') LIMIT 1;\n"
            ),
            // Whom it is for, only its administrators may know.
            "masked" => "SELECT {at};\n".to_owned(),
            // What three bytes cannot hold.
            "default" => format!(
                "SELECT {{at}} FROM (SELECT 1) one LEFT JOIN {table} ON FALSE
                   WHERE CAST(CONVERT(CONVERT(DEFAULT({column}) USING utf8mb3) USING utf8mb4) AS BINARY)
                      <> CAST(CONVERT(DEFAULT({column}) USING utf8mb4) AS BINARY);\n"
            ),
            kind => self.question_about_members(&table, &column, kind == "set"),
        }
    }

    /// A member with a `?` is what it says when a row has it so; otherwise nothing tells.
    fn question_about_members(&self, table: &str, column: &str, is_set: bool) -> String {
        let members = members(&self.declared);
        let mut doubtful: Vec<(usize, &String)> =
            members.iter().enumerate().filter(|(_, member)| member.contains('?')).collect();
        let all = doubtful.len();
        doubtful.dedup_by(|a, b| a.1 == b.1);
        let are_equal = doubtful.len() < all || members.is_empty();
        if are_equal {
            return "SELECT {at};\n".to_owned();
        }
        let text = format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)");
        let question = |(at, member): (usize, &String)| {
            let has = match is_set {
                false => format!("{column} + 0 = {} AND {text} = CAST({} AS BINARY)", at + 1, literal(member)),
                true => {
                    format!("LOCATE(CAST({} AS BINARY), CONCAT(',', {text}, ',')) > 0", literal(&format!(",{member},")))
                }
            };
            format!("SELECT {{at}} FROM (SELECT 1) one WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {has});\n")
        };
        doubtful.into_iter().map(question).collect()
    }

    fn told(&self) -> String {
        let what = match self.kind.as_str() {
            "json" => "decimals, dates or blobs in JSON become doubles and texts",
            "masked" => "its masking policy may have kept values from this user",
            "default" => "characters beyond U+FFFF in the default become ?",
            _ => "characters beyond U+FFFF in members become ?, and rows lose those members",
        };
        format!("{}.{} ({what})", self.table, self.name)
    }
}

/// Takes the members out of `enum('a','it''s')`.
fn members(declared: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = declared;
    while let Some(at) = rest.find('\'') {
        let mut member = String::new();
        let mut chars = rest[at + 1..].char_indices().peekable();
        let mut end = rest.len();
        while let Some((place, c)) = chars.next() {
            match c {
                '\'' if chars.next_if(|(_, next)| *next == '\'').is_none() => {
                    end = at + 1 + place + 1;
                    break;
                }
                c => member.push(c),
            }
        }
        found.push(member);
        rest = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_apart() {
        assert_eq!(members("enum('a','it''s','','x,y')"), ["a", "it's", "", "x,y"]);
        assert_eq!(members("set('?')"), ["?"]);
        assert!(members("int").is_empty());
    }

    #[test]
    fn members_that_look_alike_are_not_what_they_say() {
        let column = |declared: &str| LossyColumn {
            kind: "enum".into(),
            table: "t".into(),
            name: "e".into(),
            declared: declared.into(),
        };
        let question = |declared: &str| column(declared).question_about_members("t", "e", false);
        assert_eq!(question("enum('?','?','a')"), "SELECT {at};\n");
        assert!(question("enum('a','?')").contains("e + 0 = 2 AND"));
        assert_eq!(question("enum('?','a?')").matches("NOT EXISTS").count(), 2);
    }
}
