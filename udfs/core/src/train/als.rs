//! Alternating least squares for matrix factorisation; the objective is in [`crate::models::mf`].
//!
//! Life of a sweep: with the items' vectors fixed every user's is a small least-squares problem, then with the users' fixed
//! every item's (Hu, Koren & Volinsky, 2008). Users and items are cut into chunks whose results stand at their own
//! places, and sums over all of them run chunk by chunk in order: the same bytes for any number of threads.

use tokio_util::sync::CancellationToken;

use super::catalogue::known_steps;
use super::fit::Data;
use super::hyper::Hyper;
use crate::error::{Error, Result};
use crate::models::CatalogueShape;
use crate::models::mf::{FIRST_ITEM, Regularisation, normal_equations};
use crate::models::ops::{parallel, ridge};

/// Vectors solved, or summed, by one thread at a time.
const CHUNK: usize = 256;

/// Who had to do with what, without repetition, by row and by column.
#[derive(Debug, Clone, PartialEq)]
struct Pairs {
    starts: Vec<usize>,
    ids: Vec<u32>,
}

impl Pairs {
    fn new(rows: impl Iterator<Item = Vec<u32>>) -> Self {
        let (mut starts, mut ids) = (vec![0], Vec::new());
        for row in rows {
            ids.extend(row);
            starts.push(ids.len());
        }
        Self { starts, ids }
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, at: usize) -> &[u32] {
        &self.ids[self.starts[at]..self.starts[at + 1]]
    }

    fn transposed(&self, columns: usize) -> Self {
        let mut starts = vec![0usize; columns + 1];
        self.ids.iter().for_each(|id| starts[*id as usize + 1] += 1);
        (0..columns).for_each(|column| starts[column + 1] += starts[column]);
        let (mut next, mut ids) = (starts.clone(), vec![0; self.ids.len()]);
        for row in 0..self.len() {
            for id in self.row(row) {
                ids[next[*id as usize]] = row as u32;
                next[*id as usize] += 1;
            }
        }
        Self { starts, ids }
    }
}

/// A factorisation in progress.
#[derive(Debug)]
pub(super) struct Als {
    users: Pairs,
    items: Pairs,
    rule: Regularisation,
    dim: usize,
    /// Item tokens, those that are no items included.
    tokens: usize,
}

/// What a sweep came to.
#[derive(Debug, Clone)]
pub(super) struct Swept {
    /// `[tokens, dim]`.
    pub(super) items: Vec<f32>,
    /// `α₀ Σ h hᵀ` of these, `[dim, dim]`.
    pub(super) gram: Vec<f32>,
    /// The users' part of the objective after their half of the sweep, per pair.
    pub(super) loss: f64,
}

impl Als {
    /// The pairs of the training rows' events.
    ///
    /// # Errors
    /// `InvalidParameter` when no event of a training row is about an item that is known.
    pub(super) fn new(data: &Data<'_>, hyper: &Hyper, catalogue: CatalogueShape) -> Result<Self> {
        let shape = hyper.config.shape.sequence.clone().unwrap_or_default();
        let tokens = shape.fields.get(catalogue.item_field).copied().unwrap_or(0);
        let steps = data.inputs.sequence.as_ref().ok_or_else(|| Error::internal("mf: no sequences"))?;
        let mut users: Vec<Vec<u32>> = Vec::new();
        let mut train = data.train.clone();
        train.sort_unstable();
        let same_user = |a: &u32, b: &u32| !data.users.is_empty() && data.users[*a as usize] == data.users[*b as usize];
        for rows in train.chunk_by(same_user) {
            let item = |step: usize| steps.tokens[step * shape.fields.len() + catalogue.item_field];
            let mut own: Vec<u32> = known_steps(&steps.spans, rows).map(item).filter(|id| *id >= FIRST_ITEM).collect();
            own.sort_unstable();
            own.dedup();
            if !own.is_empty() {
                users.push(own);
            }
        }
        if users.is_empty() {
            return Err(Error::invalid("there is nothing to factorise: no training row has an event about a known item"));
        }
        let rule = Regularisation { unseen: hyper.unseen_weight, strength: hyper.weight_decay, exponent: 1.0 };
        Ok(Self::of(users, tokens, rule, hyper.config.embedding_dim))
    }

    fn of(users: Vec<Vec<u32>>, tokens: usize, rule: Regularisation, dim: usize) -> Self {
        let users = Pairs::new(users.into_iter());
        let items = users.transposed(tokens);
        Self { users, items, rule, dim, tokens }
    }

    /// α₀, λ, ν and the number of items: what fold-in needs beside the vectors.
    pub(super) fn rule(&self) -> Vec<f32> {
        [self.rule.unseen, self.rule.strength, self.rule.exponent, self.item_count() as f64].map(|x| x as f32).to_vec()
    }

    fn item_count(&self) -> usize {
        self.tokens.saturating_sub(FIRST_ITEM as usize)
    }

