"""The server shows the page, hands out lists in turn, and replaces no answers."""

import http.client
import json
import re
import socket
import threading
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from scoreag.study.build import write_study_folder
from scoreag.study.lists import trial_order
from scoreag.study.manifest import PAGE, answers_digest, read_study
from scoreag.study.serve import MAX_ANSWER_BYTES, Desk, StudyHandler, make_server, open_desk
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
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
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


def part(**changes):
    """Changed answers of someone who stopped after three trials."""
    return lambda answers: redone(**changes)({**answers, "trials": answers["trials"][:3]})


def changed_trial(**changes):
    def change(answers):
        trial = answers["trials"][1]
        trial |= {n: new(trial[n]) if callable(new) else new for n, new in changes.items()}
        return {**answers, "digest": answers_digest(answers)}

    return change


@pytest.mark.parametrize(
    "change, says",
    [
        (edited, "the file was edited"),
        (redone(study="0" * 64), "the file is of another study"),
        (redone(format=2), "the file has format 2; this version reads 1"),
        (redone(list=3), "p-1 has list 3, and the study has lists 0 to 2"),
        (redone(list=True), "'list' is True"),
        (redone(list=1), "trial of list 1"),
        (redone(participant="p-2"), "the trials are not those of this list"),
        (redone(participant="../p"), "the participant is '../p'"),
        (redone(participant=7), "the participant is 7"),
        (redone(consent=False), "there is no consent"),
        (redone(complete=False), "the trials are not those of this list"),
        (part(complete=True), "the trials are not those of this list"),
        (part(complete="no"), "'complete' is 'no'"),
        (changed_trial(item=0), "item 0 is no practice trial of list 0"),
        (changed_trial(item=float), "is damaged"),
        (changed_trial(trial=True), "is damaged"),
        (changed_trial(answer=4), "the answer is 4; expected a class from 0 to 3 or unsure"),
        (changed_trial(answer=True), "the answer is True"),
        (changed_trial(answer=1.0), "the answer is 1.0"),
        (changed_trial(answer="left"), "the answer is 'left'"),
        (changed_trial(ms="1"), "is damaged"),
        (changed_trial(ms=-1), "is damaged"),
        (changed_trial(ms=10**12), "is damaged"),
        (lambda answers: {**answers, "more": 1}, "these are no answers of a study"),
        (lambda answers: [answers], "these are no answers of a study"),
        (lambda answers: b"{", "these are no answers of a study"),
        (lambda answers: b"[" * 100_000, "these are no answers of a study"),
        (lambda answers: b"\xff", "these are no answers of a study"),
        (lambda answers: json.dumps(answers).encode("utf-16"), "these are no answers of a study"),
        (lambda answers: json.dumps(answers).encode("utf-8-sig"), "these are no answers"),
        (lambda answers: {**answers, "trials": [{}]}, "a trial is {}"),
    ],
)
def test_answers_that_the_analysis_refuses_are_refused(folder, request_, change, says):
    """In one line, without the name of a file on the server."""
    status, text = post(request_, change(make_answers(folder)))
    assert status == 400 and says in text
    assert "\n" not in text and str(folder) not in text
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


class Clock:
    seconds = 1e9

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def desk(folder, clock):
    return Desk(folder, read_study(folder), clock)


def hand_in(desk, participant, number, **changes):
    assert desk.take_in(
        json.dumps(make_answers(desk.folder, participant, number, **changes)).encode()
    )


def test_everybody_who_comes_within_the_hour_counts(desk):
    """Whoever is first to hand in does not send all others to the other lists."""
    assert [desk.hand_out(f"p-{i}") for i in range(3)] == [0, 1, 2]
    hand_in(desk, "p-0", 0)
    assert [desk.hand_out(f"q-{i}") for i in range(6)] == [0, 1, 2, 0, 1, 2]


