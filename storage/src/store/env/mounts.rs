//! The table of mounts, as Linux shows it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// A file system, or a folder of one, mounted at a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Without links.
    pub directory: PathBuf,
    /// The root of the file system is mounted there, not a folder of it. Containers mount folders.
    pub is_whole: bool,
}

/// Reads the lines of `/proc/self/mountinfo`: `ID PARENT MAJOR:MINOR ROOT DIRECTORY ...`.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (root, directory) = (fields.next()?, fields.next()?);
        Some(Mount {
            directory: OsString::from_vec(unescaped(directory)).into(),
            is_whole: root == b"/",
        })
    };
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(mount).collect()
}

/// Spaces, tabs, line feeds and backslashes are written in octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match byte {
            b'\\' => after.get(..3).and_then(octal),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_14_mounts_are_read_as_the_kernel_writes_them() {
        let text = b"22 28 0:21 / /sys rw,nosuid - sysfs sysfs rw\n\
            30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            41 30 8:17 / /mnt/a\\040b\\134c rw - xfs /dev/sdb1 rw\n\
            42 30 8:1 /srv/disk1 /data1 rw - ext4 /dev/sda1 rw\n\
            43 30\n";
        let found = parse(text);
        let mount = |directory: &str, is_whole| Mount {
            directory: directory.into(),
            is_whole,
        };
        assert_eq!(
            found,
            [
                mount("/sys", true),
                mount("/", true),
                mount("/mnt/a b\\c", true),
                mount("/data1", false),
            ]
        );
        assert_eq!(
            parse(b"1 2 8:1 / /a\\04 rw\n")[0].directory,
            PathBuf::from("/a\\04")
        );
    }
}