    /// One sweep from the items' vectors `[tokens, dim]`; `None` when it was cancelled.
    pub(super) fn sweep(&self, items: &[f32], cancel: &CancellationToken) -> Option<Swept> {
        let gram = self.gram(&items[FIRST_ITEM as usize * self.dim..]);
        let (users, loss) = self.solve(&self.users, items, &gram, self.item_count(), cancel)?;
        let gram = self.gram(&users);
        let (items, _) = self.solve(&self.items, &users, &gram, self.users.len(), cancel)?;
        let gram = self.gram(&items[FIRST_ITEM as usize * self.dim..]);
        let pairs = self.users.ids.len().max(1) as f64;
        Some(Swept { items, gram: gram.into_iter().map(|value| value as f32).collect(), loss: loss / pairs })
    }

    /// `α₀ Σ v vᵀ` over the rows of a table, both triangles.
    fn gram(&self, table: &[f32]) -> Vec<f64> {
        let dim = self.dim;
        let chunks: Vec<&[f32]> = table.chunks(CHUNK * dim).collect();
        let parts = parallel::map(chunks.len(), |at| {
            let mut sum = vec![0.0; dim * dim];
            chunks[at].chunks_exact(dim).for_each(|v| ridge::add_outer(&mut sum, v, self.rule.unseen));
            sum
        });
        let mut total = vec![0.0; dim * dim];
        parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value));
        for row in 0..dim {
            (0..row).for_each(|column| total[column * dim + row] = total[row * dim + column]);
        }
        total
    }

    /// Every row's vector given the other side's, of which there are `of`; and the rows' part of the objective.
    fn solve(&self, pairs: &Pairs, others: &[f32], gram: &[f64], of: usize, cancel: &CancellationToken) -> Option<(Vec<f32>, f64)> {
        let chunks = pairs.len().div_ceil(CHUNK);
        let parts = parallel::map(chunks, |chunk| {
            if cancel.is_cancelled() {
                return None;
            }
            let rows = chunk * CHUNK..((chunk + 1) * CHUNK).min(pairs.len());
            let (mut vectors, mut loss) = (Vec::with_capacity(rows.len() * self.dim), 0.0);
            for row in rows {
                let seen = pairs.row(row);
                let (mut a, mut b) = normal_equations(others, seen, gram, self.rule.of(seen.len(), of), self.dim);
                let right = b.clone();
                if !seen.is_empty() {
                    ridge::solve(&mut a, &mut b);
                }
                // At the minimum the objective is |seen| − b·w.
                loss += seen.len() as f64 - right.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>();
                vectors.extend(b.iter().map(|value| *value as f32));
            }
            Some((vectors, loss))
        });
        let (mut vectors, mut loss) = (Vec::with_capacity(pairs.len() * self.dim), 0.0);
        for part in parts {
            let (own, own_loss) = part?;
            vectors.extend(own);
            loss += own_loss;
        }
        Some((vectors, loss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five users, four items (tokens 2 to 5) in two dimensions; items start where they are told.
    fn small() -> (Als, Vec<f32>) {
        let users = vec![vec![2, 3], vec![2, 3, 4], vec![4, 5], vec![5], vec![2, 5]];
        let rule = Regularisation { unseen: 0.3, strength: 0.05, exponent: 0.8 };
        let items = vec![0.0, 0.0, 0.0, 0.0, 0.1, -0.2, 0.3, 0.05, -0.15, 0.2, 0.25, 0.4];
        (Als::of(users, 6, rule, 2), items)
    }

    /// Expected values: the same two half-sweeps with `numpy.linalg.solve` in double precision.
    #[test]
    fn sweeps_are_those_of_a_dense_solver() {
        let (als, mut items) = small();
        let cancel = CancellationToken::new();
        for expected in SWEEPS {
            let swept = als.sweep(&items, &cancel).unwrap();
            let got = &swept.items[4..];
            assert!(got.iter().zip(expected.0).all(|(a, b)| (a - b).abs() < 2e-5), "{got:?} instead of {:?}", expected.0);
            assert!((swept.loss - expected.1).abs() < 2e-5, "{} instead of {}", swept.loss, expected.1);
            assert_eq!(swept.items[..4], [0.0; 4]);
            items = swept.items;
        }
        cancel.cancel();
        assert!(als.sweep(&items, &cancel).is_none());
    }

    const SWEEPS: [(&[f32; 8], f64); 2] = [
        (&[0.592_832, 0.049_632, 0.517_092, -0.009_21, 0.315_595, 0.479_431, 0.402_007, 0.526_121], 0.716_293_4),
        (&[0.673_535, -0.016_477, 0.593_076, -0.151_658, 0.367_397, 0.494_472, 0.290_104, 0.676_869], 0.385_943_5),
    ];

    #[test]
    fn the_objective_never_rises() {
        let (als, mut items) = small();
        let mut before = f64::INFINITY;
        for _ in 0..10 {
            let swept = als.sweep(&items, &CancellationToken::new()).unwrap();
            let penalty = |token: usize| {
                let norm: f64 = items[token * 2..][..2].iter().map(|x| f64::from(*x).powi(2)).sum();
                als.rule.of(als.items.row(token).len(), als.users.len()) * norm
            };
            let whole = swept.loss + (2..6).map(penalty).sum::<f64>() / als.users.ids.len() as f64;
            assert!(whole <= before + 1e-6, "{before} → {whole}");
            (items, before) = (swept.items, whole);
        }
    }
}
