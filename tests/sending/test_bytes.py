"""From accept to the receiving server: the bytes that arrive are those that `raw` shows, and connections are reused."""

from collections.abc import Callable, Sequence

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from projects.models import Project
from relay_project.mail.mime import Attachment, NamedAddress
from relay_project.net.conversation import Endpoint, Envelope
from relay_project.net.smtp import SmtpConnection
from relay_project.sandbox.smtp import ReceivedMail, SandboxSmtp
from sending.accept.accept import accept_many
from sending.accept.request import Accepted, RequestedRecipient, SendRequest
from sending.content import raw_message
from sending.deliver.load import Job
from sending.deliver.prepare import prepare
from sending.deliver.settle import settle
from sending.models import RecipientType, Send
from tests.sending.scene import OK, Scene, answered

# Whatever could be mistaken for the end of a line or of the message, between ordinary words.
LINES = st.sampled_from(
    [".", "..", ".\r\n", "\r\n.\r\n", "\n.\n", "\r", "\n", "\r\n", "From me", "x" * 1100, " ", "\t"]
)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
BODIES = st.one_of(st.none(), st.lists(st.one_of(LINES, ANY), max_size=12).map("".join))
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80)
REQUESTS = st.builds(
    SendRequest,
    from_=st.builds(NamedAddress, st.just("app@shop.example"), st.one_of(st.none(), PLAIN)),
    recipients=st.sampled_from(["ann@one.example", "jürgen@one.example"]).map(
        lambda address: (RequestedRecipient(RecipientType.TO, address),)
    ),
    subject=st.one_of(st.none(), PLAIN),
    body_html=BODIES,
    body_text=BODIES,
    headers=st.lists(st.tuples(st.sampled_from(["X-A", "Reply-To"]), PLAIN), max_size=2).map(tuple),
    attachments=st.lists(st.builds(Attachment, st.binary(max_size=200), st.just("a.bin")), max_size=1).map(tuple),
)


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
@given(requests=st.lists(REQUESTS, min_size=1, max_size=3))
@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_arrives_is_what_raw_shows(scene: Scene, chunking: bool, requests: list[SendRequest]) -> None:
    """Whatever accept takes; several mails one after the other on one connection (lesson P5)."""
    raws = accepted_raws(scene.project, requests)
    connections, mails = carry(scene.jobs(), chunking)
    assert sorted(mail.data for mail in mails) == sorted(raws)
    assert connections == 1


def test_many_mails_cost_the_statements_of_one(scene: Scene) -> None:
    """Lesson P6: nothing is asked or told for each attempt; a batch is claimed, read and settled as a whole."""
    counts = []
    for number in (1, 40):
        for _ in range(number):
            scene.send("ann@one.example")
        jobs: list[Job] = []
        read = statements(lambda: jobs.extend(scene.jobs()))  # noqa: B023 - called at once
        written = statements(lambda: settle([answered(job, OK) for job in jobs], timezone.now()))  # noqa: B023
        assert len(jobs) == number
        counts.append((read, written))
    assert counts[1] <= counts[0]


def statements(work: Callable[[], object]) -> int:
    """How many statements some work takes."""
    with CaptureQueriesContext(connection) as captured:
        work()
    return len(captured)


def accepted_raws(project: Project, requests: Sequence[SendRequest]) -> list[bytes]:
    """What raw shows of each, before anything is sent."""
    outcomes = [outcome for outcome in accept_many(project, requests, timezone.now()) if isinstance(outcome, Accepted)]
    raws = [raw_message(Send.objects.get(pk=outcome.send_id)) for outcome in outcomes]
    return [raw for raw in raws if raw is not None]


@async_to_sync
async def carry(jobs: Sequence[Job], chunking: bool) -> tuple[int, list[ReceivedMail]]:
    """Deliver the jobs over one connection; how many connections the server saw, and its mails."""
    mails: list[ReceivedMail] = []

    async def keep(mail: ReceivedMail) -> None:
        mails.append(mail)

    async with SandboxSmtp(received=keep, chunking=chunking) as server:
        line = await SmtpConnection.open(
            Endpoint("mx.one.example", server.address, server.port), source=None, helo_name="smtp.relay.test"
        )
        for job in jobs:
            prepared = prepare(job)
            recipients = tuple(target.address for target in job.targets)
            envelope = Envelope("b@relay.test", recipients, prepared.eight_bit, prepared.eight_bit)
            transaction = await line.deliver(envelope, prepared.message)
            assert all(result.accepted for result in transaction.results.values()), transaction.steps
        await line.close()
        return server.connections, mails
