"""Runs events on an application under load, and judges every answer."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tests.faults.deployed import MODEL, DeployedApp
from tests.faults.events import Event, Scene, until
from tests.faults.load import Answer, Load, Question, Verdict

_ANSWERS_TIMEOUT_S = 240


@dataclass(frozen=True)
class Size:
    """The size of a load: clients, and tokens of their answers."""

    streams: int
    unstreamed: int
    tokens: int
    long_tokens: int
    """Tokens of the answers that take longer than Serve's own timeout for a graceful shutdown."""


@dataclass(frozen=True)
class Row:
    """The effect of an event on the answers."""

    event: str
    streams: int
    """Number of streams in flight when the event struck. The other numbers are counts too, but for
    `p99_gap_s`."""
    answers: int
    dropped: int
    truncated: int
    broken: int
    continued: int
    retried: int
    refused: int
    p99_gap_s: float
    faults: tuple[str, ...]
    """Lines on the answers that were not as they should be."""

    @property
    def lossless(self) -> bool:
        return not self.faults

    def counts(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}


def questions(size: Size, real: bool, one_long_in: int) -> list[Question]:
    """The question of each client. If all are for long answers, each is streamed, and once."""
    texts = ["Count from 1 to 100.", "Repeat the word hello forever."]
    if not real:
        texts = [f"Tell story {n}." for n in range(12)]
    asked = [
        Question(texts[n % len(texts)], size.tokens, ignore_eos=real and n % len(texts) > 0)
        for n in range(size.streams)
    ]
    if one_long_in:
        for n in range(1 % one_long_in, size.streams, one_long_in):
            text = texts[n % len(texts)]
            asked[n] = Question(text, size.long_tokens, ignore_eos=real, once=True)
    if one_long_in == 1:
        return asked
    unstreamed = Question(texts[0], size.tokens, stream=False)
    return asked + [unstreamed] * size.unstreamed


class Suite:
    """One application, and its answers when nothing happens."""

    def __init__(self, app: DeployedApp, size: Size) -> None:
        self._app = app
        self._size = size
        self._undisturbed: dict[Question, Answer] = {}

    async def run(self, event: Event) -> Row:
        app, size = self._app, self._size
        await asyncio.to_thread(app.deploy, event.routers, event.engines, scales=event.scales)
        await asyncio.to_thread(app.wait_until_running)
        await asyncio.to_thread(app.wait_for_replicas, event.engines)
        asked = questions(size, app.real, event.one_long_in)
        await self._ask_undisturbed(asked)
        load = Load(app.port, MODEL)
        scene = Scene(app, load)
        load.start(asked)
        await until(
            lambda: sum(len(answer.chunks_s) > 1 for answer in load.in_flight) == size.streams,
            60,
            "all streams have begun",
        )
        faults = []
        try:
            await event.happens(scene)
        except TimeoutError as error:
            faults.append(f"{event.name}: {error}")
        try:
            await load.stop(_ANSWERS_TIMEOUT_S)
        except TimeoutError:
            faults.append(f"{event.name}: {len(load.in_flight)} answers did not end")
        return self._judge(event, scene, faults)

    async def _ask_undisturbed(self, asked: Iterable[Question]) -> None:
        new = [*{*asked} - self._undisturbed.keys()]
        load = Load(self._app.port, MODEL)
        for question, answer in zip(
            new, await asyncio.gather(*(load.ask(question) for question in new)), strict=True
        ):
            if not answer.whole or answer.status != 200:
                raise RuntimeError(f"{question} was not answered: {answer}")
            self._undisturbed[question] = answer

    def _judge(self, event: Event, scene: Scene, faults: list[str]) -> Row:
        answers = scene.load.answers
        counts: Counter[Verdict] = Counter()
        for answer in answers:
            verdict = answer.verdict(self._undisturbed[answer.question])
            lost = answer.client_port in scene.lost_ports
            lost |= not answer.status and scene.struck_s <= answer.began_s <= scene.gone_s
            if lost and verdict == "dropped":
                verdict = "broken"  # it had no byte of the answer yet
            counts[verdict] += 1
            if verdict in ("dropped", "truncated") or (verdict == "broken" and not lost):
                faults.append(
                    f"{event.name}: {verdict}, {'stream' if answer.question.stream else 'whole'} "
                    f"at {answer.began_s - scene.struck_s:.2f} to "
                    f"{answer.ended_s - scene.struck_s:.2f} s, status {answer.status}, "
                    f"{len(answer.chunks_s)} chunks, error {answer.error!r}, {answer.headers}"
                )
            if verdict == "refused" and not event.floods:
                faults.append(f"{event.name}: refused, {answer.headers}")
        continued = [
            answer
            for answer in answers
            if answer.headers.get("x-replica") in scene.failed
            and answer.question.stream
            and answer.chunks_s
            and answer.chunks_s[0] < scene.struck_s < answer.ended_s
            and answer.whole
        ]
        streams = [answer for answer in scene.in_flight if answer.question.stream]
        return Row(
            event=event.name,
            streams=len(streams),
            answers=len(answers),
            dropped=counts["dropped"],
            truncated=counts["truncated"],
            broken=counts["broken"],
            continued=len(continued),
            retried=sum(answer.headers.get("x-retries", "0") != "0" for answer in answers),
            refused=counts["refused"],
            p99_gap_s=percentile([answer.longest_gap_s for answer in answers], 0.99),
            faults=tuple(faults),
        )


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def run_all(app: DeployedApp, size: Size, events: Iterable[Event]) -> list[Row]:
    suite = Suite(app, size)
    rows = []
    for event in events:
        began_s = time.monotonic()
        print(f"{event.name} ...", file=sys.stderr, flush=True)
        rows.append(await suite.run(event))
        took_s = time.monotonic() - began_s
        print(f"    {took_s:.0f} s: {rows[-1].counts()}", file=sys.stderr, flush=True)
    return rows
