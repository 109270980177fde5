//! The ids of the checklists: how they are spelled in lists and comments (`S-14`) and in the names
//! of tests (`s_14_…`), and where they stand.

use crate::check;
use crate::source::all;

/// The letters of all lists.
pub const LETTERS: [char; 7] = ['A', 'B', 'F', 'P', 'R', 'S', 'W'];

/// Names of the field that look like ids.
const NO_IDS: [&str; 3] = ["P-256", "P-384", "P-521"];

/// The ids that a test's name opens with, as lists spell them: `A-20` and `S-04` for
/// `a_20_s_04_keys`.
pub fn of_test(name: &str) -> Vec<String> {
    let mut parts = name.split('_');
    let mut ids = Vec::new();
    while let (Some(letter), Some(number)) = (parts.next(), parts.next()) {
        let upper = letter.to_uppercase();
        let is_letter = LETTERS.iter().any(|known| upper == known.to_string());
        if !is_letter || letter == upper || !is_number(number) {
            break;
        }
        ids.push(format!("{upper}-{number}"));
    }
    ids
}

/// Whether a test's name bears an id, at its front or further on.
pub fn is_borne_by(id: &str, test: &str) -> bool {
    let id = id.to_lowercase().replace('-', "_");
    format!("_{test}_").contains(&format!("_{id}_"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number has two digits at least, and no more zeros than that needs: `S-04`, `S-103`.
pub fn is_well_spelled(id: &str) -> bool {
    let number = id.get(2..).unwrap_or_default();
    let letter = LETTERS.iter().any(|letter| id.starts_with(*letter));
    letter
        && matches!(
            (number.len(), number.as_bytes()),
            (2, _) | (3, [b'1'..=b'9', ..])
        )
}

/// The ids in a piece of prose. One without its hyphen is found as well, as it stands.
pub fn of_prose(text: &str) -> Vec<&str> {
    let is_inner = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let words = text.split(|c: char| !is_inner(c));
    let words = words.map(|word| word.trim_end_matches('-'));
    words.filter(|word| is_like_an_id(word)).collect()
}

fn is_like_an_id(word: &str) -> bool {
    let Some(number) = word.strip_prefix(LETTERS) else {
        return false;
    };
    match number.strip_prefix('-') {
        Some(number) => is_number(number) && number.len() <= 3 && !NO_IDS.contains(&word),
        None => is_number(number) && number.len() == 2 && !word.starts_with('P'),
    }
}

#[test]
fn ids_in_test_names_have_one_spelling() {
    let mut problems = Vec::new();
    for source in all() {
        for (line, name) in source.functions() {
            for id in of_test(name).iter().filter(|id| !is_well_spelled(id)) {
                problems.push(format!("{}:{line}: {id} in {name}", source.shown()));
            }
        }
    }
    check(problems);
}

#[test]
fn ids_are_found() {
    assert_eq!(of_test("a_20_s_04_keys"), ["A-20", "S-04"]);
    assert_eq!(of_test("a_05_e_the_end"), ["A-05"]);
    assert_eq!(of_test("s_5_a"), ["S-5"]);
    assert!(of_test("s_three_of_a_20").is_empty());
    assert!(is_borne_by("F-08", "r_03_a_and_f_08_b"));
    assert!(!is_borne_by("F-08", "f_080_b"));
    assert!(is_well_spelled("S-04") && is_well_spelled("S-103"));
    assert!(!is_well_spelled("S-4") && !is_well_spelled("S-004") && !is_well_spelled("W12"));
    let prose = "the S3 of S-14: (R-18), P-256, A-30's, W12 and x-amz-id-2";
    assert_eq!(of_prose(prose), ["S-14", "R-18", "A-30", "W12"]);
}
