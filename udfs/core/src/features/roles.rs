//! Which column of a source plays which role: the usual names, or the user's own words.
//!
//! Life of a request: schema + `columns` text → [`resolve_event_columns`] → an [`EventColumns`] that is stored
//! with the model, and a list of [`ColumnDecision`]s with reasons for `describe_events`. Names are compared
//! without case, blanks, dots, dashes and underscores, so `CustomerID`, `customer_id` and `customer id` are one.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit as ArrowTimeUnit};
use serde::{Deserialize, Serialize};

use super::events::KeyType;
use super::images::{holds_bytes, no_bytes};
use super::text::no_text;
use crate::error::{Code, Error, Result};
use crate::kernels::nearest::nearest;

/// What a column of an event source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whose event.
    User,
    /// When.
    Time,
    /// What happened.
    Event,
    /// With which item.
    Item,
    /// The item's category.
    Category,
    /// What it was worth.
    Value,
    /// The price of one; a value once multiplied by the quantity.
    Price,
    /// How many.
    Quantity,
    /// The event's own or its order's id; not a feature.
    EventId,
    /// The label of a labelled table.
    Label,
    /// A further column to learn from.
    Extra,
    /// A picture.
    Image,
    /// Free text.
    Text,
    /// Not used.
    Ignored,
}

impl Role {
    /// Its name in `columns` and `describe_events`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Time => "time",
            Self::Event => "event",
            Self::Item => "item",
            Self::Category => "category",
            Self::Value => "value",
            Self::Price => "price",
            Self::Quantity => "quantity",
            Self::EventId => "event_id",
            Self::Label => "label",
            Self::Extra => "extra",
            Self::Image => "image",
            Self::Text => "text",
            Self::Ignored => "ignored",
        }
    }
}

/// How the source writes times. All are UTC when they name no zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// An Arrow timestamp of any unit, with or without zone.
    Timestamp,
    /// A date; midnight.
    Date,
    /// An integer of seconds since 1970.
    EpochSeconds,
    /// Milliseconds.
    EpochMillis,
    /// Microseconds.
    EpochMicros,
    /// Nanoseconds.
    EpochNanos,
    /// Text such as `2024-03-01 12:00:00`.
    Text,
}

/// Where the value of an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueColumn {
    /// One column.
    Column(String),
    /// Price times quantity.
    Product(String, String),
}

/// The columns of an event source by role; names as in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventColumns {
    /// Whose event.
    pub user: String,
    /// When.
    pub time: String,
    /// What happened; without it every row is an event of one type.
    pub event: Option<String>,
    /// With which item.
    pub item: Option<String>,
    /// The item's category.
    pub category: Option<String>,
    /// What it was worth.
    pub value: Option<ValueColumn>,
    /// Further columns to learn from; numbers stay numbers, all else is a category.
    pub extra: Vec<String>,
    /// Free texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<String>,
    /// The picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The type of the user keys.
    pub key_type: KeyType,
    /// How times are written.
    pub time_unit: TimeUnit,
}

impl EventColumns {
    /// Adds the column of a `sum(column)` target to the extras when no role provides it yet, so that histories
    /// carry it. Call it before [`super::canonical_schema`].
    ///
    /// # Errors
    /// `UndefinedColumn` with the nearest name, `InvalidParameter` when the column is not a number.
    pub fn include_target(&mut self, target: &super::Target, source: &Schema) -> Result<()> {
        let super::Target::Sum { column, .. } = target else { return Ok(()) };
        if self.is_value(column) {
            return Ok(());
        }
        let field = find(source, column)?;
        if !is_number(field.data_type()) {
            let r#type = sql_type(field.data_type());
            return Err(Error::invalid(format!("column \"{}\" is of type {type}, not a number", field.name()))
                .hint("A sum(…) target needs a numeric column."));
        }
        if !self.extra.contains(field.name()) && !self.is_value(field.name()) {
            self.extra.push(field.name().clone());
        }
        Ok(())
    }

