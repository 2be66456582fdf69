"""Session cookies: whatever arrives, nobody is anybody that Flask alone would not have let in."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import time
from typing import Any

import pytest
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from hypothesis import example, given
from hypothesis import strategies as st
from itsdangerous import BadSignature
from wire import KEY, Clock, CountingInterface, call, login_app, serializer_at, signed, with_cache

from wsgi_usercache.cookies import SessionCookies, Ticket

DAY = 24 * 60 * 60
LIFETIME = 31 * DAY
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ANN = {"_user_id": "ann", "_fresh": True}
BOB = {"_user_id": "bob", "_fresh": True}


def last_letters(cookie: str) -> list[str]:
    """The other spellings of *cookie* whose last letter stands for the same bits."""
    signature = cookie.rpartition(".")[2]
    bits = urlsafe_b64decode(signature + "=")
    spellings = [cookie[:-1] + letter for letter in ALPHABET if letter != cookie[-1]]
    return [s for s in spellings if urlsafe_b64decode(s.rpartition(".")[2] + "=") == bits]


def cookie_headers() -> dict[str, str]:
    """Cookie headers of every kind, by what is odd about them."""
    ann, bob = signed(ANN), signed(BOB)
    head, _, signature = ann.rpartition(".")
    payload, _, stamp = head.partition(".")
    headers = {
        "plain": f"session={ann}",
        "quoted": f'session="{ann}"',
        "quoted with escapes": f'session="\\{ord(ann[0]):03o}{ann[1:]}"',
        "half quoted": f'session="{ann}',
        "spaced": f"  session = {ann} ",
        "twice": f"session={ann}; session={bob}",
        "twice, the other first": f"session={bob}; session={ann}",
        "forged, then genuine": f"session={ann[:-6]}AAAAAA; session={ann}",
        "genuine, then forged": f"session={ann}; session={ann[:-6]}AAAAAA",
        "empty, then genuine": f"session=; session={ann}",
        "another name": f"Session={ann}",
        "forged": f"session={ann[:-6]}AAAAAA",
        "another's payload": f"session={bob.partition('.')[0]}.{stamp}.{signature}",
        "another's date": f"session={payload}.{signed(ANN, age=99).split('.')[1]}.{signature}",
        "no signature": f"session={payload}.{stamp}",
        "payload only": f"session={payload}",
        "empty parts": "session=..",
        "empty": "session=",
        "too old": f"session={signed(ANN, age=LIFETIME + 60)}",
        "too old, permanent": f"session={signed({**ANN, '_permanent': True}, age=LIFETIME + 60)}",
        "not quite too old": f"session={signed(ANN, age=LIFETIME - DAY)}",
        "from the future": f"session={signed(ANN, age=-DAY)}",
        "another key": f"session={signed(ANN, key='stranger')}",
        "another salt": f"session={signed(ANN, salt='other')}",
        "bytes": "session=\xff\xfe\x00\x01.\x80.\x81",
        "bytes behind": f"session={ann}\xff",
        "text behind": f"session={ann}é€".encode().decode("latin-1"),
        "a megabyte": "session=" + "a" * 1_000_000,
        "a megabyte of dots": "session=" + "." * 1_000_000,
        "a megabyte of padding": f"session={ann}" + "=" * 1_000_000,
        "a megabyte of payload": "session=" + "A" * 1_000_000 + ann,
    }
    headers |= {f"padded by {n}": f"session={ann}" + "=" * n for n in (1, 2, 3, 4, 5, 100)}
    headers |= {f"last letter {n}": f"session={s}" for n, s in enumerate(last_letters(ann))}
    return headers


HEADERS = cookie_headers()


@pytest.mark.parametrize("lane", ["cached", "bypass", "fresh"])
@pytest.mark.parametrize("odd", HEADERS)
def test_a_cookie_says_what_it_says_to_flask_alone(odd: str, lane: str) -> None:
    paths = {"bypass": "excluded_paths", "fresh": "fresh_paths"}
    options = {paths[lane]: ["/"]} if lane in paths else {}
    alone, cached = login_app([]), with_cache(login_app([]), **options)
    expected = call(alone, cookie=HEADERS[odd])
    # A genuine one first, so that there is something to be mistaken for; then twice the odd one.
    assert call(cached, cookie=HEADERS["plain"]).body == "ann"
    for _ in range(2):
        answer = call(cached, cookie=HEADERS[odd])
        assert (answer.status, answer.body) == (200, expected.body)


def test_the_odd_cookies_are_let_in_and_kept_out() -> None:
    """The comparison above compares something."""
    app = login_app([])
    bodies = {odd: call(app, cookie=header).body for odd, header in HEADERS.items()}
    assert bodies["padded by 100"] == bodies["quoted"] == bodies["last letter 2"] == "ann"
    assert bodies["twice"] == "ann"
    assert bodies["twice, the other first"] == "bob"
    assert bodies["too old"] == bodies["from the future"] == bodies["another key"] == "None"


def test_a_surrogate_is_no_500() -> None:
    app = with_cache(login_app([]))
    assert call(app, cookie="session=\ud800.a.b").status == 200
    assert call(app, cookie=f"session={signed(ANN)}\udfff").body == "None"


def test_a_genuine_date_that_no_calendar_has_is_no_500() -> None:
    app = with_cache(login_app([]))
    cookie = serializer_at(lambda: 10**17).dumps(ANN)
    assert call(app, cookie=f"session={cookie}").body == "None"


def test_a_remembered_cookie_dies_of_age_on_the_second() -> None:
    clock = Clock()
    app = with_cache(login_app([]), wall=clock)
    signed_at = int(clock.now)
    header = f"session={serializer_at(lambda: signed_at).dumps(ANN)}"
    bodies = []
    for clock.now in (signed_at, signed_at + LIFETIME + 0.9, signed_at + LIFETIME + 1):
        bodies.append(call(app, cookie=header).body)
    assert bodies == ["ann", "ann", "None"]


def test_a_remembered_cookie_from_the_future_is_refused_when_the_clock_goes_back() -> None:
    clock = Clock()
    app = with_cache(login_app([]), wall=clock)
    signed_at = int(clock.now)
    header = f"session={serializer_at(lambda: signed_at).dumps(ANN)}"
    bodies = []
    for clock.now in (signed_at, signed_at - 1, signed_at - DAY, signed_at + 0.5):
        bodies.append(call(app, cookie=header).body)
    assert bodies == ["ann", "None", "None", "ann"]


def test_a_shorter_lifetime_counts_for_remembered_cookies_at_once() -> None:
    app = with_cache(login_app([]))
    header = f"session={signed(ANN, age=100)}"
    assert call(app, cookie=header).body == "ann"
    app.config["PERMANENT_SESSION_LIFETIME"] = 60
    assert call(app, cookie=header).body == "None"


def test_keys_come_and_go_while_cookies_are_remembered() -> None:
    alone, cached = login_app([]), with_cache(login_app([]))
    old, new = f"session={signed(ANN)}", f"session={signed(BOB, key='second key')}"
    keys: list[tuple[str, Any]] = [
        (KEY, None),
        ("second key", [KEY]),
        ("second key", []),
        (KEY, ["second key"]),
        ("second key", [KEY]),
        ("second key", None),
        ("third key", None),
        (KEY, None),
    ]
    told = []
    for key, fallbacks in keys:
        for app in (alone, cached):
            app.secret_key, app.config["SECRET_KEY_FALLBACKS"] = key, fallbacks
        expected = [call(alone, cookie=header).body for header in (old, new)]
        for _ in range(2):
            assert [call(cached, cookie=header).body for header in (old, new)] == expected
        told.append(expected)
    assert told[:3] == [["ann", "None"], ["ann", "bob"], ["None", "bob"]]
    assert told[6] == ["None", "None"]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("salt", "other"),
        ("key_derivation", "concat"),
        ("digest_method", __import__("hashlib").md5),
    ],
)
def test_a_remembered_cookie_dies_with_the_way_it_was_signed(attribute: str, value: Any) -> None:
    app = login_app([])
    app.session_interface = SecureCookieSessionInterface()
    with_cache(app)
    header = f"session={signed(ANN)}"
    assert call(app, cookie=header).body == "ann"
    setattr(app.session_interface, attribute, value)
    assert call(app, cookie=header).body == "None"


def test_a_key_removed_while_a_cookie_is_verified_is_removed_for_it_too() -> None:
    app = login_app([])
    interface = app.session_interface = CountingInterface()
    with_cache(app)
    header = f"session={signed(ANN)}"
    digest, held, go = interface.digest_method, Event(), Event()

    def slow(data: bytes = b"") -> Any:
        if not held.is_set():
            held.set()
            assert go.wait(10)
        return digest(data)

    interface.digest_method = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor() as pool:
        early = pool.submit(call, app, cookie=header)
        assert held.wait(10)
        app.secret_key = "second key"
        assert call(app, cookie=header).body == "None"
        go.set()
        assert early.result().body == "ann"  # began while the key was good
    assert call(app, cookie=header).body == "None"


def counting_app(**options: Any) -> tuple[Flask, CountingInterface]:
    app = Flask(__name__, static_folder=None)
    app.secret_key = KEY
    interface = CountingInterface()
    app.session_interface = interface

    @app.get("/")
    def front() -> str:
        session["names"].append("eve")
        return ",".join(session["names"])

    return with_cache(app, **options), interface


def test_many_requests_with_one_cookie_verify_it_once() -> None:
    app, interface = counting_app()
    header = f"session={signed({'names': ['ann']})}"
    call(app, cookie=header)
    assert interface.digests > 0
    interface.digests = 0
    for _ in range(10):
        call(app, cookie=header)
    assert interface.digests == 0


def test_a_forged_cookie_is_never_remembered() -> None:
    app, interface = counting_app()
    header = f"session={signed({'names': []}, key='stranger')}"
    spent = []
    for _ in range(3):
        interface.digests = 0
        assert call(app, cookie=header).status == 500  # KeyError: names
        spent.append(interface.digests)
    assert spent[0] == spent[1] == spent[2] > 0


def test_what_one_request_does_to_nested_data_is_not_seen_by_the_next() -> None:
    app, interface = counting_app()
    header = f"session={signed({'names': ['ann']})}"
    assert [call(app, cookie=header).body for _ in range(3)] == ["ann,eve"] * 3
    assert interface.decoded == 4  # once to verify, and once for each request


def test_a_flood_of_spellings_leaves_four_tickets_a_user() -> None:
    app, interface = counting_app(maxsize=2)
    cookie = signed({"names": []})
    headers = [f"session={cookie}" + "=" * n for n in range(9)]

    def verified(spellings: list[str]) -> int:
        before = interface.digests
        for header in spellings:
            assert call(app, cookie=header).status == 200
        return interface.digests - before

    once = verified(headers[:1])
    verified(headers[:8])
    assert verified(headers[:8]) == 0
    assert verified(headers) == once  # the ninth pushes out the oldest
    assert verified(headers) == 9 * once


def test_the_map_stays_bounded_under_a_flood() -> None:
    cookies, serializer, cookie = SessionCookies(5), serializer_at(time), signed(ANN)
    for n in range(200):
        assert cookies.read(cookie + "=" * n, serializer, LIFETIME) is not None
        assert cookies.read(f"{cookie}{n}", serializer, LIFETIME) is None
    assert len(cookies) == 5
    cookies.clear()
    assert len(cookies) == 0


ONE = signed(ANN)
TICKET = Ticket(
    ONE.split(".")[0].encode(),
    serializer_at(time).loads(ONE, return_timestamp=True)[1].timestamp(),
)
TEXT = st.text(st.characters(), max_size=5)


@st.composite
def altered(draw: st.DrawFn) -> str:
    """A genuine cookie with a piece cut out and another put in."""
    start = draw(st.integers(0, len(ONE)))
    end = draw(st.integers(start, min(len(ONE), start + 3)))
    return ONE[:start] + draw(TEXT | st.text(ALPHABET + "=.\"' ", max_size=5)) + ONE[end:]


@given(st.lists(altered() | st.just(ONE), min_size=1, max_size=5))
@example([ONE, ONE + "=", ONE + "=="])
@example([ONE, *last_letters(ONE)])
def test_any_altered_cookie_says_nothing_or_the_very_same(spellings: list[str]) -> None:
    cookies, serializer = SessionCookies(3), serializer_at(time)
    for raw in spellings * 2:
        assert cookies.read(raw, serializer, LIFETIME) in (None, TICKET)


@given(
    key=st.sampled_from([KEY, "second key", "stranger"]),
    keys=st.sampled_from([[KEY], [KEY, "second key"], ["second key", KEY]]),
    data=st.dictionaries(st.sampled_from("abc"), st.integers() | st.text(max_size=60), max_size=3),
    padding=st.sampled_from(["", "=", "==", "A"]),
    max_age=st.integers(0, 10),
    moments=st.lists(st.floats(95, 125), min_size=1, max_size=6),
)
def test_it_reads_what_itsdangerous_reads_at_every_moment(
    key: str,
    keys: list[str],
    data: dict[str, Any],
    padding: str,
    max_age: int,
    moments: list[float],
) -> None:
    clock = Clock()
    cookies = SessionCookies(9, clock=clock)
    raw = str(serializer_at(lambda: 110, key=key).dumps(data)) + padding
    serializer = serializer_at(clock, key=keys)
    for clock.now in moments:
        try:
            expected = serializer.loads(raw, max_age=max_age)
        except BadSignature:
            expected = None
        ticket = cookies.read(raw, serializer, max_age)
        assert (None if ticket is None else serializer.load_payload(ticket.payload)) == expected