def test_the_list_of_someone_who_stopped_is_handed_out_again_after_an_hour(desk, clock):
    for i in range(3):
        desk.hand_out(f"p-{i}")
    hand_in(desk, "p-0", 0)
    hand_in(desk, "p-2", 2)
    clock.seconds += 3599
    assert desk.hand_out("q-0") == 0
    clock.seconds += 2
    assert desk.hand_out("q-1") == 1


def test_who_comes_back_after_an_hour_has_the_same_list_and_counts_again(desk, clock):
    for i in range(3):
        desk.hand_out(f"p-{i}")
    clock.seconds += 7200
    assert desk.hand_out("p-1") == 1
    assert [desk.hand_out(f"q-{i}") for i in range(2)] == [0, 2]


def test_part_of_a_list_is_no_complete_one(desk):
    for i in range(3):
        desk.hand_out(f"p-{i}")
    hand_in(desk, "p-2", 2, count=9)
    assert desk.hand_out("q-0") == 2


def test_answers_count_by_their_own_list_until_they_are_deleted(desk):
    hand_in(desk, "by-a-link-of-her-own", 0)
    assert [desk.hand_out(f"p-{i}") for i in range(2)] == [1, 2]
    assert desk.hand_out("p-2") == 0
    (desk.answers / "by-a-link-of-her-own.json").unlink()
    (desk.answers / "notes.json").write_text("[")
    assert [desk.hand_out(f"q-{i}") for i in range(3)] == [0, 1, 2]


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


@pytest.mark.parametrize(
    "text", ["[", "[1]", '{"p": 0}', '{"p": {"list": 3, "time": 0}}', '{"p": {"list": 0}}']
)
def test_a_damaged_table_of_lists_is_refused(folder, text):
    (folder / "handed-out.json").write_text(text)
    with pytest.raises(ValueError, match=r"handed-out\.json is damaged"):
        open_desk(folder)


def test_what_cannot_be_stored_is_one_line_for_who_runs_the_study(folder, request_, capsys):
    """Without the code of the participant, which is in the names of files."""
    (folder / "answers").write_text("no folder")
    assert post(request_, make_answers(folder)) == (500, "the answers could not be stored")
    assert capsys.readouterr().err == "scoreag: the answers could not be stored: File exists\n"


def test_a_list_that_cannot_be_handed_out_is_one_line(folder, request_, capsys):
    (folder / "handed-out.json").mkdir()
    status, _, text = request_("GET", "/?participant=p-1")
    assert (status, text) == (500, b"no list could be handed out; try again later\n")
    error = capsys.readouterr().err
    assert error.startswith("scoreag: no list could be handed out") and error.count("\n") == 1
    assert "p-1" not in error


def test_a_page_that_is_gone_is_one_line(folder, request_, capsys):
    (folder / PAGE).unlink()
    assert request_("GET", "/study")[0] == 500
    error = capsys.readouterr().err
    assert error == "scoreag: the page cannot be read: No such file or directory\n"


def talk(server, data):
    """The reply to bytes that no client of HTTP would send."""
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1000), b""))


@pytest.fixture
def server(folder):
    with make_server(open_desk(folder)) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def test_answers_that_do_not_arrive_are_not_called_unstored(server, monkeypatch, capsys):
    monkeypatch.setattr(StudyHandler, "timeout", 0.2)
    head = (
        b"POST /answers HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    reply = talk(server, head)
    assert b" 408 " in reply and b"did not arrive in time" in reply
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_address_that_is_none_is_refused(server, capsys, method):
    reply = talk(server, method + b" http://[ HTTP/1.1\r\n\r\n")
    assert b" 400 " in reply and b"this is no address" in reply
    assert capsys.readouterr().err == ""


def test_an_error_that_nobody_expects_is_a_line_without_the_address(server, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("p-1 of 127.0.0.1")

    monkeypatch.setattr(StudyHandler, "_redirect", fail)
    assert talk(server, b"GET /?participant=p-1 HTTP/1.1\r\n\r\n") == b""
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"scoreag: a request broke off: RuntimeError at test_serve\.py:\d+\n", error
    )