    /// Whether `column` is the value: by the name of its column, or as `value` when no column is called so.
    #[must_use]
    pub fn is_value(&self, column: &str) -> bool {
        match &self.value {
            Some(ValueColumn::Column(name)) => name.eq_ignore_ascii_case(column) || column.eq_ignore_ascii_case("value"),
            Some(ValueColumn::Product(..)) => column.eq_ignore_ascii_case("value"),
            None => false,
        }
    }
}

/// One line of `describe_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDecision {
    /// The role that the column plays.
    pub role: Role,
    /// The column.
    pub column_name: String,
    /// Its SQL type.
    pub r#type: String,
    /// What is done with it.
    pub decision: String,
    /// Why.
    pub reason: String,
}

/// The usual names, most telling first.
const USUAL_NAMES: &[(Role, &[&str])] = &[
    (
        Role::User,
        &[
            "userid",
            "uid",
            "visitorid",
            "customerid",
            "memberid",
            "clientid",
            "accountid",
            "buyerid",
            "shopperid",
            "subscriberid",
            "playerid",
            "personid",
            "custid",
            "customerno",
            "customernumber",
            "userno",
            "usernumber",
            "householdid",
            "householdkey",
            "profileid",
            "fullvisitorid",
            "anonymousid",
            "user",
            "visitor",
            "customer",
            "member",
            "client",
            "cookieid",
            "deviceid",
            "sessionid",
        ],
    ),
    (
        Role::Time,
        &[
            "eventtime",
            "eventtimestamp",
            "eventts",
            "timestamp",
            "ts",
            "time",
            "datetime",
            "eventdatetime",
            "eventat",
            "occurredat",
            "invoicedate",
            "transactiontimestamp",
            "transactiontime",
            "transactiondate",
            "orderdate",
            "ordertime",
            "orderedat",
            "purchasetime",
            "purchasedate",
            "purchasedat",
            "createdat",
            "createtime",
            "createdtime",
            "visittime",
            "visitedat",
            "actiontime",
            "behaviortime",
            "behaviourtime",
            "activitytime",
            "clicktime",
            "timestampms",
            "tsms",
            "timems",
            "eventtimems",
            "unixtime",
            "unixtimestamp",
            "epoch",
            "eventdate",
            "date",
            "day",
        ],
    ),
    (
        Role::Event,
        &[
            "eventtype",
            "eventname",
            "event",
            "behaviortype",
            "behaviourtype",
            "behavior",
            "behaviour",
            "actiontype",
            "action",
            "actionname",
            "activitytype",
            "activity",
            "interactiontype",
            "interaction",
            "type",
            "kind",
        ],
    ),
    (
        Role::Item,
        &[
            "itemid",
            "productid",
            "sku",
            "skuid",
            "stockcode",
            "goodsid",
            "articleid",
            "productcode",
            "itemcode",
            "productsku",
            "asin",
            "listingid",
            "contentid",
            "movieid",
            "songid",
            "trackid",
            "pageid",
            "upc",
            "item",
            "product",
        ],
    ),
    (
        Role::Category,
        &[
            "categoryid",
            "category",
            "categorycode",
            "categoryname",
            "itemcategory",
            "itemcategoryid",
            "productcategory",
            "productcategoryid",
            "catid",
            "productgroup",
            "department",
            "producttype",
        ],
    ),
    (
        Role::Value,
        &[
            "value",
            "amount",
            "revenue",
            "salesvalue",
            "saleamount",
            "totalamount",
            "totalprice",
            "total",
            "linetotal",
            "orderamount",
            "transactionamount",
            "transactionvalue",
            "purchaseamount",
            "eventvalue",
            "spend",
            "sales",
            "gmv",
        ],
    ),
    (Role::Price, &["price", "unitprice", "itemprice", "productprice", "saleprice"]),
    (Role::Quantity, &["quantity", "qty", "units", "unitssold", "numitems"]),
    (
        Role::EventId,
        &["eventid", "transactionid", "orderid", "invoiceno", "invoice", "invoiceid", "basketid", "orderno", "ordernumber", "rowid", "id"],
    ),
    (
        Role::Extra,
        &[
            "device",
            "devicetype",
            "country",
            "countrycode",
            "region",
            "state",
            "city",
            "os",
            "operatingsystem",
            "browser",
            "platform",
            "channel",
            "trafficsource",
            "traffictype",
            "trafficchannel",
            "source",
            "medium",
            "campaign",
            "referrer",
            "brand",
            "gender",
            "agegroup",
            "language",
            "store",
            "storeid",
            "paymentmethod",
            "visitortype",
        ],
    ),
];

