"""webhooks.post and webhooks.guard: one call, whatever the other side does. Real sockets on loopback."""

import asyncio
from collections.abc import Coroutine, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.webhooks.receiver import Receiver, receiving
from webhooks import guard, post
from webhooks.guard import PRIVATE, is_open
from webhooks.post import MAX_RESPONSE, Call, Names, Poster
from webhooks.verdict import Answer


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(autouse=True)
def opened(settings: Any) -> None:
    """Loopback may be called, as quickstart has it."""
    settings.WEBHOOK_OPEN_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.PRIVATE_WEBHOOKS = False
    settings.DNS_RESOLVERS = [("127.0.0.1", 1)]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def posted(*urls: str) -> list[Answer]:
    async with Poster() as poster:
        return [await poster.post(Call(url, b"{}", {"X-Own": "yes"})) for url in urls]


def ask(*urls: str) -> list[Answer]:
    return run(posted(*urls))  # type: ignore[no-any-return]


def test_a_call_arrives_with_its_body_and_headers_and_the_answer_comes_back(receiver: Receiver) -> None:
    [answer] = ask(f"{receiver.url}/ok/first")
    assert (answer.code, answer.text, answer.is_success) == (200, "ok", True)
    [heard] = receiver.heard("/ok/first")
    assert (heard.body, heard.headers["x-own"], heard.headers["content-type"]) == (b"{}", "yes", "application/json")
    assert "accept-encoding" not in heard.headers, "nothing that would have to be unpacked"


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    """Lesson S2: a redirect to the metadata service, and one to this machine."""
    before = len(receiver.heard())
    away, here = ask(f"{receiver.url}/redirect", f"{receiver.url}/redirect-here")
    assert (away.code, away.is_success, here.code) == (302, False, 307)
    assert away.words == "Redirects are not followed (http://169.254.169.254/latest/meta-data)."
    assert len(receiver.heard()) == before + 2


def test_thirty_megabytes_cost_a_kilobyte(receiver: Receiver) -> None:
    [answer] = ask(f"{receiver.url}/endless")
    assert (answer.is_success, len(answer.text)) == (True, MAX_RESPONSE)
    assert receiver.written < 10 * 2**20, "the rest was never read"


def test_what_is_kept_of_an_answer_can_be_stored(receiver: Receiver) -> None:
    """Lesson C11: cut in characters, without NUL, and nothing that is no text."""
    [answer] = ask(f"{receiver.url}/spoilt")
    assert answer.text.startswith("ab\ufffdéé")
    assert len(answer.text) == MAX_RESPONSE
    answer.text.encode()
    assert "\0" not in answer.text


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("garbage", 0, "No answer in HTTP"),
        ("close", 0, "The connection was closed before an answer came."),
        ("half", 200, "The answer broke off. half of it"),
    ],
)
def test_a_bad_answer_is_a_failure_that_says_what_it_was(receiver: Receiver, path: str, code: int, words: str) -> None:
    [answer] = ask(f"{receiver.url}/{path}")
    assert (answer.code, answer.is_success) == (code, False)
    assert answer.words.startswith(words)


def test_whoever_never_answers_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "TOTAL_SECONDS", 0.3)
    [answer] = ask(f"{receiver.url}/hang")
    assert (answer.code, answer.text) == (0, "No answer within 0.3 s.")
    assert 250 <= answer.duration_ms < 3000


def test_nobody_there_and_no_such_scheme_and_a_name_without_address(receiver: Receiver) -> None:
    refused, nowhere = ask("http://127.0.0.1:1/", "http://[fe80::1%25]:99999/")
    assert (refused.code, refused.text.startswith("No connection: ")) == (0, True)
    assert nowhere.code == 0


