//! How much a column says about a class or a number: ANOVA's F, χ², mutual information, the regression F.
//!
//! The statistics are those of scikit-learn (`f_classif`, `chi2`, `mutual_info_score`, `f_regression`) and of
//! `scipy.stats.chi2_contingency` without correction.

use std::collections::BTreeMap;

use super::moments::{Moments, PairMoments, Sum};
use crate::kernels::stats::distributions::{chi_squared_tail, f_tail};

/// A statistic and the probability of a greater one by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The statistic.
    pub value: f64,
    /// Its p-value; `None` where none is defined.
    pub p_value: Option<f64>,
}

/// One-way analysis of variance over the moments of each class (one set per class). `None` with fewer than two classes, with no
/// more rows than classes, or when nothing varies.
#[must_use]
pub fn anova(classes: &[Moments]) -> Option<Score> {
    let filled: Vec<&Moments> = classes.iter().filter(|class| class.count > 0).collect();
    let mut all = Moments::default();
    filled.iter().for_each(|class| all.merge(class));
    let (groups, rows) = (filled.len() as u64, all.count);
    if groups < 2 || rows <= groups {
        return None;
    }
    let mut within = Sum::default();
    filled.iter().for_each(|class| within.add(class.squared_deviations()));
    let total = all.squared_deviations();
    if total <= 0.0 {
        return None;
    }
    // From the class means rather than as total − within, which would lose a weak effect to rounding.
    let mean = all.mean()?;
    let mut between = Sum::default();
    for class in &filled {
        let distance = class.mean()? - mean;
        between.add(class.count as f64 * distance * distance);
    }
    let (between_freedom, within_freedom) = ((groups - 1) as f64, (rows - groups) as f64);
    let value = (between.value() / between_freedom) / (within.value() / within_freedom);
    Some(Score { value, p_value: Some(f_tail(value, between_freedom, within_freedom)) })
}

/// The F of a straight line through pairs of numbers. `None` with fewer than three pairs or when one side does not vary.
#[must_use]
pub fn regression(pairs: &PairMoments) -> Option<Score> {
    let freedom = pairs.x.count.checked_sub(2).filter(|freedom| *freedom > 0)? as f64;
    let r = pairs.correlation()?;
    let value = r * r / (1.0 - r * r) * freedom;
    Some(Score { value, p_value: Some(f_tail(value, 1.0, freedom)) })
}

/// χ² of a non-negative amount: what each class has of it against what its share of the rows would have
/// (scikit-learn's `chi2`). Classes hold the moments of the amount. `None` with fewer than two classes or an amount of zero.
#[must_use]
pub fn chi_squared_amount(classes: &[Moments]) -> Option<Score> {
    let mut all = Moments::default();
    classes.iter().for_each(|class| all.merge(class));
    let filled = classes.iter().filter(|class| class.count > 0);
    let (groups, total) = (filled.clone().count(), all.sum.value());
    if groups < 2 || total <= 0.0 || all.min < 0.0 {
        return None;
    }
    let mut value = Sum::default();
    for class in filled {
        let expected = total * (class.count as f64 / all.count as f64);
        let difference = class.sum.value() - expected;
        value.add(difference * difference / expected);
    }
    let value = value.value();
    Some(Score { value, p_value: Some(chi_squared_tail(value, (groups - 1) as f64)) })
}

/// Counts of (category, class) pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contingency {
    cells: BTreeMap<(u32, u32), u64>,
}

impl Contingency {
    /// Counts a pair.
    pub fn add(&mut self, category: u32, class: u32, count: u64) {
        *self.cells.entry((category, class)).or_default() += count;
    }