fn normalise(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Resolves `columns` against a source's schema: `auto`, or `user=customer_id, time=ts, event=action, item=sku,
/// category=…, value=price` (or `value=price*quantity`, or `price=…, quantity=…`), `extra=device|country`. Without
/// `auto` in the list only user and time are guessed. `integer_range` gives the least and largest value of an
/// integer column where they are known; they tell seconds from milliseconds.
///
/// # Errors
/// `UndefinedColumn` (42703) with the nearest name, `InvalidParameter` (22023) for a malformed text or a type that
/// cannot play its role.
pub fn resolve_event_columns(
    schema: &Schema,
    columns: &str,
    integer_range: &dyn Fn(&str) -> Option<(i64, i64)>,
) -> Result<(EventColumns, Vec<ColumnDecision>)> {
    let mut picks = Picks::new(schema);
    let auto = picks.read(columns)?;
    picks.guess(Role::User);
    picks.guess(Role::Time);
    if auto {
        for role in [Role::Event, Role::Item, Role::Category, Role::Value, Role::Price, Role::Quantity, Role::EventId, Role::Extra] {
            picks.guess(role);
        }
    }
    picks.resolve(integer_range)
}

/// A role given to a column, and why.
struct Pick<'a> {
    role: Role,
    field: &'a Field,
    reason: String,
}

struct Picks<'a> {
    schema: &'a Schema,
    picks: Vec<Pick<'a>>,
}

impl<'a> Picks<'a> {
    const fn new(schema: &'a Schema) -> Self {
        Self { schema, picks: Vec::new() }
    }

    /// Reads the user's words; whether the rest is to be guessed.
    fn read(&mut self, columns: &str) -> Result<bool> {
        let mut auto = columns.trim().is_empty();
        for part in split_outside_quotes(columns, ',') {
            let part = part.trim();
            if part.eq_ignore_ascii_case("auto") {
                auto = true;
                continue;
            }
            if part.is_empty() {
                continue;
            }
            let Some((key, names)) = part.split_once('=') else {
                return Err(malformed(columns, &format!("\"{part}\" is not of the form role=column")));
            };
            let role = role_of(key.trim(), columns)?;
            for name in split_outside_quotes(names, if role == Role::Value { '*' } else { '|' }) {
                let name = unquote(name.trim());
                if name.is_empty() {
                    return Err(malformed(columns, &format!("no column is named for the role {}", role.name())));
                }
                self.assign(role, &name, columns)?;
            }
        }
        Ok(auto)
    }

    fn assign(&mut self, role: Role, name: &str, columns: &str) -> Result<()> {
        let field = find(self.schema, name)?;
        let taken = self.picks.iter().filter(|pick| pick.role == role).count();
        let several = match role {
            Role::Extra | Role::Text => usize::MAX,
            Role::Value => 2,
            _ => 1,
        };
        if taken >= several {
            return Err(malformed(columns, &format!("the role {} is given to more than one column", role.name())));
        }
        if role == Role::Image && !holds_bytes(field.data_type()) {
            return Err(no_bytes(field.name(), field.data_type()));
        }
        if role == Role::Text && !is_text(field.data_type()) {
            return Err(no_text(field.name(), field.data_type()));
        }
        self.picks.push(Pick { role, field, reason: "named in columns".into() });
        Ok(())
    }

    fn has(&self, role: Role) -> bool {
        self.picks.iter().any(|pick| pick.role == role)
    }

