"""Every reason for not keeping a user is advised on, or passes by itself."""

from __future__ import annotations

import re
from pathlib import Path

import wsgi_usercache
from wsgi_usercache.storable import ADVICE

SOURCES = Path(wsgi_usercache.__file__).parent.rglob("*.py")
NAMED = re.compile(
    r'(?:Unstorable|_refuse|count_unstored)\("([^"]+)"\)|^\s+return "(identity map)"', re.M
)

# Of one moment or one request, or said by the log where they are found.
PASSING = {
    "another version",
    "change under way",
    "changed during the load",
    "handlers read the request",
    "modified",
    "new or deleted",
    "written in the transaction",
    "written in this request",
    "wrong setting",
}


def test_every_reason_is_advised_on_or_passes() -> None:
    named = {a or b for file in SOURCES for a, b in NAMED.findall(file.read_text())}
    assert named == PASSING | ADVICE.keys()
