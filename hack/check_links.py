"""Every relative link in the Markdown files leads to a file, and to a heading, that exists. Exit 1 if any does not."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(#[^)\s]+)?[^)]*\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def list_anchors(page: Path) -> set[str]:
    """What `#…` may name in `page`: its headings, as GitHub writes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {text.strip().replace(" ", "-") for text in plain}


def find_dead_links() -> list[str]:
    pages = [p for p in ROOT.rglob("*.md") if not {".venv", "out", "build"} & set(p.relative_to(ROOT).parts)]
    dead = []
    for page in pages:
        for target, anchor in LINK.findall(page.read_text()):
            if "://" in target or not target + anchor:
                continue
            file = page.parent / target if target else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor[1:] not in list_anchors(file)):
                dead.append(f"{page.relative_to(ROOT)}: {target}{anchor}")
    return dead


if __name__ == "__main__":
    dead = find_dead_links()
    print("\n".join(dead) or "all links lead somewhere")
    sys.exit(bool(dead))