def test_private_addresses_are_refused_without_a_connection(receiver: Receiver, settings: Any) -> None:
    """Lesson S2. As literals here; what a name resolves to passes the same door (below)."""
    settings.WEBHOOK_OPEN_NETWORKS = []
    before = len(receiver.heard())
    port = receiver.url.rpartition(":")[2]
    hosts = ("127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "localhost", "10.0.0.1", "169.254.169.254", "[fd00::1]", "[64:ff9b::7f00:1]")  # fmt: skip # noqa: E501
    answers = ask(*(f"http://{host}:{port}/" for host in hosts))
    assert {(answer.code, answer.text) for answer in answers} == {(0, PRIVATE)}
    assert len(receiver.heard()) == before


def test_a_name_that_leads_elsewhere_at_the_second_look_gains_nothing(receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip # noqa: E501
    """DNS rebinding: each socket is judged by the address that it connects to."""
    settings.WEBHOOK_OPEN_NETWORKS = [ip_network("127.0.0.1/32")]  # stands for the internet
    port = receiver.url.rpartition(":")[2]
    places = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2", "169.254.169.254"]]

    async def addresses(resolver: object, host: str) -> list[str]:
        return places.pop(0)

    monkeypatch.setattr(post.Resolver, "addresses", addresses)
    monkeypatch.setattr(post, "IDLE_SECONDS", 0.0001)
    url = f"http://rebinding.example:{port}/close"
    first, second, third = ask(url, url, url)
    assert first.text == "The connection was closed before an answer came.", "it was called"
    assert (second.text, third.text, places) == (PRIVATE, PRIVATE, [])


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    [answer] = ask(f"{receiver.url}/ok")
    assert answer.is_success


def test_a_slow_look_up_of_one_name_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Names are asked for in the loop: no pool of threads that hanging nameservers could fill."""

    async def addresses(resolver: object, host: str) -> list[str]:
        if host.startswith("slow"):
            await asyncio.sleep(30)
        return ["127.0.0.1"]

    async def both() -> Answer:
        async with Poster() as poster:
            slow = [asyncio.create_task(poster.post(Call(f"http://slow{n}.example/", b"", {}))) for n in range(50)]
            await asyncio.sleep(0)
            answer = await poster.post(Call(receiver.url.replace("127.0.0.1", "fast.example") + "/ok", b"", {}))
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            return answer

    monkeypatch.setattr(post.Resolver, "addresses", addresses)
    assert run(both()).is_success
    assert Names  # what the connector resolves with


@pytest.mark.parametrize(
    ("address", "public", "opened"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("172.16.0.1", False, True),
        ("192.168.1.1", False, True),
        ("fd12::1", False, True),
        ("100.64.0.1", False, True),  # CGNAT
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("255.255.255.255", False, False),
        ("64:ff9b::7f00:1", False, False),  # NAT64 of 127.0.0.1
        ("64:ff9b:1::a00:1", False, False),
        ("2002:7f00:1::", False, False),  # 6to4
        ("::7f00:1", False, False),
        ("192.0.0.8", False, False),
        ("fd00:ec2::254", False, False),
        ("fec0::2", False, True),
        ("5f00::1", False, True),
        ("::ffff:0:7f00:1", False, False),  # translated
        ("192.88.99.1", False, False),
        ("168.63.129.16", False, False),  # Azure's metadata
        ("100.100.100.200", False, False),
        ("fd20:ce::254", False, False),
    ],
)  # fmt: skip
def test_which_addresses_may_be_called(address: str, public: bool, opened: bool, settings: Any) -> None:
    """Lesson S2: by default, and with PRIVATE_WEBHOOKS, which never opens metadata, multicast and translations."""
    settings.WEBHOOK_OPEN_NETWORKS = []
    assert is_open(address) is public
    settings.PRIVATE_WEBHOOKS = True
    assert is_open(address) is opened
    settings.PRIVATE_WEBHOOKS, settings.WEBHOOK_OPEN_NETWORKS = False, [ip_network("169.254.169.254/32"), ip_network("::/0")]  # fmt: skip # noqa: E501
    assert is_open(address) is (public or (":" in address and not address.startswith("::ffff:127")) or address == "169.254.169.254")  # fmt: skip # noqa: E501


def test_the_guard_makes_no_socket_for_a_closed_address(settings: Any) -> None:
    settings.WEBHOOK_OPEN_NETWORKS = []
    with pytest.raises(guard.PrivateAddress):
        guard.guarded_socket((2, 1, 6, "", ("169.254.169.254", 80)))
