"""The server shows the page, hands out lists in turn, and replaces no answers."""

import http.client
import json
import threading
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from scoreag.study.build import write_study_folder
from scoreag.study.lists import trial_order
from scoreag.study.manifest import PAGE, answers_digest, read_study
from scoreag.study.serve import MAX_ANSWER_BYTES, make_server, open_desk
from study.made_studies import make_study, read_pool


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(read_pool(tmp_path_factory.mktemp("runs")))


@pytest.fixture
def folder(study, tmp_path):
    write_study_folder(study, tmp_path / "study")
    return tmp_path / "study"


@contextmanager
def served(folder):
    """A function (method, path, body, headers) -> (status, headers, body)."""
    with make_server(open_desk(folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def request(method, path, body=None, **headers):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
            try:
                connection.request(method, path, body, headers)
                reply = connection.getresponse()
                return reply.status, dict(reply.getheaders()), reply.read()
            finally:
                connection.close()

        try:
            yield request
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def request_(folder):
    with served(folder) as request:
        yield request


def make_answers(folder, participant="p-1", number=0, count=None, **changes):
    """Answers as the page writes them; class 0 to everything."""
    manifest = read_study(folder)
    order = trial_order(manifest, participant, number)[:count]
    answers = {
        "format": 1, "study": manifest["study"], "participant": participant, "list": number,
        "consent": True, "started": "2026-01-01T00:00:00Z", "finished": None,
        "complete": count is None, "screen": {}, "resumed": 0,
        "trials": [{"trial": i, **t, "answer": 0, "ms": 900} for i, t in enumerate(order)],
    }  # fmt: skip
    answers |= changes
    return {**answers, "digest": answers_digest(answers)}


def post(request, answers, **headers):
    data = answers if isinstance(answers, bytes) else json.dumps(answers).encode()
    headers = {"Content-Type": "application/json", **headers}
    status, _, body = request("POST", "/answers", data, **headers)
    return status, body.decode().strip()


def test_answers_are_kept_byte_for_byte(folder, request_):
    data = json.dumps(make_answers(folder), indent=1).encode()
    assert post(request_, data) == (201, "received")
    assert (folder / "answers" / "p-1.json").read_bytes() == data


def test_answers_of_someone_who_stopped_are_kept(folder, request_):
    assert post(request_, make_answers(folder, count=9))[0] == 201


def test_the_same_answers_may_be_sent_twice_and_others_never_replace_them(folder, request_):
    answers = make_answers(folder)
    assert [post(request_, answers)[0] for _ in range(2)] == [201, 200]
    other = make_answers(folder, count=3)
    assert post(request_, other) == (409, "answers of this participant are here already")
    assert json.loads((folder / "answers" / "p-1.json").read_text()) == answers


def edited(answers):
    answers["trials"][2]["answer"] = 1
    return answers


def redone(**changes):
    """Changed answers with a digest that fits."""

    def change(answers):
        answers |= changes
        return {**answers, "digest": answers_digest(answers)}

    return change


def changed_trial(**changes):
    def change(answers):
        answers["trials"][1] |= changes
        return {**answers, "digest": answers_digest(answers)}

    return change


@pytest.mark.parametrize(
    "change, says",
    [
        (edited, "the answers were changed after they were given"),
        (redone(study="0" * 64), "these are answers of another study"),
        (redone(list=3), "the list is none of this study"),
        (redone(list=True), "the list is none of this study"),
        (redone(list=1), "the trials are not those of this list"),
        (redone(participant="../p"), "the participant's code has letters that no code has"),
        (redone(participant=7), "the participant's code has letters that no code has"),
        (redone(consent=False), "there is no consent"),
        (redone(complete=False), "the trials are not those of this list"),
        (changed_trial(item=0), "the trials are not those of this list"),
        (changed_trial(answer=4), "trial 1 is not as the page writes it"),
        (changed_trial(answer=True), "trial 1 is not as the page writes it"),
        (changed_trial(answer="left"), "trial 1 is not as the page writes it"),
        (changed_trial(ms="1"), "trial 1 is not as the page writes it"),
        (lambda answers: {**answers, "more": 1}, "these are no answers of a study"),
        (lambda answers: [answers], "these are no answers of a study"),
        (lambda answers: b"{", "these are no answers of a study"),
        (lambda answers: b"[" * 100_000, "these are no answers of a study"),
        (lambda answers: b"\xff", "these are no answers of a study"),
        (redone(trials=[{}]), "these are no answers of a study"),
    ],
)
def test_answers_that_the_page_does_not_write_are_refused(folder, request_, change, says):
    try:
        changed = change(make_answers(folder))
    except KeyError:  # no digest of trials that are none
        changed = {**make_answers(folder), "trials": [{}]}
    assert post(request_, changed) == (400, says)
    assert not [*folder.glob("answers/*")]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": str(MAX_ANSWER_BYTES + 1)}, 413),
        ({"Content-Length": "9" * 30}, 413),
        ({"Content-Length": "-1"}, 411),
    ],
)
def test_a_request_of_another_kind_or_size_is_refused(folder, request_, headers, status):
    assert post(request_, b"{}", **headers)[0] == status
    assert not [*folder.glob("answers/*")]


