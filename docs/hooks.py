"""What mkdocs cannot do by itself: pages for the notebook, for results and for linked sources.

Pages link to files of the repository as they lie there, for example
`../experiments/results/timing/cost.png`, so that the links work in the repository as well. Here
each linked file becomes part of the site.
"""

import base64
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
NOTEBOOK = "docs/walkthrough.ipynb"
SHOWN = (".md", ".png", ".svg", ".csv")  # as they are; everything else as source text
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
PUBLIC_NAMES = "<!-- public names -->"


def on_files(files: Files, config: Any) -> Files:
    """Add the notebook, and every file of the repository that a page links to."""
    for name, content in notebook_files().items():
        files.append(File.generated(config, name, content=content))
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in linked(page, text_of(page)):
            if target in seen or target.startswith("docs/") or not (ROOT / target).is_file():
                continue
            seen.add(target)
            files.append(file_of(target, config))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into links of the site; list the public names."""
    if PUBLIC_NAMES in markdown:
        markdown = markdown.replace(PUBLIC_NAMES, public_names())
    here = page.file.src_uri
    path = here.removeprefix("repository/") if here.startswith("repository/") else f"docs/{here}"

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
        if not (ROOT / target).is_file():
            return match[0]
        return posixpath.relpath(uri_of(target), posixpath.dirname(here) or ".") + (match[2] or "")

    return LINK.sub(moved, markdown)


def linked(page: str, text: str) -> Iterator[str]:
    """The paths in the repository that a page, itself a path there, links to."""
    for match in LINK.finditer(text):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(page), match[1]))


def text_of(page: str) -> str:
    """The Markdown of a page; that of the notebook for the page that is made of it."""
    if page == str(Path(NOTEBOOK).with_suffix(".md")):
        return str(notebook_files()["walkthrough.md"])
    return (ROOT / page).read_text("utf-8")


def uri_of(path: str) -> str:
    """Where a file of the repository is in the site."""
    if path == NOTEBOOK:
        return "walkthrough.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if path.endswith(SHOWN) else f"repository/{path}.md"


def file_of(path: str, config: Any) -> File:
    """A file of the repository for the site; sources become a page with their text."""
    if path.endswith(SHOWN):
        return File.generated(config, uri_of(path), abs_src_path=os.fspath(ROOT / path))
    language = {".py": "python", ".yaml": "yaml"}.get(Path(path).suffix, "text")
    source = (ROOT / path).read_text("utf-8")
    fence = "````"
    content = (
        f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n{fence}{language}\n{source}{fence}\n"
    )
    return File.generated(config, uri_of(path), content=content)


def notebook_files() -> dict[str, str | bytes]:
    """The notebook as a page of Markdown, with its pictures beside it."""
    cells = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))["cells"]
    page: list[str] = []
    written: dict[str, str | bytes] = {}
    for cell in cells:
        source = "".join(cell["source"])
        page.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"images/walkthrough-{len(written) + 1}.png"
                written[name] = base64.b64decode("".join(data["image/png"]))
                page.append(f"![What the cell above draws]({name})")
                continue
            text = "".join(output.get("text", data.get("text/plain", "")))
            page.append(f"```text\n{text.rstrip()}\n```")
    return {"walkthrough.md": "\n\n".join(page) + "\n", **written}


def public_names() -> str:
    """A directive of mkdocstrings for each public name, in the room that has it."""
    import senet_jax

    rooms = {name: getattr(senet_jax, name).__module__ for name in senet_jax.__all__}
    return "\n\n".join(f"::: {room}.{name}" for name, room in rooms.items())
