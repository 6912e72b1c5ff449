"""The site of docs/ also has pages of the repository that lie elsewhere; links lead to them.

The files stay readable as they are: a link is written for the repository, and rewritten here.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ELSEWHERE = "repository/"  # in the site
PATTERNS = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md",
            "benchmarks/results/*.md", "examples/*.ipynb")  # fmt: skip
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/."""
    for pattern in PATTERNS:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, ELSEWHERE + name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links between pages of docs/ and the others."""
    here = page.file.src_uri
    folder = posixpath.dirname(repository_path(here))

    def rewrite(match: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(folder, match[2])))
        if target is None or files.get_file_from_path(target) is None:
            return match[0]  # mkdocs warns of it
        link = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"{match[1]}{link}{match[3] or ''}{match[4]}"

    return LINK.sub(rewrite, markdown)


def repository_path(src_uri: str) -> str:
    """Where a page of the site lies in the repository."""
    if src_uri.startswith(ELSEWHERE):
        return src_uri.removeprefix(ELSEWHERE)
    return f"docs/{src_uri}"


def site_path(name: str) -> str | None:
    """Where a file of the repository is in the site; None for a file outside of it."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return None if name.startswith("..") else ELSEWHERE + name
