// node-postgres: statements as JSON lines in, answers as JSON lines out; by the simple protocol, then with parameters,
// which is the extended one.
const { Client } = require('pg');
const readline = require('node:readline');

async function main() {
  const client = new Client();
  await client.connect();
  const statements = [];
  for await (const line of readline.createInterface({ input: process.stdin })) statements.push(JSON.parse(line));
  for (const [name, extended] of [['simple', false], ['extended', true]]) {
    for (const text of statements) {
      let answer;
      try {
        const result = await client.query(extended ? { text, queryMode: 'extended', rowMode: 'array' } : { text, rowMode: 'array' });
        answer = JSON.stringify([result.command, result.fields.map((field) => [field.name, field.dataTypeID]), result.rows]);
      } catch (error) {
        answer = `error ${error.code}`;
      }
      console.log(JSON.stringify([`${name} ${text}`, answer]));
    }
  }
  await client.end();
}

main();
