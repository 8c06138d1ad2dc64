//! Measures of predicted classes and probabilities.

/// Smallest probability a logarithm is taken of; as in scikit-learn for `f64`.
const TINY: f64 = f64::EPSILON;

/// The most probable class of each row; the first one among equals.
pub fn most_likely(probabilities: &[f64], classes: usize) -> Vec<u32> {
    let best = |row: &[f64]| {
        let mut best = 0;
        for (class, probability) in row.iter().enumerate() {
            if *probability > row[best] {
                best = class;
            }
        }
        best as u32
    };
    probabilities.chunks_exact(classes.max(1)).map(best).collect()
}

/// Share of rows whose prediction is the truth; NaN without rows.
pub fn accuracy(labels: &[u32], predictions: &[u32]) -> f64 {
    let right = labels.iter().zip(predictions).filter(|(label, prediction)| label == prediction).count();
    right as f64 / labels.len() as f64
}

/// Mean of −ln p(truth), probabilities held away from 0 by the machine epsilon; NaN without rows.
pub fn log_loss(labels: &[u32], probabilities: &[f64], classes: usize) -> f64 {
    let total: f64 =
        labels.iter().enumerate().map(|(row, label)| -probabilities[row * classes + *label as usize].clamp(TINY, 1.0 - TINY).ln()).sum();
    total / labels.len() as f64
}

/// Mean over rows of the squared distance between probabilities and truth. Two classes: of the positive class only
/// (Brier's score as scikit-learn defines it); more: summed over the classes. NaN without rows.
pub fn brier(labels: &[u32], probabilities: &[f64], classes: usize) -> f64 {
    let square =
        |row: usize, class: usize| (probabilities[row * classes + class] - f64::from(u8::from(labels[row] as usize == class))).powi(2);
    let first = if classes == 2 { 1 } else { 0 };
    let total: f64 = (0..labels.len()).map(|row| (first..classes).map(|class| square(row, class)).sum::<f64>()).sum();
    total / labels.len() as f64
}

/// Expected calibration error (Naeini et al., 2015) over `bins` equal intervals: the mean distance between what was
/// promised and what came true. Two classes: of the positive class; more: of the most likely class (Guo et al., 2017).
/// NaN without rows.
pub fn ece(labels: &[u32], probabilities: &[f64], classes: usize, bins: usize) -> f64 {
    let predictions = most_likely(probabilities, classes);
    let (mut promised, mut true_share) = (vec![0.0; bins], vec![0.0; bins]);
    for (row, label) in labels.iter().enumerate() {
        let class = if classes == 2 { 1 } else { predictions[row] as usize };
        let probability = probabilities[row * classes + class];
        let bin = ((probability * bins as f64) as usize).min(bins - 1);
        promised[bin] += probability;
        true_share[bin] += f64::from(u8::from(*label as usize == class));
    }
    promised.iter().zip(&true_share).map(|(p, t)| (p - t).abs()).sum::<f64>() / labels.len() as f64
}

/// How often each class was taken for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    /// Number of classes.
    pub classes: usize,
    /// `[truth, prediction]`, row-major counts.
    pub counts: Vec<u64>,
}

/// Counts truths against predictions.
pub fn confusion(labels: &[u32], predictions: &[u32], classes: usize) -> Confusion {
    let mut counts = vec![0; classes * classes];
    for (label, prediction) in labels.iter().zip(predictions) {
        counts[*label as usize * classes + *prediction as usize] += 1;
    }
    Confusion { classes, counts }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Confusion {
    /// Rows of class `truth` that were taken for `prediction`.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        self.counts[truth * self.classes + prediction]
    }

    /// Rows of a class.
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes).map(|prediction| self.count(class, prediction)).sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }

    /// Share of predictions of a class that are right; 0 when there are none.
    pub fn precision(&self, class: usize) -> f64 {
        ratio(self.count(class, class), self.predicted(class))
    }

    /// Share of a class's rows that are found; 0 when there are none.
    pub fn recall(&self, class: usize) -> f64 {
        ratio(self.count(class, class), self.support(class))
    }

    /// Harmonic mean of precision and recall; 0 when both are.
    pub fn f1(&self, class: usize) -> f64 {
        ratio(2 * self.count(class, class), self.predicted(class) + self.support(class))
    }

    /// The unweighted mean of a measure over the classes that occur or were predicted.
    pub fn macro_mean(&self, measure: impl Fn(&Self, usize) -> f64) -> f64 {
        let seen: Vec<usize> = (0..self.classes).filter(|class| self.support(*class) + self.predicted(*class) > 0).collect();
        seen.iter().map(|class| measure(self, *class)).sum::<f64>() / seen.len() as f64
    }
}
