//! The numbers of many groups in one log: appended as they come, dealt to their groups at the end.
//!
//! A log costs twelve bytes a number and no allocation a group, where a vector for each of a million groups would cost
//! three words and an allocation each. Dealing is a counting sort, O(numbers + groups).

/// Numbers with their groups.
#[derive(Debug, Clone, Default)]
pub struct GroupLog {
    groups: Vec<u32>,
    values: Vec<f64>,
}

impl GroupLog {
    /// Appends a number of a group.
    #[inline]
    pub fn push(&mut self, group: u32, value: f64) {
        self.groups.push(group);
        self.values.push(value);
    }

    /// The bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.groups.capacity() * 4 + self.values.capacity() * 8
    }

    /// Takes the numbers of the first `groups` groups out: where each group begins (and the last ends), and the numbers. What is
    /// left belongs to groups that are numbered from 0 again.
    pub fn take(&mut self, groups: usize) -> (Vec<usize>, Vec<f64>) {
        let mut starts = vec![0_usize; groups + 1];
        let mut taken = 0;
        for group in &self.groups {
            if let Some(start) = starts.get_mut(*group as usize + 1) {
                *start += 1;
                taken += 1;
            }
        }
        for group in 0..groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut values = vec![0.0; taken];
        let mut kept = 0;
        for at in 0..self.groups.len() {
            let (group, value) = (self.groups[at] as usize, self.values[at]);
            if group < groups {
                values[next[group]] = value;
                next[group] += 1;
            } else {
                self.groups[kept] = (group - groups) as u32;
                self.values[kept] = value;
                kept += 1;
            }
        }
        self.groups.truncate(kept);
        self.values.truncate(kept);
        if kept == 0 {
            *self = Self::default();
        }
        (starts, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deals_first_groups_then_the_rest() {
        let mut log = GroupLog::default();
        [(2, 1.0), (0, 2.0), (2, 3.0), (4, 4.0), (0, 5.0)].iter().for_each(|(group, value)| log.push(*group, *value));
        assert_eq!(log.take(2), (vec![0, 2, 2], vec![2.0, 5.0]));
        assert_eq!(log.take(3), (vec![0, 2, 2, 3], vec![1.0, 3.0, 4.0]));
        assert_eq!((log.take(1), log.bytes()), ((vec![0, 0], vec![]), 0));
    }
}
