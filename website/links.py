"""Ask whether the links to other sites work: ``python -m website.links``, or ``make links``.

Not in CI: other sites are down at times, and refuse machines that ask too often.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urldefrag

from website.build import ROOT, pages

TIMEOUT_S = 20
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((https?://[^)\s]+)\)")
_BUSY = (403, 405, 429, 503)
"""Answers of sites that do not like to be asked by a program; not the link's fault."""


def links() -> dict[str, list[Path]]:
    """The addresses that pages link to, with the pages."""
    found: dict[str, list[Path]] = {}
    for page in [*pages(), *ROOT.glob("*.md")]:
        for address in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
            found.setdefault(urldefrag(address).url, []).append(page.relative_to(ROOT))
    return found


def asked(address: str) -> str:
    """What is wrong with an address; empty: nothing."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code in _BUSY else f"answers {error.code}"
    except (OSError, ValueError) as error:
        return str(error)


def main() -> int:
    """Ask all; returns the exit status."""
    found = links()
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(found, pool.map(asked, found), strict=True))
    wrong = {address: answer for address, answer in answers.items() if answer}
    for address, answer in wrong.items():
        print(f"{address} {answer}: {', '.join(map(str, dict.fromkeys(found[address])))}")
    print(f"{len(found) - len(wrong)} of {len(found)} links to other sites work")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
