"""Work is spread alike over whatever workers there are, few shards at a time, none lost."""

import sys
from types import SimpleNamespace

import pytest

from assess.made_rows import cell
from scoreag.assess import executors, run_attack
from scoreag.assess.executors import Failure, Shard, WorkerLost, dispatch
from scoreag.assess.experiments import ModelCache


def shards(count):
    return [Shard(cell(name=f"cell {i}"), (range(4),)) for i in range(count)]


class Hand:
    """A worker who dies at the shards that ``deadly`` says, by its number among all begun."""

    begun = 0

    def __init__(self, deadly=()):
        self.deadly, self.ended = deadly, False

    def submit(self, shard):
        self.shard, self.number = shard, Hand.begun
        Hand.begun += 1

    def outcome(self):
        if self.deadly == "all" or self.number in self.deadly:
            raise WorkerLost("killed")
        return self.shard.cell.name

    def stop(self):
        self.ended = True


@pytest.fixture
def hands(monkeypatch):
    monkeypatch.setattr(Hand, "begun", 0)
    return []


def hiring(hands, deadly=()):
    def hire():
        hands.append(Hand(deadly))
        return hands[-1]

    return hire


def test_every_shard_is_done_once_and_every_worker_ended(hands):
    given = shards(7)
    done = [*dispatch(given, hiring(hands), lambda busy: busy[:1], 3)]
    assert sorted(outcome for _, outcome in done) == [one.cell.name for one in given]
    assert all(shard.cell.name == outcome for shard, outcome in done)
    assert len(hands) == 3 and all(hand.ended for hand in hands)


def test_no_more_shards_are_taken_than_there_are_workers(hands):
    taken, done = 0, 0

    def coming():
        nonlocal taken
        for shard in shards(9):
            taken += 1
            assert taken - done <= 2
            yield shard

    for _ in dispatch(coming(), hiring(hands), lambda busy: busy[:1], 2):
        done += 1
    assert done == 9


def test_the_shard_of_a_lost_worker_is_done_again_by_another(hands):
    done = [*dispatch(shards(5), hiring(hands, deadly=(1, 3)), lambda busy: busy[:1], 2)]
    assert sorted(outcome for _, outcome in done) == [f"cell {i}" for i in range(5)]
    assert len(hands) == 4


def test_a_shard_that_kills_every_worker_is_given_up(hands):
    ((_, outcome),) = dispatch(shards(1), hiring(hands, deadly="all"), lambda busy: busy, 1)
    assert isinstance(outcome, Failure) and "lost 3 times (killed)" in outcome.message
    assert all(hand.ended for hand in hands)


def stand_in(deadly):
    """A module like ray, whose actors live in this process; some results say that one died."""
    got = []

    class RayError(Exception):
        pass

    def remote(**needs):
        def of(actor):
            def made(*given):
                here = actor(*given)
                call = SimpleNamespace(remote=lambda shard: (here, shard))
                return SimpleNamespace(compute=call)

            return SimpleNamespace(remote=made)

        return of

    def get(coming):
        got.append(coming)
        if len(got) in deadly:
            raise RayError
        actor, shard = coming
        return actor.compute(shard)

    return SimpleNamespace(
        init=lambda **options: None,
        shutdown=lambda: None,
        kill=lambda handle: None,
        cluster_resources=lambda: {"CPU": 2.0},
        remote=remote,
        get=get,
        wait=lambda refs, num_returns: (refs[:1], refs[1:]),
        exceptions=SimpleNamespace(RayError=RayError),
    )


def test_a_lost_actor_of_ray_is_replaced_and_nothing_is_lost(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", stand_in(deadly=(2,)))
    monkeypatch.setattr(executors, "compute_shard", lambda shard, kit: Failure(shard.cell.name))
    done = [*executors.run_on_ray(shards(6), ModelCache(), None, "auto")]
    assert sorted(outcome.message for _, outcome in done) == [f"cell {i}" for i in range(6)]


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'scoreag\[ray\]'"):
        next(executors.run_on_ray(shards(1), ModelCache(), None, "auto"))


def test_what_goes_wrong_in_a_shard_is_its_outcome(monkeypatch):
    def broken(*given):
        raise RuntimeError("no\nway")

    monkeypatch.setattr(run_attack, "compute_rows", broken)
    outcome = executors.compute_shard(shards(1)[0], ModelCache())
    assert outcome.message == "RuntimeError: no way" and "Traceback" in outcome.trace
