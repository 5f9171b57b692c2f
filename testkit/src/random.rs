//! Numbers that look random, and are the same for the same seed.

/// Pseudo-random numbers from a seed other than 0: xorshift64* (Vigna, <https://doi.org/10.1145/2845077>).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    #[expect(clippy::should_implement_trait, reason = "it has no end, so an Option would be in the way")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// The seed of a test: `GW_SEED`, or `default`. It is printed, so that the test harness shows it if the test fails.
pub fn seed(default: u64) -> u64 {
    let given = std::env::var("GW_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(default).max(1);
    println!("GW_SEED={seed}");
    seed
}
