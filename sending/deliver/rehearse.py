"""Rehearse: what a test key's mail would meet, by the simulator's table and without any network.

The local part decides, at whatever domain (mail.simulator): `missing@…` bounces, `greylist@…` is taken at the second
try. What comes of it is an attempt like any other. Reports that a real server would send later (`+async`, `complaint`)
are left out: nothing is delivered that somebody could report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay_project.mail.classify import classify
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from relay_project.mail.simulator import Behaviour, Kind, behaviour
from relay_project.net.conversation import Step
from sending.deliver.load import Target
from sending.deliver.outcome import RecipientOutcome

_OK = Reply(250, "2.1.5", "Ok")
_TAKEN = Reply(250, "2.0.0", "Ok: a test, taken by the simulator and delivered to nobody")
_CUT = NetworkFailure(FailureKind.CUT, "the simulator cut the connection before its reply to the final dot")


@dataclass(slots=True)
class Rehearsal:
    """One conversation that did not take place. `failure`: what ended it early."""

    results: list[RecipientOutcome] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    failure: NetworkFailure | None = None

    def say(self, stage: Stage, command: str, reply: Reply) -> None:
        """A command and its reply."""
        text = f"{reply.enhanced} {reply.text}" if reply.enhanced else reply.text
        self.steps.append(Step(stage, 0, command, reply.code, text))

    def end(self, targets: Sequence[Target], stage: Stage, reply: Reply | None, live: int) -> None:
        """What these recipients come to."""
        for target in targets:
            verdict = classify(stage, reply, self.failure if reply is None else None, live)
            self.results.append(RecipientOutcome(target, verdict, reply, self.failure if reply is None else None))


def rehearse(live: Sequence[Target], host: str, helo_name: str, reverse_path: str) -> Rehearsal:
    """The whole conversation for the recipients of one attempt; pure."""
    talk = Rehearsal()
    talk.say(Stage.DIAL, "", Reply(220, None, f"{host} ESMTP simulator"))
    talk.say(Stage.HELLO, f"EHLO {helo_name}", Reply(250, None, host))
    talk.say(Stage.MAIL, f"MAIL FROM:<{reverse_path}>", Reply(250, "2.1.0", "Ok"))
    taken: list[tuple[Target, Behaviour]] = []
    for target in live:
        asked = behaviour(target.address.rpartition("@")[0])
        refusal = None if asked.at_data else _refusal(target, asked)
        talk.say(Stage.RCPT, f"RCPT TO:<{target.address}>", refusal or _OK)
        if refusal is None:
            taken.append((target, asked))
        else:
            talk.end([target], Stage.RCPT, refusal, len(live))
    if taken:
        _end_message(talk, taken, len(live))
    return talk


def _end_message(talk: Rehearsal, taken: Sequence[tuple[Target, Behaviour]], live: int) -> None:
    """DATA and what comes of it, which is the same for all that were taken at RCPT."""
    talk.say(Stage.DATA, "DATA", Reply(354, None, "End data with <CR><LF>.<CR><LF>"))
    targets = [target for target, _ in taken]
    if any(asked.kind is Kind.DROP for _, asked in taken):
        talk.failure = _CUT
        talk.steps.append(Step(Stage.DATA_CLOSE, 0, ".", 0, ""))
        return talk.end(targets, Stage.DATA_CLOSE, None, live)
    refusals = (_refusal(target, asked) for target, asked in taken if asked.at_data)
    reply = next((refusal for refusal in refusals if refusal is not None), _TAKEN)
    talk.say(Stage.DATA_CLOSE, ".", reply)
    return talk.end(targets, Stage.DATA_CLOSE, reply, live)


def _refusal(target: Target, asked: Behaviour) -> Reply | None:
    """Greylisting is over at the second try."""
    if asked.async_ or (asked.kind is Kind.GREYLIST and target.row.tries > 1):
        return None
    return asked.reply
