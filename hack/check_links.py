"""Every relative link in the Markdown files leads to a file that exists. Prints each that does not; exit 1 if any."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def find_dead_links() -> list[str]:
    pages = [p for p in ROOT.rglob("*.md") if not {".venv", "out", "build"} & set(p.relative_to(ROOT).parts)]
    return [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]


if __name__ == "__main__":
    dead = find_dead_links()
    print("\n".join(dead) or "all links lead somewhere")
    sys.exit(bool(dead))
