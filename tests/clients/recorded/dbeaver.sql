-- client: DBeaver 24 (pgjdbc): connection, navigator, table and column editors, query results
-- Written down after what DBeaver asks: the same relations, columns and constructs.
-- let people: SELECT 'recorded_people'::regclass::oid
-- let public: SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'public'

-- send: extended
SET extra_float_digits = 3

-- send: extended
SET application_name = 'DBeaver 24.1.0 - Main <portrait>'

-- send: extended
SELECT current_schema(), session_user

-- send: extended
-- rows: nonempty
SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname

-- send: extended
SHOW search_path

-- send: extended
-- rows: nonempty
SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate OR db.datname = current_database() ORDER BY db.datname

-- send: extended
-- rows: nonempty
SELECT * FROM pg_catalog.pg_settings WHERE name = 'standard_conforming_strings'

-- send: extended
-- rows: nonempty
SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{a,abs,absolute,action,add,all,"null",select,table,user}'::text[])

-- send: extended
-- rows: nonempty
SELECT version()

-- send: extended
SELECT * FROM pg_catalog.pg_enum WHERE 1 <> 1 LIMIT 1

-- send: extended
SELECT reltype FROM pg_catalog.pg_class WHERE 1 <> 1 LIMIT 1

-- send: extended
-- rows: nonempty
SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description
FROM pg_catalog.pg_type t
LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem
LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid
WHERE t.typname IS NOT NULL
AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')

-- send: extended
-- parameter: 20 ${public}
-- ignore: relfilenode, relpages, reltuples, relallvisible, reltoastrelid, relfrozenxid, relminmxid, reltype, relhasrules, relreplident, relacl
SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, pg_catalog.pg_get_partkeydef(c.oid) AS partition_key
FROM pg_catalog.pg_class c
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass
WHERE c.relnamespace = $1 AND c.relkind NOT IN ('i', 'I', 'c', 't')

-- send: extended
-- parameter: 20 ${people}
-- ignore: attoptions, attalign, attstorage, attstattarget, attcompression, attcacheoff, attlen, attcollation, attndims
SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value, dsc.description, dep.objid
FROM pg_catalog.pg_attribute a
INNER JOIN pg_catalog.pg_class c ON (a.attrelid = c.oid)
LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid = ad.adrelid AND a.attnum = ad.adnum)
LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid)
LEFT OUTER JOIN pg_depend dep ON dep.refobjid = a.attrelid AND dep.deptype = 'i' AND dep.refobjsubid = a.attnum AND dep.classid = dep.refclassid
WHERE NOT a.attisdropped AND a.attnum > 0 AND c.oid = $1
ORDER BY a.attnum

-- send: extended
-- parameter: 20 ${people}
SELECT c.oid, c.*, t.relname AS tabrelname, rt.relnamespace AS refnamespace, d.description, CASE WHEN c.contype = 'c' THEN pg_get_constraintdef(c.oid, true) ELSE NULL END AS consrc_copy
FROM pg_catalog.pg_constraint c
INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_constraint'::regclass
WHERE c.conrelid = $1
ORDER BY c.oid

-- send: extended
-- parameter: 20 ${people}
SELECT i.*, i.indkey AS keys, c.relname, c.relnamespace, c.relam, c.reltablespace, tc.relname AS tabrelname, dsc.description, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred_expr, pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) AS expr, pg_catalog.pg_relation_size(i.indexrelid) AS index_rel_size, pg_catalog.pg_stat_get_numscans(i.indexrelid) AS index_num_scans
FROM pg_catalog.pg_index i
INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid
LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid = dsc.objoid
WHERE i.indrelid = $1
ORDER BY tabrelname, c.relname

