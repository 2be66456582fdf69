"""What did the identity handlers make of this user, and may it be remembered?"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from types import MappingProxyType

from . import plain
from .answers import Answer, Frozen, Rows, Run
from .generations import slot_of
from .identities import Entry, IdentityCache
from .per_request import RequestState
from .storable import Unstorable
from .views import Seen

MOST_IDENTITIES = 8  # of one user; more would be made of something the client chooses


class HandlersRun:
    """A run of identity handlers, as long as it is on."""

    def __init__(
        self,
        identities: IdentityCache,
        rows: Rows | None,
        state: RequestState,
        seen: Seen,
        run: Run | None,
        tell: Callable[[str], None],
    ) -> None:
        self._identities = identities
        self._rows = rows
        self._state = state
        self._seen = seen
        self._run = run
        self._tell = tell
        self._before = identities.numbers()

    @property
    def user(self) -> object | None:
        """Who the user callback answered in this request, if from an entry."""
        return None if self._state.answer is None else self._state.answer.user

    @property
    def asked_for_user(self) -> bool:
        """Whether the handlers wanted to know who the request's user is."""
        return self._seen.asked_for_user

    def keep(self, key: Hashable, needs: object) -> None:
        """Remember *needs* with the user, together with what the handlers loaded of him."""
        answer: Answer | None = self._state.answer
        if answer is None:
            return
        reads = self._seen.refusal(answer.allowed)
        if reads is not None:
            self._tell(
                f"an identity handler {reads}: it is called on each request. If what it reads"
                " tells users apart, name it in USERCACHE_VARY."
            )
            raise Unstorable("handlers read the request")
        entry = self._grown(answer)
        kept = MappingProxyType({**entry.needs, key: needs})
        if len(kept) > MOST_IDENTITIES:
            raise Unstorable("too many identities")
        entry = replace(entry, needs=kept)
        self._identities.replace(answer.key, answer.entry, entry)
        self._state.answer = replace(answer, entry=entry)

    def _grown(self, answer: Answer) -> Entry:
        """The entry with what the handlers loaded, resting on what they read as well."""
        run, entry = self._run, answer.entry
        is_plain = isinstance(entry.frozen, Frozen) and entry.frozen.thaws is plain
        if is_plain and not plain.same(entry.frozen.data, answer.user):
            raise Unstorable("handlers change the user")
        if run is None or self._rows is None:
            return entry
        if run.refusal is not None:
            raise Unstorable(run.refusal)
        read = {slot: self._before.get(slot, 0) for slot in map(slot_of, run.names(answer.user))}
        if 0 in read.values() or any(entry.numbers.get(s, n) != n for s, n in read.items()):
            raise Unstorable("changed during the load")
        frozen = entry.frozen
        if isinstance(frozen, Frozen) and frozen.thaws is self._rows:
            data = self._rows.freeze(answer.user, run, frozen.data)
            frozen = Frozen(self._rows, data)
        return replace(entry, frozen=frozen, numbers=MappingProxyType({**entry.numbers, **read}))