    /// Gives `role` to the most usual name among the columns that are still free and have a fitting type.
    fn guess(&mut self, role: Role) {
        let settled = match role {
            Role::Extra => false,
            Role::Price | Role::Quantity => self.has(role) || self.has(Role::Value),
            _ => self.has(role),
        };
        let Some((_, names)) = USUAL_NAMES.iter().find(|(of, _)| *of == role) else { return };
        if settled {
            return;
        }
        for usual in *names {
            let schema = self.schema;
            let found = schema.fields().iter().find(|field| {
                normalise(field.name()) == **usual
                    && fits(role, field.data_type())
                    && !self.picks.iter().any(|p| p.field.name() == field.name())
            });
            if let Some(field) = found {
                self.picks.push(Pick { role, field, reason: format!("a usual name for the {}", role.name()) });
                if role != Role::Extra {
                    return;
                }
            }
        }
    }

    fn field(&self, role: Role) -> Option<&'a Field> {
        self.picks.iter().find(|pick| pick.role == role).map(|pick| pick.field)
    }

    fn required(&self, role: Role) -> Result<&'a Field> {
        self.field(role).ok_or_else(|| {
            let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::new(Code::UndefinedColumn, format!("no column could be recognised as the {}", role.name()))
                .detail(format!("The columns are {}.", names.join(", ")))
                .hint(format!("Name it: columns => '{}=<column>'.", role.name()))
        })
    }

    fn resolve(mut self, integer_range: &dyn Fn(&str) -> Option<(i64, i64)>) -> Result<(EventColumns, Vec<ColumnDecision>)> {
        let user = self.required(Role::User)?;
        let time = self.required(Role::Time)?;
        if user.name() == time.name() {
            return Err(Error::invalid(format!("column \"{}\" cannot be both user and time", user.name())));
        }
        let key_type = key_type(user)?;
        let (time_unit, time_reason) = time_unit(time, integer_range)?;
        if let Some(pick) = self.picks.iter_mut().find(|pick| pick.role == Role::Time) {
            pick.reason = format!("{}; {time_reason}", pick.reason);
        }
        let value = self.value()?;
        let name = |role| self.field(role).map(|field| field.name().clone());
        let columns = EventColumns {
            user: user.name().clone(),
            time: time.name().clone(),
            event: name(Role::Event),
            item: name(Role::Item),
            category: name(Role::Category),
            value,
            extra: self.picks.iter().filter(|pick| pick.role == Role::Extra).map(|pick| pick.field.name().clone()).collect(),
            text: self.picks.iter().filter(|pick| pick.role == Role::Text).map(|pick| pick.field.name().clone()).collect(),
            image: name(Role::Image),
            key_type,
            time_unit,
        };
        let decisions = self.schema.fields().iter().map(|field| self.decision(field, &columns)).collect();
        Ok((columns, decisions))
    }

    fn value(&self) -> Result<Option<ValueColumn>> {
        let mut values = self.picks.iter().filter(|pick| pick.role == Role::Value).map(|pick| pick.field);
        let (price, quantity) = (self.field(Role::Price), self.field(Role::Quantity));
        for field in self.picks.iter().filter(|p| matches!(p.role, Role::Value | Role::Price | Role::Quantity)).map(|p| p.field) {
            if !is_number(field.data_type()) {
                let r#type = sql_type(field.data_type());
                return Err(Error::invalid(format!("column \"{}\" is of type {type}, not a number", field.name())));
            }
        }
        let owned = |field: &Field| field.name().clone();
        Ok(match (values.next(), values.next(), price, quantity) {
            (Some(first), Some(second), ..) => Some(ValueColumn::Product(owned(first), owned(second))),
            (Some(value), None, ..) => Some(ValueColumn::Column(owned(value))),
            (None, _, Some(price), Some(quantity)) => Some(ValueColumn::Product(owned(price), owned(quantity))),
            (None, _, Some(price), None) => Some(ValueColumn::Column(owned(price))),
            (None, _, None, _) => None,
        })
    }

    fn decision(&self, field: &Field, columns: &EventColumns) -> ColumnDecision {
        let pick = self.picks.iter().find(|pick| pick.field.name() == field.name());
        let role = pick.map_or(Role::Ignored, |pick| pick.role);
        let decision = match role {
            Role::User => format!("the user key, as {}", if columns.key_type == KeyType::Int64 { "bigint" } else { "text" }),
            Role::Time => "the event time, in UTC".to_owned(),
            Role::Event => "the event type".to_owned(),
            Role::Item => "the item".to_owned(),
            Role::Category => "the item's category".to_owned(),
            Role::Value | Role::Price if !matches!(columns.value, Some(ValueColumn::Product(..))) => "the event's value".to_owned(),
            Role::Value | Role::Price | Role::Quantity if matches!(columns.value, Some(ValueColumn::Product(..))) => {
                "a factor of the event's value".to_owned()
            }
            Role::Extra if is_number(field.data_type()) => "a numeric feature: its last value".to_owned(),
            Role::Extra => "a category feature: its last value".to_owned(),
            Role::Text => "the words of the latest texts".to_owned(),
            Role::Image => "the latest picture".to_owned(),
            _ => "not used".to_owned(),
        };
        let reason = match pick {
            Some(pick) if pick.role == Role::EventId => format!("{}; ids carry nothing to learn from", pick.reason),
            Some(pick) => pick.reason.clone(),
            None => "not a usual name; name its role in columns to use it, for example extra=…".to_owned(),
        };
        ColumnDecision { role, column_name: field.name().clone(), r#type: sql_type(field.data_type()), decision, reason }
    }
}

