import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** JDBC: statements as JSON lines in, answers as JSON lines out; with text results, then with binary ones. */
public final class Compare {
    public static void main(String[] args) throws Exception {
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        List<String> statements = new ArrayList<>();
        try (var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line; (line = in.readLine()) != null;) {
                statements.add(unquoted(line));
            }
        }
        for (String format : new String[] {"text", "binary"}) {
            var environment = System.getenv();
            var url = "jdbc:postgresql://" + environment.get("PGHOST") + ":" + environment.get("PGPORT") + "/" + environment.get("PGDATABASE")
                + "?prepareThreshold=" + (format.equals("binary") ? -1 : 0);
            try (Connection connection = DriverManager.getConnection(url, environment.get("PGUSER"), environment.get("PGPASSWORD"))) {
                for (String text : statements) {
                    out.println("[" + quoted(format + " " + text) + ", " + quoted(answer(connection, text)) + "]");
                }
            }
        }
    }

    private static String answer(Connection connection, String text) {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            if (!statement.execute()) {
                return "done " + statement.getUpdateCount();
            }
            var shown = new StringBuilder();
            try (ResultSet rows = statement.getResultSet()) {
                ResultSetMetaData columns = rows.getMetaData();
                for (int at = 1; at <= columns.getColumnCount(); at++) {
                    shown.append(columns.getColumnLabel(at)).append(' ').append(columns.getColumnTypeName(at)).append(' ')
                        .append(columns.getPrecision(at)).append(' ').append(columns.getScale(at)).append("; ");
                }
                while (rows.next()) {
                    for (int at = 1; at <= columns.getColumnCount(); at++) {
                        Object value = rows.getObject(at);
                        String cell = value instanceof byte[] bytes ? Arrays.toString(bytes) : rows.getString(at);
                        shown.append('|').append(cell).append("|").append(value == null ? "null" : value.getClass().getSimpleName());
                    }
                }
            }
            return shown.toString();
        } catch (SQLException error) {
            return "error " + error.getSQLState();
        }
    }

    private static String quoted(String text) {
        var quoted = new StringBuilder("\"");
        for (char character : text.toCharArray()) {
            if (character < ' ' || character == '"' || character == '\\') {
                quoted.append(String.format("\\u%04x", (int) character));
            } else {
                quoted.append(character);
            }
        }
        return quoted.append('"').toString();
    }

    /** A JSON text, of the escapes that Python writes. */
    private static String unquoted(String line) {
        var text = new StringBuilder();
        for (int at = 1; at < line.length() - 1; at++) {
            char character = line.charAt(at);
            if (character != '\\') {
                text.append(character);
                continue;
            }
            at++;
            switch (line.charAt(at)) {
                case 'u' -> {
                    text.append((char) Integer.parseInt(line.substring(at + 1, at + 5), 16));
                    at += 4;
                }
                case 't' -> text.append('\t');
                case 'n' -> text.append('\n');
                default -> text.append(line.charAt(at));
            }
        }
        return text.toString();
    }
}
