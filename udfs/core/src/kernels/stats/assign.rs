//! Which variant of an experiment a user sees: weighted rendezvous hashing (Thaler & Ravishankar, 1998) over XXH64.
//!
//! Every variant draws a number from its own name and the user; the best one wins. A new variant therefore takes users to itself
//! and moves nobody between the others, and a changed weight moves no more users than it must. Experiments are independent of
//! each other.

/// The variant at which `user` comes out, an index into `variants` (name, weight); `None` when no weight is above zero. Ties,
/// which one in 2^53 draws may make, go to the first name.
#[must_use]
pub fn assign(experiment: &str, user: &str, variants: &[(String, f64)]) -> Option<usize> {
    let mut key = Vec::with_capacity(experiment.len() + user.len() + 32);
    let mut best: Option<(f64, usize)> = None;
    for (index, (name, weight)) in variants.iter().enumerate().filter(|(_, (_, weight))| *weight > 0.0) {
        key.clear();
        for part in [experiment, name] {
            key.extend_from_slice(part.as_bytes());
            key.push(0);
        }
        key.extend_from_slice(user.as_bytes());
        let fraction = ((xxh64(&key) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let score = -weight / fraction.ln();
        if best.is_none_or(|(other, _)| score > other) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

const fn mix(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// XXH64 with seed 0 (Collet, 2014), which most languages and databases have: ClickHouse's `xxHash64`.
#[must_use]
pub fn xxh64(bytes: &[u8]) -> u64 {
    let length = bytes.len() as u64;
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut hash = P5;
    if !stripes.is_empty() {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = mix(*lane, u64::from_le_bytes(*word));
            }
        }
        let turned = [1, 7, 12, 18].iter().zip(lanes).map(|(turn, lane)| lane.rotate_left(*turn));
        hash = turned.fold(0, u64::wrapping_add);
        for lane in lanes {
            hash = (hash ^ mix(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
    }
    hash = hash.wrapping_add(length);
    while let Some((word, more)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ mix(0, u64::from_le_bytes(*word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = more;
    }
    if let Some((word, more)) = rest.split_first_chunk::<4>() {
        hash = (hash ^ u64::from(u32::from_le_bytes(*word)).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = more;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(xxh64(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition"), 0xFBCE_A83C_8A37_8BF1);
    }

    fn variants(list: &[(&str, f64)]) -> Vec<(String, f64)> {
        list.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    }

    #[test]
    fn shares_follow_weights_and_experiments_are_independent() {
        let arms = variants(&[("control", 7.0), ("a", 2.0), ("b", 1.0), ("off", 0.0)]);
        let mut counts = [[0_u32; 4]; 4];
        for user in 0..40_000 {
            let pick = |experiment| assign(experiment, &user.to_string(), &arms).unwrap();
            counts[pick("one")][pick("two")] += 1;
        }
        for (i, first) in [0.7, 0.2, 0.1, 0.0].iter().enumerate() {
            for (j, second) in [0.7, 0.2, 0.1, 0.0].iter().enumerate() {
                let expected = 40_000.0 * first * second;
                let off = (f64::from(counts[i][j]) - expected).abs();
                assert!(off <= 5.0 * expected.sqrt(), "{i} {j}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_new_variant_moves_users_only_to_itself() {
        let (old, new) = (variants(&[("a", 1.0), ("b", 1.0)]), variants(&[("a", 1.0), ("b", 1.0), ("c", 1.0)]));
        let mut moved = 0;
        for user in 0..10_000 {
            let (before, after) = (assign("e", &user.to_string(), &old), assign("e", &user.to_string(), &new));
            assert!(before == after || after == Some(2));
            moved += u32::from(before != after);
        }
        assert!((3_100..3_600).contains(&moved), "{moved}");
        assert_eq!(assign("e", "u", &variants(&[("a", 0.0)])), None);
    }
}
