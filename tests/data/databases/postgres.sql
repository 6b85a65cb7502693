-- Awkward objects and rows for an empty PostgreSQL database (14 or later) in UTF-8, as psql runs them. All of it is the
-- same in every load, survives a plain pg_dump and restore, and needs a superuser.

SET timezone = 'UTC';
SET client_min_messages = warning;

-- A role is the whole server's: several loads may want to make it at once.
DO $$
BEGIN
    CREATE ROLE coffre_test_app NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

CREATE SCHEMA shop;
CREATE SCHEMA "Odd schema";
CREATE SCHEMA extra;
COMMENT ON SCHEMA shop IS 'It''s a shop — with a “comment” of
two lines and a backslash \ at the end \';

CREATE EXTENSION hstore SCHEMA extra;
CREATE EXTENSION pg_trgm SCHEMA extra;
CREATE EXTENSION citext SCHEMA extra;
CREATE EXTENSION file_fdw;

-- Types.

CREATE TYPE shop.mood AS ENUM ('sad', 'it''s "fine"', 'größer', '');
ALTER TYPE shop.mood ADD VALUE 'so so' BEFORE 'it''s "fine"';
CREATE TYPE shop.spot AS (x numeric, y double precision, label text);
CREATE DOMAIN shop.postcode AS text CONSTRAINT "five digits" CHECK (VALUE ~ '^[0-9]{5}$');
CREATE DOMAIN shop.codes AS shop.postcode[] DEFAULT ARRAY['00000'] NOT NULL;
CREATE TYPE shop.price_range AS RANGE (subtype = numeric, multirange_type_name = shop.price_multirange);
CREATE COLLATION shop.plain (provider = libc, locale = 'C');

-- Functions.

CREATE FUNCTION shop.slug(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT lower(regexp_replace(value, '[^[:alnum:]]+', '-', 'g')) $$;

CREATE FUNCTION shop.add_two(a numeric, b numeric DEFAULT 2) RETURNS numeric LANGUAGE sql IMMUTABLE
    BEGIN ATOMIC
        SELECT a + b;
    END;

CREATE FUNCTION shop."Quote it"(INOUT value text, OUT size int) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $outer$
DECLARE
    -- A comment; with 'quotes" and $$ dollars $$.
    template constant text := $$it's "$1" \ $$;
BEGIN
    value := replace(template, '$1', value) || E'\t\\\n' || 'ß';
    size := length(value);
END
$outer$;
COMMENT ON FUNCTION shop."Quote it"(text) IS 'quotes $$, '' and "';

CREATE AGGREGATE shop.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
CREATE OPERATOR shop.<+> (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = shop.add_two);

-- Tables.

CREATE TABLE shop.items (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 3) PRIMARY KEY,
    label text NOT NULL COLLATE shop.plain,
    body text,
    note varchar(200),
    padded char(12),
    code shop.postcode,
    bytes bytea,
    doc jsonb,
    raw json,
    tags text[],
    grid int[][],
    amount numeric(20, 4) NOT NULL,
    exact numeric,
    ratio double precision,
    small real,
    at timestamptz,
    every interval,
    ref uuid UNIQUE,
    host inet,
    valid tstzrange,
    prices shop.price_range,
    mood shop.mood,
    place shop.spot,
    attributes extra.hstore,
    email extra.citext,
    search tsvector,
    gone int,
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED,
    CONSTRAINT "amount is sane" CHECK (amount > -1000000)
);
ALTER TABLE shop.items DROP COLUMN gone;
ALTER TABLE shop.items ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN host SET STATISTICS 500;
ALTER TABLE shop.items SET (fillfactor = 90);

INSERT INTO shop.items (label, body, note, padded, code, bytes, doc, raw, tags, grid, amount, exact, ratio, small, at,
    every, ref, host, valid, prices, mood, place, attributes, email, search)
