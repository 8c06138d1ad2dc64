\set id random(1, 1000)
SELECT b FROM pgbench_t WHERE a = :id;