pub(super) fn malformed(columns: &str, reason: &str) -> Error {
    Error::invalid(format!("invalid columns \"{columns}\""))
        .detail(format!("In this text, {reason}."))
        .hint("Write 'auto' or, for example, 'user=customer_id, time=ts, event=action, item=sku, value=price, extra=device|country'.")
}

pub(super) fn role_of(key: &str, columns: &str) -> Result<Role> {
    const NAMED: [Role; 13] = [
        Role::User,
        Role::Time,
        Role::Event,
        Role::Item,
        Role::Category,
        Role::Value,
        Role::Price,
        Role::Quantity,
        Role::Extra,
        Role::EventId,
        Role::Label,
        Role::Image,
        Role::Text,
    ];
    if let Some(role) = NAMED.iter().find(|role| role.name().eq_ignore_ascii_case(key)) {
        return Ok(*role);
    }
    let near = nearest(key, NAMED.iter().map(|role| role.name())).map_or(String::new(), |name| format!("; perhaps you meant {name}"));
    Err(malformed(columns, &format!("\"{key}\" is not a role{near}")))
}

/// Finds a column: by its exact name, else the only one that differs in case alone.
fn find<'a>(schema: &'a Schema, name: &str) -> Result<&'a Field> {
    if let Ok(field) = schema.field_with_name(name) {
        return Ok(field);
    }
    let mut alike = schema.fields().iter().filter(|field| field.name().eq_ignore_ascii_case(name));
    if let (Some(field), None) = (alike.next(), alike.next()) {
        return Ok(field);
    }
    Err(undefined_column(name, schema.fields().iter().map(|field| field.name().as_str())))
}

/// The error for a column that does not exist, with the nearest that does.
pub fn undefined_column<'a>(name: &str, columns: impl IntoIterator<Item = &'a str>) -> Error {
    let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" does not exist"));
    match nearest(name, columns) {
        Some(near) => error.hint(format!("Perhaps you meant to reference the column \"{near}\".")),
        None => error,
    }
}

