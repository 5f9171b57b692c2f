//! The two loops that a search spends its time in.
//!
//! They are plain loops over integers, which the compiler turns into vector instructions. `pulp` compiles them for several
//! kinds of processors (AVX-512, AVX2, NEON, and any) and takes the best that this one has. All of them compute
//! the same, because integers are exact: the loops as they stand here are their own reference.

use pulp::{Arch, NullaryFnOnce};

/// For each row of `signs`, the number of bits in which it differs from `query`'s: at most 4,096. A row has the length of
/// `query`, whole words of eight bytes. They are appended to `out`.
pub(super) fn distances(signs: &[u8], query: &[u8], out: &mut Vec<u16>) {
    let from = out.len();
    out.resize(from + signs.len() / query.len().max(1), 0);
    let out = out.get_mut(from..).unwrap_or_default();
    Arch::new().dispatch(Distances { signs, query, out });
}

/// For each row of `codes`, its product with the query. A row has the length of `query`, at most
/// [`DIMENSIONS_MAX`](super::bounds::DIMENSIONS_MAX). They are appended to `out`.
pub(super) fn products(codes: &[u8], query: &[i16], out: &mut Vec<i32>) {
    let from = out.len();
    out.resize(from + codes.len() / query.len().max(1), 0);
    let out = out.get_mut(from..).unwrap_or_default();
    Arch::new().dispatch(Products { codes, query, out });
}

struct Distances<'a> {
    signs: &'a [u8],
    query: &'a [u8],
    out: &'a mut [u16],
}

struct Products<'a> {
    codes: &'a [u8],
    query: &'a [i16],
    out: &'a mut [i32],
}

// What is compiled for a kind of processor is what is inlined into the function that `pulp` makes for it. A closure, or one
// that is handed to `extend` or `sum`, may end in a function of its own, six times as slow. So these are structs with methods
// that are always inlined, and the loops are written out.

impl NullaryFnOnce for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        each_distance(self.signs, self.query, self.out);
    }
}

impl NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        each_product(self.codes, self.query, self.out);
    }
}

#[inline(always)]
fn each_distance(signs: &[u8], query: &[u8], out: &mut [u16]) {
    let (query, _) = query.as_chunks::<8>();
    let (signs, _) = signs.as_chunks::<8>();
    for (row, out) in signs.chunks_exact(query.len().max(1)).zip(out) {
        let mut distance = 0;
        for (one, other) in row.iter().zip(query) {
            distance += (u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other)).count_ones();
        }
        *out = distance as u16;
    }
}

#[inline(always)]
fn each_product(codes: &[u8], query: &[i16], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len().max(1)).zip(out) {
        let mut product = 0;
        for (&code, &integer) in row.iter().zip(query) {
            product += i32::from(code.cast_signed()) * i32::from(integer);
        }
        *out = product;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The vector instructions of this machine against the same loops without them, and against single steps.
        #[test]
        fn every_processor_computes_the_same(bytes in prop::collection::vec(any::<u8>(), 0..4_096), dimensions in 1_usize..600) {
            let query: Vec<i16> = (0..dimensions).map(|at| (at as i16 * 31) % 4_096 - 2_000).collect();
            let (mut fast, mut plain) = (Vec::new(), vec![0; bytes.len() / dimensions]);
            products(&bytes, &query, &mut fast);
            each_product(&bytes, &query, &mut plain);
            let single = bytes.chunks_exact(dimensions).map(|row| {
                row.iter().zip(&query).fold(0_i64, |sum, (code, by)| sum + i64::from(*code as i8) * i64::from(*by)) as i32
            });
            prop_assert_eq!(&fast, &plain);
            prop_assert_eq!(fast, single.collect::<Vec<_>>());

            let words = dimensions.div_ceil(64);
            let query: Vec<u8> = (0..words * 8).map(|at| (at * 37) as u8).collect();
            let (mut fast, mut plain) = (Vec::new(), vec![0; bytes.len() / (words * 8)]);
            distances(&bytes, &query, &mut fast);
            each_distance(&bytes, &query, &mut plain);
            let single = bytes.chunks_exact(words * 8).map(|row| {
                row.iter().zip(&query).map(|(one, other)| (one ^ other).count_ones() as u16).sum()
            });
            prop_assert_eq!(&fast, &plain);
            prop_assert_eq!(fast, single.collect::<Vec<u16>>());
        }
    }

    #[test]
    fn the_largest_products_fit() {
        let mut out = Vec::new();
        products(&[0x81; 4_096], &[4_095; 4_096], &mut out);
        products(&[127; 4_096], &[4_095; 4_096], &mut out);
        assert_eq!(out, [-127 * 4_095 * 4_096, 127 * 4_095 * 4_096]);
    }
}
