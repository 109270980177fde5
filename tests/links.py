#!/usr/bin/env python3
"""Checks the links of every Markdown file in the repository: the file that a relative link names must
exist, and its anchor must be a heading there. Links to other sites are not followed.

A page of the book (docs/) may link to other pages of the book only, since a built book has nothing else;
every page must be in docs/SUMMARY.md.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOOK = ROOT / "docs"
# The one page that shows a file from outside of the book.
MAY_LEAVE_THE_BOOK = {BOOK / "internals/format.md"}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")


def text_of(page):
    """Returns the page without fenced code and code spans, whose brackets are no links."""
    text = re.sub(r"^\s*```.*?^\s*```", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: code.group().replace("[", "").replace("]", ""), text)


def anchors_of(page):
    """Returns the anchors of the page's headings, as repository viewers and mdBook make them."""
    found = {}
    for heading in re.findall(r"^#+\s+(.*)$", text_of(page), flags=re.M):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found[words] = found.get(words, -1) + 1
    return {f"{words}-{n}" if n else words for words, last in found.items() for n in range(last + 1)}


def problem_of(page, link):
    """Returns what is wrong with a relative link of the page, or None."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return "no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(target)):
        return "no such heading"
    if page.is_relative_to(BOOK) and not target.is_relative_to(BOOK) and page not in MAY_LEAVE_THE_BOOK:
        return "leaves the book"
    return None


def main():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    pages = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    pages = [page for page in pages if page.exists()]
    problems, links = [], 0
    for page in pages:
        for link in LINK.findall(text_of(page)):
            links += 1
            problem = None if EXTERNAL.match(link) else problem_of(page, link)
            if problem:
                problems.append(f"{page.relative_to(ROOT)}: {link}: {problem}")
    summary = BOOK / "SUMMARY.md"
    chapters = {(BOOK / link).resolve() for link in LINK.findall(text_of(summary))}
    for page in pages:
        if page.is_relative_to(BOOK) and page != summary and page not in chapters:
            problems.append(f"{page.relative_to(ROOT)}: not in docs/SUMMARY.md")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(pages)} pages, {links} links, {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