pub(super) fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (index, character) in text.char_indices() {
        if character == '"' {
            quoted = !quoted;
        } else if character == separator && !quoted {
            parts.push(&text[start..index]);
            start = index + character.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

pub(super) fn unquote(name: &str) -> String {
    name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// Whether a type is a number that a feature can be.
#[must_use]
pub fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Dictionary(_, values) if values.is_numeric())
}

/// Whether a type is text, however it is stored.
#[must_use]
pub fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested() || matches!(data_type, DataType::Null)
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Whether a column of this type may be guessed for a role.
fn fits(role: Role, data_type: &DataType) -> bool {
    match role {
        Role::User => is_number(data_type) || is_text(data_type),
        Role::Time => is_time(data_type) || is_text(data_type) || data_type.is_integer(),
        Role::Event => is_text(data_type) || data_type.is_integer(),
        Role::Value | Role::Price | Role::Quantity => is_number(data_type),
        _ => !is_nested(data_type),
    }
}

fn key_type(user: &Field) -> Result<KeyType> {
    match user.data_type() {
        // An unsigned key may not fit a bigint, so it travels as text.
        DataType::UInt64 => Ok(KeyType::Utf8),
        DataType::Dictionary(_, values) if values.is_integer() => Ok(KeyType::Int64),
        data_type if data_type.is_integer() || data_type.is_floating() => Ok(KeyType::Int64),
        DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0) | DataType::Decimal128(_, 0) => Ok(KeyType::Int64),
        data_type if is_nested(data_type) => {
            let r#type = sql_type(data_type);
            Err(Error::invalid(format!("column \"{}\" of type {type} cannot be the user", user.name())))
        }
        _ => Ok(KeyType::Utf8),
    }
}

fn time_unit(time: &Field, integer_range: &dyn Fn(&str) -> Option<(i64, i64)>) -> Result<(TimeUnit, String)> {
    let data_type = time.data_type();
    match data_type {
        DataType::Timestamp(_, Some(zone)) => return Ok((TimeUnit::Timestamp, format!("a timestamp with the zone {zone}"))),
        DataType::Timestamp(_, None) => return Ok((TimeUnit::Timestamp, "a timestamp without zone is taken as UTC".into())),
        DataType::Date32 | DataType::Date64 => return Ok((TimeUnit::Date, "a date is taken as its midnight in UTC".into())),
        _ => {}
    }
    if is_text(data_type) {
        return Ok((TimeUnit::Text, "text is read as a timestamp, without zone as UTC".into()));
    }
    if !data_type.is_integer() {
        let r#type = sql_type(data_type);
        return Err(Error::invalid(format!("column \"{}\" of type {type} cannot be the time", time.name()))
            .hint("Use a timestamp, a date, text, or an integer of seconds, milliseconds or microseconds since 1970."));
    }
    let Some((low, high)) = integer_range(time.name()) else {
        let name = normalise(time.name());
        let (unit, word) = if name.ends_with("ms") || name.ends_with("millis") {
            (TimeUnit::EpochMillis, "milliseconds by its name")
        } else if name.ends_with("us") || name.ends_with("micros") {
            (TimeUnit::EpochMicros, "microseconds by its name")
        } else {
            (TimeUnit::EpochSeconds, "seconds, since its range is not known")
        };
        return Ok((unit, format!("an integer taken as {word}")));
    };
    // Seconds reach the year 5138 before milliseconds reach 1973, and so on: magnitudes do not overlap in practice.
    let magnitude = low.unsigned_abs().max(high.unsigned_abs());
    let (unit, word) = match magnitude {
        0..100_000_000_000 => (TimeUnit::EpochSeconds, "seconds"),
        100_000_000_000..100_000_000_000_000 => (TimeUnit::EpochMillis, "milliseconds"),
        100_000_000_000_000..100_000_000_000_000_000 => (TimeUnit::EpochMicros, "microseconds"),
        _ => (TimeUnit::EpochNanos, "nanoseconds"),
    };
    Ok((unit, format!("integers from {low} to {high} are {word} since 1970")))
}

/// A type as SQL names it.
#[must_use]
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "numeric".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("numeric({p},{s})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Timestamp(ArrowTimeUnit::Second, None) => "timestamp(0) without time zone".into(),
        DataType::Timestamp(_, None) => "timestamp without time zone".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Dictionary(_, values) => sql_type(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", sql_type(item.data_type()))
        }
        DataType::Struct(_) => "record".into(),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests;
