//! What `ltv_bgnbd` and `bgnbd_fit` share: customers of a source, and the two models fitted to them.

use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;

use super::events::Events;
use super::orders::Orders;
use crate::error::{Code, Error, Result};
use crate::functions::relation::Call;
use crate::kernels::profile::bgnbd::{BgNbd, Customer, FitError, GammaGamma};

/// A day in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// A fitted source. Without a column of values, or where values do not fit, there is no Gamma-Gamma.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) events: Events,
    pub(super) users: Vec<Orders>,
    pub(super) model: BgNbd,
    pub(super) likelihood: f64,
    pub(super) spend: Option<(GammaGamma, f64)>,
    /// Holds the memory of `users` while they live.
    pub(super) _memory: MemoryReservation,
}

/// A user as BG/NBD sees one, in days; orders of one day count once.
pub(super) fn customer(orders: &Orders, as_of_us: i64) -> Customer {
    let day = |us: i64| us.div_euclid(DAY_US);
    Customer {
        frequency: (orders.days - 1) as f64,
        recency: (day(orders.last_us) - day(orders.first_us)) as f64,
        age: (day(as_of_us) - day(orders.first_us)) as f64,
    }
}

/// The mean value of a day with orders after the first; `None` without.
pub(super) fn mean_value(orders: &Orders) -> Option<f64> {
    (orders.days > 1).then(|| orders.later_total / (orders.days - 1) as f64)
}

fn refuse(error: FitError, customers: usize, returning: usize) -> Error {
    let detail = format!("There are {customers} customers, of whom {returning} came back.");
    match error {
        FitError::TooFew => Error::invalid("there are too few customers to fit").detail(detail),
        FitError::NotFound => Error::new(Code::InvalidParameter, "the customers do not fit the model")
            .detail(detail)
            .hint("The model needs customers who differ, some of whom came back; look at a longer time or at more customers."),
        FitError::Cancelled => Error::cancelled(),
    }
}

/// Reads the customers of a call and fits both models, away from the threads that serve queries.
///
/// # Errors
/// 22023 when nothing can be fitted, 57014, and what reading the source says.
pub(super) async fn fit(call: &Call, name: &'static str) -> DfResult<Fitted> {
    let events = Events::open_orders(call).await?;
    let (users, memory) = events.orders(call, name).await?;
    memory.try_grow(users.len() * (size_of::<Customer>() + 16))?;
    // In order: sums of floating-point numbers depend on it.
    let users: Vec<Orders> = users.in_order().collect();
    let customers: Vec<Customer> = users.iter().map(|orders| customer(orders, events.as_of_us)).collect();
    let spends: Vec<(f64, f64)> = match events.columns().value {
        Some(_) => {
            users.iter().filter_map(|orders| Some(((orders.days - 1) as f64, mean_value(orders).filter(|mean| *mean > 0.0)?))).collect()
        }
        None => Vec::new(),
    };
    let (count, returning) = (customers.len(), customers.iter().filter(|customer| customer.frequency > 0.0).count());
    let token = call.statement().cancel.clone();
    let fitted = tokio::task::spawn_blocking(move || -> Result<_, FitError> {
        let stop = || token.is_cancelled();
        let model = BgNbd::fit(&customers, &stop)?;
        let spend = match GammaGamma::fit(&spends, &stop) {
            Ok(spend) => Some(spend),
            Err(FitError::Cancelled) => return Err(FitError::Cancelled),
            Err(FitError::TooFew | FitError::NotFound) => None,
        };
        Ok((model, spend))
    });
    let fitted = fitted.await.map_err(|error| Error::internal(format!("fitting failed: {error}")))?;
    let ((model, likelihood), spend) = fitted.map_err(|error| refuse(error, count, returning))?;
    Ok(Fitted { events, users, model, likelihood, spend, _memory: memory })
}
