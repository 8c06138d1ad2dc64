//! Against ordinary sets and maps, over random members that are dense, sparse, in runs and at the edges.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Ids near the edges of containers, buckets and the type; runs; and anything.
fn ids() -> impl Strategy<Value = Vec<u64>> {
    let edges = [0, 1, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX];
    let some = prop_oneof![
        4 => 0..2_000_u64,
        2 => (0..5_u64, 0..70_000_u64).prop_map(|(high, low)| (high << 32) + low),
        1 => prop::sample::select(edges.to_vec()),
        1 => any::<u64>(),
    ];
    let run = (0..300_000_u64, 0..9_000_u64).prop_map(|(first, count)| (first..first + count).collect::<Vec<_>>());
    let scattered = (0..60_000_u64, 4_000..6_000_u64).prop_map(|(first, count)| (0..count).map(|i| first + i * 7).collect());
    prop_oneof![6 => prop::collection::vec(some, 0..200), 1 => run, 1 => scattered]
}

fn set(ids: &[u64]) -> BTreeSet<u64> {
    ids.iter().copied().collect()
}

fn members(bitmap: &Bitmap) -> Vec<u64> {
    bitmap.iter().collect()
}

fn same(bitmap: &Bitmap, expected: impl IntoIterator<Item = u64>) {
    let expected: Vec<u64> = expected.into_iter().collect();
    assert_eq!(members(bitmap), expected);
    assert_eq!(bitmap.len(), expected.len() as u64);
    assert_eq!(bitmap.is_empty(), expected.is_empty());
    let bytes = bitmap.clone().to_bytes();
    assert_eq!(bytes, Bitmap::from_ascending(&expected).to_bytes(), "equal sets have equal bytes");
    let read = Bitmap::read(&bytes).unwrap();
    assert_eq!(members(&read), expected);
    assert_eq!(read.to_bytes(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn algebra_is_that_of_sets(a in ids(), b in ids()) {
        let (x, y) = (Bitmap::from_ids(a.clone()), Bitmap::from_ids(b.clone()));
        let (a, b) = (set(&a), set(&b));
        same(&x, a.iter().copied());
        same(&x.and(&y), a.intersection(&b).copied());
        same(&x.or(&y), a.union(&b).copied());
        same(&x.xor(&y), a.symmetric_difference(&b).copied());
        same(&x.and_not(&y), a.difference(&b).copied());
        assert_eq!(x.and_len(&y), a.intersection(&b).count() as u64);
        assert_eq!(x.or_len(&y), a.union(&b).count() as u64);
        assert_eq!(x.xor_len(&y), a.symmetric_difference(&b).count() as u64);
        assert_eq!(x.and_not_len(&y), a.difference(&b).count() as u64);
        assert_eq!(x.meets(&y), !a.is_disjoint(&b));
        assert_eq!(x.is_within(&y), a.is_subset(&b));
        assert!(x.and(&y).is_within(&y));
        assert_eq!((x.min(), x.max()), (a.first().copied(), a.last().copied()));
        // After runs too.
        let (mut x, mut y) = (x, y);
        x.compact();
        y.compact();
        same(&x.and(&y), a.intersection(&b).copied());
        same(&x.xor(&y), a.symmetric_difference(&b).copied());
        same(&x.and_not(&y), a.difference(&b).copied());
        x.add(y);
        same(&x, a.union(&b).copied());
    }

    #[test]
    fn ranges_and_pages(a in ids(), low in 0..70_000_u64, width in 0..90_000_u64, high in 0..5_u64, limit in 0..300_u64) {
        let (x, a) = (Bitmap::from_ids(a.clone()), set(&a));
        for first in [low, (high << 32) + low, u64::MAX - low] {
            let last = first.saturating_add(width);
            same(&x.range(first, last), a.range(first..=last).copied());
            same(&x.from(first, limit), a.range(first..).copied().take(limit as usize));
            same(&x.page(first, limit), a.iter().copied().skip(usize::try_from(first).unwrap()).take(limit as usize));
            assert_eq!(x.rank(first), a.range(..first).count() as u64);
            assert_eq!(x.contains(first), a.contains(&first));
        }
        same(&x.range(0, u64::MAX), a.iter().copied());
        same(&x.page(0, u64::MAX), a.iter().copied());
        same(&x.range(1, 0), []);
        assert!(a.iter().all(|id| x.contains(*id)));
        for (offset, page) in (0..).step_by(1_000).zip(members(&x).chunks(1_000)) {
            same(&x.page(offset, 1_000), page.iter().copied());
        }
    }

    #[test]
    fn collected_in_any_order(a in ids(), cuts in prop::collection::vec(0..5_usize, 1..50), seed in any::<u64>()) {
        let mut shuffled: Vec<u64> = a.iter().chain(a.iter().take(100)).copied().collect();
        crate::kernels::splitmix::shuffle(&mut shuffled, seed);
        let mut parts = vec![Collector::default(); 5];
        for (at, id) in shuffled.iter().enumerate() {
            parts[cuts[at % cuts.len()]].insert(*id);
        }
        let mut whole = Collector::default();
        for part in parts.into_iter().rev() {
            let mut bytes = vec![];
            part.encode(&mut bytes);
            whole.merge(Collector::decode(&bytes).unwrap());
        }
        let expected = set(&a);
        assert_eq!(whole.count(), expected.len() as u64);
        same(whole.set(), expected);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_a_set(a in ids(), at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<prop::sample::Index>()) {
        let bytes = Bitmap::from_ids(a).to_bytes();
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1 << bit;
        if let Ok(found) = Bitmap::read(&flipped) {
            let ids = members(&found);
            assert!(ids.is_sorted_by(|a, b| a < b));
            assert_eq!(found.len(), ids.len() as u64);
        }
        let short = &bytes[..cut.index(bytes.len())];
        assert!(Bitmap::read(short).is_err());
        let mut long = bytes;
        long.push(0);
        assert_eq!(Bitmap::read(&long), Err(Malformed::Long(1)));
    }

    #[test]
    fn any_bytes_are_an_error_or_a_set(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Bitmap::read(&bytes);
        let mut index = b"BSI\x01\x02".to_vec();
        index.extend(&bytes);
        let _ = Bsi::read(&index);
        let _ = Collector::decode(&bytes);
        let _ = Sums::decode(&bytes);
    }
}

fn values() -> impl Strategy<Value = Vec<(u64, i64)>> {
    let id = prop_oneof![3 => 0..60_u64, 1 => (0..3_u64, 0..70_000_u64).prop_map(|(high, low)| (high << 32) + low), 1 => any::<u64>()];
    let value = prop_oneof![4 => -6..6_i64, 2 => -70_000..70_000_i64, 1 => (i64::MIN / 2)..=(i64::MAX / 2)];
    prop::collection::vec((id, value), 0..80)
}

fn map(pairs: &[(u64, i64)]) -> BTreeMap<u64, i64> {
    let mut map = BTreeMap::new();
    for (id, value) in pairs {
        *map.entry(*id).or_insert(0_i128) += i128::from(*value);
    }
    map.into_iter().map(|(id, value)| (id, value.clamp(i64::MIN.into(), i64::MAX.into()) as i64)).collect()
}

fn index(map: &BTreeMap<u64, i64>) -> Bsi {
    Bsi::from_ascending(&map.iter().map(|(id, value)| (*id, *value)).collect::<Vec<_>>())
}

fn pairs(index: &Bsi) -> BTreeMap<u64, i64> {
    index.ids().iter().map(|id| (id, index.get(id).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn indexes_answer_as_maps(given in values(), crowd in values(), value in -8..8_i64, k in 0..12_u64) {
        let map = map(&given);
        let bsi = index(&map);
        assert_eq!(pairs(&bsi), map);
        assert_eq!(Bsi::read(&bsi.clone().to_bytes()).unwrap(), bsi);
        let where_ = |test: &dyn Fn(i64) -> bool| map.iter().filter(|(_, value)| test(**value)).map(|(id, _)| *id).collect::<Vec<_>>();
        let known = map.values().copied().take(3);
        for value in known.chain([value, value * 9_000, i64::MIN, i64::MAX, 0, -1]) {
            let order = bsi.compare(value);
            assert_eq!(members(&order.less), where_(&|of| of < value), "below {value}");
            assert_eq!(members(&order.equal), where_(&|of| of == value), "equal to {value}");
            assert_eq!(members(&order.greater), where_(&|of| of > value), "above {value}");
        }
        let crowd_ids: BTreeSet<u64> = crowd.iter().map(|(id, _)| *id).collect();
        let crowd = Bitmap::from_ids(crowd_ids.iter().copied().collect());
        let inside: BTreeMap<u64, i64> = map.iter().filter(|(id, _)| crowd_ids.contains(id)).map(|(id, value)| (*id, *value)).collect();
        for (crowd, map) in [(None, &map), (Some(&crowd), &inside)] {
            assert_eq!(bsi.sum(crowd), map.values().map(|value| i128::from(*value)).sum::<i128>());
            assert_eq!(bsi.extreme(true, crowd), map.values().copied().max());
            assert_eq!(bsi.extreme(false, crowd), map.values().copied().min());
            let mut ranked: Vec<(i64, u64)> = map.iter().map(|(id, value)| (*value, *id)).collect();
            ranked.sort_by_key(|(value, id)| (std::cmp::Reverse(*value), *id));
            let best: BTreeSet<u64> = ranked.iter().take(k as usize).map(|(_, id)| *id).collect();
            assert_eq!(members(&bsi.top(k, crowd)), best.into_iter().collect::<Vec<_>>(), "{k} best");
        }
        let restricted = bsi.restrict(&crowd);
        assert_eq!(pairs(&restricted), inside);
        assert_eq!(restricted.to_bytes(), index(&inside).to_bytes(), "equal indexes have equal bytes");
    }

    #[test]
    fn indexes_add_up(a in values(), b in values()) {
        let (a, b) = (map(&a), map(&b));
        let mut sums = a.clone();
        let mut fits = true;
        for (id, value) in &b {
            let sum = sums.entry(*id).or_insert(0);
            fits &= sum.checked_add(*value).is_some();
            *sum = sum.wrapping_add(*value);
        }
        match index(&a).plus(&index(&b)) {
            Some(sum) => {
                assert!(fits);
                assert_eq!(sum.to_bytes(), index(&sums).to_bytes());
            }
            None => assert!(!fits),
        }
    }

    #[test]
    fn sums_in_any_order(given in values(), seed in any::<u64>(), dealt in any::<u64>()) {
        let mut shuffled = given.clone();
        crate::kernels::splitmix::shuffle(&mut shuffled, seed);
        let mut parts = vec![Sums::default(); 4];
        for (at, (id, value)) in shuffled.iter().enumerate() {
            parts[(crate::kernels::splitmix::at(dealt, at as u64) % 4) as usize].add(*id, i128::from(*value));
        }
        let mut whole = Sums::default();
        for part in parts {
            let mut bytes = vec![];
            part.encode(&mut bytes);
            whole.merge(Sums::decode(&bytes).unwrap());
        }
        let mut exact = BTreeMap::new();
        for (id, value) in &given {
            *exact.entry(*id).or_insert(0_i128) += i128::from(*value);
        }
        match whole.index() {
            Ok(index) => assert_eq!(pairs(&index), map(&given)),
            Err(_) => assert!(exact.values().any(|sum| i64::try_from(*sum).is_err())),
        }
    }
}

#[test]
fn widths_are_no_wider_than_needed() {
    let slices = |values: &[i64]| {
        let pairs: Vec<(u64, i64)> = (0..).zip(values.iter().copied()).collect();
        Bsi::from_ascending(&pairs).to_bytes()[4]
    };
    assert_eq!([slices(&[]), slices(&[0]), slices(&[-1, 0]), slices(&[1]), slices(&[-2]), slices(&[127, -128])], [1, 1, 1, 2, 2, 8]);
    assert_eq!([slices(&[128]), slices(&[i64::MIN]), slices(&[i64::MAX])], [9, 64, 64]);
}

#[test]
fn bytes_that_break_the_format() {
    let one = |high: u32| {
        let mut bytes = high.to_le_bytes().to_vec();
        bytes.extend(roaring_bytes(&[7]));
        bytes
    };
    let file = |count: u64, parts: &[Vec<u8>]| [count.to_le_bytes().to_vec(), parts.concat()].concat();
    assert_eq!(members(&Bitmap::read(&file(2, &[one(0), one(1)])).unwrap()), [7, (1 << 32) + 7]);
    assert_eq!(Bitmap::read(&[]), Err(Malformed::Short));
    assert_eq!(Bitmap::read(&file(u64::MAX, &[one(0)])), Err(Malformed::Short));
    assert_eq!(Bitmap::read(&file(2, &[one(1), one(0)])), Err(Malformed::Order));
    assert_eq!(Bitmap::read(&file(2, &[one(1), one(1)])), Err(Malformed::Order));
    assert_eq!(Bitmap::read(&file(1, &[one(0), one(1)])), Err(Malformed::Long(one(1).len())));
    // A bucket without members is one that is not there.
    let empty = [vec![0; 4], roaring_bytes(&[])].concat();
    assert_eq!(Bitmap::read(&file(1, &[empty])).unwrap(), Bitmap::default());
    // Members of an array that do not ascend.
    let mut unsorted = one(0);
    let at = unsorted.len() - 2;
    unsorted[4 + 4] = 1;
    unsorted.splice(at.., [7, 0]);
    unsorted[12 + 2] = 1;
    unsorted.extend([6, 0]);
    assert!(matches!(Bitmap::read(&file(1, &[unsorted])), Err(Malformed::Bucket(_))));

    let index = Bsi::from_ascending(&[(1, -5), (2, 9)]).to_bytes();
    assert_eq!(Bsi::read(b"BSI\x02"), Err(Malformed::NotAnIndex));
    assert_eq!(Bsi::read(b"BSI\x01"), Err(Malformed::Short));
    assert_eq!(Bsi::read(&[b"BSI\x01\x00", &index[5..]].concat()), Err(Malformed::Slices(0)));
    assert_eq!(Bsi::read(&[b"BSI\x01\x41", &index[5..]].concat()), Err(Malformed::Slices(65)));
    assert_eq!(Bsi::read(&[b"BSI\x01\x01", &index[5..]].concat()).unwrap_err().to_string().split(' ').nth(1), Some("bytes"));
    let part = |ids: &[u64]| {
        let bytes = Bitmap::from_ascending(ids).to_bytes();
        [(bytes.len() as u64).to_le_bytes().to_vec(), bytes].concat()
    };
    assert_eq!(Bsi::read(&[b"BSI\x01\x01".to_vec(), part(&[1]), part(&[2])].concat()), Err(Malformed::Stray));
}

fn roaring_bytes(ids: &[u32]) -> Vec<u8> {
    let mut out = vec![];
    ids.iter().copied().collect::<roaring::RoaringBitmap>().serialize_into(&mut out).unwrap();
    out
}

/// What CRoaring wrote (through pyroaring), and what ClickHouse holds: `vectors.tsv` has name, ids or ranges, hexadecimal bytes.
#[test]
fn bytes_of_other_implementations() {
    let mut seen = 0;
    for line in include_str!("vectors.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [writer, ids, hex] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let mut expected = vec![];
        for part in ids.split(' ').filter(|part| !part.is_empty()) {
            match part.split(&['-', '/'][..]).map(|number| number.parse::<u64>().unwrap()).collect::<Vec<_>>()[..] {
                [id] => expected.push(id),
                [first, last, step] => expected.extend((first..=last).step_by(step as usize)),
                _ => panic!("{part}"),
            }
        }
        let found = Bitmap::read(&bytes).unwrap_or_else(|error| panic!("{writer}: {error}"));
        assert_eq!(members(&found), expected, "{writer} {ids}");
        seen += 1;
        if writer == "croaring-optimized" {
            assert_eq!(found.to_bytes(), bytes, "{ids}");
        }
    }
    assert!(seen >= 12, "{seen}");
}
