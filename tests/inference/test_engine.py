"""The step scheduler's promises, on a family without numbers."""

from __future__ import annotations

import gc
import io
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from services.inference.engine.admission import Limits
from services.inference.engine.engine import StepEngine
from services.inference.engine.errors import (
    Canceled,
    EngineError,
    EngineFailed,
    EngineFull,
    EngineUnavailable,
)
from services.inference.engine.facts import Fact, Finished, Picture, Preview, Progress
from services.inference.engine.request import DrawRequest, Lane
from tests.inference.fake_family import DEADLINE_S, FakeFamily, FakeSampling, Listener, drawing

Start = Callable[[FakeFamily, Limits], StepEngine]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[tuple[StepEngine, FakeFamily]] = []

    def begin(family: FakeFamily, limits: Limits) -> StepEngine:
        engine = StepEngine(family, limits)
        engine.start()
        running.append((engine, family))
        return engine

    yield begin
    for engine, family in running:
        family.open_for_ever()
        engine.stop()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.002)


def arrive(family: FakeFamily) -> None:
    assert family.arrived.acquire(timeout=DEADLINE_S), "no forward pass came"


def test_tells_every_step_then_the_pictures_then_the_end(start: Start) -> None:
    listener = Listener(start(FakeFamily(), Limits()), drawing("a", count=2, seed=2**32 - 1))
    *facts, last = listener.all()
    assert facts == [
        *(Progress(step, 4) for step in range(5)),
        Picture(0, 2**32 - 1, 32, 32, b"a:4294967295:4"),
        Picture(1, 0, 32, 32, b"a:0:4"),
    ]
    assert isinstance(last, Finished)
    assert [stage.name for stage in last.stages] == ["queue", "encode", "denoise", "decode"]
    assert all(stage.start_ns <= stage.end_ns for stage in last.stages)
    assert last.device_seconds > 0


