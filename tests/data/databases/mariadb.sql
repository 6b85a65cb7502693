-- Awkward objects and rows for an empty MariaDB database (10.11 or later), as the mariadb client runs them, with the
-- rights of root. All of it is the same in every load, and survives a plain mariadb-dump and restore except where it
-- says so.

SET NAMES utf8mb4;
SET SESSION time_zone = '+00:00';
SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO';
CREATE USER IF NOT EXISTS coffre_test_app@localhost;

-- A few thousand rows of every kind of column.
CREATE TABLE items (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    tiny TINYINT, small SMALLINT UNSIGNED, medium MEDIUMINT, whole INT(8) UNSIGNED ZEROFILL, big BIGINT,
    amount DECIMAL(20, 4) NOT NULL, exact DECIMAL(65, 30), ratio DOUBLE, approximate FLOAT,
    flags BIT(9), yes BOOLEAN,
    day DATE, clock TIME(3), at DATETIME(6), stamp TIMESTAMP(6) NULL, built YEAR,
    label VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL COMMENT 'it''s a "label" — with a \\ backslash',
    western VARCHAR(100) CHARACTER SET latin1, narrow CHAR(12) CHARACTER SET ascii COLLATE ascii_bin,
    wide VARCHAR(40) CHARACTER SET utf16, body TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci,
    digest BINARY(16), bytes VARBINARY(300), content BLOB, large MEDIUMBLOB,
    mood ENUM('sad', 'it''s "fine"', 'größer', '', 'a,b') CHARACTER SET utf8mb4,
    tags SET('a', 'b', 'c d', 'é') CHARACTER SET utf8mb4,
    doc JSON, spot POINT, shape GEOMETRY, ref UUID, host INET6, host4 INET4,
    doubled DECIMAL(21, 4) AS (amount * 2) STORED, label_length INT AS (CHAR_LENGTH(label)) VIRTUAL,
    doc_n INT AS (JSON_VALUE(doc, '$.n')) PERSISTENT,
    secret VARCHAR(20) INVISIBLE DEFAULT 'unseen',
    made VARCHAR(40) DEFAULT (CONCAT('made ', '''', 'here')),
    CONSTRAINT `amount is sane` CHECK (amount > -1000000),
    UNIQUE KEY ref (ref), KEY by_label (label(20) DESC, amount), KEY `virtual one` (label_length),
    KEY ignored (big) IGNORED,
    FULLTEXT KEY words (body), KEY by_tags (tags, mood)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT = 'items: ''quotes'', "double", `back`, 漢字; -- and \\';

INSERT INTO items (tiny, small, medium, whole, big, amount, exact, ratio, approximate, flags, yes, day, clock, at,
    stamp, built, label, western, narrow, wide, body, digest, bytes, content, large, mood, tags, doc, spot, shape, ref, host,
    host4, secret)
SELECT n % 256 - 128, n * 7 % 65536, n * 3 - 8388608, n, n * 1234567891 - 9000000000000000, n * 1.2345 - 1000,
    CAST(CONCAT(n, '.', REPEAT('0123456789', 2), n) AS DECIMAL(65, 30)), n / 3.0e0 * POW(10, n % 600 - 300),
        n % 1000 / 8, n % 512,
    n % 2, '1000-01-01' + INTERVAL n * 997 DAY, SEC_TO_TIME(n * 600.125 - 1000000),
        '0001-01-01' + INTERVAL n * 1234567 SECOND_MICROSECOND,
    '1970-01-01 00:00:01.000001' + INTERVAL n * 500000 SECOND, 1901 + n % 255,
    CONCAT('item ', n, ELT(n % 9 + 1, '', ' é', ' 漢字', ' 🦀', ' "q"', ' ''s', ' \\n', '\t', '\n')),
    IF(n % 5 = 0, NULL, CONCAT('Zoë ', n, ' €')), CONCAT('n', n, '  '), CONCAT('w 🦀', n),
    IF(n % 7 = 0, NULL, CONCAT('line one\r\nline\ttwo \\ \\. ''single'' "double" \0 zero \Z ', REPEAT(MD5(n), n % 4))),
    UNHEX(MD5(n)), CONCAT(X'0000FF27225C0A0D1A', UNHEX(MD5(CONCAT('b', n)))),
        IF(n % 3 = 0, '', UNHEX(REPEAT(SHA1(n), 3))),
    IF(n % 50 = 0, REPEAT(UNHEX(SHA1(n)), 200), NULL), n % 5 + 1, n % 16,
    JSON_OBJECT('n', n, 'ключ', 'значение', 'list', JSON_ARRAY(NULL, TRUE, 'a"b\\c\n')), POINT(n / 4, -n),
    ELT(n % 3 + 1, ST_GeomFromText(CONCAT('LINESTRING(0 0, ', n, ' 1)'), 4326),
        ST_GeomFromText('POLYGON((0 0, 9 0, 9 9, 0 0))'), NULL),
    CONCAT(LEFT(MD5(n), 8), '-0000-1000-8000-', RIGHT(MD5(n), 12)), CONCAT('2001:db8::', HEX(n % 65536)),
        CONCAT('10.0.', n % 256, '.1'),
    IF(n % 2 = 0, 'set', 'hidden')
FROM (SELECT CAST(seq AS SIGNED) AS n FROM seq_1_to_3000) AS numbers;

-- Values at the ends of their types.
CREATE TABLE corners (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, big BIGINT UNSIGNED, small BIGINT, exact DECIMAL(65, 0), ratio DOUBLE,
    approximate FLOAT, bits BIT(64), day DATE, clock TIME(6), at DATETIME(6), stamp TIMESTAMP NULL, year YEAR,
    value TEXT
) AUTO_INCREMENT = 5000;
INSERT INTO corners VALUES
    (0, 0, -9223372036854775808, REPEAT('9', 65), 1.7976931348623157e308, 3.40282e38, 0, '0000-00-00',
        '-838:59:59.999999',
        '0000-00-00 00:00:00', '1970-01-01 00:00:01', 0, ''),
    (-2147483648, 18446744073709551615, 9223372036854775807, CONCAT('-', REPEAT('9', 65)), 5e-324, 1.17549e-38, ~0,
        '9999-12-31',
        '838:59:59.999999', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07', 2155, 'NULL'),
    (-1, NULL, NULL, NULL, -0e0, 0.1, b'1', '2024-02-29', '00:00:00', '2024-02-29 23:59:59.000001', NULL, 1901, '\\N');
INSERT INTO corners (value) VALUES ('takes number 5000'), (NULL);

-- Every byte, in binary columns and as text of one byte a character; the latter has bytes that are no characters.
CREATE TABLE every_byte (
    n SMALLINT PRIMARY KEY, one BINARY(1), many VARBINARY(600), western VARCHAR(300) CHARACTER SET latin1
);
INSERT INTO every_byte
    SELECT seq, UNHEX(LPAD(HEX(seq), 2, '0')), NULL, CONVERT(UNHEX(LPAD(HEX(seq), 2, '0')) USING latin1)
    FROM seq_0_to_255;
INSERT INTO every_byte
    SELECT 256, X'00', GROUP_CONCAT(one ORDER BY n SEPARATOR ''), GROUP_CONCAT(western ORDER BY n SEPARATOR '')
    FROM every_byte;
CREATE TABLE western (id INT PRIMARY KEY, `prénom` VARCHAR(50) DEFAULT 'René')
    CHARACTER SET latin1 COLLATE latin1_german1_ci;
INSERT INTO western VALUES (1, DEFAULT), (2, 'Zoë'), (3, CONVERT(X'4A7572FC81' USING latin1));

-- Other engines and formats.
CREATE TABLE flat (id INT AUTO_INCREMENT PRIMARY KEY, value VARCHAR(50), spot POINT NOT NULL, SPATIAL KEY (spot),
    FULLTEXT KEY (value)) ENGINE = MyISAM;
INSERT INTO flat (value, spot) SELECT CONCAT('value ', seq), POINT(seq, seq) FROM seq_1_to_500;
DELETE FROM flat WHERE id > 490;
CREATE TABLE crash_safe (id INT, value BLOB) ENGINE = Aria TRANSACTIONAL = 1;
INSERT INTO crash_safe SELECT seq, MD5(seq) FROM seq_1_to_500;
INSERT INTO crash_safe SELECT * FROM crash_safe WHERE id <= 10;
CREATE TABLE squeezed (id INT PRIMARY KEY, value TEXT COMPRESSED, again TEXT DEFAULT (value), UNIQUE (again))
    ROW_FORMAT = DYNAMIC PAGE_COMPRESSED = 1;
INSERT INTO squeezed (id, value) SELECT seq, REPEAT(CONCAT('squeezed ', seq), 100) FROM seq_1_to_50;
CREATE TABLE no_rows (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 777;

-- Partitions, with rows in each.
CREATE TABLE events (id INT NOT NULL, at DATE NOT NULL, kind VARCHAR(20), PRIMARY KEY (id, at), KEY (kind))
    PARTITION BY RANGE (YEAR(at)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (
        PARTITION p2022 VALUES LESS THAN (2023), PARTITION p2023 VALUES LESS THAN (2024),
        PARTITION `p rest` VALUES LESS THAN MAXVALUE
    );
INSERT INTO events SELECT seq, '2022-01-01' + INTERVAL seq DAY, CONCAT('kind ', seq MOD 7) FROM seq_1_to_1500;
CREATE TABLE listed (id INT, place VARCHAR(10)) PARTITION BY LIST COLUMNS (place) (
    PARTITION north VALUES IN ('kiel', 'oslo'), PARTITION other VALUES IN (NULL, 'rome'), PARTITION remaining DEFAULT);
INSERT INTO listed SELECT seq, ELT(seq MOD 4 + 1, 'kiel', NULL, 'rome', 'paris') FROM seq_1_to_100;

-- Tables that refer to each other in a circle and to themselves.
CREATE TABLE teams (id INT PRIMARY KEY, name VARCHAR(40), leader INT);
CREATE TABLE people (
    id INT PRIMARY KEY, team INT NOT NULL, boss INT, item BIGINT UNSIGNED,
    CONSTRAINT `of a team` FOREIGN KEY (team) REFERENCES teams (id) ON DELETE CASCADE,
    CONSTRAINT has_boss FOREIGN KEY (boss) REFERENCES people (id) ON DELETE SET NULL ON UPDATE CASCADE,
    FOREIGN KEY (item) REFERENCES items (id)
);
INSERT INTO teams SELECT seq, CONCAT('team ', seq), NULL FROM seq_1_to_20;
INSERT INTO people SELECT seq, seq DIV 10 + 1, NULLIF(seq - 1, 0), seq FROM seq_1_to_199;
UPDATE teams SET leader = id * 10 - 1;
ALTER TABLE teams ADD CONSTRAINT led_by FOREIGN KEY (leader) REFERENCES people (id);

-- Names.
CREATE TABLE `Table ``with`` "quotes" and spaces` (
    `Upper Case` INT PRIMARY KEY, `select` INT, `a``b` INT, `naïve 漢字` INT, `percent % dollar $1 ' quote` INT,
    `back\slash` INT, `tab	in it` INT
) COMMENT = 'odd';
INSERT INTO `Table ``with`` "quotes" and spaces` SELECT seq, 1, 2, 3, 4, 5, 6 FROM seq_1_to_10;
CREATE TABLE `order` (`key` INT, `-- x` VARCHAR(10), `/* x` INT, KEY `index` (`key`));
INSERT INTO `order` VALUES (1, 'one', 1), (1, 'one', 1), (NULL, NULL, NULL);
CREATE TABLE `two
lines; and a semicolon` (id INT);
INSERT INTO `two
lines; and a semicolon` VALUES (1);
CREATE TABLE `a.b` (`c.d` INT);
INSERT INTO `a.b` VALUES (7);

-- Sequences.
CREATE SEQUENCE numbers START WITH 100 INCREMENT BY 7 MINVALUE 1 MAXVALUE 1000000 CACHE 10 CYCLE;
DO NEXTVAL(numbers), NEXTVAL(numbers);
CREATE SEQUENCE `down wards` START WITH -1 INCREMENT BY -3 MINVALUE -9000000000000000000 MAXVALUE -1 NOCACHE;
DO SETVAL(`down wards`, -31);
-- Not as a column's default: the server keeps that with the name of this database, so a copy would use this sequence.
CREATE SEQUENCE untouched;

-- History: a dump keeps it only with --dump-history, so a fingerprint has the rows of now.
CREATE TABLE prices (id INT PRIMARY KEY, price DECIMAL(10, 2)) WITH SYSTEM VERSIONING;
INSERT INTO prices SELECT seq, seq FROM seq_1_to_100;
UPDATE prices SET price = price + 0.01 WHERE id <= 50;
DELETE FROM prices WHERE id > 90;
CREATE TABLE contracts (
    id INT, valid_from DATE, valid_to DATE, PERIOD FOR valid (valid_from, valid_to), UNIQUE (id, valid WITHOUT OVERLAPS)
);
INSERT INTO contracts VALUES (1, '2020-01-01', '2021-01-01'), (1, '2021-01-01', '9999-12-31');

-- Views on views, the first named after those that need it.
CREATE VIEW z_cheap AS SELECT id, label, amount, doubled FROM items WHERE amount < 1000 WITH LOCAL CHECK OPTION;
CREATE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW cheap_again AS
    SELECT id AS `Id of "it"`, CONCAT(label, '\\ ''é''') AS name FROM z_cheap;
CREATE ALGORITHM = TEMPTABLE VIEW a_summary (mood, items) AS SELECT mood, COUNT(*) FROM items
    JOIN cheap_again ON id = `Id of "it"` GROUP BY mood;
CREATE VIEW chain AS WITH RECURSIVE c (id, depth) AS (
    SELECT id, 0 FROM people WHERE boss IS NULL UNION ALL SELECT p.id, depth + 1 FROM people AS p
        JOIN c ON p.boss = c.id
) SELECT * FROM c;

-- Routines, triggers, and events that have not happened; the sql_mode of each is kept with it.
CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(200));
DELIMITER //
CREATE FUNCTION slug(value VARCHAR(200)) RETURNS VARCHAR(200) CHARACTER SET utf8mb4 DETERMINISTIC NO SQL
    COMMENT 'it''s a slug'
BEGIN
    -- A comment; with 'quotes" and `more`.
    RETURN LOWER(REGEXP_REPLACE(value, '[^[:alnum:]]+', '-'));
END //
CREATE PROCEDURE tidy(IN days INT, OUT removed INT) SQL SECURITY INVOKER MODIFIES SQL DATA
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    DELETE FROM events WHERE at < CURRENT_DATE - INTERVAL days DAY;
    SET removed = ROW_COUNT();
    COMMIT;
END //
CREATE DEFINER = coffre_test_app@localhost PROCEDURE `odd ``name`` é`() SELECT 'ß', "double", '\\', ';'; //
CREATE TRIGGER stamp BEFORE INSERT ON teams FOR EACH ROW
BEGIN
    SET NEW.name = CONCAT(NEW.name, ' (stamped)');
END //
CREATE TRIGGER `z first` AFTER INSERT ON teams FOR EACH ROW INSERT INTO audit (what)
    VALUES (CONCAT('it''s ', NEW.id)) //
CREATE TRIGGER `a second` AFTER INSERT ON teams FOR EACH ROW FOLLOWS `z first` INSERT INTO audit (what)
    VALUES ('second; \\') //
CREATE TRIGGER refuse BEFORE INSERT ON western FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no more rows; a restore has its rows before this' //
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2020-01-01 03:00:00' ENABLE COMMENT 'it''s nightly'
    DO BEGIN DELETE FROM audit WHERE id < 0; CALL tidy(30, @removed); END //
CREATE EVENT `once ``far`` away` ON SCHEDULE AT '2037-12-31 23:59:59' ON COMPLETION PRESERVE DISABLE DO SET @x = 1 //
SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT' //
CREATE PROCEDURE "ansi quotes"() SELECT "id" || '!' FROM "order" JOIN items ON "key" = id //
SET SESSION sql_mode = 'ORACLE' //
CREATE PACKAGE counting AS
    FUNCTION next(n INT) RETURN INT;
END //
CREATE PACKAGE BODY counting AS
    FUNCTION next(n INT) RETURN INT AS BEGIN RETURN n + 1; END;
END //
SET SESSION sql_mode = DEFAULT //
DELIMITER ;
INSERT INTO teams VALUES (21, 'team 21', 1);
