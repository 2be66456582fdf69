"""Which of a file's precompressed siblings may this client have? RFC 9110 §12.5.3."""

from __future__ import annotations

from collections.abc import Iterable

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

#: What a sibling's name ends in, by content coding; where a client does not mind, the first wins.
SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
_LONGEST = 1024  # characters; longer headers take Werkzeug too long to be worth it


def choose(codings: Iterable[str], accept_encoding: str, *, whole: bool = True) -> str | None:
    """Return the coding to answer with, of those there are; None is the file as it is.

    With *whole* false a part is asked for, and a part is of the file as it is, unless the client
    refuses that: then the range is not looked at.
    """
    if len(accept_encoding) > _LONGEST:
        return None
    accepted = parse_accept_header(accept_encoding, Accept)
    # What is not refused may be sent, after all that is named.
    plain = accepted.quality("identity") if _names(accepted, "identity") else 0.0001
    if plain > 0 and not whole:
        return None
    best, best_quality = None, plain
    for coding in codings:
        quality = accepted.quality(coding)
        if quality > best_quality or (quality == best_quality > 0 and best is None):
            best, best_quality = coding, quality
    return best


def _names(accepted: Accept, coding: str) -> bool:
    return any(value.lower() in (coding, "*") for value, _ in accepted)
