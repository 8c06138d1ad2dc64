//! The text of all kernels, in the order in which they need each other.

/// One text for the compiler: `kernels/prelude.h` says what it is written in.
#[must_use]
pub fn source() -> String {
    [
        include_str!("kernels/prelude.h"),
        include_str!("kernels/elementwise.cu"),
        include_str!("kernels/rows.cu"),
        include_str!("kernels/recurrent.cu"),
        include_str!("kernels/attention.cu"),
        include_str!("kernels/ensemble.cu"),
        include_str!("kernels/losses.cu"),
        include_str!("kernels/optimizer.cu"),
    ]
    .concat()
}

/// The names of all kernels in [`source`].
#[must_use]
pub fn names() -> Vec<String> {
    let source = source();
    let named = |line: &str| line.strip_prefix("KERNEL(").and_then(|rest| rest.split_once(')')).map(|(name, _)| name.to_owned());
    source.lines().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kernel_has_one_name() {
        let names = super::names();
        assert!(names.len() > 30 && names.iter().all(|name| !name.is_empty()));
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
    }
}