SELECT
    'item ' || n || (ARRAY['', ' é', ' 漢字', ' 🦀', ' "q"', ' ''s', ' \n', E'\t', E'\n', ' Ω≈ç'])[n % 10 + 1],
    CASE WHEN n % 7 > 0 THEN E'line one\nline\ttwo \\ \\. "quoted" ''single'' ' || repeat(md5('body' || n), n % 4) END,
    CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN '\N' WHEN 3 THEN E'\\.\n\r\n\b\f\v' ELSE 'NULL' END,
    'p' || n % 100,
    lpad((n * 37 % 100000)::text, 5, '0'),
    CASE WHEN n % 11 > 0 THEN '\x0000ff'::bytea || decode(md5('bytes' || n) || md5(n::text) || '00', 'hex') END,
    jsonb_build_object('n', n, 'ключ', 'значение', 'nested', jsonb_build_array(NULL, true, n / 7.0, E'a"b\\c\n')),
    CASE WHEN n % 3 = 0 THEN json_build_object('b', n, 'a', '  spaced  ', 'b', 'twice') END,
    CASE WHEN n % 4 = 0 THEN NULL ELSE ARRAY['a,b', '{c}', 'd"e', NULL, 'NULL', '', E'f\\g', n::text] END,
    ARRAY[[n, -n, NULL], [0, n % 2, 2147483647]],
    n * 1.2345 - 1000,
    (n || '.' || repeat('0123456789', 2) || n)::numeric * 10::numeric ^ (n % 30 - 10),
    CASE n % 100 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN '-0' ELSE n / 3.0 END,
    n / 7.0,
    '2001-02-03 04:05:06.789012+00'::timestamptz + n * interval '1 hour 1.000001 s',
    make_interval(years => n % 9, days => -n, secs => n / 7.0),
    md5('uuid' || n)::uuid,
    CASE WHEN n % 2 = 0 THEN ('10.0.' || n % 256 || '.1/24')::inet ELSE ('2001:db8::' || to_hex(n))::inet END,
    tstzrange('2020-01-01 00:00+00', '2020-01-01 00:00+00'::timestamptz + n * interval '1 min',
        (ARRAY['[)', '[]', '()'])[n % 3 + 1]),
    CASE WHEN n % 10 = 0 THEN 'empty' ELSE shop.price_range(n, NULL) END,
    (enum_range(NULL::shop.mood))[n % 6 + 1],
    CASE WHEN n % 3 > 0 THEN ROW(n / 3.0, n / 3.0, 'a "b", (c) \ ' || n)::shop.spot END,
    extra.hstore(ARRAY['k', 'a=>b', 'n'], ARRAY[n::text, '"', NULL]),
    ('User' || n || '@Example.org')::extra.citext,
    to_tsvector('english', 'the quick brown foxes number ' || n)
FROM generate_series(1, 20000) AS n;

