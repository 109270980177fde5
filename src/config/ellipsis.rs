//! `{1...4}` in a directory's name: one argument that names many disks.
//!
//! Numbers count up; with a leading zero all have the width of the last. A bound that is no decimal
//! number is read as hexadecimal, so `{a...f}` works. Several ranges in one argument combine, the
//! last one fastest.

use super::error::Error;

/// Returns all names that `argument` stands for, in order; the argument itself if it has no range.
/// At most `len_max`.
pub(super) fn expand(argument: &str, len_max: usize) -> Result<Vec<String>, Error> {
    let mut expanded = vec![String::new()];
    let mut rest = argument;
    while let Some((before, range, after)) = split(rest, argument)? {
        let values = values(range, argument, len_max)?;
        if expanded.len() * values.len() > len_max {
            return Err(too_many(argument, len_max));
        }
        expanded = expanded
            .iter()
            .flat_map(|start| {
                values
                    .iter()
                    .map(move |value| format!("{start}{before}{value}"))
            })
            .collect();
        rest = after;
    }
    for name in &mut expanded {
        name.push_str(rest);
    }
    Ok(expanded)
}

/// Returns the texts before, within and after the first range.
fn split<'a>(rest: &'a str, argument: &str) -> Result<Option<(&'a str, &'a str, &'a str)>, Error> {
    let Some(dots) = rest.find("...") else {
        return Ok(None);
    };
    let open = rest[..dots].rfind('{');
    let close = rest[dots..].find('}').map(|at| at + dots);
    match (open, close) {
        (Some(open), Some(close)) => Ok(Some((
            &rest[..open],
            &rest[open + 1..close],
            &rest[close + 1..],
        ))),
        _ => Err(malformed(argument)),
    }
}

fn values(range: &str, argument: &str, len_max: usize) -> Result<Vec<String>, Error> {
    let (first, last) = range.split_once("...").ok_or_else(|| malformed(argument))?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if !plain(first) || !plain(last) {
        return Err(malformed(argument));
    }
    let both = |radix| {
        let from = u64::from_str_radix(first, radix).ok()?;
        let to = u64::from_str_radix(last, radix).ok()?;
        Some((from, to))
    };
    let (bounds, hexadecimal) = match both(10) {
        Some(bounds) => (Some(bounds), false),
        None => (both(16), true),
    };
    let (from, to) = bounds
        .filter(|(from, to)| from <= to)
        .ok_or_else(|| malformed(argument))?;
    if to - from >= len_max as u64 {
        return Err(too_many(argument, len_max));
    }
    let padded = first.starts_with('0') && first.len() > 1 || last.starts_with('0');
    let width = if padded { last.len() } else { 0 };
    let value = |n: u64| match hexadecimal {
        true => format!("{n:0width$x}"),
        false => format!("{n:0width$}"),
    };
    Ok((from..=to).map(value).collect())
}

fn malformed(argument: &str) -> Error {
    Error::Invalid(format!(
        "{argument}: a range of disks is written {{1...4}}, from the least to the greatest"
    ))
}

fn too_many(argument: &str, len_max: usize) -> Error {
    Error::Invalid(format!("{argument}: names more than {len_max} disks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(argument: &str) -> Vec<String> {
        expand(argument, 256).expect("well-formed")
    }

    #[test]
    fn plain_names_stay() {
        assert_eq!(names("/data"), ["/data"]);
        assert_eq!(names("/da{ta"), ["/da{ta"]);
    }

    #[test]
    fn numbers_count_and_keep_their_width() {
        assert_eq!(names("/d{1...3}/x"), ["/d1/x", "/d2/x", "/d3/x"]);
        assert_eq!(names("d{08...11}"), ["d08", "d09", "d10", "d11"]);
        assert_eq!(names("d{0...2}"), ["d0", "d1", "d2"]);
        assert_eq!(names("d{9...11}"), ["d9", "d10", "d11"]);
    }

    #[test]
    fn letters_are_hexadecimal() {
        assert_eq!(names("sd{a...d}"), ["sda", "sdb", "sdc", "sdd"]);
    }

    #[test]
    fn ranges_combine() {
        assert_eq!(
            names("r{1...2}/d{1...2}"),
            ["r1/d1", "r1/d2", "r2/d1", "r2/d2"]
        );
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "d{4...1}",
            "d{1...}",
            "d{...}",
            "d1...4",
            "d{x...z}",
            "d{1...4",
            "d{-1...4}",
        ] {
            assert!(expand(bad, 256).is_err(), "{bad}");
        }
        assert!(expand("d{1...300}", 256).is_err());
        assert!(expand("d{1...100}{1...100}", 256).is_err());
        assert!(expand("d{0...18446744073709551615}", 256).is_err());
    }
}
