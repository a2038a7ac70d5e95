//! Chance that is the same in every run.

/// A number that looks random and is the same in every run (the finaliser of `SplitMix64`), below 2^31.
pub(crate) fn pick(number: u32, salt: usize) -> usize {
    let mut z = u64::from(number).wrapping_add((salt as u64) << 32).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_are_spread() {
        let mut hit = [0; 10];
        (0..1_000).for_each(|number| hit[pick(number, 0) % 10] += 1);
        assert!(hit.iter().all(|hits| (60..140).contains(hits)), "{hit:?}");
    }
}