-- Values at the ends of their types.
CREATE TABLE shop.corners (
    id smallint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    big bigint, tiny smallint, flag boolean, cash money, name name, letter "char",
    bits bit(9), varbits bit varying, day date, clock time(3), zoned timetz, local timestamp, at timestamptz,
    net cidr, mac macaddr, mac8 macaddr8, dot point, way path, area polygon, ring circle, days daterange,
    many int4multirange, prices shop.price_multirange, query tsquery, page xml, kind regclass, position pg_lsn,
    codes shop.codes, items shop.mood[], nested shop.spot[], deep text[]
);
INSERT INTO shop.corners VALUES
    (-32768, -9223372036854775808, -32768, false, '-92233720368547758.08', 'n', '', B'000000001', B'', '4713-01-01 BC',
        '00:00', '00:00+15:59', '4713-01-01 00:00:00 BC', '-infinity', '0.0.0.0/0', '00:00:00:00:00:00',
        '00:00:00:00:00:00:00:00', '(-0,NaN)', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0,0),0>',
        '[-infinity,infinity]',
        '{}', '{}', '!a & b <-> c:*', '<a b="&quot;">é<!-- c --></a>', 'shop.items', '0/0', '{}', '{}', '{}',
        '[-1:0][3:3]={{a},{b}}'),
    (32767, 9223372036854775807, 32767, true, '92233720368547758.07', repeat('ü', 31), '\', B'111111111',
        B'1010101010101', '5874897-12-31', '24:00', '24:00-15:59', '294276-12-31 23:59:59.999999', 'infinity',
        '2001:db8::/32', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', '(1e300,-Infinity)', '((0,0),(1,1))',
        '((0,0))', '<(1,2),3>', 'empty', '{[1,3),[5,7),(,-5)}', '{(,1.5],[2.5,)}', '''it''''s''', 'text only', NULL,
        'FFFFFFFF/FFFFFFFF', DEFAULT, '{sad,NULL,""}', ARRAY[ROW(NULL, NULL, NULL), NULL]::shop.spot[], '{{{NULL}}}'),
    (0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{00001,99999}', NULL, NULL, NULL);

CREATE TABLE shop.no_columns ();
INSERT INTO shop.no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE shop.no_rows (id int);

CREATE UNLOGGED TABLE shop.scratch (id serial, value text DEFAULT md5('default'));
INSERT INTO shop.scratch (id) SELECT n FROM generate_series(1, 100) AS n;

-- One wide value, kept out of line.
CREATE TABLE shop.large_values (id int PRIMARY KEY, value text, bytes bytea);
INSERT INTO shop.large_values
SELECT n, string_agg(md5(n || '.' || m), E'\n' ORDER BY m), decode(string_agg(md5(m || '.' || n), '' ORDER BY m), 'hex')
FROM generate_series(1, 3) AS n, generate_series(1, 12000) AS m GROUP BY n;

-- Partitions: by range, one of them by hash, and a default; one has its columns in another order.
CREATE TABLE shop.events (id bigint, at timestamptz NOT NULL, kind text, payload jsonb DEFAULT '{}',
    PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE shop.events_2023 PARTITION OF shop.events
    FOR VALUES FROM ('2023-01-01 00:00+00') TO ('2024-01-01 00:00+00');
CREATE TABLE shop.events_2024 PARTITION OF shop.events
    FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00')
    PARTITION BY HASH (id);
CREATE TABLE shop.events_2024_even PARTITION OF shop.events_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.events_2024_odd PARTITION OF shop.events_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE "Odd schema"."events 2025" (payload jsonb, kind text, at timestamptz NOT NULL, id bigint NOT NULL);
ALTER TABLE shop.events ATTACH PARTITION "Odd schema"."events 2025"
    FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2026-01-01 00:00+00');
CREATE TABLE shop.events_default PARTITION OF shop.events DEFAULT;
CREATE INDEX events_kind ON shop.events (kind, at DESC NULLS LAST);
INSERT INTO shop.events
SELECT n, '2022-06-01 00:00+00'::timestamptz + n * interval '11 hours', 'kind ' || n % 17, jsonb_build_object('n', n)
FROM generate_series(1, 4000) AS n;

-- Inheritance, with rows in parent and child, and a child of two.
CREATE TABLE shop.places (id int PRIMARY KEY, name text NOT NULL DEFAULT 'nowhere', CHECK (id > 0));
CREATE TABLE shop.coded (code shop.postcode);
CREATE TABLE shop.towns (mayor text, name text DEFAULT 'a town') INHERITS (shop.places, shop.coded);
INSERT INTO shop.places SELECT n, 'place ' || n FROM generate_series(1, 50) AS n;
INSERT INTO shop.coded VALUES ('12345');
INSERT INTO shop.towns (id, name, mayor, code) SELECT n, 'town ' || n, NULLIF('mayor ' || n, 'mayor 60'), '10115'
FROM generate_series(51, 120) AS n;

-- Tables that refer to each other in a circle and to themselves.
CREATE TABLE shop.teams (id int PRIMARY KEY, name text, leader int NOT NULL);
CREATE TABLE shop.people (
    id int PRIMARY KEY,
    team int NOT NULL REFERENCES shop.teams ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    boss int REFERENCES shop.people ON DELETE SET NULL,
    item bigint REFERENCES shop.items ON UPDATE CASCADE
);
ALTER TABLE shop.teams ADD FOREIGN KEY (leader) REFERENCES shop.people DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO shop.teams SELECT n, 'team ' || n, n * 10 FROM generate_series(1, 20) AS n;
INSERT INTO shop.people SELECT n, n / 10 + CASE WHEN n < 200 THEN 1 ELSE 0 END, NULLIF(n, 1) - 1, 1000 + 3 * n
FROM generate_series(1, 209) AS n;
COMMIT;
CREATE TABLE shop.event_notes (
    event bigint, at timestamptz, note text,
    FOREIGN KEY (event, at) REFERENCES shop.events (id, at) MATCH FULL
);
INSERT INTO shop.event_notes SELECT id, at, 'noted' FROM shop.events WHERE id % 100 = 0;
INSERT INTO shop.event_notes VALUES (NULL, NULL, 'of nothing');
-- A row that its constraint would refuse, since the constraint came later.
CREATE TABLE shop.loose (item bigint);
INSERT INTO shop.loose VALUES (-1);
ALTER TABLE shop.loose ADD CONSTRAINT loose_item FOREIGN KEY (item) REFERENCES shop.items NOT VALID;
ALTER TABLE shop.loose ADD CONSTRAINT loose_sign CHECK (item > 0) NOT VALID;

CREATE TABLE shop.bookings (
    room int, during tsrange NOT NULL,
    CONSTRAINT "no overlap" EXCLUDE USING gist (during WITH &&) WHERE (room = 1),
    CONSTRAINT bookings_unique UNIQUE (room, during) DEFERRABLE
);
INSERT INTO shop.bookings
    SELECT 1, tsrange('2024-01-01'::timestamp + n * interval '1 day', '2024-01-02'::timestamp + n * interval '1 day')
    FROM generate_series(1, 100) AS n;

-- Names.
CREATE TABLE "Odd schema"."Table ""with"" quotes" (
    "Upper Case" int PRIMARY KEY, "select" text, "a""b" text, " leading and trailing " text, "naïve 漢字" text,
    "tab	in it" text, "percent % dollar $1 ' quote" text, "back\slash" text
);
INSERT INTO "Odd schema"."Table ""with"" quotes" SELECT n, 'a', 'b', 'c', 'd', 'e', 'f', 'g'
    FROM generate_series(1, 10) AS n;
CREATE TABLE "Odd schema"."two
lines" (id int, "column
too" text);
INSERT INTO "Odd schema"."two
lines" VALUES (1, 'one'), (2, E'two\nlines');
CREATE TABLE "Odd schema"."SELECT * FROM items; --" ("/* " int, """" int);
INSERT INTO "Odd schema"."SELECT * FROM items; --" VALUES (1, 2);
CREATE TABLE "Odd schema"."a.b" ("c.d" int);
INSERT INTO "Odd schema"."a.b" VALUES (7);
COMMENT ON COLUMN "Odd schema"."Table ""with"" quotes"."a""b" IS E'a comment\n-- like SQL; \\. \\restrict ''';

-- Indexes and statistics.
CREATE INDEX items_doc ON shop.items USING gin (doc jsonb_path_ops) WHERE id < 5000;
CREATE INDEX items_label_trigrams ON shop.items USING gin (label extra.gin_trgm_ops) WHERE id < 20000;
CREATE INDEX items_partial ON shop.items (amount) WHERE mood = 'sad' AND note IS NOT NULL;
CREATE INDEX "items Slug" ON shop.items (shop.slug(label), (lower(body)) text_pattern_ops) WHERE length(body) < 100;
CREATE INDEX items_at ON shop.items USING brin (at) WITH (pages_per_range = 4);
CREATE INDEX items_code ON shop.items USING hash (code);
CREATE INDEX items_valid ON shop.items USING gist (valid) WHERE id < 5000;
CREATE UNIQUE INDEX items_cover ON shop.items (amount DESC, id) INCLUDE (label);
CREATE STATISTICS shop.items_statistics (dependencies, ndistinct) ON code, mood FROM shop.items;
ALTER TABLE shop.items CLUSTER ON items_pkey;
ALTER TABLE shop.items REPLICA IDENTITY FULL;

-- Large objects: small, empty, with a hole, with every byte, and one of more than a megabyte.
SELECT lo_from_bytea(900001, '\x00ff00') AS made \gset
SELECT lo_create(900002) AS made \gset
SELECT lo_create(900003) AS made \gset
SELECT lo_put(900003, 300000, 'after the hole');
SELECT lo_from_bytea(900004,
    (SELECT decode(string_agg(lpad(to_hex(n), 2, '0'), '' ORDER BY n), 'hex')
    FROM generate_series(0, 255) AS n)) AS made \gset
SELECT lo_from_bytea(900005,
    (SELECT decode(string_agg(md5('large ' || n), '' ORDER BY n), 'hex')
    FROM generate_series(1, 80000) AS n)) AS made \gset
SELECT lo_from_bytea((910000 + n)::oid, convert_to('object ' || n, 'UTF8'))
    FROM generate_series(1, 20) AS n \g /dev/null
CREATE TABLE shop.attachments (id int PRIMARY KEY, content oid);
INSERT INTO shop.attachments SELECT n, 900000 + n FROM generate_series(1, 5) AS n;
COMMENT ON LARGE OBJECT 900001 IS 'a small one; it''s commented';
GRANT SELECT ON LARGE OBJECT 900005 TO coffre_test_app;
ALTER LARGE OBJECT 900004 OWNER TO coffre_test_app;

-- Views on views, one that needs a primary key, and materialised ones on them.
CREATE VIEW shop.cheap AS SELECT id, label, amount FROM shop.items WHERE amount < 1000 WITH LOCAL CHECK OPTION;
CREATE VIEW "Odd schema"."cheap & odd" AS SELECT id AS "Id", shop.slug(label) AS "slug" FROM shop.cheap
    WHERE id % 2 = 1;
CREATE VIEW shop.by_key AS SELECT p.*, count(*) AS members FROM shop.people AS p JOIN shop.people AS o ON o.boss = p.id
    GROUP BY p.id;
CREATE RECURSIVE VIEW shop.chain (id, depth) AS
    SELECT id, 0 FROM shop.people WHERE boss IS NULL
    UNION ALL SELECT p.id, depth + 1 FROM shop.people AS p JOIN chain AS c ON p.boss = c.id;
CREATE MATERIALIZED VIEW shop.summary AS
    SELECT mood, count(*) AS items, sum(amount OPERATOR(shop.<+>) 1) AS total, shop.product(id % 2 + 1) AS product
    FROM shop.items WHERE id < 1500 GROUP BY mood;
CREATE UNIQUE INDEX summary_mood ON shop.summary (mood);
CREATE MATERIALIZED VIEW shop.summary_of_summary AS SELECT sum(items) AS items FROM shop.summary;
CREATE MATERIALIZED VIEW shop.unfilled AS SELECT "slug", depth FROM "Odd schema"."cheap & odd", shop.chain WITH NO DATA;
COMMENT ON MATERIALIZED VIEW shop.unfilled IS 'has never been refreshed';
CREATE FUNCTION shop.cheap_ones() RETURNS SETOF shop.cheap LANGUAGE sql STABLE AS 'SELECT * FROM shop.cheap';
CREATE VIEW shop.through_function AS SELECT count(*) AS n FROM shop.cheap_ones();
CREATE RULE "cheap insert" AS ON DELETE TO "Odd schema"."cheap & odd" DO INSTEAD NOTHING;

-- Triggers, which would change or refuse the rows if they were there before them.
CREATE TABLE shop.audit (id bigserial PRIMARY KEY, what text, rows bigint);
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.name := NEW.name || ' (stamped)';
    RETURN NEW;
END
$$;
CREATE FUNCTION shop.note_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.audit (what, rows) SELECT TG_OP || ' ' || TG_ARGV[0], count(*) FROM changed;
    RETURN NULL;
END
$$;
CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE 'not allowed: %', TG_ARGV;
END
$body$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF name ON shop.teams FOR EACH ROW EXECUTE FUNCTION shop.stamp();
CREATE TRIGGER note_rows AFTER INSERT ON shop.teams REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION shop.note_rows('it''s \ "quoted"');
CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON shop.teams DEFERRABLE FOR EACH ROW
    WHEN (OLD.id > 5) EXECUTE FUNCTION shop.refuse('a', 'b c');
CREATE TRIGGER refuse_all BEFORE INSERT ON shop.places FOR EACH ROW EXECUTE FUNCTION shop.refuse();
ALTER TABLE shop.places DISABLE TRIGGER refuse_all;
CREATE TRIGGER refuse_events BEFORE INSERT ON shop.events FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION shop.refuse();
ALTER TABLE shop.events_2023 ENABLE ALWAYS TRIGGER refuse_events;
INSERT INTO shop.teams VALUES (21, 'team 21', 1);

CREATE PROCEDURE shop.tidy(days int DEFAULT 30, INOUT removed bigint DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM shop.events WHERE at < now() - make_interval(days => days);
    GET DIAGNOSTICS removed = ROW_COUNT;
    COMMIT;
END
$$;

-- An event trigger, whose log would grow by what a restore does if it were there too early.
CREATE TABLE shop.ddl_log (id int GENERATED ALWAYS AS IDENTITY, tag text);
CREATE FUNCTION shop.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.ddl_log (tag) VALUES (TG_TAG);
END
$$;
CREATE EVENT TRIGGER coffre_test_log_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE INDEX')
    EXECUTE FUNCTION shop.log_ddl();
CREATE TABLE shop.logged (id int);
ALTER TABLE shop.logged ADD COLUMN more text DEFAULT 'more';

-- Sequences.
CREATE SEQUENCE shop.down INCREMENT BY -7 MINVALUE -9223372036854775808 MAXVALUE 100 START WITH 50 CYCLE;
SELECT nextval('shop.down') + nextval('shop.down') AS made \gset
CREATE SEQUENCE shop.untouched AS smallint START WITH 32000 MAXVALUE 32767 CACHE 20;
CREATE SEQUENCE "Odd schema"."last one" MAXVALUE 9223372036854775807;
SELECT setval('"Odd schema"."last one"', 9223372036854775807, true) AS made \gset
CREATE SEQUENCE shop.set_back OWNED BY shop.no_rows.id;
SELECT setval('shop.set_back', 42, false) AS made \gset
SELECT setval(pg_get_serial_sequence('shop.items', 'id'), 500000) AS made \gset

-- Row level security and rights.
ALTER TABLE shop.people ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "own team" ON shop.people FOR SELECT TO coffre_test_app USING (team = 1);
CREATE POLICY small_ids ON shop.people AS RESTRICTIVE USING (id < 100) WITH CHECK (team <> 2);
GRANT USAGE ON SCHEMA shop, "Odd schema" TO coffre_test_app;
GRANT SELECT, INSERT ON shop.people, shop.teams TO coffre_test_app WITH GRANT OPTION;
GRANT SELECT (id, label), UPDATE (note) ON shop.items TO coffre_test_app;
GRANT USAGE ON SEQUENCE shop.down TO PUBLIC;
REVOKE EXECUTE ON FUNCTION shop.slug(text) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE shop.tidy TO coffre_test_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO coffre_test_app;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER TABLE shop.logged OWNER TO coffre_test_app;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Elsewhere.
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE shop.absent (line text) SERVER files OPTIONS (filename '/nonexistent/file', delimiter E'\x01');
CREATE TEXT SEARCH CONFIGURATION shop.simple_english (COPY = english);
ALTER TEXT SEARCH CONFIGURATION shop.simple_english ALTER MAPPING FOR asciiword WITH simple;
CREATE PUBLICATION coffre_test_publication FOR TABLE shop.corners (id, big) WHERE (id > 0), shop.audit;

-- The database's own settings and rights. They hold for the connections that come after.
DO $$
BEGIN
    EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'a test''s database');
    EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Pacific/Chatham');
    EXECUTE format('ALTER DATABASE %I SET datestyle = %L', current_database(), 'SQL, DMY');
    EXECUTE format('ALTER DATABASE %I SET intervalstyle = %L', current_database(), 'sql_standard');
    EXECUTE format('ALTER DATABASE %I SET bytea_output = escape', current_database());
    EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database());
    EXECUTE format('ALTER DATABASE %I SET search_path = "Odd schema", shop, public, extra', current_database());
    EXECUTE format('ALTER ROLE coffre_test_app IN DATABASE %I SET work_mem = %L', current_database(), '12MB');
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO coffre_test_app', current_database());
END
$$;