def test_equal_shapes_share_a_pass_though_their_steps_differ(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    first = Listener(engine, drawing("a", steps=9))
    arrive(family)
    second = Listener(engine, drawing("b", steps=3, guidance=7.0, seed=1))
    second.wait_for(Progress(0, 3))
    eventually(lambda: second.work.phase.value == "denoise")
    family.open(100)
    first.all(), second.all()
    assert family.passes == [["a"], *[["a", "b"]] * 3, *[["a"]] * 5]


def test_other_shapes_do_not_share_a_pass(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    one = Listener(engine, drawing("a", steps=4))
    arrive(family)
    other = Listener(engine, drawing("b", steps=4, width=64))
    eventually(lambda: other.work.phase.value == "denoise")
    family.open(100)
    one.all(), other.all()
    assert all(len(names) == 1 for names in family.passes)


def test_a_pass_holds_no_more_rows_than_allowed(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(rows=4))
    listeners = [Listener(engine, drawing("first", steps=1))]
    arrive(family)
    listeners += [
        Listener(engine, drawing(name, steps=1, count=count)) for name, count in (("a", 2), ("b", 3), ("c", 8))
    ]
    eventually(lambda: all(listener.work.phase.value == "denoise" for listener in listeners))
    family.open(100)
    assert all(isinstance(listener.end(), Finished) for listener in listeners)
    assert family.passes == [["first"], ["a"], ["b"], ["c"]]


def test_a_short_request_does_not_wait_behind_a_long_one(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    long = Listener(engine, drawing("long", steps=50, width=64))
    arrive(family)
    short = Listener(engine, drawing("short", steps=4))
    eventually(lambda: short.work.phase.value == "denoise")
    family.open(1000)
    assert isinstance(short.end(), Finished)
    steps_beside = family.passes[: _last(family.passes, ["short"]) + 1].count(["long"])
    assert steps_beside <= 6
    assert isinstance(long.end(), Finished)


def _last(passes: list[list[str]], wanted: list[str]) -> int:
    return max(number for number, names in enumerate(passes) if names == wanted)


def test_cancel_frees_the_slot_before_the_next_step(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(slots=1))
    first = Listener(engine, drawing("a", steps=50))
    second = Listener(engine, drawing("b", steps=1))
    arrive(family)
    engine.cancel(first.work)
    engine.cancel(first.work)
    family.open(1)
    assert isinstance(first.end(), Canceled)
    family.open(1)
    assert isinstance(second.end(), Finished)
    assert family.passes == [["a"], ["b"]]
    eventually(lambda: engine.load().running == 0)


def test_a_canceled_request_tells_nothing_after_its_end(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    listener = Listener(engine, drawing("a", steps=50))
    arrive(family)
    engine.cancel(listener.work)
    family.open_for_ever()
    assert isinstance(listener.all()[-1], Canceled)
    assert [stage.name for stage in listener.end().stages] == ["queue", "encode", "denoise"]
    assert isinstance(Listener(engine, drawing("b")).end(), Finished)
    assert family.passes.count(["a"]) == 1


def test_cancel_while_waiting(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(slots=1))
    running = Listener(engine, drawing("a"))
    arrive(family)
    waiting = Listener(engine, drawing("b"))
    engine.cancel(waiting.work)
    family.open_for_ever()
    assert isinstance(waiting.end(), Canceled)
    assert isinstance(running.end(), Finished)
    assert ["b"] not in family.passes


def test_the_host_may_say_that_the_caller_left(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    gone = threading.Event()
    ended: list[Fact | EngineError] = []
    done = threading.Event()

    def sink(fact: Fact | EngineError) -> None:
        ended.append(fact)
        if isinstance(fact, EngineError):
            done.set()

    engine.submit(drawing("a", steps=50), sink, gone.is_set)
    arrive(family)
    gone.set()
    family.open(1)
    assert done.wait(DEADLINE_S)
    assert isinstance(ended[-1], Canceled)


def test_the_waiting_list_has_a_bound(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(slots=1, waiting=2))
    running = Listener(engine, drawing("a"))
    arrive(family)
    waiting = [Listener(engine, drawing(name)) for name in "bc"]
    with pytest.raises(EngineFull) as refusal:
        Listener(engine, drawing("d"))
    assert refusal.value.retry_after > 0
    load = engine.load()
    assert (load.running, load.waiting, load.slots, load.waiting_limit) == (1, 2, 1, 2)
    assert load.requests == ("a", "b", "c")
    family.open_for_ever()
    assert all(isinstance(listener.end(), Finished) for listener in [running, *waiting])


def test_an_idle_engine_without_a_waiting_list_still_fills_its_slots(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(slots=2, waiting=0))
    listeners = [Listener(engine, drawing(name)) for name in "ab"]
    with pytest.raises(EngineFull):
        Listener(engine, drawing("c"))
    family.open_for_ever()
    assert all(isinstance(listener.end(), Finished) for listener in listeners)


@pytest.mark.parametrize("where", ["begin", "predict", "picture"])
def test_a_failing_request_never_touches_its_mates(start: Start, where: str) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    first = Listener(engine, drawing("first", steps=1))
    arrive(family)
    listeners = [Listener(engine, drawing(name, steps=3)) for name in ("a", "b")]
    failing = Listener(engine, drawing("f", prompt=f"fail {where}", steps=3))
    eventually(lambda: all(listener.work.phase.value in ("denoise", "ended") for listener in [*listeners, failing]))
    family.open_for_ever()
    assert all(isinstance(listener.end(), Finished) for listener in [first, *listeners])
    error = failing.end()
    assert isinstance(error, EngineFailed)
    assert f"{where} went wrong" in str(error)


def test_a_sink_that_fails_loses_only_its_own_request(start: Start) -> None:
    engine = start(FakeFamily(), Limits())

    def broken(fact: Fact | EngineError) -> None:
        raise OSError("the caller is gone")

    engine.submit(drawing("a"), broken)
    assert isinstance(Listener(engine, drawing("b")).end(), Finished)
    eventually(lambda: engine.load().running == 0)


def test_stop_ends_everything_and_takes_nothing_new() -> None:
    family = FakeFamily(gated=True)
    engine = StepEngine(family, Limits(slots=1))
    engine.start()
    listeners = [Listener(engine, drawing(name)) for name in "ab"]
    arrive(family)
    family.open_for_ever()
    engine.stop()
    engine.stop()
    assert all(isinstance(listener.end(), EngineUnavailable | Finished) for listener in listeners)
    assert isinstance(listeners[1].end(), EngineUnavailable)
    with pytest.raises(EngineUnavailable):
        engine.submit(drawing("c"), lambda _: None)


def test_stop_before_start_is_nothing() -> None:
    StepEngine(FakeFamily(), Limits()).stop()


def test_nothing_is_stuck_after_many_requests_with_cancels_and_errors(start: Start) -> None:
    engine = start(FakeFamily(), Limits(slots=4, waiting=1000, rows=6))
    chance = random.Random(7)
    prompts = ["a star"] * 7 + ["fail begin", "fail predict", "fail picture"]
    listeners = []
    for number in range(400):
        size = chance.choice((32, 64))
        request = drawing(
            f"r{number}", seed=number, prompt=chance.choice(prompts), steps=chance.randint(1, 9), width=size,
            count=chance.randint(1, 4),
        )  # fmt: skip
        listeners.append(Listener(engine, request))
        if chance.random() < 0.3:
            engine.cancel(chance.choice(listeners).work)
    for number, listener in enumerate(listeners):
        request, end = listener.work.request, listener.end()
        if isinstance(end, Finished):
            pictures = [fact.data for fact in listener.all() if isinstance(fact, Picture)]
            assert pictures == [f"r{number}:{number + i}:{request.steps}".encode() for i in range(request.count)]
        elif isinstance(end, EngineFailed):
            assert request.prompt.startswith("fail")
        else:
            assert isinstance(end, Canceled)
    eventually(lambda: engine.load().requests == ())


def batch(name: str, **changes: object) -> DrawRequest:
    return drawing(name, lane=Lane.BATCH, **changes)


def test_people_go_first_and_the_rest_still_goes(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(slots=1, waiting=100, share=2))
    first = Listener(engine, drawing("first", steps=1))
    arrive(family)
    listeners = [Listener(engine, batch(f"b{number}", steps=1)) for number in range(3)]
    listeners += [Listener(engine, drawing(f"p{number}", steps=1)) for number in range(6)]
    family.open_for_ever()
    assert all(isinstance(listener.end(), Finished) for listener in [first, *listeners])
    assert [name for [name] in family.passes[1:]] == ["p0", "b0", "p1", "p2", "b1", "p3", "p4", "b2", "p5"]


def test_while_people_wait_the_batch_lane_makes_fewer_steps(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(share=4))
    long = Listener(engine, batch("long", steps=30))
    arrive(family)
    person = Listener(engine, drawing("person", steps=20))
    eventually(lambda: person.work.phase.value == "denoise")
    family.open(1000)
    assert isinstance(person.end(), Finished)
    with_person = [names for names in family.passes if "person" in names]
    assert len(with_person) == 20
    assert sum("long" in names for names in with_person) == 5
    assert isinstance(long.end(), Finished)


def test_a_short_request_beside_long_ones_makes_every_second_step_alone(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    long = Listener(engine, drawing("long", steps=30, count=3))
    arrive(family)
    short = Listener(engine, drawing("short", steps=5))
    eventually(lambda: short.work.phase.value == "denoise")
    family.open(1000)
    assert isinstance(short.end(), Finished)
    assert isinstance(long.end(), Finished)
    first = family.passes.index(["short"])
    assert family.passes[first : first + 5] == [["short"], ["long", "short"]] * 2 + [["short"]]
    assert sum("long" in names for names in family.passes) == 30


def test_short_requests_do_not_hurry_when_they_are_many_or_nobody_waits_for_them(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits())
    listeners = [Listener(engine, drawing("long", steps=30, count=2))]
    arrive(family)
    listeners += [Listener(engine, drawing("p", steps=5, count=2)), Listener(engine, batch("b", steps=5, count=1))]
    eventually(lambda: all(listener.work.phase.value == "denoise" for listener in listeners))
    family.open(1000)
    assert all(isinstance(listener.end(), Finished) for listener in listeners)
    assert not [names for names in family.passes if set(names) < {"p", "b"}]


def test_the_batch_lane_leaves_slots_and_waiting_places_to_people(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(slots=4, waiting=4))
    listeners = [Listener(engine, batch(f"b{number}")) for number in range(6)]
    with pytest.raises(EngineFull):
        Listener(engine, batch("one too many"))
    assert (engine.load().running, engine.load().waiting) == (3, 3)
    listeners += [Listener(engine, drawing("p0")), Listener(engine, drawing("p1"))]
    assert (engine.load().running, engine.load().waiting) == (4, 4)
    with pytest.raises(EngineFull):
        Listener(engine, drawing("p2"))
    family.open_for_ever()
    assert all(isinstance(listener.end(), Finished) for listener in listeners)


def test_what_does_not_fit_into_memory_waits_its_turn(start: Start) -> None:
    family = FakeFamily(gated=True)
    engine = start(family, Limits(memory=4 * 32 * 32, pixel_bytes=1.0))
    small = Listener(engine, drawing("small", count=2))
    arrive(family)
    large = Listener(engine, drawing("large", count=2, guidance=2.0, steps=1))
    late = Listener(engine, drawing("late", steps=1))
    load = engine.load()
    assert (load.running, load.waiting) == (1, 2)
    assert (load.memory_promised, load.memory_limit) == (2 * 32 * 32, 4 * 32 * 32)
    family.open_for_ever()
    assert all(isinstance(listener.end(), Finished) for listener in (small, large, late))
    assert family.passes == [*[["small"]] * 4, ["large"], ["late"]]


def test_what_never_fits_into_memory_is_refused_at_once(start: Start) -> None:
    engine = start(FakeFamily(), Limits(memory=3 * 2**20, pixel_bytes=1024.0))
    with pytest.raises(EngineFull, match=r"needs 4 MiB on the device and there are 3 MiB"):
        Listener(engine, drawing("large", count=4))
    assert isinstance(Listener(engine, drawing("small")).end(), Finished)


def test_previews_are_spread_over_the_steps(start: Start) -> None:
    family = FakeFamily(gated=True)
    listener = Listener(start(family, Limits()), drawing("a", steps=6, count=2, previews=2))
    shown: list[Preview] = []
    for _ in range(6):
        arrive(family)
        eventually(lambda: not listener.work.previewing)
        family.open(1)
    shown = [fact for fact in listener.all() if isinstance(fact, Preview)]
    assert [(preview.index, preview.step) for preview in shown] == [(0, 2), (1, 2), (0, 4), (1, 4)]
    for preview in shown:
        assert preview.media_type == "image/jpeg"
        assert len(preview.data) <= 64 * 1024
        image = Image.open(io.BytesIO(preview.data))
        assert image.format == "JPEG"
        assert image.size == (256, 128)


def test_a_preview_that_fails_costs_no_picture(start: Start) -> None:
    engine = start(FakeFamily(), Limits())
    assert isinstance(Listener(engine, drawing("a", prompt="fail look", previews=4)).end(), Finished)


def test_a_cancel_reaches_what_has_not_been_read_yet(start: Start) -> None:
    family = FakeFamily()
    reading, go_on = threading.Event(), threading.Event()
    begin = family.begin

    def slowly(request: DrawRequest) -> FakeSampling:
        reading.set()
        assert go_on.wait(DEADLINE_S)
        return begin(request)

    family.begin = slowly  # type: ignore[method-assign]
    engine = start(family, Limits())
    first = Listener(engine, drawing("first"))
    assert reading.wait(DEADLINE_S)
    second = Listener(engine, drawing("second"))
    engine.cancel(first.work)
    engine.cancel(second.work)
    go_on.set()
    assert isinstance(first.end(), Canceled)
    assert isinstance(second.end(), Canceled)
    assert family.passes == []


def test_every_ten_steps_are_a_stage(start: Start) -> None:
    end = Listener(start(FakeFamily(), Limits()), drawing("a", steps=25)).end()
    steps = [stage for stage in end.stages if stage.name == "steps"]
    assert [stage.attributes for stage in steps] == [{"first": 1, "last": 10}, {"first": 11, "last": 20}]
    [denoise] = [stage for stage in end.stages if stage.name == "denoise"]
    assert denoise.start_ns <= steps[0].start_ns <= steps[0].end_ns <= steps[1].start_ns <= denoise.end_ns


def test_an_ended_request_lets_go_of_who_listened(start: Start) -> None:
    class Sender:
        def __init__(self) -> None:
            self.ended = threading.Event()

        def hear(self, fact: Fact | EngineError) -> None:
            if isinstance(fact, Finished):
                self.ended.set()

        def gone(self) -> bool:
            return False

    sender = Sender()
    engine = start(FakeFamily(), Limits())
    engine.submit(drawing("a"), sender.hear, sender.gone)
    assert sender.ended.wait(20)
    left = weakref.ref(sender)
    del sender
    deadline = time.monotonic() + 20
    while left() is not None:  # the decoder's thread may be on its way out of the call
        assert time.monotonic() < deadline, "the engine holds on to it"
        gc.collect()
