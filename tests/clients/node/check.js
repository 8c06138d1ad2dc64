// node-postgres and postgres.js: values and parameters, prepared statements, cursors, COPY, cancelling, errors.
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { setTimeout } = require('node:timers/promises');
const { Client } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');
const copy = require('pg-copy-streams');
const postgres = require('postgres');

const VALUES = `SELECT true AS a, 1::smallint AS b, 2::int AS c, 3::bigint AS d, 1.5::real AS e, 2.5::double precision AS f, 'é' AS g,
  '\\x00ff'::bytea AS h, 12.50::numeric(10,2) AS i, timestamp '2024-02-29 12:34:56.5' AS j, ARRAY[1.5::real, 2.5::real] AS k,
  ARRAY['a', NULL] AS l, '2024-02-29 12:00:00+00'::timestamptz AS m, NULL AS n, '{"a": 1}'::json AS o`;

const at = new Date('2024-02-29T12:00:00Z');

function pgValues() {
  return { a: true, b: 1, c: 2, d: '3', e: 1.5, f: 2.5, g: 'é', h: Buffer.from([0, 255]), i: '12.50', j: new Date(2024, 1, 29, 12, 34, 56, 500),
    k: [1.5, 2.5], l: ['a', null], m: at, n: null, o: { a: 1 } };
}

async function sqlstate(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  return 'no error';
}

async function pg() {
  const client = new Client();
  await client.connect();
  assert.deepEqual((await client.query(VALUES)).rows, [pgValues()]);
  const given = [1, "it's", at, Buffer.from([0, 255]), [1.5, 2], true, null, ['a', 'b,c', null], { a: [1] }];
  const query = `SELECT $1::int AS a, $2::text AS b, $3::timestamptz AS c, $4::bytea AS d, $5::real[] AS e, $6::bool AS f, $7::text AS g,
    $8::text[] AS h, $9::json AS i`;
  assert.deepEqual(Object.values((await client.query(query, given)).rows[0]), given);
  const binary = await client.query({ text: 'SELECT 7::int AS a, 2.5::double precision AS b, true AS c, $1::text AS d', values: ['x'], binary: true });
  assert.deepEqual(binary.rows, [{ a: 7, b: 2.5, c: true, d: 'x' }]);
  for (let number = 0; number < 7; number++) {
    const named = await client.query({ name: 'next', text: 'SELECT $1::bigint + 1 AS n', values: [number] });
    assert.deepEqual(named.rows, [{ n: String(number + 1) }]);
  }
  await client.query('CREATE TABLE node_t (a BIGINT, b TEXT)');
  const into = client.query(copy.from('COPY node_t FROM STDIN'));
  into.end('1\tx\n2\t\\N\n');
  await once(into, 'finish');
  let taken = '';
  for await (const piece of client.query(copy.to('COPY (SELECT * FROM node_t ORDER BY a) TO STDOUT (FORMAT csv)'))) taken += piece;
  assert.equal(taken, '1,x\n2,\n');
  const columns = await client.query(`SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'node_t' ORDER BY ordinal_position`);
  assert.deepEqual(columns.rows, [{ column_name: 'a', data_type: 'bigint' }, { column_name: 'b', data_type: 'text' }]);
  await client.query('DROP TABLE node_t');
  const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, 1050) AS g'));
  const pages = [];
  for (let page; (page = await cursor.read(500)).length > 0;) pages.push(page.length);
  await cursor.close();
  assert.deepEqual(pages, [500, 500, 50]);
  let rows = 0;
  for await (const row of client.query(new QueryStream('SELECT g FROM generate_series(1, 10000) AS g'))) rows += row.g > 0 ? 1 : 0;
  assert.equal(rows, 10000);
  assert.equal(await sqlstate(client.query('SELECT 1/0')), '22012');
  assert.equal(await sqlstate(client.query('SELECT * FROM nothing_there')), '42P01');
  const other = new Client();
  await other.connect();
  const cancelled = setTimeout(300).then(() => other.query('SELECT pg_cancel_backend($1) AS done', [client.processID]));
  assert.equal(await sqlstate(client.query('SELECT pg_sleep(60)')), '57014');
  assert.deepEqual((await cancelled).rows, [{ done: true }]);
  await other.end();
  const several = await client.query('SELECT 1::int AS a; SELECT 2::int AS b');
  assert.deepEqual(several.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]]);
  await client.end();
  console.log('  pg');
}

async function postgresJs() {
  const sql = postgres({ max: 2, onnotice: () => {} });
  // This driver reads bigint as text, as pg does, and a NULL in an array as the word, from PostgreSQL too.
  assert.deepEqual({ ...(await sql.unsafe(VALUES))[0] }, { ...pgValues(), l: ['a', 'NULL'] });
  const row = (await sql`SELECT ${1}::int AS a, ${"it's"} AS b, ${at}::timestamptz AS c, ${[1, 2]}::int[] AS d, ${null}::text AS e,
    ${Buffer.from([0, 255])}::bytea AS f, ${true} AS g, ${1.5}::double precision AS h, ${'12345678901234'}::bigint AS i, ${sql.json({ a: 1 })}::json AS j`)[0];
  assert.deepEqual({ ...row }, { a: 1, b: "it's", c: at, d: [1, 2], e: null, f: Buffer.from([0, 255]), g: true, h: 1.5, i: '12345678901234', j: { a: 1 } });
  await sql`CREATE TABLE node_t (a BIGINT, b TEXT)`;
  assert.equal((await sql`INSERT INTO node_t ${sql([{ a: 1, b: 'x' }, { a: 2, b: null }])}`).count, 2);
  const into = await sql`COPY node_t FROM STDIN`.writable();
  into.end('3\tz\n');
  await once(into, 'finish');
  let taken = '';
  for await (const piece of await sql`COPY (SELECT * FROM node_t ORDER BY a) TO STDOUT`.readable()) taken += piece;
  assert.equal(taken, '1\tx\n2\t\\N\n3\tz\n');
  assert.deepEqual([...(await sql`SELECT a FROM node_t WHERE a = ANY(${[1, 3]}::bigint[]) ORDER BY a`)], [{ a: '1' }, { a: '3' }]);
  assert.deepEqual([...(await sql`SELECT a FROM node_t WHERE a IN ${sql([1, 3])} ORDER BY a`)], [{ a: '1' }, { a: '3' }]);
  await sql`DROP TABLE node_t`;
  const pages = [];
  for await (const page of sql`SELECT g FROM generate_series(1, 1050) AS g`.cursor(500)) pages.push(page.length);
  assert.deepEqual(pages, [500, 500, 50]);
  assert.deepEqual([...(await sql.begin(async (inside) => inside`SELECT 1::int AS a`))], [{ a: 1 }]);
  assert.equal(await sqlstate(sql`SELECT 1/0`), '22012');
  const sleeping = sql`SELECT pg_sleep(60)`;
  const cancelled = setTimeout(300).then(() => sleeping.cancel());
  assert.equal(await sqlstate(sleeping), '57014');
  await cancelled;
  await sql.end();
  console.log('  postgres.js');
}

async function main() {
  await pg();
  await postgresJs();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
