"""Checks a built site: every link leads to a page and a place on it that there are, every picture
and script is part of the site, and every page has a title and one main heading.

    python docs/check.py out/docs
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Pages that Sphinx makes and that nothing has to say on.
_MADE = {"genindex.html", "py-modindex.html", "search.html"}


class Page(HTMLParser):
    """One page of the site.

    Attributes:
        ids: The places on it that links can lead to.
        links: What its links lead to.
        parts: What a browser loads with it.
        headings: How many main headings it has.
        title: Its title.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.headings = 0
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.parts.append(given["href"])
        elif tag in ("img", "script", "source", "iframe") and given.get("src"):
            self.parts.append(given["src"])
        self.headings += tag == "h1"
        self._in_title |= tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self._in_title &= tag != "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def problems(site: Path) -> list[str]:
    """Returns what is wrong with a site, a sentence for each; none if it is right."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = [] if pages else [f"{site} has no pages"]
    for path, page in sorted(pages.items()):
        name = path.relative_to(site)
        if not page.title.strip():
            found.append(f"{name} has no title")
        if page.headings != 1 and path.name not in _MADE:
            found.append(f"{name} has {page.headings} main headings")
        for link in page.parts:
            if urlsplit(link).scheme not in ("", "data") or urlsplit(link).netloc:
                found.append(f"{name} loads {link} from elsewhere")
            elif not urlsplit(link).scheme and not _target(path, link).is_file():
                found.append(f"{name} loads {link}, which does not exist")
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = _target(path, link)
            if not there.is_file() or not there.is_relative_to(site):
                found.append(f"{name} links to {link}, which does not exist")
            elif parts.fragment and there in pages:
                if unquote(parts.fragment) not in pages[there].ids | {"top"}:
                    found.append(f"{name} links to {link}, and there is no such place")
    return found


def _target(page: Path, link: str) -> Path:
    path = unquote(urlsplit(link).path)
    return (page.parent / path).resolve() if path else page


def main(arguments: list[str]) -> int:
    """Prints what is wrong with the site in a directory; the status is 1 if something is."""
    site = Path(arguments[0])
    found = problems(site)
    print("\n".join(found) or f"{site}: {len(list(site.rglob('*.html')))} pages, all links lead on")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
