"""Tasks on Ray, with a stand-in that pickles as Ray does and has no processes."""

import pickle
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from scoreag.io import ray_tasks
from scoreag.io.ray_tasks import MAX_RETRIES, RayOptions, run_on_ray


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


class Reference:
    """A stored object, or a task that was begun."""

    def __init__(self, log, make):
        self.log, self.make = log, make

    def hex(self):
        return str(id(self))


class Ray:
    """The functions of ray that are called."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, log, lost=False):
        self.log, self.lost = log, lost

    def init(self, **options):
        self.log.update(init=options)

    def shutdown(self):
        self.log.update(closed=True)

    def cluster_resources(self):
        return {"CPU": 2, "GPU": 3}

    def put(self, value):
        data = pickle.dumps(value)
        self.log["puts"] = self.log.get("puts", 0) + 1
        return Reference(self.log, lambda: pickle.loads(data))

    def remote(self, **options):
        self.log["options"] = options
        return lambda function: SimpleNamespace(remote=partial(self.begin, function))

    def begin(self, function, *given):
        for name in ("begun", "open"):
            self.log[name] = self.log.get(name, 0) + 1
        self.log["most"] = max(self.log.get("most", 0), self.log["open"])
        return Reference(self.log, lambda: function(*given))

    def get(self, reference):
        if self.lost and self.log.get("begun"):
            raise RayError
        try:
            return reference.make()
        except (ValueError, ModuleNotFoundError) as error:
            raise RayTaskError(error) from error

    def wait(self, references, num_returns):
        self.log["open"] -= 1
        return references[-1:], references[:-1]  # the last one is done first


@pytest.fixture
def log(monkeypatch):
    found = {}
    monkeypatch.setitem(sys.modules, "ray", Ray(found))
    monkeypatch.setattr("torch.set_num_threads", lambda count: found.update(threads=count))
    ray_tasks._SHARED.clear()
    return found


def scaled(shared, argument):
    if argument == -2:
        raise ModuleNotFoundError("No module named 'mine'", name="mine")
    if argument < 0:
        raise ValueError("a negative argument")
    return shared["factor"] * argument


def run(arguments, **options):
    tasks = ((f"task {i}", i) for i in arguments)
    return dict(run_on_ray(scaled, {"factor": 10}, tasks, RayOptions("local", **options)))


def test_each_task_has_its_result_whatever_the_order(log):
    assert run(range(9), workers=3) == {f"task {i}": 10 * i for i in range(9)}
    assert log["puts"] == 1 and log["threads"] == 1 and log["closed"]
    assert log["init"]["num_cpus"] == 3


def test_no_more_tasks_are_begun_than_two_for_each_worker(log):
    run(range(50), workers=3)
    assert log["begun"] == 50 and log["most"] == 6


def test_retries_and_shares_of_gpus_are_those_of_ray(log):
    run(range(2), workers=6, uses_gpu=True)
    assert log["options"] == {"num_cpus": 1, "num_gpus": 0.5, "max_retries": MAX_RETRIES}


def test_an_error_in_a_worker_is_raised_as_it_was(log):
    with pytest.raises(ValueError, match=r"^a negative argument$"):
        run([1, -1])
    assert log["closed"]


def test_a_module_that_the_workers_lack_is_named(log):
    with pytest.raises(ValueError, match=r"the workers of Ray have no module 'mine'; install it"):
        run([-2])


def test_a_worker_that_is_lost_for_good_is_named(log, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", Ray(log, lost=True))
    with pytest.raises(ConnectionError, match=r"lost more than 3 times \(RayError\).*--batch-size"):
        run([1])


def test_what_cannot_be_sent_is_said(log):
    with pytest.raises(ValueError, match="cannot be sent to the workers of Ray"):
        next(run_on_ray(scaled, lambda: None, [("task", 1)], RayOptions("local")))


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'scoreag\[ray\]'"):
        run([1])
