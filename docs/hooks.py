"""The site's pages are the repository's own files: README is the index, and a file that a page links to is carried along.

MkDocs calls the functions `on_…` (`hooks` in `mkdocs.yml`). Links are written for the repository, relative to the file that
they stand in, and rewritten here. A link to a file that does not exist fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""File of the repository outside of `docs/` → page of the site."""

_CODE_OR_LINK = re.compile(r"```.*?```|`[^`]*`|\[(?P<label>[^\]]*)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside of `docs/`, and every file that a page links to."""
    waiting = list(PAGES) + [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    known = {f"docs/{file.src_uri}" for file in files} | set(PAGES)
    for path in waiting:  # grows while pages are found
        if not path.startswith("docs/"):
            files.append(File.generated(config, _in_site(path), content=(ROOT / path).read_bytes()))
        if path.endswith(".md"):
            found = [target for target in _targets(path) if (ROOT / target).is_file() and target not in known]
            waiting += dict.fromkeys(found)
            known.update(found)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links for the repository → links for the site."""
    source = _in_repository(page.file.src_uri)

    def rewritten(match: re.Match[str]) -> str:
        if match["path"] is None:
            return match[0]
        target = _target(source, match["path"])
        if (ROOT / target).is_dir():
            return match["label"]  # the site has no listings
        here = posixpath.dirname(page.file.src_uri)
        return f"[{match['label']}]({posixpath.relpath(_in_site(target), here or '.')}{match['anchor'] or ''})"

    return _CODE_OR_LINK.sub(rewritten, markdown)


def _targets(path: str) -> list[str]:
    """What a page links to, as paths in the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return [_target(path, match["path"]) for match in _CODE_OR_LINK.finditer(text) if match["path"]]


def _target(source: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))


def _in_site(path: str) -> str:
    return PAGES.get(path, path.removeprefix("docs/"))


def _in_repository(uri: str) -> str:
    pages = {page: path for path, page in PAGES.items()}
    return pages.get(uri) or (f"docs/{uri}" if (ROOT / "docs" / uri).is_file() else uri)