def follow(request, path):
    """The parameters of the address that ``path`` leads to."""
    status, headers, _ = request("GET", path)
    assert status == 302
    address = urlsplit(headers["Location"])
    assert address.path == "/study"
    return {name: values[0] for name, values in parse_qs(address.query).items()}


def test_lists_are_handed_out_in_turn_and_each_person_gets_the_same_again(request_):
    people = [follow(request_, f"/?participant=p-{i}") for i in range(7)]
    assert [one["list"] for one in people] == ["0", "1", "2", "0", "1", "2", "0"]
    assert follow(request_, "/?participant=p-4") == people[4]
    assert people[4] == {"participant": "p-4", "list": "1", "send": "1"}


def test_a_list_that_nobody_finished_is_handed_out_before_one_that_somebody_did(folder, request_):
    for i in range(3):
        follow(request_, f"/?participant=p-{i}")
    post(request_, make_answers(folder, "p-0", 0))
    post(request_, make_answers(folder, "p-2", 2))
    assert follow(request_, "/?participant=p-3")["list"] == "1"


def test_prolific_parameters_are_passed_on_and_someone_without_a_code_gets_one(request_):
    found = follow(request_, "/?PROLIFIC_PID=5f00&STUDY_ID=s")
    assert found == {"PROLIFIC_PID": "5f00", "STUDY_ID": "s", "list": "0", "send": "1"}
    one, other = (follow(request_, "/")["participant"] for _ in range(2))
    assert one != other and one.startswith("p-")


def test_lists_go_on_after_a_restart(folder):
    with served(folder) as request:
        follow(request, "/?participant=p-0")
    with served(folder) as request:
        assert follow(request, "/?participant=p-0")["list"] == "0"
        assert follow(request, "/?participant=p-1")["list"] == "1"


def test_the_page_is_shown_and_nothing_else(folder, request_):
    status, headers, body = request_("GET", "/study?list=0")
    assert status == 200 and body == (folder / PAGE).read_bytes()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    for path in ("/manifest.json", "/answers/p-1.json", "/study/../manifest.json", "//x", "/texts"):
        assert request_("GET", path)[0] == 404
    assert request_("GET", "/?participant=%0d%0aX")[0] == 400
    assert request_("POST", "/study", b"{}")[0] == 404


def test_only_this_machine_is_served_unless_asked(folder):
    with make_server(open_desk(folder)) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_study_without_its_page_is_not_served(folder):
    (folder / PAGE).unlink()
    with pytest.raises(ValueError, match=f"has no {PAGE}"):
        open_desk(folder)


def test_a_damaged_table_of_lists_is_refused(folder):
    (folder / "handed-out.json").write_text("[")
    with pytest.raises(ValueError, match=r"handed-out\.json is damaged"):
        open_desk(folder)
