//! What users bought: one row a user, of many users in little memory.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;

use crate::features::UserHistory;
use crate::features::events::UserKey;
use crate::kernels::stats::windowed::WindowSum;

/// A day in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// A user's orders: events at the same time are one order, orders of the same UTC day are one day.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) user: UserKey,
    /// Distinct times.
    pub(super) orders: u64,
    /// Distinct days.
    pub(super) days: u64,
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    /// The sum of values; NULLs count as nothing.
    pub(super) total: f64,
    /// The sum of values after the first day.
    pub(super) later_total: f64,
}

impl Orders {
    /// Those up to a point in time; `None` when there are none.
    pub(super) fn of(history: &UserHistory, as_of_us: i64) -> Option<Self> {
        let (mut total, mut later) = (WindowSum::default(), WindowSum::default());
        let mut found: Option<Self> = None;
        for (at, time_us) in history.times_us.iter().enumerate().take_while(|(_, time_us)| **time_us <= as_of_us) {
            let (user, first_us, last_us) = (&history.user, *time_us, *time_us);
            let new = || Self { user: user.clone(), orders: 1, days: 1, first_us, last_us, total: 0.0, later_total: 0.0 };
            match &mut found {
                None => found = Some(new()),
                Some(orders) => {
                    orders.orders += u64::from(*time_us != orders.last_us);
                    orders.days += u64::from(time_us.div_euclid(DAY_US) != orders.last_us.div_euclid(DAY_US));
                    orders.last_us = *time_us;
                }
            }
            let value = history.values.get(at).copied().filter(|value| value.is_finite()).unwrap_or(0.0);
            total.add(value);
            if found.as_ref().is_some_and(|orders| time_us.div_euclid(DAY_US) != orders.first_us.div_euclid(DAY_US)) {
                later.add(value);
            }
        }
        found.map(|orders| Self { total: total.value(), later_total: later.value(), ..orders })
    }
}

/// Users of a piece.
const PIECE: usize = 8192;

/// Users in their order, in pieces: none moves while more come, and each is let go of when it was read.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<Vec<Orders>>);

impl Pieces {
    /// Takes the next user.
    ///
    /// # Errors
    /// 53200 when the pool has no room for a piece.
    pub(super) fn add(&mut self, orders: Orders, memory: &MemoryReservation) -> DfResult<()> {
        if let Some(piece) = self.0.last_mut().filter(|piece| piece.len() < PIECE) {
            piece.push(orders);
            return Ok(());
        }
        memory.try_grow(PIECE * (size_of::<Orders>() + 16))?;
        let mut piece = Vec::with_capacity(PIECE);
        piece.push(orders);
        self.0.push(piece);
        Ok(())
    }

    fn into_users(self) -> Users {
        self.0.into_iter().flatten()
    }
}

/// Lets go of each piece after its last user.
type Users = std::iter::Flatten<std::vec::IntoIter<Vec<Orders>>>;

/// The users of several streams.
#[derive(Debug)]
pub(super) struct Customers(Vec<Pieces>);

impl Customers {
    pub(super) const fn new(streams: Vec<Pieces>) -> Self {
        Self(streams)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().flat_map(|stream| &stream.0).map(Vec::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|stream| stream.0.is_empty())
    }

    /// In any order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Orders> {
        self.0.iter().flat_map(|stream| &stream.0).flatten()
    }

    /// In the order of the users; of one user who is in several streams, in the order of the streams.
    pub(super) fn in_order(self) -> InOrder {
        let mut streams: Vec<Users> = self.0.into_iter().map(Pieces::into_users).collect();
        let heads = streams.iter_mut().enumerate().filter_map(|(stream, users)| users.next().map(|orders| Head { orders, stream }));
        InOrder { heads: heads.collect(), streams }
    }
}

/// See [`Customers::in_order`].
#[derive(Debug)]
pub(super) struct InOrder {
    heads: BinaryHeap<Head>,
    streams: Vec<Users>,
}

impl Iterator for InOrder {
    type Item = Orders;

    fn next(&mut self) -> Option<Orders> {
        let mut head = self.heads.peek_mut()?;
        match self.streams[head.stream].next() {
            Some(next) => Some(std::mem::replace(&mut head.orders, next)),
            None => Some(PeekMut::pop(head).orders),
        }
    }
}

/// The next user of a stream; the heap's greatest is the first of the users.
#[derive(Debug)]
struct Head {
    orders: Orders,
    stream: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.orders.user, other.stream).cmp(&(&self.orders.user, self.stream))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn users_of_all_streams_come_in_order_and_each_once() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
        let memory = MemoryConsumer::new("test").register(&pool);
        for case in 0..40_u64 {
            let streams = 1 + case as usize % 5;
            let mut pieces: Vec<Pieces> = (0..streams).map(|_| Pieces::default()).collect();
            let count = splitmix::at(case, 0) % 30_000;
            for user in 0..count {
                // Streams that share users out by chance, by turns, or one after the other.
                let at = match case % 3 {
                    0 => splitmix::at(case, user) as usize % streams,
                    1 => user as usize % streams,
                    _ => (user * streams as u64 / count.max(1)) as usize,
                };
                let key = if case % 2 == 0 { UserKey::Int64(user as i64 - 5000) } else { UserKey::Utf8(format!("{user:06}").into()) };
                let orders = Orders { user: key, orders: user, days: 1, first_us: 0, last_us: 0, total: 0.0, later_total: 0.0 };
                pieces[at].add(orders, &memory).unwrap();
            }
            let customers = Customers::new(pieces);
            assert_eq!((customers.len() as u64, customers.is_empty()), (count, count == 0));
            assert_eq!(customers.iter().map(|orders| orders.orders).sum::<u64>(), (0..count).sum::<u64>());
            assert!(customers.in_order().map(|orders| orders.orders).eq(0..count), "case {case}");
        }
    }
}