-- send: extended
-- parameter: 20 ${people}
SELECT DISTINCT dep.deptype, dep.classid, dep.objid, cl.relkind, attr.attname, pg_get_expr(ad.adbin, ad.adrelid) adefval,
    CASE WHEN cl.relkind IS NOT NULL THEN cl.relkind::text || COALESCE(dep.objsubid::text, '')
        WHEN tg.oid IS NOT NULL THEN 'T'::text
        WHEN ty.oid IS NOT NULL THEN 'y'::text
        WHEN ns.oid IS NOT NULL THEN 'n'::text
        ELSE '' END AS type,
    COALESCE(coc.relname, clrw.relname, tgr.relname) AS ownertable,
    COALESCE(cl.relname, tg.tgname, ty.typname, ns.nspname) AS refname
FROM pg_depend dep
LEFT JOIN pg_class cl ON dep.objid = cl.oid
LEFT JOIN pg_attribute attr ON dep.objid = attr.attrelid AND dep.objsubid = attr.attnum
LEFT JOIN pg_trigger tg ON dep.objid = tg.oid
LEFT JOIN pg_class tgr ON tg.tgrelid = tgr.oid
LEFT JOIN pg_type ty ON dep.objid = ty.oid
LEFT JOIN pg_constraint co ON dep.objid = co.oid
LEFT JOIN pg_class coc ON co.conrelid = coc.oid
LEFT JOIN pg_rewrite rw ON dep.objid = rw.oid
LEFT JOIN pg_class clrw ON clrw.oid = rw.ev_class
LEFT JOIN pg_namespace ns ON dep.objid = ns.oid
LEFT JOIN pg_attrdef ad ON ad.oid = dep.objid
WHERE dep.refobjid = $1 AND dep.deptype = 'x'
ORDER BY type

-- send: extended
-- rows: any
-- parameter: 20 ${public}
SELECT p.oid AS poid, p.*, pg_catalog.pg_get_expr(p.proargdefaults, 0) AS arg_defaults, d.description
FROM pg_catalog.pg_proc p
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = p.oid AND d.objsubid = 0
WHERE p.pronamespace = $1
ORDER BY p.proname

-- send: extended
-- rows: nonempty
SELECT a.oid, a.*, pd.description FROM pg_catalog.pg_roles a LEFT JOIN pg_catalog.pg_shdescription pd ON a.oid = pd.objoid ORDER BY a.rolname

-- send: extended
-- rows: nonempty
SELECT t.oid, t.*, pg_tablespace_location(t.oid) loc FROM pg_catalog.pg_tablespace t ORDER BY t.oid

-- send: extended
-- rows: any
SELECT l.oid, l.* FROM pg_catalog.pg_language l ORDER BY l.oid

-- send: extended
-- rows: nonempty
SELECT am.oid, am.* FROM pg_catalog.pg_am am ORDER BY am.oid

-- send: extended
-- parameter: 1043 recorded_active
SELECT pg_get_viewdef($1::regclass, true) IS NOT NULL AS defined

-- send: extended
SELECT n.nspname, x.relname FROM pg_catalog.pg_class x, pg_catalog.pg_namespace n WHERE x.relkind IN ('r', 'v', 'm', 'f', 'p') AND x.relname ILIKE 'recorded%' AND n.oid = x.relnamespace ORDER BY x.relname LIMIT 100

-- send: extended
-- ignore: reltuples, relpages, total_rel_size, rel_size
-- parameter: 20 ${public}
SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid) AS total_rel_size, pg_catalog.pg_relation_size(c.oid) AS rel_size
FROM pg_class c
WHERE c.relnamespace = $1 AND c.relkind = 'r'

-- send: extended
SELECT * FROM public.recorded_people LIMIT 200

-- send: extended
SELECT count(*) FROM public.recorded_people

-- send: extended
SELECT * FROM (SELECT name, level FROM recorded_people) AS result_set ORDER BY "level" DESC NULLS LAST

-- send: extended
-- rows: any
SELECT sa.* FROM pg_catalog.pg_stat_activity sa

-- send: extended
SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = current_user

-- send: extended
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE

-- send: extended
BEGIN

-- send: extended
ROLLBACK
