//! Range headers: pure.

use drystone_store::types::{ByteRange, RangeSpec};

/// The meaning of a Range header for an object of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No range, several ranges, or nothing that is a range: all of it, with 200.
    Whole,
    Part(ByteRange),
    /// 416.
    Unsatisfiable,
}

/// Reads a `Range` header; `None` if it names no range. Numbers of any length are numbers: what
/// overflows lies behind the end.
pub fn parse(header: &str) -> Option<RangeSpec> {
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", len) => number(len).map(RangeSpec::Last),
        (first, "") => number(first).map(RangeSpec::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(RangeSpec::Between(first, last))
        }
    }
}

/// Applies a `Range` header to an object of this size.
pub fn resolve(header: &str, size: u64) -> Wanted {
    match parse(header) {
        None => Wanted::Whole,
        // The end of nothing is all of it. Readers that begin at a file's end count on it.
        Some(RangeSpec::Last(1..)) if size == 0 => Wanted::Whole,
        Some(spec) => spec
            .within(size)
            .map_or(Wanted::Unsatisfiable, Wanted::Part),
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use drystone_store::types::ByteRange;
    use proptest::prelude::{Strategy as _, any};

    use super::{Wanted, resolve};

    const fn part(start: u64, end: u64) -> Wanted {
        Wanted::Part(ByteRange { start, end })
    }

    #[test]
    fn a_29_b_46_w_13_ranges() {
        let ranges: &[(&str, [Wanted; 3])] = {
            use Wanted::{Unsatisfiable as No, Whole};
            // For objects of 0, 1 and 10 bytes.
            &[
                ("bytes=0-", [No, part(0, 1), part(0, 10)]),
                ("bytes=0-0", [No, part(0, 1), part(0, 1)]),
                ("bytes=3-5", [No, No, part(3, 6)]),
                ("bytes=3-99", [No, No, part(3, 10)]),
                ("bytes=9-", [No, No, part(9, 10)]),
                ("bytes=10-", [No, No, No]),
                ("bytes=-0", [No, No, No]),
                ("bytes=-1", [Whole, part(0, 1), part(9, 10)]),
                ("bytes=-99", [Whole, part(0, 1), part(0, 10)]),
                (
                    "bytes=-18446744073709551615",
                    [Whole, part(0, 1), part(0, 10)],
                ),
                (
                    "bytes=-99999999999999999999999",
                    [Whole, part(0, 1), part(0, 10)],
                ),
                ("bytes=9223372036854775807-", [No, No, No]),
                (
                    "bytes=18446744073709551615-18446744073709551615",
                    [No, No, No],
                ),
                (
                    "bytes=0-18446744073709551615",
                    [No, part(0, 1), part(0, 10)],
                ),
                ("Bytes=0-0", [No, part(0, 1), part(0, 1)]),
                ("bytes=5-2", [Whole; 3]),
                ("bytes=0-1,3-4", [Whole; 3]),
                ("bytes=-", [Whole; 3]),
                ("bytes=", [Whole; 3]),
                ("bytes=a-b", [Whole; 3]),
                ("bytes=--1", [Whole; 3]),
                ("bytes= -1", [Whole; 3]),
                ("bytes=0 -1", [Whole; 3]),
                ("bytes=+1-2", [Whole; 3]),
                ("items=0-1", [Whole; 3]),
                ("0-1", [Whole; 3]),
                ("", [Whole; 3]),
            ]
        };
        for (header, expected) in ranges {
            for (size, expected) in [0, 1, 10].into_iter().zip(expected) {
                assert_eq!(resolve(header, size), *expected, "{header} of {size}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_29_a_range_never_leaves_its_object(
            header in "bytes=[0-9]{0,21}-[0-9]{0,21}",
            size in any::<u64>().prop_map(|n| n >> (n % 64)),
        ) {
            if let Wanted::Part(range) = resolve(&header, size) {
                proptest::prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
