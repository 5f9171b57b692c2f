#!/usr/bin/env python3
"""Checks the links of the documentation, without a network.

Three things have to hold; each line of the output is one that does not:

- In the built book, every link within it leads to a file, and every #fragment to an id on that page.
- In the Markdown pages outside the book, every relative link leads to a file of the repository, and every #fragment to
  a heading of that page.
- SUMMARY.md and llms.txt name every page of the book.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "docs/src"
BOOK = ROOT / "target/book"

LINK = re.compile(r"\]\(\s*<?([^()\s>]+)>?[^()]*\)|^\[[^\]]+\]:\s*(\S+)|(?:href|src)=\"([^\"]+)\"", re.MULTILINE)
# Code contains no links: fenced blocks, then spans.
CODE = re.compile(r"^ *(`{3,})[^\n]*\n.*?^ *\1`* *$|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)


class Html(HTMLParser):
    """The ids of a page of the book, and what it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.has_base = set(), [], False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.has_base |= tag == "base"
        self.ids.update(filter(None, [attrs.get("id"), attrs.get("name") if tag == "a" else None]))
        self.links += filter(None, [attrs.get("href"), attrs.get("src")])


class Markdown:
    """The ids that a page's headings get, and what it links to."""

    def __init__(self, path):
        text = path.read_text(encoding="utf-8")
        prose = CODE.sub(lambda code: "" if code[1] else code[0].replace("](", ""), text)
        self.links = [next(filter(None, link)) for link in LINK.findall(prose)]
        self.ids = set()
        for heading in re.findall(r"^#{1,6} +(.*)$", prose, re.MULTILINE):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
            slug = name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            count = 0
            while name in self.ids:
                count += 1
                name = f"{slug}-{count}"
            self.ids.add(name)


class Checker:
    def __init__(self):
        self.broken, self.pages = [], {}

    def page(self, path):
        if path not in self.pages:
            self.pages[path] = Markdown(path) if path.suffix == ".md" else Html(path)
        return self.pages[path]

    def check(self, path, root):
        """Every link of a page to something below `root`."""
        for link in self.page(path).links:
            reason = self.problem(path, link, root)
            if reason:
                self.report(path, f"broken link {link} ({reason})")

    def problem(self, path, link, root):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return None
        target = path
        if parts.path:
            target = (path.parent / unquote(parts.path)).resolve()
            if target.is_dir() and root == BOOK:
                target /= "index.html"
        if not target.is_relative_to(root):
            return "it leads out of the book" if root == BOOK else "it leads out of the repository"
        if not target.exists():
            return "there is no such file"
        fragment = unquote(parts.fragment)
        if fragment and target.suffix in (".html", ".md") and fragment not in self.page(target).ids:
            return "there is no such anchor"
        return None

    def report(self, path, what):
        self.broken.append(f"{path.relative_to(ROOT)}: {what}")


def main():
    if not BOOK.is_dir():
        sys.exit(f"{BOOK} is missing: run `make docs`")
    checker = Checker()

    for path in sorted(BOOK.rglob("*.html")):
        # The page for unknown addresses has a base of its own, which has a meaning only on a web server; print.html
        # repeats all other pages.
        if not checker.page(path).has_base and path.name != "print.html":
            checker.check(path, BOOK)

    outside = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("[!.]*/*/README.md")]
    for path in sorted(outside):
        if path.parts[len(ROOT.parts)] not in ("target", "docs"):
            checker.check(path, ROOT)

    summary, llms = SOURCES / "SUMMARY.md", SOURCES / "llms.txt"
    pages = {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.md")} - {"SUMMARY.md"}
    in_summary = set(checker.page(summary).links)
    for page in sorted(pages - in_summary):
        checker.report(summary, f"does not name {page}")
    llms_links = {next(filter(None, link)) for link in LINK.findall(llms.read_text(encoding="utf-8"))}
    for link in sorted(llms_links):
        reason = checker.problem(BOOK / "llms.txt", link, BOOK)
        if reason:
            checker.report(llms, f"broken link {link} ({reason})")
    for page in sorted(pages):
        if page.removesuffix(".md") + ".html" not in llms_links:
            checker.report(llms, f"does not link to {page.removesuffix('.md')}.html")

    for line in checker.broken:
        print(line)
    if checker.broken:
        sys.exit(f"{len(checker.broken)} broken links or missing entries")
    count = sum(len(page.links) for page in checker.pages.values())
    print(f"Links: {count} in {len(checker.pages)} pages, none broken")


if __name__ == "__main__":
    main()
