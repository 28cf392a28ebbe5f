# ruff: noqa: F811 — pytest hands fixtures over by name
"""A sender that holds mail of a project which is then suspended: nothing is dialled any more, and it comes back."""

from relay_project.net.smtp_message import WireMessage
from sending.deliver.load import Job
from sending.deliver.outcome import AttemptOutcome, GiveBack
from sending.deliver.prepare import Prepared
from tests.sending.test_talk_tls import World, world  # noqa: F401 — a fixture

PROJECT = 1  # of the world's mail


async def test_mail_that_was_claimed_before_its_project_was_suspended_is_given_back(world: World) -> None:
    world.around.stopped_projects.add(PROJECT)
    assert isinstance(await world.send(), GiveBack)
    assert world.received == []
    world.around.stopped_projects.clear()
    assert isinstance(await world.send(), AttemptOutcome)
    assert len(world.received) == 1


async def test_a_suspension_while_the_mail_is_made_ready_comes_in_time(world: World) -> None:
    class Slow:
        async def prepared(self, job: Job) -> Prepared:
            world.around.stopped_projects.add(PROJECT)
            return Prepared(b"", WireMessage.of((b"Subject: hello\r\n\r\nhello\r\n",)), eight_bit=False, smtputf8=False)

    object.__setattr__(world.around, "preparer", Slow())
    assert isinstance(await world.send(), GiveBack)
    assert world.received == []
