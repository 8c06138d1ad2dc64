import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGResultSetMetaData;

/** JDBC: text and binary results, parameters, fetch size, metadata, COPY, errors, cancelling. */
public final class Check {
    private static void check(String label, Object seen, Object expected) {
        if (!java.util.Objects.deepEquals(seen, expected)) {
            throw new AssertionError(label + ": " + seen + " instead of " + expected);
        }
    }

    private static void values(Connection connection) throws SQLException {
        String query = "SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double precision, 'é'::text, x'00ff'::bytea,"
            + " 12.50::decimal(10,2), DATE '2024-02-29', TIMESTAMP '2024-02-29 12:34:56.5', ARRAY[1.5::real, 2.5::real], NULL::int"
            + " WHERE ?::int = 1";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            // From the fifth execution on results come in binary.
            for (int round = 0; round < 8; round++) {
                statement.setInt(1, 1);
                try (ResultSet row = statement.executeQuery()) {
                    check("row", row.next(), true);
                    check("boolean", row.getBoolean(1), true);
                    check("smallint", row.getShort(2), (short) 1);
                    check("int", row.getInt(3), 2);
                    check("bigint", row.getLong(4), 3L);
                    check("real", row.getFloat(5), 1.5f);
                    check("double", row.getDouble(6), 2.5);
                    check("text", row.getString(7), "é");
                    check("bytea", row.getBytes(8), new byte[] {0, (byte) 255});
                    check("decimal", row.getBigDecimal(9), new BigDecimal("12.50"));
                    check("date", row.getDate(10), Date.valueOf("2024-02-29"));
                    check("timestamp", row.getTimestamp(11), Timestamp.valueOf("2024-02-29 12:34:56.5"));
                    Array array = row.getArray(12);
                    check("array", (Object[]) array.getArray(), new Float[] {1.5f, 2.5f});
                    row.getInt(13);
                    check("null", row.wasNull(), true);
                }
            }
        }
    }

    private static void parameters(Connection connection) throws SQLException {
        String query = "SELECT ?::bigint, ?::double precision, ?::text, ?::decimal(10,2), ?::date, ?::timestamp, ?::boolean, ?::bytea";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int round = 0; round < 8; round++) {
                Timestamp timestamp = Timestamp.valueOf("2024-07-03 09:46:40.123456");
                statement.setLong(1, 1L << 40);
                statement.setDouble(2, 2.5);
                statement.setString(3, "it's é");
                statement.setBigDecimal(4, new BigDecimal("1.50"));
                statement.setDate(5, Date.valueOf("2024-02-29"));
                statement.setTimestamp(6, timestamp);
                statement.setBoolean(7, true);
                statement.setBytes(8, new byte[] {0, 1});
                try (ResultSet row = statement.executeQuery()) {
                    row.next();
                    check("bigint", row.getLong(1), 1L << 40);
                    check("double", row.getDouble(2), 2.5);
                    check("text", row.getString(3), "it's é");
                    check("decimal", row.getBigDecimal(4), new BigDecimal("1.50"));
                    check("date", row.getDate(5), Date.valueOf("2024-02-29"));
                    check("timestamp", row.getTimestamp(6), timestamp);
                    check("boolean", row.getBoolean(7), true);
                    check("bytea", row.getBytes(8), new byte[] {0, 1});
                }
            }
        }
    }

    private static void tables(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            check("create", statement.executeUpdate("CREATE TABLE jdbc_t (a BIGINT NOT NULL, b TEXT, c DECIMAL(10,2))"), 0);
            check("insert", statement.executeUpdate("INSERT INTO jdbc_t VALUES (1, 'x', 1.5), (2, 'y', 2.5)"), 2);
        }
        DatabaseMetaData metadata = connection.getMetaData();
        check("product", metadata.getDatabaseProductName(), "PostgreSQL");
        List<String> tables = new ArrayList<>();
        try (ResultSet rows = metadata.getTables(null, "public", "jdbc%", new String[] {"TABLE", "VIEW"})) {
            while (rows.next()) {
                tables.add(rows.getString("TABLE_NAME") + " " + rows.getString("TABLE_TYPE"));
            }
        }
        check("tables", tables, List.of("jdbc_t TABLE"));
        List<String> columns = new ArrayList<>();
        try (ResultSet rows = metadata.getColumns(null, "public", "jdbc_t", null)) {
            while (rows.next()) {
                columns.add(rows.getString("COLUMN_NAME") + " " + rows.getString("TYPE_NAME") + " " + rows.getInt("COLUMN_SIZE") + " "
                    + rows.getString("IS_NULLABLE"));
            }
        }
        check("columns", columns, List.of("a int8 19 NO", "b text 2147483647 YES", "c numeric 10 YES"));
        List<String> schemas = new ArrayList<>();
        try (ResultSet rows = metadata.getSchemas()) {
            while (rows.next()) {
                schemas.add(rows.getString(1));
            }
        }
        check("schemas", schemas.containsAll(List.of("information_schema", "pg_catalog", "public")), true);
        try (PreparedStatement statement = connection.prepareStatement("SELECT c AS price, a, a + 1 FROM jdbc_t AS t WHERE b = ?")) {
            statement.setString(1, "x");
            try (ResultSet rows = statement.executeQuery()) {
                origins(rows);
            }
        }
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT c AS price, a, 1 FROM jdbc_t")) {
            origins(rows);
        }
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DROP TABLE jdbc_t");
        }
    }

    /** Which columns of jdbc_t its columns c and a, and one of nothing, say that they are. */
    private static void origins(ResultSet rows) throws SQLException {
        ResultSetMetaData metadata = rows.getMetaData();
        PGResultSetMetaData of = (PGResultSetMetaData) metadata;
        List<String> found = new ArrayList<>();
        for (int column = 1; column <= metadata.getColumnCount(); column++) {
            found.add(metadata.getTableName(column) + "." + of.getBaseColumnName(column) + " " + metadata.isNullable(column));
        }
        check("origins", found, List.of("jdbc_t.c 1", "jdbc_t.a 0", ". 2"));
        check("schema", of.getBaseSchemaName(1), "public");
    }

    private static void uuids(Connection connection) throws SQLException {
        UUID key = UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("CREATE TABLE jdbc_u (id uuid, n int)");
        }
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc_u VALUES (?, ?)")) {
            for (int round = 0; round < 8; round++) {
                insert.setObject(1, round == 0 ? key : new UUID(0, round));
                insert.setInt(2, round);
                check("inserted", insert.executeUpdate(), 1);
            }
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT id, n FROM jdbc_u WHERE id = ?")) {
            for (int round = 0; round < 8; round++) {
                select.setObject(1, key);
                try (ResultSet row = select.executeQuery()) {
                    check("row", row.next(), true);
                    check("uuid", row.getObject(1), key);
                    check("type", row.getMetaData().getColumnTypeName(1), "uuid");
                }
            }
        }
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DROP TABLE jdbc_u");
        }
    }

    private static void cursors(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(100);
            int count = 0;
            try (ResultSet rows = statement.executeQuery("SELECT * FROM generate_series(1, 1050)")) {
                while (rows.next()) {
                    count++;
                }
            }
            check("fetched in pieces", count, 1050);
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    private static void copying(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("CREATE TABLE jdbc_c (a BIGINT, b TEXT)");
        }
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        check("copied in", copies.copyIn("COPY jdbc_c FROM STDIN (FORMAT csv)", new StringReader("1,x\n2,\n")), 2L);
        var taken = new StringWriter();
        copies.copyOut("COPY (SELECT * FROM jdbc_c ORDER BY a) TO STDOUT", taken);
        check("copied out", taken.toString(), "1\tx\n2\t\\N\n");
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DROP TABLE jdbc_c");
        }
    }

    private static void errors(Connection connection) throws SQLException {
        for (String[] pair : new String[][] {{"SELECT * FROM nothing_there", "42P01"}, {"SELCT 1", "42601"}, {"SELECT 1/0", "22012"}}) {
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery(pair[0]).next();
                throw new AssertionError(pair[0]);
            } catch (SQLException error) {
                check(pair[0], error.getSQLState(), pair[1]);
            }
        }
    }

    private static void cancelling(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.executeQuery("SELECT pg_sleep(60)").next();
            throw new AssertionError("not cancelled");
        } catch (SQLException error) {
            check("cancelled", error.getSQLState(), "57014");
        }
        try (Statement statement = connection.createStatement()) {
            check("after a cancel", statement.executeQuery("SELECT 1").next(), true);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection connection = DriverManager.getConnection(url, System.getenv("PGUSER"), System.getenv("PGPASSWORD"))) {
            values(connection);
            parameters(connection);
            tables(connection);
            uuids(connection);
            cursors(connection);
            copying(connection);
            errors(connection);
            cancelling(connection);
        }
        System.out.println("  " + Arrays.asList("values", "parameters", "tables", "uuids", "cursors", "copying", "errors", "cancelling"));
    }
}
