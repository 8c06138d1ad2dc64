//! Settings of this room: whose meaning a call has where engines differ.

use datafusion::common::config::ConfigExtension;
use datafusion::common::extensions_options;
use datafusion::config::ConfigOptions;

extensions_options! {
    /// Options of the behaviour functions; a program sets them with `options.extensions.insert(…)`.
    pub struct BehaviorOptions {
        /// Whose meaning `window_funnel` has where engines differ: `portrait`, `clickhouse`, `doris41`, `doris3` or `starrocks`. A
        /// word of that name among the modes of a call overrides it.
        pub funnel_compat: String, default = "portrait".to_owned()
    }
}

impl BehaviorOptions {
    /// The options of a session that has chosen a dialect.
    pub fn new(funnel_compat: String) -> Self {
        Self { funnel_compat }
    }
}

impl ConfigExtension for BehaviorOptions {
    const PREFIX: &'static str = "behavior";
}

/// The setting `funnel_compat` of a session.
pub(super) fn funnel_compat(options: &ConfigOptions) -> &str {
    options.extensions.get::<BehaviorOptions>().map_or("portrait", |found| found.funnel_compat.as_str())
}
