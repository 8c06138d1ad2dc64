// postgres.js: statements as JSON lines in, answers as JSON lines out.
const postgres = require('postgres');
const readline = require('node:readline');

async function main() {
  const sql = postgres({ max: 1, onnotice: () => {} });
  const statements = [];
  for await (const line of readline.createInterface({ input: process.stdin })) statements.push(JSON.parse(line));
  for (const text of statements) {
    let answer;
    try {
      const rows = await sql.unsafe(text, [], { prepare: true }).values();
      answer = JSON.stringify([rows.command, (rows.columns || []).map((column) => [column.name, column.type]), [...rows]]);
    } catch (error) {
      answer = `error ${error.code}`;
    }
    console.log(JSON.stringify([text, answer]));
  }
  await sql.end();
}

main();
