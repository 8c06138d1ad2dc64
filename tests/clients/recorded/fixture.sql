-- The tables that the recorded statements are about, the same on both servers; one statement a line.
CREATE TABLE recorded_people (user_id BIGINT NOT NULL, name TEXT, level INTEGER, score DOUBLE PRECISION, weight REAL, balance NUMERIC(10,2), born DATE, seen_at TIMESTAMP, updated_at TIMESTAMPTZ, active BOOLEAN, tags TEXT[])
INSERT INTO recorded_people VALUES (1, 'Ann', 3, 0.5, 1.5, 10.25, DATE '1990-02-28', TIMESTAMP '2024-05-01 10:00:00', TIMESTAMPTZ '2024-05-01 10:00:00+00', true, ARRAY['a', 'b']), (2, 'Bert', 5, -1.25, 2.5, 0.10, DATE '2000-12-31', TIMESTAMP '2024-05-02 11:30:00', TIMESTAMPTZ '2024-05-02 11:30:00+00', false, ARRAY['c']), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
CREATE TABLE recorded_orders (order_id BIGINT NOT NULL, user_id BIGINT NOT NULL, ordered_at TIMESTAMP NOT NULL, price DOUBLE PRECISION)
INSERT INTO recorded_orders VALUES (10, 1, TIMESTAMP '2024-05-01 10:05:00', 9.5), (11, 1, TIMESTAMP '2024-05-01 10:15:00', 20), (12, 2, TIMESTAMP '2024-05-02 12:00:00', 5.25)
CREATE VIEW recorded_active AS SELECT user_id, name FROM recorded_people WHERE active