    /// How many different pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn margins(&self) -> (BTreeMap<u32, u64>, BTreeMap<u32, u64>, u64) {
        let (mut categories, mut classes, mut total) = (BTreeMap::new(), BTreeMap::new(), 0);
        for ((category, class), count) in &self.cells {
            *categories.entry(*category).or_default() += count;
            *classes.entry(*class).or_default() += count;
            total += count;
        }
        (categories, classes, total)
    }

    /// Pearson's χ² of independence. `None` when one side has a single value.
    #[must_use]
    pub fn chi_squared(&self) -> Option<Score> {
        let (categories, classes, total) = self.margins();
        if categories.len() < 2 || classes.len() < 2 {
            return None;
        }
        // Σ (O − E)²/E = n (Σ O²/(R·C) − 1): only the filled cells are visited. Near independence the difference loses digits,
        // so it is taken in twice the precision.
        let mut sum = Sum::default();
        let mut empty = Sum::default();
        for ((category, class), count) in &self.cells {
            let (row, column) = (categories[category] as f64, classes[class] as f64);
            let expected = row * column / total as f64;
            let difference = *count as f64 - expected;
            sum.add(difference * difference / expected);
            empty.add(expected);
        }
        // A cell without rows contributes its expectation; all expectations add up to the number of rows.
        sum.add(total as f64 - empty.value());
        let value = sum.value().max(0.0);
        let freedom = (categories.len() - 1) as f64 * (classes.len() - 1) as f64;
        Some(Score { value, p_value: Some(chi_squared_tail(value, freedom)) })
    }

    /// Mutual information in nats. Zero when one side has a single value; `None` when nothing was counted.
    #[must_use]
    pub fn mutual_information(&self) -> Option<Score> {
        let (categories, classes, total) = self.margins();
        if total == 0 {
            return None;
        }
        let n = total as f64;
        let mut sum = Sum::default();
        for ((category, class), count) in &self.cells {
            let (count, row, column) = (*count as f64, categories[category] as f64, classes[class] as f64);
            sum.add(count / n * ((count / row).ln() - (column / n).ln()));
        }
        Some(Score { value: sum.value().max(0.0), p_value: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(score: Option<Score>, value: f64, p_value: f64) {
        let score = score.unwrap();
        assert!((score.value - value).abs() <= 1e-12 * value.abs(), "{score:?} is not {value}");
        let p = score.p_value.unwrap();
        assert!((p - p_value).abs() <= 1e-11 * p_value, "{p} is not {p_value}");
    }

    const X: [f64; 9] = [1.0, 2.0, 4.0, 3.0, 6.0, 5.0, 9.0, 8.0, 7.5];
    const Y: [usize; 9] = [0, 0, 0, 1, 1, 1, 2, 2, 2];

    fn by_class() -> Vec<Moments> {
        let mut classes = vec![Moments::default(); 3];
        X.iter().zip(Y).for_each(|(x, y)| classes[y].add(*x));
        classes
    }

    #[test]
    fn numbers_as_scikit_learn() {
        // sklearn.feature_selection.f_classif, chi2, f_regression
        close(anova(&by_class()), F_CLASSIF.0, F_CLASSIF.1);
        close(chi_squared_amount(&by_class()), CHI2.0, CHI2.1);
        let mut pairs = PairMoments::default();
        X.iter().zip(Y).for_each(|(x, y)| pairs.add(*x, y as f64));
        close(regression(&pairs), F_REGRESSION.0, F_REGRESSION.1);
        assert_eq!(anova(&by_class()[..1]), None);
        assert_eq!(anova(&[Moments::of(&[1.0, 1.0]), Moments::of(&[1.0, 1.0])]), None);
        assert_eq!(anova(&[Moments::of(&[1.0, 1.0]), Moments::of(&[2.0, 2.0])]).unwrap().p_value, Some(0.0));
    }

    #[test]
    fn counts_as_scipy() {
        let mut table = Contingency::default();
        for (category, row) in [[10, 4, 0], [3, 8, 5], [1, 1, 12]].iter().enumerate() {
            row.iter().enumerate().filter(|(_, n)| **n > 0).for_each(|(class, n)| table.add(category as u32, class as u32, *n));
        }
        close(table.chi_squared(), CONTINGENCY.0, CONTINGENCY.1);
        assert!((table.mutual_information().unwrap().value - MUTUAL_INFORMATION).abs() < 1e-14);
        let mut single = Contingency::default();
        single.add(0, 0, 5);
        assert_eq!((single.chi_squared(), single.mutual_information().unwrap().value), (None, 0.0));
    }

    const F_CLASSIF: (f64, f64) = (14.77777777777778, 0.004805419921874998);
    const CHI2: (f64, f64) = (10.230769230769232, 0.006003668287120821);
    const F_REGRESSION: (f64, f64) = (31.95652173913034, 0.0007720604714074519);
    const CONTINGENCY: (f64, f64) = (28.755644565518516, 8.76366884471357e-06);
    const MUTUAL_INFORMATION: f64 = 0.36731852114227304;
}
