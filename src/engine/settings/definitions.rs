//! THE table of settings. A line here is all that a new setting needs.

use std::sync::OnceLock;

use portrait_udfs::features::options::OPTION_KEYS;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// on or off.
    Bool,
    /// A whole number in a range, of a unit.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
        /// The unit of a bare number.
        unit: Unit,
    },
    /// A number in a range.
    Real {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// One of a list of words.
    Enum(&'static [&'static str]),
    /// Any text.
    Text,
    /// A zone's name or an offset.
    TimeZone,
    /// `ISO` and an order of day, month, year.
    DateStyle,
}

/// The unit of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    None,
    /// Milliseconds.
    Milliseconds,
    /// Kilobytes.
    Kilobytes,
}

/// Who may change a setting, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The session, at any time.
    Session,
    /// Only the start of the server.
    Start,
    /// Nobody: it describes the server.
    Never,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// The name as PostgreSQL spells it.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The default, in canonical text.
    pub default: &'static str,
    /// Who may change it.
    pub change: Change,
    /// Whether a client is told when it changes.
    pub reported: bool,
    /// What it does, in one line.
    pub doc: &'static str,
}

impl Definition {
    /// The name under which values are kept.
    pub(super) fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

const fn user(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Definition {
    Definition { name, kind, default, change: Change::Session, reported: false, doc }
}

const fn reported(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Definition {
    Definition { name, kind, default, change: Change::Session, reported: true, doc }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Definition {
    Definition { name, kind, default, change: Change::Never, reported: false, doc }
}

const fn told(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Definition {
    Definition { name, kind, default, change: Change::Never, reported: true, doc }
}

const MS: Kind = Kind::Integer { min: 0, max: 2_147_483_647, unit: Unit::Milliseconds };
const KB: Kind = Kind::Integer { min: 64, max: 2_147_483_647, unit: Unit::Kilobytes };
const COUNT: Kind = Kind::Integer { min: 0, max: 2_147_483_647, unit: Unit::None };
const LEVELS: Kind = Kind::Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]);
const ISOLATION: Kind = Kind::Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]);
/// Accepted because clients set it; it changes nothing here.
const ACCEPTED: &str = "Accepted for compatibility; has no effect.";

/// Every setting but `ml.*`.
pub static DEFINITIONS: &[Definition] = &[
    // What a session may change, and what it does here.
    reported("application_name", Kind::Text, "", "Sets the application name to be reported in logs."),
    reported("client_encoding", Kind::Enum(&["UTF8", "UTF-8", "UNICODE"]), "UTF8", "Sets the client's character set encoding: UTF8 only."),
    reported("DateStyle", Kind::DateStyle, "ISO, MDY", "Sets the display format for date and time values: ISO only."),
    reported("IntervalStyle", Kind::Enum(&["postgres"]), "postgres", "Sets the display format for interval values."),
    reported("TimeZone", Kind::TimeZone, "UTC", "Sets the time zone for displaying and interpreting time stamps."),
    user("search_path", Kind::Text, "\"$user\", public", "Sets the schema search order for names that are not schema-qualified."),
    user("statement_timeout", MS, "0", "Sets the maximum allowed duration of any statement: planning, running and sending; 0 = none."),
    user("client_min_messages", LEVELS, "notice", "Sets the message levels that are sent to the client."),
    user(
        "extra_float_digits",
        Kind::Integer { min: -15, max: 3, unit: Unit::None },
        "1",
        "Sets the number of digits displayed for floating-point values.",
    ),
    user("bytea_output", Kind::Enum(&["hex", "escape"]), "hex", "Sets the output format for bytea."),
    user(
        "funnel_compat",
        Kind::Enum(&["portrait", "clickhouse", "doris41", "doris3", "starrocks"]),
        "portrait",
        "Sets whose meaning window_funnel has where engines differ.",
    ),
    user(
        "identity_ids_max",
        Kind::Integer { min: 2, max: 10_000, unit: Unit::None },
        "32",
        "Sets how many ids a person may have: a link that would join more is refused.",
    ),
    user("event_future_tolerance", MS, "3600000", "Sets how far in the future an event may lie; later ones go to the quarantine."),
    reported("default_transaction_read_only", Kind::Bool, "off", "Sets the default read-only status of new transactions."),
    user("transaction_read_only", Kind::Bool, "off", "Sets the current transaction's read-only status."),
    user("default_transaction_isolation", ISOLATION, "read committed", "Sets the transaction isolation level of each new transaction."),
    user("transaction_isolation", ISOLATION, "read committed", "Sets the current transaction's isolation level."),
    user("default_transaction_deferrable", Kind::Bool, "off", "Sets the default deferrable status of new transactions."),
    user("transaction_deferrable", Kind::Bool, "off", "Whether to defer a read-only serializable transaction."),
    user("idle_in_transaction_session_timeout", MS, "0", "Sets the maximum allowed idle time between queries, when in a transaction."),
    user("idle_session_timeout", MS, "0", "Sets the maximum allowed idle time between queries, when not in a transaction."),
    reported("standard_conforming_strings", Kind::Enum(&["on"]), "on", "Causes '...' strings to treat backslashes literally."),
    // What a session may change in the engine; everything else of `datafusion.*` is closed.
    user(
        "datafusion.execution.batch_size",
        Kind::Integer { min: 16, max: 65_536, unit: Unit::None },
        "8192",
        "Rows per batch inside the engine.",
    ),
    user(
        "datafusion.execution.target_partitions",
        Kind::Integer { min: 0, max: 256, unit: Unit::None },
        "0",
        "Parallel partitions of a query; 0 = as many as query threads.",
    ),
    user("datafusion.execution.parquet.pushdown_filters", Kind::Bool, "off", "Evaluates filters while Parquet is decoded."),
    user("datafusion.optimizer.prefer_existing_sort", Kind::Bool, "off", "Prefers keeping an order to repartitioning and sorting again."),
    user("datafusion.optimizer.prefer_hash_join", Kind::Bool, "on", "Prefers hash joins to sort-merge joins; off needs less memory."),
    user("datafusion.explain.logical_plan_only", Kind::Bool, "off", "EXPLAIN prints the logical plan only."),
    user("datafusion.explain.show_statistics", Kind::Bool, "off", "EXPLAIN prints the statistics of each operator."),
    // What describes the server.
    told("server_version", Kind::Text, "15.0 (Portrait 0.1.0)", "Shows the server version."),
    fixed("server_version_num", COUNT, "150000", "Shows the server version as an integer."),
    told("server_encoding", Kind::Text, "UTF8", "Shows the server (database) character set encoding."),
    told("integer_datetimes", Kind::Bool, "on", "Shows whether datetimes are integer based."),
    told("is_superuser", Kind::Bool, "off", "Shows whether the current user is a superuser."),
    told("session_authorization", Kind::Text, "", "Shows the session user name."),
    fixed("role", Kind::Text, "none", "Shows the current role."),
    told("in_hot_standby", Kind::Bool, "off", "Shows whether hot standby is currently active."),
    fixed("max_identifier_length", COUNT, "63", "Shows the maximum identifier length."),
    fixed("max_index_keys", COUNT, "32", "Shows the maximum number of index keys."),
    fixed("max_function_args", COUNT, "100", "Shows the maximum number of function arguments."),
    fixed("block_size", COUNT, "8192", "Shows the size of a disk block."),
    fixed("lc_collate", Kind::Text, "C", "Shows the collation order locale."),
    fixed("lc_ctype", Kind::Text, "C", "Shows the character classification locale."),
    fixed("data_checksums", Kind::Bool, "on", "Shows whether data checksums are turned on."),
    fixed("wal_level", Kind::Text, "replica", "Shows the level of information written to the log."),
    fixed("password_encryption", Kind::Enum(&["scram-sha-256"]), "scram-sha-256", "Chooses the algorithm for encrypting passwords."),
    // What clients of PostgreSQL set; without effect here.
    user("lock_timeout", MS, "0", ACCEPTED),
    user("escape_string_warning", Kind::Bool, "on", ACCEPTED),
    user("array_nulls", Kind::Bool, "on", ACCEPTED),
    user("backslash_quote", Kind::Enum(&["safe_encoding", "on", "off"]), "safe_encoding", ACCEPTED),
    user("check_function_bodies", Kind::Bool, "on", ACCEPTED),
    user("constraint_exclusion", Kind::Enum(&["partition", "on", "off"]), "partition", ACCEPTED),
    user("cursor_tuple_fraction", Kind::Real { min: 0.0, max: 1.0 }, "0.1", ACCEPTED),
    user("default_statistics_target", COUNT, "100", ACCEPTED),
    user("default_table_access_method", Kind::Text, "heap", ACCEPTED),
    user("default_tablespace", Kind::Text, "", ACCEPTED),
    user("temp_tablespaces", Kind::Text, "", ACCEPTED),
    user("default_text_search_config", Kind::Text, "pg_catalog.simple", ACCEPTED),
    user("default_toast_compression", Kind::Enum(&["pglz", "lz4"]), "pglz", ACCEPTED),
    user("effective_cache_size", KB, "4194304", ACCEPTED),
    user("enable_bitmapscan", Kind::Bool, "on", ACCEPTED),
    user("enable_hashagg", Kind::Bool, "on", ACCEPTED),
    user("enable_hashjoin", Kind::Bool, "on", ACCEPTED),
    user("enable_indexonlyscan", Kind::Bool, "on", ACCEPTED),
    user("enable_indexscan", Kind::Bool, "on", ACCEPTED),
    user("enable_material", Kind::Bool, "on", ACCEPTED),
    user("enable_mergejoin", Kind::Bool, "on", ACCEPTED),
    user("enable_nestloop", Kind::Bool, "on", ACCEPTED),
    user("enable_parallel_hash", Kind::Bool, "on", ACCEPTED),
    user("enable_partitionwise_aggregate", Kind::Bool, "off", ACCEPTED),
    user("enable_partitionwise_join", Kind::Bool, "off", ACCEPTED),
    user("enable_seqscan", Kind::Bool, "on", ACCEPTED),
    user("enable_sort", Kind::Bool, "on", ACCEPTED),
    user("enable_tidscan", Kind::Bool, "on", ACCEPTED),
    user("from_collapse_limit", COUNT, "8", ACCEPTED),
    user("join_collapse_limit", COUNT, "8", ACCEPTED),
    user("geqo", Kind::Bool, "on", ACCEPTED),
    user("gin_fuzzy_search_limit", COUNT, "0", ACCEPTED),
    user("hash_mem_multiplier", Kind::Real { min: 1.0, max: 1000.0 }, "2", ACCEPTED),
    user("jit", Kind::Bool, "off", ACCEPTED),
    user("lc_messages", Kind::Text, "C", ACCEPTED),
    user("lc_monetary", Kind::Text, "C", ACCEPTED),
    user("lc_numeric", Kind::Text, "C", ACCEPTED),
    user("lc_time", Kind::Text, "C", ACCEPTED),
    user("log_min_duration_statement", Kind::Integer { min: -1, max: 2_147_483_647, unit: Unit::Milliseconds }, "-1", ACCEPTED),
    user("log_statement", Kind::Enum(&["none", "ddl", "mod", "all"]), "none", ACCEPTED),
    user("maintenance_work_mem", KB, "65536", ACCEPTED),
    user("max_parallel_workers", COUNT, "8", ACCEPTED),
    user("max_parallel_workers_per_gather", COUNT, "2", ACCEPTED),
    user("parallel_setup_cost", Kind::Real { min: 0.0, max: 1e308 }, "1000", ACCEPTED),
    user("parallel_tuple_cost", Kind::Real { min: 0.0, max: 1e308 }, "0.1", ACCEPTED),
    user("plan_cache_mode", Kind::Enum(&["auto", "force_generic_plan", "force_custom_plan"]), "auto", ACCEPTED),
    user("quote_all_identifiers", Kind::Bool, "off", ACCEPTED),
    user("random_page_cost", Kind::Real { min: 0.0, max: 1e308 }, "4", ACCEPTED),
    user("seq_page_cost", Kind::Real { min: 0.0, max: 1e308 }, "1", ACCEPTED),
    user("row_security", Kind::Bool, "on", ACCEPTED),
    user("session_replication_role", Kind::Enum(&["origin", "replica", "local"]), "origin", ACCEPTED),
    user("synchronize_seqscans", Kind::Bool, "on", ACCEPTED),
    user("synchronous_commit", Kind::Enum(&["on", "off", "local", "remote_write", "remote_apply"]), "on", ACCEPTED),
    user("tcp_keepalives_idle", COUNT, "0", ACCEPTED),
    user("tcp_keepalives_interval", COUNT, "0", ACCEPTED),
    user("temp_buffers", KB, "8192", ACCEPTED),
    user("track_activities", Kind::Bool, "on", ACCEPTED),
    user("vacuum_cost_delay", Kind::Real { min: 0.0, max: 100.0 }, "0", ACCEPTED),
    user("work_mem", KB, "4096", ACCEPTED),
    user("xmlbinary", Kind::Enum(&["base64", "hex"]), "base64", ACCEPTED),
    user("xmloption", Kind::Enum(&["content", "document"]), "content", ACCEPTED),
];

/// The settings `ml.<option>`: one per key of the training options, checked by the functions that read them.
pub(super) fn ml() -> &'static [Definition] {
    static ML: OnceLock<Vec<Definition>> = OnceLock::new();
    ML.get_or_init(|| {
        OPTION_KEYS
            .iter()
            .map(|option| {
                let name: &'static str = Box::leak(format!("ml.{}", option.key).into_boxed_str());
                user(name, Kind::Text, option.default, option.doc)
            })
            .collect()
    })
}
