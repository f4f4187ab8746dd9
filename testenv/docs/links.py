"""links.py BOOK: checks that every link of a book's pages leads to a file that exists, and to a heading in it."""

import pathlib
import sys
import urllib.parse
from html.parser import HTMLParser


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.path = path
        self.ids = set()
        self.links = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]


book = pathlib.Path(sys.argv[1]).resolve()
# Pages that mdbook makes by itself; print.html repeats all others.
generated = {"print.html", "toc.html", "404.html"}
pages = {path: Page(path) for path in book.rglob("*.html") if path.name not in generated}
links = [(page, urllib.parse.urlsplit(link)) for page in pages.values() for link in page.links]
internal = [(page, link) for page, link in links if not link.scheme and not link.netloc]
broken = []
for page, link in internal:
    path = (page.path.parent / urllib.parse.unquote(link.path)).resolve() if link.path else page.path
    exists = path in pages and urllib.parse.unquote(link.fragment) in pages[path].ids if link.fragment else path.exists()
    if not exists and path.name not in generated:
        broken.append(f"{page.path.name}: {link.geturl()}")
print("\n".join(broken) or f"{len(pages)} pages, {len(internal)} links, none broken")
sys.exit(bool(broken) or not internal)
